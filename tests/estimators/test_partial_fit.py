"""Rows that come with weights, and rows that come in parts."""

import copy
import pickle

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
import zoo_inputs
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from sklearn.base import clone
from sklearn.metrics import r2_score

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.inference.shuffle import window_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
Y = X @ [1.0, -2.0] + rng.normal(scale=0.5, size=60)
LABELS = np.where(rng.logistic(size=60) < X @ [2.0, -1.0], "yes", "no")
QUICK = SVI(num_steps=50, num_samples=50)


def regressor(settings=QUICK, kernel=zoo.conjugate, **parameters):
    return NumPyroImpactRegressor(kernel, inference=settings, random_state=0, **parameters)


def posterior(X, Y, weight=1.0):
    """Mean and standard deviation of the conjugate kernel's coefficients."""
    weighted = X.T * (weight / 0.25)
    covariance = np.linalg.inv(weighted @ X + np.eye(X.shape[1]))
    return covariance @ weighted @ Y, np.sqrt(np.diag(covariance))


def draws_of(model):
    return model.posterior_["coef"][0]


def assert_same(one, other, **tolerance):
    tolerance = tolerance or {"rtol": 0}
    np.testing.assert_allclose(draws_of(one), draws_of(other), **tolerance)
    np.testing.assert_allclose(one.fit_result_.losses, other.fit_result_.losses, **tolerance)


# Weights


def in_one(model, X, Y, **weights):
    return model.fit(X, Y, **weights)


def in_two(model, X, Y, **weights):
    return model.partial_fit(X, Y, **weights).partial_fit(X, Y, **weights)


@pytest.mark.parametrize("learn", [in_one, in_two])
@pytest.mark.parametrize("settings", [QUICK, SVI(num_steps=50, num_samples=50, total_rows=100)])
def test_weights_count_rows(learn, settings):
    # 53 to 64 rows share a program, and 64 to 128 another.
    weight = np.ones(60)
    weight[:10] = [3, 0, 2, 0, 0, 2, 0, 0, 1, 3]
    repeated = np.repeat(np.arange(60), weight.astype(int))
    weighted = learn(regressor(settings), X, Y, sample_weight=weight)
    counted = learn(regressor(settings), X[repeated], Y[repeated])
    # The tolerance of scikit-learn's own check.
    np.testing.assert_allclose(weighted.predict(X), counted.predict(X), rtol=1e-7)
    assert_same(weighted, counted, rtol=1e-7)
    assert weighted.fit_result_.seen == counted.fit_result_.seen
    plain = learn(regressor(settings), X, Y)
    assert abs(plain.predict(X) / weighted.predict(X) - 1).max() > 1e-5


@pytest.mark.parametrize("learn", [in_one, in_two])
def test_weight_of_classified_rows(learn):
    weight = np.arange(60) % 3
    repeated = np.repeat(np.arange(60), weight)
    classes = {} if learn is in_one else {"classes": ["no", "yes"]}
    model = NumPyroImpactClassifier(zoo.logistic, inference=QUICK, random_state=0)
    weighted = learn(clone(model), X, LABELS, sample_weight=weight, **classes)
    counted = learn(clone(model), X[repeated], LABELS[repeated], **classes)
    np.testing.assert_allclose(weighted.predict_proba(X), counted.predict_proba(X), rtol=1e-7)


def test_weights_of_scores():
    model, weight = regressor().fit(X, Y), np.arange(60) % 3
    repeated = np.repeat(np.arange(60), weight)
    expected = r2_score(Y[repeated], model.predict(X[repeated]))
    assert model.score(X, Y, sample_weight=weight) == pytest.approx(expected, rel=1e-10)
    assert model.score(X, Y) != pytest.approx(expected)


def test_weighted_posterior_is_the_closed_form():
    weight = rng.uniform(0.0, 3.0, size=60)
    settings = SVI(guide="auto_multivariate_normal", num_steps=3000, num_samples=2000)
    mean, sd = posterior(X, Y, weight)
    draws = draws_of(regressor(settings).fit(X, Y, sample_weight=weight))
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.15 * sd.max())
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.1)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("weight", "message"), [
    (-np.ones(60), "Negative values"),
    (np.zeros(60), "at least one non-zero"),
    (np.ones(59), "sample_weight.shape"),
    (np.full(60, np.nan), "contains NaN"),
])  # fmt: skip
def test_weights_that_cannot_be_used(method, weight, message):
    with pytest.raises(ValueError, match=message):
        getattr(regressor(), method)(X, Y, sample_weight=weight)


# Increments


def test_minibatches_approach_the_posterior_of_all_rows():
    settings = SVI(
        guide="auto_multivariate_normal", num_steps=1200, num_samples=2000, total_rows=60, learning_rate=0.03
    )
    model, order = regressor(settings), np.random.default_rng(1)
    for _ in range(400):
        for rows in np.array_split(order.permutation(60), 3):
            model.partial_fit(X[rows], Y[rows])
    mean, sd = posterior(X, Y)
    np.testing.assert_allclose(draws_of(model).mean(axis=0), mean, atol=0.3 * sd.max())
    np.testing.assert_allclose(draws_of(model).std(axis=0), sd, rtol=0.15)
    assert model.fit_result_.losses.shape == (1200,)
    # Scaled to the 20 rows of a batch alone, the posterior would be wider by the root of three.
    assert posterior(X[:20], Y[:20])[1].min() > 1.4 * sd.max()


def test_rows_given_once_are_counted():
    model = regressor()
    for start in range(0, 60, 20):
        model.partial_fit(X[start : start + 20], Y[start : start + 20], sample_weight=np.full(20, 2.0))
        assert model.fit_result_.seen == 2.0 * (start + 20)
    # A guide object starts at the same place whatever the posterior.
    settings = SVI(guide=AutoNormal(None), num_steps=50, num_samples=50)
    plain = regressor(settings).partial_fit(X[:20], Y[:20])
    other = regressor(settings).set_params(inference__total_rows=120).partial_fit(X[:20], Y[:20])
    ratio = other.fit_result_.losses / plain.fit_result_.losses
    assert 5 < ratio < 7


def test_batches_of_one_call_are_one_step_each():
    # A guide object has units of its own; those of a named one would come from all rows of the first call.
    settings = SVI(guide=AutoNormal(None), num_steps=50, num_samples=50, batch_size=16, total_rows=60)
    model = regressor(settings).partial_fit(X, Y)
    assert model.fit_result_.losses.shape == (4,)
    # In a random order, which the seed decides.
    _, order = window_of(0, 60, seed=0, epoch=0)
    by_hand = regressor(SVI(guide=AutoNormal(None), num_steps=50, num_samples=50, total_rows=60))
    for start in range(0, 60, 16):
        rows = order[start : start + 16]
        by_hand.partial_fit(X[rows], Y[rows])
    assert_same(model, by_hand, rtol=1e-10)
    again = regressor(settings).partial_fit(X, Y)
    assert_same(model, again)
    twice = model.partial_fit(X, Y).fit_result_.losses
    assert twice.shape == (8,)
    assert not np.allclose(twice[:4], twice[4:])


def test_all_rows_in_each_call_are_the_steps_of_fit():
    settings = SVI(num_steps=50, num_samples=50, total_rows=60)
    model = regressor(settings)
    for _ in range(50):
        model.partial_fit(X, Y)
    assert_same(model, regressor(settings).fit(X, Y), rtol=1e-9)


def test_a_fitted_estimator_goes_on_and_fit_starts_afresh():
    settings = SVI(num_steps=50, num_samples=50, total_rows=60)
    model, fitted = regressor(settings).fit(X, Y), regressor(settings).fit(X, Y)
    model.partial_fit(X, Y)
    assert model.fit_result_.losses.shape == (51,)
    np.testing.assert_array_equal(model.fit_result_.losses[:50], fitted.fit_result_.losses)
    assert not np.array_equal(draws_of(model), draws_of(fitted))
    # One more step, at the lowest rate, is a short one.
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), atol=0.02)
    assert_same(model.fit(X, Y), fitted)


def test_rows_of_a_fit_are_counted_too():
    model = regressor().fit(X, Y, sample_weight=np.full(60, 2.0)).partial_fit(X[:20], Y[:20])
    assert model.fit_result_.seen == 140.0


@pytest.mark.parametrize("kind", ["default", "optax", "object"])
def test_pickled_and_continued(kind):
    optax = pytest.importorskip("optax")
    settings, kernel = QUICK, zoo.conjugate
    if kind == "optax":
        settings = SVI(num_samples=20, optim=optax.adam(0.01))
    if kind == "object":
        kernel = zoo.Shrinkage()
    model = regressor(settings, kernel).partial_fit(X[:30], Y[:30])
    loaded = pickle.loads(pickle.dumps(model))
    copied = copy.deepcopy(model)
    for each in (model, loaded, copied):
        each.partial_fit(X[30:], Y[30:])
    assert_same(loaded, model)
    assert_same(copied, model)


def test_default_kernels_keep_the_scales_of_the_first_rows():
    model = regressor(kernel=None).partial_fit(10.0 * X, Y)
    first = model.kernel_.x_scale
    model.partial_fit(X, Y)
    np.testing.assert_array_equal(model.kernel_.x_scale, first)
    np.testing.assert_allclose(first, 10.0 * X.std(axis=0))


@pytest.mark.parametrize("batch_size", [None, 16])
def test_fresh_draws(batch_size):
    settings = SVI(num_steps=50, num_samples=4000, batch_size=batch_size, total_rows=60)
    # The last minibatch has fewer rows than the others.
    model = regressor(settings).partial_fit(X[:30], Y[:30])
    fresh = model.sample_posterior(4000)["posterior"]["coef"].to_numpy()[0]
    np.testing.assert_allclose(fresh.mean(axis=0), draws_of(model).mean(axis=0), atol=0.02)
    np.testing.assert_allclose(fresh.std(axis=0), draws_of(model).std(axis=0), rtol=0.1)
    assert not np.array_equal(fresh, draws_of(model))


@pytest.mark.parametrize(("first", "second"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_precision_is_that_of_the_first_rows(first, second):
    model = regressor().partial_fit(X.astype(first), Y).partial_fit(X.astype(second), Y)
    assert draws_of(model).dtype == first
    assert model.fit_result_.losses.dtype == first
    rounded = regressor().partial_fit(X.astype(np.float32).astype(first), Y).partial_fit(X.astype(np.float32), Y)
    assert draws_of(rounded).dtype == first
    assert model.predict(X.astype(first)).dtype == first


def test_arguments_of_the_kernel_come_with_their_rows():
    offset = 5.0 * X[:, 0]
    settings = SVI(num_steps=50, num_samples=50, batch_size=16, total_rows=60)
    model = regressor(settings, zoo_inputs.shifted).partial_fit(X, Y + offset, offset=offset)
    # Shifted by what the rows are shifted by: the same fit.
    assert_same(model, regressor(settings).partial_fit(X, Y), rtol=1e-6)


def test_one_row_at_a_time():
    model = regressor(SVI(num_steps=50, num_samples=50, total_rows=60))
    for row in range(5):
        model.partial_fit(X[row : row + 1], Y[row : row + 1])
    assert model.fit_result_.losses.shape == (5,)
    assert model.fit_result_.seen == 5.0


# Classes


def test_classes_are_named_in_the_first_call():
    model = NumPyroImpactClassifier(zoo.softmax, inference=QUICK, random_state=0)
    with pytest.raises(ValueError, match="`classes` must name all labels that will ever occur in the first call"):
        model.partial_fit(X, LABELS)
    assert not hasattr(model, "classes_")
    only_no = LABELS == "no"
    model.partial_fit(X[only_no], LABELS[only_no], classes=["yes", "no", "maybe"])
    assert model.classes_.tolist() == ["maybe", "no", "yes"]
    assert model.predict_proba(X).shape == (60, 3)
    before = model.posterior_["beta"]
    model.partial_fit(X, LABELS).partial_fit(X, LABELS, classes=["maybe", "no", "yes"])
    assert model.fit_result_.losses.shape == (3,)
    assert not np.array_equal(before, model.posterior_["beta"])
    with pytest.raises(ValueError, match=r"`classes` are \['no', 'yes'\], but were \['maybe', 'no', 'yes'\] before"):
        model.partial_fit(X, LABELS, classes=["no", "yes"])
    with pytest.raises(ValueError, match=r"labels that `fit` did not see: \['never'\]"):
        model.partial_fit(X[:2], ["no", "never"])


def test_numbers_of_outputs_are_compared():
    Y2 = np.column_stack([LABELS, LABELS])
    model = NumPyroImpactClassifier(zoo_inputs.switches, inference=QUICK, random_state=0)
    with pytest.raises(ValueError, match="`classes` must be a list with the labels of each of the 2 outputs of y, got"):
        model.partial_fit(X, Y2, classes=[["no", "yes"]])
    model = NumPyroImpactClassifier(zoo.logistic, inference=QUICK, random_state=0).fit(X, LABELS)
    with pytest.raises(ValueError, match=r"y has 2 output\(s\), but had 1 in `fit`"):
        model.partial_fit(X, Y2)


def test_a_fitted_classifier_knows_its_classes():
    model = NumPyroImpactClassifier(zoo.logistic, inference=QUICK, random_state=0).fit(X, LABELS)
    model.partial_fit(X[:1], LABELS[:1])
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.fit_result_.losses.shape == (51,)


# Refusals


def tree_without_state():
    return NumPyroImpactRegressor.from_datatree(zoo.conjugate, regressor().fit(X, Y).to_datatree()).set_params(
        inference=QUICK
    )


def of_other(**parameters):
    return regressor().fit(X, Y).set_params(**parameters)


DRAWS = {"coef": np.ones((5, 2))}
REFUSALS = {
    "injected": (lambda: regressor(posterior=DRAWS), "draws are given as `posterior`"),
    "set": (lambda: regressor().set_posterior_sample(DRAWS), "posterior draws were made elsewhere"),
    "fitted, then set": (lambda: regressor().fit(X, Y).set_posterior_sample(DRAWS), "draws were made elsewhere"),
    "stored": (tree_without_state, "draws were made elsewhere"),
    "local latents": (lambda: regressor(kernel=zoo.random_effects), r"latent sites \['effect'\] have an entry"),
    "rows that mix": (lambda: regressor(kernel=zoo.centring), "whose rows stand alone given its latent sites, but"),
    "one density": (lambda: regressor(kernel=zoo.joint), "`partial_fit` needs"),
    "guide": (lambda: of_other(inference=SVI(guide="auto_delta")), "cannot go on with another guide than that of the"),
    "guide of equal shapes": (lambda: of_other(inference=SVI(guide=AutoDiagonalNormal)), "another guide"),
    "optimiser": (lambda: of_other(inference=SVI(optim="clipped_adam")), "another optimiser"),
    "inference": (
        lambda: regressor(MCMC(num_warmup=5, num_samples=5)).fit(X, Y).set_params(inference="svi"),
        "another kind of inference",
    ),
    "kernel": (lambda: of_other(kernel=zoo.cauchy), "another kernel"),
    "kernel object": (
        lambda: regressor(kernel=zoo.Shrinkage()).fit(X, Y).set_params(kernel__noise=1.0),
        "another kernel",
    ),
    "no kernel": (lambda: of_other(kernel=None), "another kernel"),
    "some kernel": (lambda: regressor(kernel=None).fit(X, Y).set_params(kernel=zoo.linear), "another kernel"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    make, message = REFUSALS[name]
    model = make()
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, Y)
    assert vars(model) == before


@pytest.mark.parametrize(
    "inference",
    [
        "mcmc",
        MCMC(),
        numpyro.infer.MCMC(numpyro.infer.NUTS(zoo.linear), num_warmup=1, num_samples=1, progress_bar=False),
    ],
)
@pytest.mark.parametrize("kind", [NumPyroImpactRegressor, NumPyroImpactClassifier])
def test_chains_have_no_increments(kind, inference):
    model = kind(zoo.linear, inference=inference)
    assert not hasattr(model, "partial_fit")
    assert hasattr(model.set_params(inference="svi"), "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as caught:
        model.set_params(inference=inference).partial_fit(X, Y)
    assert "`partial_fit` needs variational inference: `inference='svi'` or an SVI" in str(caught.value.__cause__)


def changing(X, y=None, *, size):
    """As many coefficients as it is told."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([size]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ coef[:2], 0.5), obs=y)


def test_latent_sites_that_change():
    model = regressor(kernel=changing).fit(X, Y, size=2)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="cannot go on with another guide, optimiser or kernel: call `fit`"):
        model.partial_fit(X, Y, size=3)
    assert vars(model) == before


@pytest.mark.parametrize(("rows", "outcome", "message"), [
    (X[:, :1], Y, "X has 1 features, but NumPyroImpactRegressor is expecting 2"),
    (np.where(X > 1, np.nan, X), Y, "Input X contains NaN"),
    (X, Y[:-1], "inconsistent numbers of samples"),
])  # fmt: skip
@pytest.mark.parametrize("fitted", [True, False])
def test_nothing_changes_on_an_error(rows, outcome, message, fitted):
    model = regressor().partial_fit(X, Y) if fitted else regressor()
    if not fitted and "features" in message:
        pytest.skip("any number of features will do for the first rows")
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.partial_fit(rows, outcome)
    assert vars(model) == before


def test_names_of_columns_are_compared():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = regressor().partial_fit(frame, Y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame[["b", "a"]], Y)


def test_a_changed_pace_is_followed():
    model = regressor().fit(X, Y)
    slow = copy.deepcopy(model).set_params(inference=SVI(num_steps=50, num_samples=20, learning_rate=1e-6))
    slow.partial_fit(X, Y)
    assert draws_of(slow).shape == (20, 2)
    fast = model.set_params(inference=SVI(num_steps=50, num_samples=20, learning_rate=1.0)).partial_fit(X, Y)
    assert abs(draws_of(slow) - draws_of(fast)).max() > 1e-4


def step_of(model, settings, before=None):
    """Return how far one step of Adam moves the guide's parameters, which is at most the learning rate or so."""
    before = model.fit_result_.params if before is None else before
    after = model.set_params(inference=settings).partial_fit(X, Y).fit_result_.params
    return max(np.abs(after[name] - before[name]).max() for name in after)


def test_the_learning_rate_has_fallen_after_epochs():
    """After `fit` it stays at a hundredth, in epochs as in steps."""
    rate = 0.05
    for pace in ({"num_epochs": 60}, {"num_steps": 60}):
        settings = SVI(**pace, learning_rate=rate, num_samples=20, guide=AutoDiagonalNormal(zoo.conjugate))
        model = regressor(settings).fit(X, Y)
        for _ in range(3):
            assert 0 < step_of(model, settings) < 0.1 * rate


def test_without_a_fit_the_learning_rate_falls_over_the_epochs_of_all_rows():
    settings = SVI(num_epochs=4, total_rows=60, batch_size=15, learning_rate=0.05, num_samples=20)
    model = regressor(settings)
    for _ in range(4):
        model.partial_fit(X, Y)
    assert model.fit_result_.fall == 16
    assert len(model.fit_result_.losses) == 16
