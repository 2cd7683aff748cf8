"""Trees with all groups: what is in them, and that ArviZ takes them as they are."""

import decimal
import functools
import warnings

import arviz_stats
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
import zoo
from scipy.special import logsumexp
from scipy.stats import gamma, multivariate_normal, norm

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI

NOISE = 0.5  # of zoo.conjugate
SHORT = {"num_steps": 1500, "num_samples": 1000}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    y = X @ [1.0, -0.5] + rng.normal(scale=NOISE, size=40)
    return pd.DataFrame(X, columns=["height", "width"], index=[f"r{i}" for i in range(40)]), y


def exact_posterior(X, y):
    precision = np.eye(X.shape[1]) + X.T @ X / NOISE**2
    covariance = np.linalg.inv(precision)
    return covariance @ X.T @ y / NOISE**2, covariance


@pytest.fixture(scope="module")
def models(data):
    X, y = data
    settings = {
        "svi": SVI(guide="auto_multivariate_normal", **SHORT),
        "mcmc": MCMC(num_warmup=300, num_samples=500, num_chains=2),
    }
    found = {
        name: NumPyroImpactRegressor(zoo.conjugate, inference=inference, random_state=0).fit(X, y)
        for name, inference in settings.items()
    }
    mean, covariance = exact_posterior(X.to_numpy(), y)
    draws = np.random.default_rng(1).multivariate_normal(mean, covariance, size=(2, 500))
    posterior = xr.Dataset({"coef": (("chain", "draw", "column"), draws)})
    found["injected"] = NumPyroImpactRegressor(zoo.conjugate, posterior=posterior, random_state=0).fit(X, y)
    return found


@pytest.fixture(scope="module")
def trees(models, data):
    return {name: model.to_datatree(*data) for name, model in models.items()}


METHODS = ["svi", "mcmc", "injected"]


@pytest.mark.parametrize("method", METHODS)
def test_groups(trees, models, data, method):
    tree, (X, y) = trees[method], data
    expected = {"posterior", "posterior_predictive", "prior", "prior_predictive", "log_likelihood", "observed_data",
                "constant_data", "params", "hyperparameters"}  # fmt: skip
    assert set(tree.children) == expected | ({"sample_stats"} if method != "injected" else set())
    np.testing.assert_array_equal(tree["observed_data"]["y"], y)
    np.testing.assert_array_equal(tree["constant_data"]["X"], X)
    assert tree["constant_data"]["X"].dims == ("rows", "feature")
    assert tree["constant_data"]["feature"].to_numpy().tolist() == ["height", "width"]
    for group in ("observed_data", "constant_data", "posterior_predictive", "prior_predictive", "log_likelihood"):
        assert tree[group]["rows"].to_numpy().tolist() == X.index.tolist()
    model = models[method]
    drawn = model.sample_posterior_predictive_on_batch(X, return_datatree=False)["y"]
    np.testing.assert_array_equal(tree["posterior_predictive"]["y"], drawn)
    coef = model.posterior_["coef"]
    np.testing.assert_array_equal(tree["posterior"]["coef"], coef)
    density = norm.logpdf(y, coef @ X.to_numpy().T, NOISE)
    np.testing.assert_allclose(tree["log_likelihood"]["y"], density, rtol=1e-9)
    prior = tree["prior"]["coef"].to_numpy()
    assert prior.shape == (1, 1000, 2)
    assert abs(prior.std() - 1) < 0.05
    # Outcomes come from the latent sites beside them.
    noise = tree["prior_predictive"]["y"].to_numpy() - prior @ X.to_numpy().T
    assert abs(noise.std() - NOISE) < 0.01


def test_statistics_of_the_sampler(trees):
    statistics = trees["mcmc"]["sample_stats"]
    for name in ("diverging", "energy", "lp", "n_steps", "acceptance_rate", "step_size", "tree_depth"):
        assert statistics[name].sizes == {"chain": 2, "draw": 500}
    steps, depth = statistics["n_steps"].to_numpy(), statistics["tree_depth"].to_numpy()
    assert ((2 ** (depth - 1) <= steps) & (steps < 2**depth)).all()


def test_densities_of_a_variational_posterior(trees, models, data):
    (X, y), tree = data, trees["svi"]
    X = X.to_numpy()
    statistics = tree["sample_stats"]
    assert statistics["loss"].sizes == {"step": SHORT["num_steps"]}
    coef = tree["posterior"]["coef"].to_numpy()
    log_p = norm.logpdf(coef).sum(axis=-1) + norm.logpdf(y, coef @ X.T, NOISE).sum(axis=-1)
    np.testing.assert_allclose(statistics["log_p"], log_p, rtol=1e-9)
    # The guide's parameters are in the units of the fit.
    result = models["svi"].fit_result_
    params, units = result.params, result.data["units"]
    factor = units.root @ params["auto_scale_tril"]
    mean = units.middle["coef"] + units.root @ params["auto_loc"]
    log_q = multivariate_normal.logpdf(coef, mean, factor @ factor.T)[None]
    np.testing.assert_allclose(statistics["log_q"], log_q, rtol=1e-9)
    evidence = multivariate_normal.logpdf(y, np.zeros(len(y)), X @ X.T + NOISE**2 * np.eye(len(y)))
    weights = (statistics["log_p"] - statistics["log_q"]).to_numpy().ravel()
    assert logsumexp(weights) - np.log(len(weights)) == pytest.approx(evidence, abs=0.02)


# Guides


def counted(X, y=None):
    """A positive latent site, whose posterior is a gamma distribution."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(rate * jnp.ones(X.shape[0])), obs=y)


def lognormal_guide(X, y=None):
    loc = numpyro.param("loc", 1.0)
    scale = numpyro.param("scale", 0.1, constraint=dist.constraints.positive)
    numpyro.sample("rate", dist.LogNormal(loc, scale))


def guide_with_helper(X, y=None):
    helper = numpyro.sample("helper", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    loc = numpyro.param("loc", 1.0)
    numpyro.sample("rate", dist.LogNormal(loc + 0.1 * helper, 0.01))


COUNTS = np.random.default_rng(5).poisson(3.0, 30)


@functools.cache
def counted_tree(guide):
    X = np.zeros((30, 1))
    settings = SVI(guide=guide, num_steps=1500, num_samples=2000)
    model = NumPyroImpactRegressor(counted, inference=settings, random_state=0).fit(X, COUNTS)
    return model.to_datatree(X, COUNTS, return_groups=["log_likelihood"])


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.GuideWarning")
@pytest.mark.parametrize("guide", ["auto_normal", "auto_diagonal_normal", "auto_laplace", lognormal_guide])
def test_densities_are_those_of_the_site_itself(guide):
    """Weighted by p / q the draws have the evidence as their average, whichever scale the guide works on."""
    tree = counted_tree(guide)
    assert set(tree.children) == {"posterior", "sample_stats", "params", "hyperparameters", "log_likelihood"}
    rate = tree["posterior"]["rate"].to_numpy()
    statistics = tree["sample_stats"]
    shape, inverse_scale = 2.0 + COUNTS.sum(), 1.0 + len(COUNTS)
    exact = gamma.logpdf(rate, shape, scale=1 / inverse_scale)
    # p is the posterior times the evidence, in every draw.
    evidence = statistics["log_p"].to_numpy() - exact
    np.testing.assert_allclose(evidence, evidence.flat[0], rtol=1e-8)
    weights = (statistics["log_p"] - statistics["log_q"]).to_numpy().ravel()
    assert logsumexp(weights) - np.log(len(weights)) == pytest.approx(evidence.flat[0], abs=0.02)


@pytest.mark.parametrize("guide", ["auto_delta", guide_with_helper])
def test_guides_without_a_known_density(guide):
    statistics = counted_tree(guide)["sample_stats"]
    assert "log_p" in statistics
    assert "log_q" not in statistics


def test_weights_are_a_part_of_the_density(data):
    X, y = data
    weight = np.arange(len(y)) % 3.0
    model = NumPyroImpactRegressor(zoo.conjugate, inference=SVI(num_steps=200), random_state=0)
    model.fit(X, y, sample_weight=weight)
    tree = model.to_datatree(X, y, sample_weight=weight, return_groups=["log_likelihood"])
    coef = model.posterior_["coef"]
    density = norm.logpdf(coef).sum(axis=-1) + norm.logpdf(y, coef @ X.to_numpy().T, NOISE) @ weight
    np.testing.assert_allclose(tree["sample_stats"]["log_p"], density, rtol=1e-9)


# ArviZ


def loo_by_hand(log_likelihood):
    """Importance sampling without smoothing: the harmonic mean of each row's likelihoods."""
    flat = log_likelihood.reshape(-1, log_likelihood.shape[-1])
    return np.log(len(flat)) - logsumexp(-flat, axis=0)


def loo_exactly(X, y):
    found = []
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        mean, covariance = exact_posterior(X[others], y[others])
        found.append(norm.logpdf(y[i], X[i] @ mean, np.sqrt(NOISE**2 + X[i] @ covariance @ X[i])))
    return np.array(found)


@pytest.mark.parametrize("method", METHODS)
def test_loo(trees, data, method):
    tree, (X, y) = trees[method], data
    loo = arviz_stats.loo(tree, pointwise=True)
    by_hand = loo_by_hand(tree["log_likelihood"]["y"].to_numpy())
    np.testing.assert_allclose(loo.elpd_i, by_hand, atol=0.02)
    np.testing.assert_allclose(loo.elpd_i, loo_exactly(X.to_numpy(), y), atol=0.1)
    assert loo.elpd == pytest.approx(by_hand.sum(), abs=0.1)
    assert float(loo.pareto_k.max()) < loo.good_k


def test_loo_of_an_approximate_posterior(trees, data):
    (X, y), tree = data, trees["svi"]
    statistics = tree["sample_stats"]
    loo = arviz_stats.loo_approximate_posterior(tree, statistics["log_p"], statistics["log_q"], pointwise=True)
    np.testing.assert_allclose(loo.elpd_i, loo_exactly(X.to_numpy(), y), atol=0.1)


def test_a_correction_for_a_wrong_posterior(data):
    """Draws of a guide that is too wide: only the correction by its density brings back the exact values."""
    X, y = data

    def wide(X, y=None):
        mean, covariance = exact_posterior(*(each for each in (np.asarray(data[0]), data[1])))
        numpyro.param("unused", 0.0)
        numpyro.sample("coef", dist.MultivariateNormal(jnp.asarray(mean), jnp.asarray(1.5 * covariance)))

    settings = SVI(guide=wide, num_steps=10, num_samples=4000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(X, y)
    tree = model.to_datatree(X, y, return_groups=["log_likelihood"])
    statistics = tree["sample_stats"]
    exact = loo_exactly(X.to_numpy(), y).sum()
    corrected = arviz_stats.loo_approximate_posterior(tree, statistics["log_p"], statistics["log_q"]).elpd
    assert abs(corrected - exact) < 0.3 < abs(arviz_stats.loo(tree).elpd - exact)


@pytest.mark.parametrize("method", METHODS)
def test_summary(trees, data, method):
    X, y = data
    table = arviz_stats.summary(trees[method], round_to="none")
    mean, covariance = exact_posterior(X.to_numpy(), y)
    np.testing.assert_allclose(table["mean"], mean, atol=0.02)
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(covariance)), rtol=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_loo_pit(trees, method):
    pit = arviz_stats.loo_pit(trees[method])["y"].to_numpy()
    assert pit.shape == (40,)
    assert 0.3 < pit.mean() < 0.7
    assert pit.min() < 0.2 < 0.8 < pit.max()


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, in ArviZ
def test_compare(trees, data):
    X, y = data
    other = X[::-1].set_axis(X.index)
    mean, covariance = exact_posterior(other.to_numpy(), y)
    draws = np.random.default_rng(1).multivariate_normal(mean, covariance, size=1000)
    blind = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": draws}, random_state=0).fit(other, y)
    table = arviz_stats.compare({"blind": blind.to_datatree(other, y), **trees})
    assert table.index[-1] == "blind"
    assert table["elpd"].iloc[:3].std() < 0.5
    assert table["elpd"].iloc[-1] < table["elpd"].iloc[0] - 20


@pytest.mark.parametrize("method", METHODS)
def test_pictures(trees, method):
    arviz_plots = pytest.importorskip("arviz_plots")
    import matplotlib

    matplotlib.use("Agg")
    tree = trees[method]
    options = {"backend": "matplotlib"}
    for plot in (arviz_plots.plot_trace, arviz_plots.plot_forest, arviz_plots.plot_ppc_dist,
                 arviz_plots.plot_prior_posterior):  # fmt: skip
        plot(tree, **options)
    matplotlib.pyplot.close("all")


# Round trips and refusals


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_tree_is_read_back(trees, models, data, method, tmp_path):
    X, _ = data
    path = tmp_path / "tree.nc"
    trees[method].to_netcdf(path, engine="h5netcdf")
    with xr.open_datatree(path) as tree:
        again = NumPyroImpactRegressor.from_datatree(zoo.conjugate, tree.load())
    np.testing.assert_array_equal(again.predict(X), models[method].predict(X))


def test_deterministic_sites_join_the_posterior(data):
    X, y = data
    model = NumPyroImpactRegressor(zoo.linear, inference=SVI(num_steps=300), random_state=0).fit(X, y)
    tree = model.to_datatree(X, return_groups=["posterior_predictive"])
    draws = model.posterior_
    mu = draws["intercept"][..., None] + draws["coef"] @ X.to_numpy().T
    np.testing.assert_allclose(tree["posterior"]["mu"], mu, rtol=1e-10)
    assert list(tree["posterior_predictive"].data_vars) == ["y"]
    again = NumPyroImpactRegressor.from_datatree(zoo.linear, tree)
    assert again.posterior_.keys() == draws.keys()
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_classes_are_codes(data):
    X, y = data
    labels = np.where(y > 0, "up", "down")
    model = NumPyroImpactClassifier(zoo.logistic, inference=SVI(num_steps=300), random_state=0).fit(X, labels)
    tree = model.to_datatree(X, labels)
    np.testing.assert_array_equal(model.classes_[tree["observed_data"]["y"].to_numpy().astype(int)], labels)
    assert arviz_stats.loo(tree).elpd < 0


def test_arguments_of_the_kernel(data):
    X, _ = data
    exposure = np.linspace(1.0, 2.0, len(X))
    counts = np.random.default_rng(0).poisson(exposure)
    model = NumPyroImpactRegressor(zoo.poisson, inference=SVI(num_steps=300), random_state=0)
    model.fit(X, counts, exposure=exposure)
    tree = model.to_datatree(X, counts, exposure=exposure)
    np.testing.assert_array_equal(tree["constant_data"]["exposure"], exposure)
    assert tree["constant_data"]["exposure"].dims == ("rows",)
    np.testing.assert_array_equal(tree["observed_data"]["y"], counts)


def test_an_improper_prior_is_left_out():
    X = np.linspace(-1.0, 1.0, 30)[:, None]
    y = X[:, 0] + 1.0
    model = NumPyroImpactRegressor(zoo.improper, inference=SVI(num_steps=300), random_state=0).fit(X, y)
    assert not {"prior", "prior_predictive"} & set(model.to_datatree(X, y).children)
    with pytest.raises(ValueError, match=r"improper"):
        model.to_datatree(X, return_groups=["prior"])


class Batches:
    def __init__(self, X):
        self.X = X

    def __iter__(self):
        yield {"X": self.X}


def test_refusals(models, data):
    (X, y), model = data, models["svi"]
    with pytest.raises(ValueError, match=r"y without X"):
        model.to_datatree(y=y)
    with pytest.raises(ValueError, match=r"'log_likelihood', which needs X and y"):
        model.to_datatree(X, return_groups=["log_likelihood"])
    with pytest.raises(ValueError, match=r"'prior', which needs X"):
        model.to_datatree(return_groups=["prior"])
    with pytest.raises(ValueError, match=r"'predictions', which is none of"):
        model.to_datatree(X, return_groups=["predictions"])
    with pytest.raises(TypeError, match=r"return_groups=\['prior'\]"):
        model.to_datatree(X, return_groups="prior")
    with pytest.raises(ValueError, match=r"there were 40, but X has 39"):
        model.to_datatree(X.iloc[:39])
    with pytest.raises(ValueError, match=r"rows in memory"):
        model.to_datatree(Batches(X.to_numpy()), y)


# Labels of rows, in memory and in files

ROWS = pd.date_range("2024-03-30", periods=4)
INDEXES = {
    "days": ROWS,
    "a time zone": ROWS.tz_localize("Europe/Oslo"),
    "periods": ROWS.to_period("D"),
    "categories": pd.CategoricalIndex(list("abca")),
    "intervals": pd.interval_range(0, 4),
    "Int64": pd.Index([3, 1, 2, 0], dtype="Int64"),
    "mixed": pd.Index([1, "a", 2, "b"], dtype=object),
    "durations": pd.to_timedelta([0, 1, 2, 3], unit="h"),
    "truths": pd.Index([True, False, True, False]),
    "decimals": pd.Index([decimal.Decimal(i) / 10 for i in range(4)], dtype=object),
    "years out of range": pd.DatetimeIndex(np.array(["0900-01-01", "2024-01-01", "2025-01-01", "2026-01-01"], "M8[s]")),
    "complex": pd.Index([1j, 2.0, 3.0, 4.0]),
    "missing": pd.Index(["a", None, "b", "c"], dtype=object),
    "duplicates": pd.Index([1, 1, 2, 2]),
}
# What files hold as it is; all else is text.
KEPT = ("days", "Int64", "durations", "truths", "duplicates", "categories")


def expected_labels(name, index):
    return plain(index) if name in KEPT else [str(label) for label in np.asarray(index)]


def plain(labels):
    """Files have times in nanoseconds."""
    array = np.asarray(labels)
    return (array.astype(f"{array.dtype.kind}8[us]") if array.dtype.kind in "mM" else array).tolist()


def with_index(index):
    X = pd.DataFrame({"x": np.arange(4.0), "z": 0.0}, index=index)
    return NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((5, 2))}, random_state=0), X


def ways(model, X, folder):
    """All trees with labelled rows, as they are and from files."""
    groups = ["observed_data", "posterior_predictive"]
    tree = model.to_datatree(X, np.arange(4.0), return_groups=groups)
    tree.to_netcdf(folder / "tree.nc", engine="h5netcdf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr says of text that its form is not final
        tree.to_zarr(folder / "tree", consolidated=False)
        from_zarr = xr.open_datatree(folder / "tree", engine="zarr", consolidated=False).load()
    with xr.open_datatree(folder / "tree.nc", engine="h5netcdf") as opened:
        from_netcdf = opened.load()
    drawn = model.sample_posterior_predictive(X, output_dir=folder / "draws")
    return {
        **{f"memory, {group}": tree[group] for group in groups},
        **{f"netCDF, {group}": from_netcdf[group] for group in groups},
        **{f"Zarr, {group}": from_zarr[group] for group in groups},
        "draws": drawn["posterior_predictive"],
    }


@pytest.mark.parametrize("name", INDEXES)
def test_labels_of_rows_come_back(name, tmp_path):
    model, X = with_index(INDEXES[name])
    model.fit(X, np.arange(4.0))
    for way, group in ways(model, X, tmp_path).items():
        assert plain(group["rows"]) == expected_labels(name, INDEXES[name]), way
    in_memory = model.sample_posterior_predictive(X)["posterior_predictive"]
    assert in_memory.sizes["rows"] == 4
    effect = model.estimate_effect(X, scenarios={"none": {"columns": {"x": 0.0}}}, average=False)
    np.testing.assert_allclose(effect.summary()["mean"], -np.arange(4.0))


NAMES = [["geo", "day"], ["y", "rows"], [None, ""], ["a", "a"], [0, ("b", 1)], ["chain", "x"], ["a/b", "c d"]]


@pytest.mark.parametrize("level", [name for name in INDEXES if name != "missing"])
@pytest.mark.parametrize(
    "names", [["geo", "day"], ["y", "rows"], [None, None], ["a", "a"], [0, ("b", 1)], ["chain", "x"]]
)
def test_levels_of_every_kind_and_name(level, names, tmp_path):
    index = pd.MultiIndex.from_arrays([["no", "no", "se", "se"], INDEXES[level]], names=names)
    model, X = with_index(index)
    model.fit(X, np.arange(4.0))
    for way, group in ways(model, X, tmp_path).items():
        found = [plain(c) for name, c in group.coords.items() if c.dims == ("rows",) and name != "rows"]
        assert ["no", "no", "se", "se"] in found, way
        assert expected_labels(level, INDEXES[level]) in found, way
    assert model.sample_posterior_predictive(X)["posterior_predictive"]["y"].sizes["rows"] == 4
    effect = model.estimate_effect(X, scenarios={"none": {"columns": {"x": 0.0}}}, average=False).summary()
    np.testing.assert_allclose(effect["mean"], -np.arange(4.0))
    assert effect.index[0][1] == "no"


@pytest.mark.parametrize("name", [name for name in INDEXES if name != "missing"])
def test_labels_of_groups_of_rows_can_be_written(name, tmp_path):
    model, X = with_index(None)
    index = INDEXES[name]
    given = {"label": pd.Series(index), "other": ["u"] * 4}
    for by in ({"label": given["label"]}, given):
        effect = model.fit(X, np.arange(4.0)).estimate_effect(X, scenarios={"none": {"columns": {"x": 0.0}}}, by=by)
        effect.to_netcdf(tmp_path / "effect.nc", engine="h5netcdf")
        with xr.open_datatree(tmp_path / "effect.nc", engine="h5netcdf") as tree:
            labels = plain(tree["none"]["label"])
        assert sorted(map(str, labels)) == sorted(map(str, set(expected_labels(name, index))))


def test_rows_of_the_fit_are_counted_whatever_they_weigh(data):
    X, y = data[0].to_numpy(), data[1]
    settings = SVI(num_steps=50, num_samples=20)
    heavy = NumPyroImpactRegressor(zoo.linear, inference=settings, random_state=0)
    heavy.fit(X, y, sample_weight=np.full(40, 2.0))
    twice = np.concatenate([X, X])
    with pytest.raises(ValueError, match="there were 40, but X has 60"):
        heavy.to_datatree(twice[:60], np.concatenate([y, y])[:60])
    light = NumPyroImpactRegressor(zoo.linear, inference=settings, random_state=0)
    for _ in range(2):
        light.partial_fit(X, y, sample_weight=np.full(40, 0.1))
    assert light.to_datatree(twice, np.concatenate([y, y]))["observed_data"]["y"].size == 80
    with pytest.raises(ValueError, match="there were 40 to 80, but X has 81"):
        light.to_datatree(np.ones((81, X.shape[1])))
