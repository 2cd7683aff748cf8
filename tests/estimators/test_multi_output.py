"""Several outcomes a row: numbers and labels."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zoo
import zoo_inputs
from sklearn.metrics import accuracy_score, r2_score

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 2))
SETTINGS = SVI(num_steps=400, num_samples=100)
WEIGHT = np.arange(80.0)
SWITCHED = (rng.logistic(size=(80, 3)) < X @ [[4.0, 0.0, 2.0], [0.0, -4.0, 2.0]]).astype(int)
FIRST = np.where(X[:, 0] > 0, "warm", "cold")
SECOND = np.array(["low", "middle", "high"])[np.digitize(X[:, 1], [-0.5, 0.5])]
LABELS = np.column_stack([FIRST, SECOND])


def classifier(kernel, **parameters):
    return NumPyroImpactClassifier(kernel, inference=SETTINGS, random_state=0, **parameters)


@pytest.fixture(scope="module")
def regressor():
    Y = X @ [[1.0, 0.0], [0.0, 2.0]] + rng.normal(scale=0.5, size=(80, 2))
    return NumPyroImpactRegressor(zoo.two_outputs, inference=SETTINGS, random_state=0).fit(X, Y), Y


@pytest.fixture(scope="module")
def switches():
    return classifier(zoo_inputs.switches).fit(X, SWITCHED)


@pytest.fixture(scope="module")
def labels():
    return classifier(zoo_inputs.two_labels).fit(X, LABELS)


@pytest.fixture(scope="module")
def of_four():
    return classifier(zoo_inputs.of_four_classes).fit(X, LABELS)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def probabilities(model, n_classes):
    """Posterior mean of the class probabilities by hand."""
    coef = model.posterior_["coef"][0]
    return softmax(np.einsum("np,spk->nsk", X, coef).reshape(80, len(coef), 2, n_classes)).mean(axis=1)


def test_regression(regressor):
    model, Y = regressor
    mean, std = model.predict(X, return_std=True)
    means = np.einsum("np,spk->snk", X, model.posterior_["coef"][0])
    np.testing.assert_allclose(mean, means.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, np.sqrt(0.25 + means.var(axis=0)), rtol=1e-9)
    np.testing.assert_allclose(model.posterior_["coef"][0].mean(axis=0), [[1.0, 0.0], [0.0, 2.0]], atol=0.3)
    assert model.score(X, Y) == pytest.approx(r2_score(Y, mean))
    assert model.score(X, Y, sample_weight=WEIGHT) == pytest.approx(r2_score(Y, mean, sample_weight=WEIGHT))
    drawn = model.sample_y(X, 100)
    assert drawn.shape == (80, 2, 100)
    np.testing.assert_allclose(drawn.mean(axis=(0, 2)), mean.mean(axis=0), atol=0.05)
    assert model.predict_interval(X, [0.5, 0.9]).shape == (80, 2, 2, 2)
    density = model.log_predictive_density(X, Y)
    assert density.shape == (80,)


def test_shapes_that_do_not_fit(regressor):
    model, Y = regressor
    with pytest.raises(ValueError, match=r"y has the wrong shape, got an array of shape \(80, 3\).*\(n_rows, 2\)"):
        model.partial_fit(X, np.column_stack([Y, Y[:, 0]]))
    with pytest.raises(ValueError, match=r"y has the wrong shape, got an array of shape \(80,\)"):
        model.partial_fit(X, Y[:, 0])


def test_switches(switches):
    assert [classes.tolist() for classes in switches.classes_] == [[0, 1]] * 3
    found = switches.predict_proba(X)
    expected = 1 / (1 + np.exp(-np.einsum("np,spk->nsk", X, switches.posterior_["coef"][0])))
    for output, each in enumerate(found):
        one = expected[..., output].mean(axis=1)
        np.testing.assert_allclose(each, np.column_stack([1 - one, one]), rtol=1e-9)
        np.testing.assert_allclose(switches.predict_log_proba(X)[output], np.log(each))
    assert len(found) == 3
    predicted = switches.predict(X)
    np.testing.assert_array_equal(predicted, (expected.mean(axis=1) > 0.5).astype(int))
    # scikit-learn's accuracy of several labels is the same share of rows.
    assert switches.score(X, SWITCHED) == pytest.approx(accuracy_score(SWITCHED, predicted))
    weighted = accuracy_score(SWITCHED, predicted, sample_weight=WEIGHT)
    assert switches.score(X, SWITCHED, sample_weight=WEIGHT) == pytest.approx(weighted)
    assert 0.3 < switches.score(X, SWITCHED) < (predicted == SWITCHED).mean()


def test_two_labels(labels):
    assert [classes.tolist() for classes in labels.classes_] == [["cold", "warm"], ["high", "low", "middle"]]
    assert labels.arguments_["static"] == {"n_classes": 3}
    first, second = labels.predict_proba(X)
    expected = probabilities(labels, 3)
    # The kernel has three classes for the first output too, whose third cannot be.
    np.testing.assert_allclose(first, expected[:, 0, :2] / expected[:, 0, :2].sum(axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(second, expected[:, 1], rtol=1e-6)
    predicted = labels.predict(X)
    assert predicted.shape == (80, 2)
    np.testing.assert_array_equal(predicted[:, 0], np.array(["cold", "warm"])[first.argmax(axis=1)])
    assert labels.score(X, LABELS) == ((predicted == LABELS).all(axis=1)).mean()
    assert labels.score(X, LABELS) > 0.7
    with pytest.raises(ValueError, match=r"y has the shape \(80,\), but predictions have \(80, 2\)"):
        labels.score(X, FIRST)


def test_kernels_with_more_classes_than_any_output(of_four):
    expected = probabilities(of_four, 4)
    for output, (each, count) in enumerate(zip(of_four.predict_proba(X), [2, 3], strict=True)):
        assert each.shape == (80, count)
        kept = expected[:, output, :count]
        np.testing.assert_allclose(each, kept / kept.sum(axis=1, keepdims=True), rtol=1e-6)
    assert of_four.score(X, LABELS) > 0.7


def test_kernels_with_too_few_classes():
    with pytest.raises(ValueError, match="'y' has 4 classes, but y has 5"):
        classifier(zoo_inputs.of_four_classes).fit(X, np.column_stack([np.arange(80) % 2, np.arange(80) % 5]))
    with pytest.raises(ValueError, match="A Bernoulli output has 2 classes, but y has 3"):
        classifier(zoo_inputs.switches).fit(X, np.column_stack([SWITCHED[:, :2], np.arange(80) % 3]))


@pytest.mark.parametrize("name", ["labels", "of_four"])
def test_drawn_labels_have_the_predicted_frequencies(name, request):
    model = request.getfixturevalue(name)
    drawn = model.sample_y(X[:20], 400)
    assert drawn.shape == (20, 2, 400)
    np.testing.assert_array_equal(drawn, model.sample_y(X[:20], 400))
    for output, each in enumerate(model.predict_proba(X[:20])):
        assert set(np.unique(drawn[:, output])) == set(model.classes_[output])
        for code, label in enumerate(model.classes_[output]):
            error = (drawn[:, output] == label).mean(axis=1) - each[:, code]
            assert abs(error).max() < 5 * 0.5 / np.sqrt(400)


def test_kernels_that_draw_nothing_but_impossible_classes(of_four):
    never = np.zeros((5, 2, 8))
    never[:, :, 3] = never[:, :, 7] = 1e4
    with pytest.raises(ValueError, match="keeps drawing classes that y did not have"):
        pickle.loads(pickle.dumps(of_four)).set_posterior_sample({"coef": never}).sample_y(np.ones((3, 2)))


def test_labels_of_different_types():
    frame = pd.DataFrame({"first": FIRST, "second": np.digitize(X[:, 1], [-0.5, 0.5]) + 10})
    model = classifier(zoo_inputs.two_labels).fit(X, frame)
    assert [classes.tolist() for classes in model.classes_] == [["cold", "warm"], [10, 11, 12]]
    predicted = model.predict(X)
    assert {type(value) for value in predicted[:, 0]} == {str}
    assert set(predicted[:, 1]) == {10, 11, 12}
    assert model.score(X, frame) > 0.7
    again = NumPyroImpactClassifier.from_datatree(zoo_inputs.two_labels, model.to_datatree())
    np.testing.assert_array_equal(again.predict(X), predicted)


def test_booleans():
    model = classifier(zoo_inputs.switches).fit(X, SWITCHED.astype(bool))
    assert model.predict(X).dtype == bool


@pytest.mark.parametrize("name", ["switches", "labels"])
def test_persistence(name, request, tmp_path):
    model = request.getfixturevalue(name)
    kernel = model.kernel
    model.to_datatree().to_zarr(tmp_path / "model.zarr", consolidated=False)
    tree = xr.open_datatree(tmp_path / "model.zarr", engine="zarr", consolidated=False)
    for again in (pickle.loads(pickle.dumps(model)), NumPyroImpactClassifier.from_datatree(kernel, tree)):
        for one, other in zip(again.classes_, model.classes_, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        for one, other in zip(again.predict_proba(X), model.predict_proba(X), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again.sample_y(X, 3), model.sample_y(X, 3))


def test_trees_and_densities(labels):
    tree = labels.sample_posterior_predictive_on_batch(X[:5], in_sample=False)
    assert tree["predictions"]["y"].shape == (1, 100, 5, 2)
    density = labels.log_predictive_density(X, LABELS)
    # The outputs are independent given a draw; their joint density is averaged.
    coef = labels.posterior_["coef"][0]
    each = softmax(np.einsum("np,spk->nsk", X, coef).reshape(80, len(coef), 2, 3))
    codes = [np.searchsorted(classes, LABELS[:, i]) for i, classes in enumerate(labels.classes_)]
    rows = np.arange(80)
    joint = each[rows, :, 0, codes[0]] * each[rows, :, 1, codes[1]]
    np.testing.assert_allclose(density, np.log(joint.mean(axis=1)), rtol=1e-5)


def test_several_outputs_in_parts():
    model = classifier(zoo_inputs.two_labels)
    classes = [["warm", "cold"], ["low", "middle", "high"]]
    model.partial_fit(X[:1], LABELS[:1], classes=classes).partial_fit(X, LABELS)
    assert [each.tolist() for each in model.classes_] == [["cold", "warm"], ["high", "low", "middle"]]
    assert model.fit_result_.losses.shape == (2,)
    with pytest.raises(
        ValueError, match=r"`classes` are .*, but were \[\['cold', 'warm'\], \['high', 'low', 'middle'\]"
    ):
        model.partial_fit(X, LABELS, classes=[classes[1], classes[0]])
    with pytest.raises(ValueError, match=r"labels that `fit` did not see: \['hot'\]"):
        model.partial_fit(X[:1], [["hot", "low"]])


def test_draws_made_elsewhere():
    model = NumPyroImpactClassifier(zoo_inputs.switches, posterior={"coef": np.ones((4, 2, 3))})
    assert [each.shape for each in model.predict_proba(X)] == [(80, 2)] * 3
    np.testing.assert_array_equal(model.predict(X)[:, 0], (X.sum(axis=1) > 0).astype(int))
    assert model.sample_y(X, 2).shape == (80, 3, 2)
