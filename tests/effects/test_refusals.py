"""Effects say what they cannot do, and trees that were drawn before are compared only with their likes."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
import zoo
from effects_reference import COEF, X, effect_of, model_of, normal

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import (
    EffectWarning,
    FixedSiteWarning,
    HeldLatentWarning,
    PairingWarning,
    SpeedWarning,
    UnreachedOutputWarning,
)

ROWS = X[:40]
ONES = np.ones(40)
POISSON, CONJUGATE = model_of(zoo.poisson), model_of(zoo.conjugate)
MEDIATED = {"b": normal(3), "t": normal(40), "m": normal(40)}
mixes = pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")


def new(**changes):
    return {"scenarios": {"new": changes}}


REFUSED = [
    # Scenarios
    ({"scenarios": {}}, "`scenarios` must be a mapping with at least one named scenario"),
    ({"scenarios": [{}]}, "`scenarios` must be a mapping"),
    ({"scenarios": {"a/b": {}}}, "A scenario's name must be a string without '/', got 'a/b'"),
    ({"scenarios": {1: {}}}, "A scenario's name must be a string without '/', got 1"),
    ({"scenarios": {"baseline": {}}}, "'baseline' cannot be a scenario's name"),
    ({"scenarios": {"new": 1}}, "Scenario 'new' must be a mapping"),
    ({"scenarios": {"new": X}}, r"Scenario 'new' must be a mapping .* got a ndarray\. Other rows .*'arguments': {'X'"),
    ({**new(), "baseline": 1}, "Scenario 'baseline' must be a mapping"),
    (new(colums={}), "Scenario 'new' has 'colums', which is none of"),
    (new(columns=0), "Scenario 'new' must map names to values in 'columns', got 0"),
    (new(columns={"age": 1}), "A scenario names column 'age', but X has no column names"),
    (new(columns={5: 1}), "A scenario gives column 5, but X has 2 columns"),
    (new(columns={0: np.ones(3)}), r"A scenario gives column 0 the shape \(3,\)"),
    (new(columns={0: np.nan}), "that a scenario gives column 0 contains NaN or infinity"),
    (new(columns={0: lambda x: x * np.inf}), "that a scenario gives column 0 contains NaN or infinity"),
    (new(columns={0: "old"}), "that a scenario gives column 0 must be numeric, got an array of type <U3"),
    (new(arguments={"X": X}), "A scenario gives 'X' 1300 rows, but it has 40"),
    (new(arguments={"X": ROWS[:, :1]}), "X has 1 features|the shape"),
    (new(arguments={"X": np.full((40, 2), np.nan)}), "contains NaN"),
    (new(arguments={"exposure": np.nan}), "'exposure' contains NaN"),
    (new(arguments={"exposure": np.ones(3)}), "gives the argument 'exposure' 3 values, but there are 40 rows"),
    (new(arguments={"expsure": 1.0}), "Unknown argument 'expsure'"),
    (new(arguments={"expsure": lambda e: e}), "changes the argument 'expsure', which was not passed"),
    (new(intervention={"z": 1.0}), "`intervention` names 'z', which is not a sample site"),
    (new(condition={"z": 1.0}), "`condition` names 'z', which is not a sample site"),
    (new(intervention={"y": 1.0}), "`intervention` names 'y', the kernel's output"),
    (new(intervention={"coef": np.nan}), "`intervention` gives site 'coef' contains NaN or infinity"),
    (new(condition={"coef": np.inf}), "`condition` gives site 'coef' contains NaN or infinity"),
    (new(intervention={"coef": "a"}), "must be numeric, got an array of type <U1"),
    (new(intervention={"coef": np.ones(3)}), "gives site 'coef' values of the shape"),
    # Targets
    ({**new(), "where": {0: 99.0}}, "No row is left to average over"),
    ({**new(), "where": np.zeros(40, bool)}, "No row is left to average over"),
    ({**new(), "where": np.ones(3, bool)}, "`where` must map columns"),
    ({**new(), "where": np.ones(40)}, "`where` must map columns"),
    ({**new(), "where": {"age": 1}}, "`where` names column 'age', but X has no column names"),
    ({**new(), "by": "age"}, "`by` names column 'age'"),
    ({**new(), "by": {"a": np.ones(3)}}, "`by` must give 'a' a value for each of the 40 rows"),
    ({**new(), "by": {"a": np.full(40, np.nan)}}, "`by` groups rows by 'a', which has missing values"),
    ({**new(), "by": {"a/b": ONES}}, "`by` cannot group rows by something named 'a/b'"),
    ({**new(), "by": {"draw": ONES}}, "`by` cannot group rows by something named 'draw'"),
    ({**new(), "by": {"effect": ONES}}, "`by` cannot group rows by something named 'effect'"),
    ({**new(), "by": {"group": ONES, "b": ONES}}, "`by` cannot group rows by something named 'group'"),
    ({**new(), "sample_weight": np.ones(3)}, "`sample_weight` must be 40 finite numbers"),
    ({**new(), "sample_weight": -ONES}, "`sample_weight` must be 40 finite numbers"),
    ({**new(), "sample_weight": ONES * np.nan}, "`sample_weight` must be 40 finite numbers"),
    ({**new(), "by": 0, "average": False}, "`by` and `sample_weight` are of averages"),
    ({**new(), "sample_weight": ONES, "average": False}, "`by` and `sample_weight` are of averages"),
    # The rest
    ({**new(), "contrast": "odds"}, "`contrast` must be one of"),
    ({**new(), "of": "median"}, "`of` must be 'mean', 'outcome'"),
    ({**new(), "X": None}, "`estimate_effect` needs rows: pass X"),
    ({**new(), "scenarios": {"new": xr.DataTree()}}, "leave out X"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_refusals(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        POISSON.estimate_effect(**{"X": ROWS, "exposure": ONES, **settings})


def test_missing_names_of_columns_are_refused():
    frame = pd.DataFrame(ROWS, columns=["a", "b"])
    model = model_of(zoo.conjugate, fitted=False)
    with pytest.raises(ValueError, match=r"A scenario names column 'c', which X does not have: \['a', 'b'\]"):
        model.estimate_effect(frame, **new(columns={"c": 1}))


@pytest.mark.parametrize(
    ("along", "message"),
    [
        ("centre", "`along` needs a continuous input, and 'centre' is none"),
        ("dosage", "`along` names column 'dosage', but X has no column names"),
        (7, "`along` gives column 7, but X has 2 columns"),
        ([], "`along` must name at least one input"),
    ],
)
def test_slopes_that_cannot_be(along, message):
    model = model_of(zoo.dosed, {"coef": COEF, "slope": normal(), "levels": normal(3)})
    with pytest.raises(ValueError, match=message):
        model.estimate_slope(ROWS, along, dose=ONES, centre=np.zeros(40, int))


def test_names_of_inputs_with_a_slash_are_refused():
    frame = pd.DataFrame(ROWS, columns=["a/b", "c"])
    with pytest.raises(ValueError, match="The name of an input in `along` must be a string without '/'"):
        model_of(zoo.conjugate, fitted=False).estimate_slope(frame, "a/b")


@mixes
def test_slopes_of_rows_that_interact_are_refused():
    with pytest.raises(ValueError, match="Slopes need a kernel whose rows stand alone"):
        model_of(zoo.running, {"slope": normal()}).estimate_slope(ROWS, 0)


def test_drawn_labels_have_no_average():
    model = model_of(zoo.with_three_classes, {"alpha": normal(3), "beta": normal(2, 3)})
    with pytest.raises(ValueError, match="Drawn class labels have no average"):
        model.estimate_effect(ROWS, **new(columns={0: 1.0}), of="outcome")
    binary = NumPyroImpactClassifier(zoo.logistic, posterior={"coef": COEF}).fit(ROWS, ONES - (ROWS[:, 0] > 0))
    shares = binary.estimate_effect(ROWS, **new(columns={0: 1.0}), of="outcome")["new"]["scenario"]
    assert 0.2 < shares.mean() < 0.8


def test_groups_named_as_a_dimension_of_the_output_are_refused():
    model = model_of(zoo.with_three_classes, {"alpha": normal(3), "beta": normal(2, 3)})
    with pytest.raises(ValueError, match="`by` cannot be named 'class'"):
        model.estimate_effect(ROWS, **new(columns={0: 1.0}), by={"class": ONES})


@pytest.mark.parametrize("by", [ONES, [ONES], pd.Series(ONES)], ids=["array", "list", "series"])
def test_groups_need_a_name(by):
    model = model_of(zoo.conjugate, {"coef": COEF})
    with pytest.raises(TypeError, match="`by` must name columns of X or arguments, or be a dict of names to arrays"):
        model.estimate_effect(ROWS, **new(columns={0: 1.0}), by=by)


# Interventions that do not do what they are meant to


def intervene(model, method, intervention, **settings):
    if method == "estimate_effect":
        return model.estimate_effect(ROWS, **new(intervention=intervention), **settings)
    return getattr(model, method)(ROWS, intervention=intervention, **settings)


METHODS = ["estimate_effect", "sample_posterior_predictive", "sample_posterior_predictive_on_batch"]


@mixes
@pytest.mark.parametrize("method", [*METHODS, "sample_prior_predictive"])
@pytest.mark.parametrize("site", ["idle", "level"])
def test_interventions_that_reach_nothing(method, site):
    """Nothing depends on ``idle``, and ``level`` is in the body of a scan."""
    model = model_of(zoo.scanned, {"slope": normal(), "idle": normal(), "level": normal(40)})
    with pytest.warns(UnreachedOutputWarning, match=f"The intervention on '{site}' cannot change the output 'y'"):
        intervene(model, method, {site: 5.0}, **({"in_sample": True} if method == "estimate_effect" else {}))


@mixes
def test_interventions_that_reach_a_scan_do_not_warn():
    model = model_of(zoo.scanned, {"slope": (slope := normal()), "idle": normal()})
    with pytest.warns() as caught:
        effects = model.estimate_effect(ROWS, **new(intervention={"slope": 1.0}))
    assert not [each for each in caught if issubclass(each.category, EffectWarning)]
    # Without draws of its own, the level has the same steps in both, and the effect is that of the slope.
    expected = (1 - slope) * np.cumsum(ROWS[:, 0]).mean()
    np.testing.assert_allclose(effect_of(effects), expected, rtol=1e-6)


@mixes
def test_interventions_on_steps_of_a_walk_reach_it():
    draws = {"scale": np.abs(normal()), "step": normal(40)}
    effects = model_of(zoo.random_walk, draws).estimate_effect(ROWS, in_sample=True, **new(intervention={"step": 1.0}))
    np.testing.assert_allclose(effects["new"]["scenario"], 20.5, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_latents_that_keep_draws_made_without_the_intervention(method):
    model = model_of(zoo.mediated, MEDIATED)
    settings = {"in_sample": True}
    with pytest.warns(HeldLatentWarning, match=r"Latent sites \['m'\] depend on 't', and keep their posterior draws"):
        intervene(model, method, {"t": 1.0}, **settings)
    # Nothing is held that is set itself, or that lies before.
    intervene(model, method, {"m": 1.0}, **settings)
    intervene(model, method, {"t": 1.0, "m": 1.0}, **settings)
    # Out of sample it is drawn anew.
    intervene(model, method, {"t": 1.0}, in_sample=False)


def test_conditions_stand_in_the_way():
    model = model_of(zoo.mediated, {**MEDIATED, "b": MEDIATED["b"] * [1.0, 1.0, 0.0]})
    model.estimate_effect(
        ROWS, scenarios={"new": {"intervention": {"t": 1.0}, "condition": {"m": 1.0}}}, in_sample=True
    )
    chain = model_of(zoo.chained, {"a": normal(40), "b": normal(40)})
    with pytest.warns(UnreachedOutputWarning):
        chain.estimate_effect(ROWS, **new(intervention={"a": 1.0}, condition={"b": 1.0}))


def confounded(X, y=None):
    """A latent site of each row lies behind the treatment and the outcome."""
    effect = numpyro.sample("effect", dist.Normal(2.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        u = numpyro.sample("u", dist.Normal(0.0, 1.0))
        t = numpyro.sample("t", dist.Bernoulli(logits=2 * u))
        numpyro.sample("y", dist.Normal(effect * t + 1.2 * u, 1.0), obs=y)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_fixing_a_site_is_not_conditioning_and_says_so():
    """Among rows that happen to be treated u is greater, and the difference of means is more than the effect."""
    model = model_of(confounded, {"effect": (effect := normal())})
    treated, not_treated = ({"condition": {"t": value}} for value in (1, 0))
    message = r"`condition` fixes 't', and latent sites \['u'\], on which it and the output depend, keep"
    with pytest.warns(FixedSiteWarning, match=message):
        found = model.estimate_effect(X, baseline=not_treated, scenarios={"new": treated})
    np.testing.assert_allclose(effect_of(found), effect, rtol=1e-9)
    with pytest.warns(FixedSiteWarning):
        model.sample_posterior_predictive(ROWS, condition={"t": 1}, in_sample=False)
    # Where u is set as well, nothing is left to infer.
    model.sample_posterior_predictive(ROWS, condition={"t": 1, "u": 0.5}, in_sample=False)
    model.sample_posterior_predictive(ROWS, condition={"u": 0.5}, in_sample=False)


def test_sites_that_are_set_cannot_be_returned():
    with pytest.raises(ValueError, match="`return_sites` names 'coef', which `intervention` sets"):
        CONJUGATE.sample_posterior_predictive(ROWS, intervention={"coef": [0.0, 1.0]}, return_sites=["coef"])


def test_the_output_cannot_be_set():
    with pytest.raises(ValueError, match="`intervention` names 'y', the kernel's output"):
        CONJUGATE.sample_posterior_predictive(ROWS, intervention={"y": 1.0})


def test_rows_that_interact_are_told_of():
    with pytest.warns(SpeedWarning):
        model_of(zoo.running, {"slope": normal()}).estimate_effect(ROWS, **new(columns={0: 1.0}))


# Scenarios that cannot change the output

UNUSED = {
    "column": {"columns": {1: 3.0}},
    "column, by row": {"columns": {1: np.arange(40.0)}},
    "argument": {"arguments": {"idle": 2.0}},
    "argument by row": {"arguments": {"idle": np.arange(40.0)}},
    "site": {"condition": {"spare": 1.0}},
}


def of_the_first_column(X, y=None, *, idle=0.0, half=False):
    """The mean follows the first column, its spread the third."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    numpyro.sample("spare", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(coef * jnp.maximum(X[:, 0], 0.0), jnp.exp(X[:, 2])), obs=y)


THREE = np.column_stack([ROWS, np.zeros(40)])
FIRST_COLUMN = model_of(of_the_first_column, {"coef": normal(), "spare": normal()})


@pytest.mark.parametrize("of", ["mean", "outcome"])
@pytest.mark.parametrize("name", UNUSED)
def test_scenarios_that_reach_nothing(name, of):
    idle = {"idle": np.zeros(40)} if name == "argument by row" else {}
    with pytest.warns(UnreachedOutputWarning, match="'new' leaves the outcome as it is"):
        effects = FIRST_COLUMN.estimate_effect(THREE, scenarios={"new": UNUSED[name]}, of=of, **idle)
    np.testing.assert_array_equal(effects["new"]["effect"], 0.0)


def test_scenarios_without_an_average_effect_that_reach_the_output():
    """Nothing is wrong where values are exchanged, where the spread changes, and where nothing is changed."""
    fine = {
        "exchanged": {"columns": {0: THREE[::-1, 0]}},
        "spread": {"columns": {2: 1.0}},
        "the same": {"columns": {1: THREE[:, 1]}},
        "nothing": {},
    }
    effects = FIRST_COLUMN.estimate_effect(THREE, scenarios=fine)
    for name in fine:
        np.testing.assert_allclose(effects[name]["effect"], 0.0, atol=1e-12)


def test_scenarios_that_reach_only_rows_that_do_not_count():
    """A negative value of the first column is as good as zero."""
    scenario = {"new": {"columns": {0: lambda x: np.where(x < 0, x - 1, x + 1)}}}
    with pytest.warns(UnreachedOutputWarning):
        FIRST_COLUMN.estimate_effect(THREE, scenarios=scenario, where=THREE[:, 0] < 0)
    FIRST_COLUMN.estimate_effect(THREE, scenarios=scenario, where=THREE[:, 0] > 0)


@pytest.mark.parametrize("average", [True, False])
def test_slopes_along_what_reaches_nothing(average):
    with pytest.warns(UnreachedOutputWarning, match="'1' leaves the outcome as it is"):
        effects = FIRST_COLUMN.estimate_slope(THREE, [0, 1], average=average)
    assert (effects["0"]["effect"] != 0).any()


# Slopes through draws that have no derivative


def two_part(X, y=None):
    """Whether there is an outcome is drawn, and depends on the first column."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        some = None if y is None else (y > 0).astype(int)
        z = numpyro.sample("z", dist.Bernoulli(logits=2 * X[:, 0]), obs=some)
        numpyro.sample("y", dist.Normal(jnp.where(z == 1, 5 + a * X[:, 1], 0.0), 0.1), obs=y)


def steps_behind(X, y=None):
    """A count that follows the first column, and that nothing follows."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("z", dist.Poisson(jnp.exp(X[:, 0])))
        numpyro.sample("y", dist.Normal(a * X[:, 0], 0.1), obs=y)


def skewed(distribution):
    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", distribution(a * X[:, 0]), obs=y)

    return kernel


def exponentiated(loc):
    return dist.TransformedDistribution(dist.Normal(loc, 0.3), dist.transforms.ExpTransform())


def mixed(loc):
    weights = jnp.stack([dist.util.clamp_probs(0.5 + 0.1 * jnp.tanh(loc)), 0.5 - 0.1 * jnp.tanh(loc)], -1)
    parts = [exponentiated(1 + loc), exponentiated(-1 + 0 * loc)]
    return dist.MixtureGeneral(dist.Categorical(probs=weights), parts, support=dist.constraints.positive)


WITHOUT_DERIVATIVE = {
    "class": (two_part, "z"),
    "hurdle": (
        skewed(lambda loc: dist.HurdleProbs(exponentiated(loc), gate=dist.util.clamp_probs(0.5 + 0.1 * loc))),
        "y",
    ),
    "mixture": (skewed(mixed), "y"),
    "rejection": (skewed(lambda loc: dist.VonMises(loc, 2.0)), "y"),
}
A = {"a": normal()}


@pytest.mark.parametrize("name", WITHOUT_DERIVATIVE)
@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_slopes_through_draws_without_derivative(name):
    kernel, site = WITHOUT_DERIVATIVE[name]
    with pytest.raises(ValueError, match=rf"A slope along 0 would leave out its effect through \['{site}'\]"):
        model_of(kernel, A).estimate_slope(ROWS, 0)


WITH_DERIVATIVE = {
    "truncated": lambda loc: dist.TruncatedDistribution(dist.Laplace(loc, 1.0), low=0.0),
    "folded": lambda loc: dist.FoldedDistribution(dist.Normal(loc, 1.0)),
    "transformed": exponentiated,
    "censored": lambda loc: dist.RightCensoredDistribution(dist.Normal(loc, 1.0), loc > 0.1),
}


@pytest.mark.parametrize("name", WITH_DERIVATIVE)
def test_slopes_through_draws_with_a_derivative(name):
    model, step = model_of(skewed(WITH_DERIVATIVE[name]), A, dtype="float64"), 1e-5
    baseline = {"columns": {0: lambda x: x - step}}
    around = model.estimate_effect(ROWS, baseline=baseline, **new(columns={0: lambda x: x + step}))
    found = effect_of(model.estimate_slope(ROWS, 0), "0")
    np.testing.assert_allclose(found, effect_of(around) / (2 * step), rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_slopes_beside_draws_without_derivative():
    """Along another column, and where the outcome does not follow the draw."""
    draws = A["a"]
    found = effect_of(model_of(steps_behind, A).estimate_slope(ROWS, 0), "0")
    np.testing.assert_allclose(found, draws, rtol=1e-6)
    # A share of sigmoid(2 x) of the rows have an outcome.
    rows = np.column_stack([np.zeros(4000), np.ones(4000)])
    found = effect_of(model_of(two_part, A).estimate_slope(rows, 1), "1")
    np.testing.assert_allclose(found, draws / 2, atol=5 * np.abs(draws).max() * np.sqrt(0.25 / 4000))


# Draws that were made before


def drawn(model=CONJUGATE, X=ROWS, in_sample=False, **settings):
    return model.sample_posterior_predictive(X, in_sample=in_sample, **settings)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.RatioWarning")
@pytest.mark.parametrize("contrast", ["difference", "ratio"])
@pytest.mark.parametrize("store", ["memory", "zarr"])
def test_trees(contrast, store):
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=3).set_posterior_sample({"coef": COEF}, 2)
    before, after = drawn(model, store=store), drawn(model, ROWS + 1, store=store)
    effects = model.estimate_effect(baseline=before, scenarios={"new": after, "same": before}, contrast=contrast)
    a, b = (tree["predictions"]["y"].to_numpy() for tree in (after, before))
    expected = a - b if contrast == "difference" else a / b
    np.testing.assert_allclose(effects["new"]["effect"], expected, rtol=1e-12)
    np.testing.assert_array_equal(effects["same"]["effect"], 0.0 if contrast == "difference" else 1.0)
    assert effects["new"]["effect"].dims == ("chain", "draw", "rows")
    if contrast == "difference":
        np.testing.assert_allclose(effect_of(effects), np.tile(COEF.sum(axis=1)[:, None], 40), rtol=1e-6)
        assert effects.summary().loc["new", "mean"].to_numpy() == pytest.approx(COEF.sum(axis=1).mean())
    model.cleanup()


def test_arguments_of_both_sides():
    """The form that computes what trees would hold."""
    effects = POISSON.estimate_effect(
        ROWS,
        baseline={"arguments": {"X": ROWS, "exposure": ONES}},
        scenarios={"new": {"arguments": {"X": ROWS + 1, "exposure": 2 * ONES}}},
        of="outcome",
        average=False,
        exposure=ONES,
    )
    means = [2 * np.exp(COEF @ (ROWS + 1).T), np.exp(COEF @ ROWS.T)]
    z = (effect_of(effects) - (means[0] - means[1])) / np.sqrt(means[0] + means[1])
    assert abs(z.mean()) < 5 / np.sqrt(z.size / 10)


def test_trees_with_other_sites_beside_the_output():
    model = NumPyroImpactRegressor(zoo.linear, posterior=LINEAR, random_state=3).fit(ROWS, ONES)
    before, after = drawn(model), drawn(model, ROWS + 1)
    effects = model.estimate_effect(baseline=before, scenarios={"new": after})
    np.testing.assert_allclose(effect_of(effects), np.tile(LINEAR["coef"].sum(axis=1)[:, None], 40), rtol=1e-6)
    alone = [drawn(model, rows, return_sites=["mu"]) for rows in (ROWS, ROWS + 1)]
    means = model.estimate_effect(baseline=alone[0], scenarios={"new": alone[1]})
    np.testing.assert_allclose(effect_of(means), effect_of(effects), rtol=1e-6)
    # Trees say which site is the output, and those that do not leave the choice open without a fit.
    unknown = NumPyroImpactRegressor(zoo.linear)
    found = unknown.estimate_effect(baseline=before, scenarios={"new": after})
    np.testing.assert_allclose(effect_of(found), effect_of(effects))
    for tree in (before, after):
        del tree.attrs["output"]
    with pytest.raises(ValueError, match=r"have the sites \['y', 'mu'\] in common"):
        unknown.estimate_effect(baseline=before, scenarios={"new": after})


LINEAR = {"intercept": normal(), "coef": normal(2), "sigma": np.abs(normal())}


def test_trees_that_are_not_paired():
    before = drawn()
    with pytest.warns(PairingWarning, match="drawn with the seed 3 and scenario 'new' with 7"):
        CONJUGATE.estimate_effect(baseline=before, scenarios={"new": drawn(random_state=7)})
    with pytest.warns(PairingWarning, match="The baseline holds 'predictions' and scenario 'new'"):
        CONJUGATE.estimate_effect(baseline=before, scenarios={"new": drawn(in_sample=True)})
    other = model_of(zoo.conjugate, {"coef": COEF[::-1]})
    with pytest.warns(PairingWarning, match="drawn from different posteriors"):
        CONJUGATE.estimate_effect(baseline=before, scenarios={"new": drawn(other)})


def relabelled(tree):
    draws = tree["predictions"].to_dataset().assign_coords(rows=np.arange(1, 41))
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), "predictions": draws})


@pytest.mark.parametrize(
    ("scenario", "error", "message"),
    [
        (lambda: drawn(X=ROWS[:30]), ValueError, "have draws of different shapes"),
        (lambda: relabelled(drawn()), ValueError, "have different labels on 'rows'"),
        (lambda: {"columns": {0: 1.0}}, TypeError, r"`scenarios\['new'\]` must be a DataTree"),
        (lambda: xr.DataTree(), ValueError, r"`scenarios\['new'\]` holds no predictive draws"),
    ],
)
def test_trees_that_cannot_be_compared(scenario, error, message):
    with pytest.raises(error, match=message):
        CONJUGATE.estimate_effect(baseline=drawn(), scenarios={"new": scenario()})


NOT_OF_TREES = {"where": ONES == 1, "by": 0, "average": False, "pairs": True, "sample_weight": ONES, "exposure": 1.0}


@pytest.mark.parametrize("name", NOT_OF_TREES)
def test_trees_are_compared_as_they_are(name):
    tree = drawn()
    with pytest.raises(ValueError, match="Trees of draws are compared as they are"):
        CONJUGATE.estimate_effect(baseline=tree, scenarios={"new": tree}, **{name: NOT_OF_TREES[name]})


def test_a_baseline_of_trees_is_a_tree():
    with pytest.raises(TypeError, match="`baseline` must be a DataTree"):
        CONJUGATE.estimate_effect(scenarios={"new": drawn()})
