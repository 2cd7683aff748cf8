"""Gaussian processes, time series and differential equations of NumPyro's examples."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts, svi
from jax.experimental.ode import odeint
from jax.scipy.special import logsumexp
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer import init_to_median
from numpyro.infer.autoguide import AutoDAIS, AutoDelta, AutoDiagonalNormal

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]


def curve():
    rng = np.random.default_rng(0)
    X = np.sort(rng.uniform(-1.0, 1.0, size=25))
    return X, X + 0.5 * np.sin(5.0 * X) + 0.2 * rng.normal(size=25), {}


def squared_exponential(X, Z, variance, length, noise):
    return variance * jnp.exp(-0.5 * ((X[:, None] - Z) / length) ** 2) + (noise + 1e-6) * jnp.eye(len(X))


def gaussian_process(X, Y):
    variance = numpyro.sample("variance", dist.LogNormal(0.0, 10.0))
    noise = numpyro.sample("noise", dist.LogNormal(0.0, 10.0))
    length = numpyro.sample("length", dist.LogNormal(0.0, 10.0))
    covariance = squared_exponential(X, X, variance, length, noise)
    numpyro.sample("Y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), covariance_matrix=covariance), obs=Y)


def matern(X, Z, variance=1.0, length=0.5):
    distance = jnp.sqrt(0.5) * jnp.sqrt((X[:, None] - Z) ** 2 + 1e-12) / length
    return variance * (1 + distance + distance**2 / 3) * jnp.exp(-distance) + 1e-4 * jnp.eye(len(X))


def smooth_curve():
    X = np.linspace(-3.0, 3.0, 15)
    Y = np.exp(0.3 * np.cos(2.0 * X)) + 0.1 * X**2
    return X, (Y - Y.mean()) / Y.std(), {}


def process_with_function(X, Y, covariance=matern):
    variance = numpyro.sample("variance", dist.LogNormal(0.0, 1.0))
    length = numpyro.sample("length", dist.LogNormal(0.0, 1.0))
    k = covariance(X, X, variance, length)
    numpyro.sample("Y", dist.MultivariateNormal(loc=jnp.zeros(X.shape[0]), covariance_matrix=k), obs=Y)


def labelled_curve():
    X = np.linspace(-1, 1, 16)
    rng = np.random.default_rng(1)
    return X, (2.0 * X + rng.logistic(size=16) > 0).astype(int), {}


def process_of_labels(X, Y, length=0.2):
    k = jnp.exp(-0.5 * ((X[:, None] - X) / length) ** 2) + 1e-6 * jnp.eye(X.shape[0])
    f = numpyro.sample("f", dist.MultivariateNormal(loc=jnp.zeros(X.shape[0]), covariance_matrix=k))
    numpyro.sample("obs", dist.Bernoulli(logits=f**3), obs=Y)


# Births by day: components with scopes.
def births():
    rng = np.random.default_rng(2)
    day = np.arange(120)
    x = (day - day.mean()) / day.std()
    weekday = day % 7
    holiday = (day % 50 == 10).astype(int)
    level = 0.6 * np.sin(2.0 * x) + np.array([0, 0, 0, 0, 0, -0.8, -1.0])[weekday] - 0.7 * holiday
    return x, level + 0.2 * rng.normal(size=120), {"weekday": weekday, "holiday": holiday, "edge": 2.6, "terms": 6}


def trend(x, edge, terms):
    alpha = numpyro.sample("alpha", dist.HalfNormal(1.0))
    length = numpyro.sample("length", dist.InverseGamma(10.0, 2.0))
    roots = jnp.arange(1, 1 + terms) * jnp.pi / 2 / edge
    basis = jnp.sin(roots * (edge + x[:, None])) / jnp.sqrt(edge)
    density = alpha * jnp.sqrt(2 * jnp.pi) * length * jnp.exp(-0.5 * (length * roots) ** 2)
    with numpyro.plate("basis", terms):
        beta = numpyro.sample("beta", dist.Normal(0, 1))
    return numpyro.deterministic("f", basis @ (jnp.sqrt(density) * beta))


def weekday_effect(weekday):
    with numpyro.plate("weekdays", 6):
        rest = numpyro.sample("_beta", dist.Normal(0, 1))
    beta = numpyro.deterministic("beta", jnp.concatenate([-rest.sum(keepdims=True), rest]))
    return beta[weekday]


def holiday_effect(holiday):
    return numpyro.sample("beta", dist.Normal(0, 1)) * holiday


def birthdays(x, y=None, *, weekday, holiday, edge, terms):
    intercept = numpyro.sample("intercept", dist.Normal(0, 1))
    level = handlers.scope(trend, "trend")(x, edge, terms)
    by_weekday = handlers.scope(weekday_effect, "week")(weekday)
    by_holiday = handlers.scope(holiday_effect, "holiday")(holiday)
    f = numpyro.deterministic("f", intercept + level + by_weekday + by_holiday)
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("obs", x.shape[0]):
        numpyro.sample("y", dist.Normal(f, sigma), obs=y)


# Autoregression, by a scan and by a loop. Their users pass the outcome alone; here times are the input.
def series():
    rng = np.random.default_rng(3)
    y = np.zeros(40)
    for t in range(2, 40):
        y[t] = 0.1 + 0.6 * y[t - 1] - 0.3 * y[t - 2] + 0.3 * rng.normal()
    return jnp.arange(40), jnp.asarray(y), {}


def autoregression_sites():
    alpha = numpyro.sample("alpha", dist.Normal(0, 1).expand([2]).to_event(1))
    const = numpyro.sample("const", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    return alpha, const, sigma


def autoregression(times, y=None):
    alpha, const, sigma = autoregression_sites()

    def step(carry, _):
        before, twice_before = carry
        now = numpyro.sample("y", dist.Normal(const + alpha[0] * before + alpha[1] * twice_before, sigma))
        return (now, before), now

    with handlers.condition(data={} if y is None else {"y": y}):
        scan(step, (0.0, 0.0), times)


def autoregression_from_first(times, y=None):
    """The first two values start the series, as in the example, and have no density."""
    alpha, const, sigma = autoregression_sites()

    def step(carry, _):
        before, twice_before = carry
        now = numpyro.sample("y", dist.Normal(const + alpha[0] * before + alpha[1] * twice_before, sigma))
        return (now, before), None

    start = (0.0, 0.0) if y is None else (y[1], y[0])
    with handlers.condition(data={} if y is None else {"y": y[2:]}):
        scan(step, start, jnp.arange(len(times) - 2))


def autoregression_by_loop(times, y=None):
    alpha, const, sigma = autoregression_sites()
    before = twice_before = 0.0
    for t in range(len(times)):
        level = const + alpha[0] * before + alpha[1] * twice_before
        now = numpyro.sample(f"y_{t}", dist.Normal(level, sigma), obs=None if y is None else y[t])
        before, twice_before = now, before


# Exponential smoothing with seasons, which looks at the outcomes so far and forecasts what follows.
def seasons():
    t = np.arange(30)
    rng = np.random.default_rng(4)
    y = np.sin(2 * np.pi * t / 5) + 0.03 * t + 0.1 * rng.normal(size=30)
    return jnp.asarray(t), jnp.asarray(y), {"n_seasons": 5}


def holt_winters(t, y=None, n_seasons=1):
    smoothing = numpyro.sample("smoothing", dist.Beta(1, 1))
    trend_smoothing = numpyro.sample("trend_smoothing", dist.Beta(1, 1))
    season_smoothing = numpyro.sample("season_smoothing", dist.Beta(1, 1)) * (1 - smoothing)
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    level = numpyro.sample("level", dist.Normal(0, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("n_seasons", n_seasons):
        season = numpyro.sample("season", dist.Normal(0, 1))

    def step(carry, _):
        level, slope, season = carry
        now = numpyro.sample("y", dist.Normal(level + slope + season[0], noise))
        new_level = smoothing * (now - season[0]) + (1 - smoothing) * (level + slope)
        new_slope = trend_smoothing * (new_level - level) + (1 - trend_smoothing) * slope
        new_season = season_smoothing * (now - level - slope) + (1 - season_smoothing) * season[0]
        return (new_level, new_slope, jnp.concatenate([season[1:], new_season[None]])), now

    with handlers.condition(data={} if y is None else {"y": y}):
        scan(step, (level, slope, season), t)


# Returns whose volatility wanders.
def returns():
    rng = np.random.default_rng(5)
    volatility = np.exp(np.cumsum(0.2 * rng.normal(size=50)) - 1.0)
    return np.arange(50), volatility * rng.standard_t(10, size=50), {}


def stochastic_volatility(days, returns=None):
    step = numpyro.sample("sigma", dist.Exponential(50.0))
    s = numpyro.sample("s", dist.GaussianRandomWalk(scale=step, num_steps=jnp.shape(days)[0]))
    nu = numpyro.sample("nu", dist.Exponential(0.1))
    return numpyro.sample("r", dist.StudentT(df=nu, loc=0.0, scale=jnp.exp(s)), obs=returns)


# Predators and their prey, on a logarithmic scale.
def lynx_and_hare():
    rng = np.random.default_rng(6)
    times = np.arange(12.0)
    truth = odeint(growth, jnp.array([30.0, 5.0]), jnp.asarray(times), 0.5, 0.025, 0.8, 0.025)
    return times, np.log(np.asarray(truth)) + 0.2 * rng.normal(size=(12, 2)), {}


def growth(z, t, alpha, beta, gamma, delta):
    prey, predator = z
    return jnp.stack([(alpha - beta * predator) * prey, (delta * prey - gamma) * predator])


def predator_prey(times, y=None):
    start = numpyro.sample("start", dist.LogNormal(jnp.log(10), 1).expand([2]))
    loc, scale = jnp.array([1.0, 0.05, 1.0, 0.05]), jnp.array([0.2, 0.01, 0.2, 0.01])
    theta = numpyro.sample("theta", dist.TruncatedNormal(low=0.0, loc=loc, scale=scale))
    z = odeint(growth, start, times, *theta, rtol=1e-6, atol=1e-5, mxstep=1000)
    sigma = numpyro.sample("sigma", dist.LogNormal(-1, 1).expand([2]))
    numpyro.sample("y", dist.Normal(jnp.log(z), sigma), obs=y)


# Words of known and of unknown categories; the unknown ones are summed out by the forward algorithm.
def words():
    rng = np.random.default_rng(7)
    transition, emission = rng.dirichlet(np.ones(2), size=2), rng.dirichlet(np.full(4, 0.5), size=2)
    category, categories, seen = 0, [], []
    for _ in range(90):
        category = rng.choice(2, p=transition[category])
        categories.append(category)
        seen.append(rng.choice(4, p=emission[category]))
    known = {"categories": np.array(categories[:40]), "words_of_categories": np.array(seen[:40])}
    return np.arange(50), np.array(seen[40:]), known


def semi_supervised(places, words=None, *, categories, words_of_categories):
    transition = numpyro.sample("transition", dist.Dirichlet(jnp.ones((2, 2))))
    emission = numpyro.sample("emission", dist.Dirichlet(jnp.full((2, 4), 0.5)))
    numpyro.sample("categories", dist.Categorical(transition[categories[:-1]]), obs=categories[1:])
    numpyro.sample("words_of_categories", dist.Categorical(emission[categories]), obs=words_of_categories)
    if words is not None:

        def forward(log_prob, word):
            return logsumexp(log_prob[:, None] + jnp.log(transition) + jnp.log(emission)[:, word], axis=0), None

        log_prob, _ = jax.lax.scan(forward, jnp.log(emission)[:, words[0]], words[1:])
        numpyro.factor("words", logsumexp(log_prob))


CASES = [
    Case(
        name="Gaussian process",
        source="examples/gp.py",
        construct="all rows are one multivariate normal outcome; wide priors; X of rank 1",
        kernel=gaussian_process,
        data=curve,
        inference=nuts(gaussian_process, init_strategy=init_to_median(num_samples=10)),
        settings={"param_output": "Y"},
    ),
    Case(
        name="Thompson sampling",
        source="examples/thompson_sampling.py",
        construct="`AutoDelta` of a Gaussian process; a function as an argument",
        kernel=process_with_function,
        data=smooth_curve,
        inference=svi(lambda: AutoDelta(process_with_function), steps=4000),
        settings={"param_output": "Y"},
    ),
    *(
        Case(
            name=f"DAIS demo, {name}",
            source="examples/dais_demo.py",
            construct=f"{construct} of a latent Gaussian process over rows",
            kernel=process_of_labels,
            data=labelled_curve,
            inference=inference,
            estimator=NumPyroImpactClassifier,
            settings={"param_output": "Y"},
            local=local,
        )
        for name, construct, inference, local in (
            ("AutoDAIS", "`AutoDAIS`", svi(lambda: AutoDAIS(process_of_labels, K=4, eta_init=0.02, eta_max=0.5)), {}),
            ("mean field", "`AutoDiagonalNormal`", svi(lambda: AutoDiagonalNormal(process_of_labels)), {}),
            ("NUTS", "NUTS", nuts(process_of_labels, warmup=500, draws=500), {}),
        )
    ),
    Case(
        name="birthdays",
        source="examples/hsgp.py",
        construct="`handlers.scope`: names of sites with a slash",
        kernel=birthdays,
        data=births,
        inference=nuts(birthdays),
        settings={"param_input": "x"},
    ),
    Case(
        name="AR2",
        source="examples/ar2.py",
        construct="`scan` under `handlers.condition`",
        kernel=autoregression,
        data=series,
        inference=nuts(autoregression),
        settings={"param_input": "times"},
    ),
    Case(
        name="AR2, first values given",
        source="examples/ar2.py",
        construct="the likelihood leaves out the first two rows",
        kernel=autoregression_from_first,
        data=series,
        inference=nuts(autoregression_from_first),
        settings={"param_input": "times"},
        refused="It gives no value for the first two rows, so that a prediction would have fewer rows than X.",
    ),
    Case(
        name="AR2, loop",
        source="examples/ar2.py",
        construct="a site for each row, named by its number",
        kernel=autoregression_by_loop,
        data=series,
        inference=nuts(autoregression_by_loop),
        settings={"param_input": "times"},
        refused="It has a site for each row, and the number of rows must not decide which sites exist: `scan` has one.",
    ),
    Case(
        name="Holt-Winters",
        source="examples/holt_winters.py",
        construct="`scan` whose state depends on the outcomes",
        kernel=holt_winters,
        data=seasons,
        inference=nuts(holt_winters, warmup=500),
        settings={"param_input": "t"},
    ),
    Case(
        name="stochastic volatility",
        source="examples/stochastic_volatility.py",
        construct="`GaussianRandomWalk` over rows",
        kernel=stochastic_volatility,
        data=returns,
        inference=nuts(stochastic_volatility, warmup=500, draws=500),
        settings={"param_input": "days", "param_output": "returns"},
    ),
    Case(
        name="predator and prey",
        source="examples/ode.py",
        construct="`odeint`; two outcomes for each row",
        kernel=predator_prey,
        data=lynx_and_hare,
        inference=nuts(predator_prey, warmup=300, draws=200, dense_mass=True),
        settings={"param_input": "times"},
    ),
    Case(
        name="semi-supervised HMM",
        source="examples/hmm.py",
        construct="`numpyro.factor` is the only likelihood of the outcome",
        kernel=semi_supervised,
        data=words,
        inference=nuts(semi_supervised),
        settings={"param_input": "places", "param_output": "words"},
        refused="Its likelihood is a factor of all words together, and no site could draw the words of new rows.",
    ),
]
