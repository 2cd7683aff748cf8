"""Models of the notebooks time_series_forecasting, hierarchical_forecasting and lotka_volterra_multiple."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts, svi
from jax.experimental.ode import odeint
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.reparam import LocScaleReparam

__all__ = ["CASES"]

# time_series_forecasting: a trend and seasons, which each year's values of the series correct.


def seasonal_trend(lagged, y=None, *, seasonality=4):
    """Outcomes are observed in the body of a scan, by a handler around it."""
    lagged = jnp.asarray(lagged)
    unit = jnp.max(lagged) / 150.0
    nu = numpyro.sample("nu", dist.Uniform(2.0, 20.0))
    power = numpyro.sample("power", dist.Uniform(0.0, 1.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(unit))
    offset = numpyro.sample("offset", dist.TruncatedCauchy(low=1e-10, loc=1e-10, scale=unit))
    trend = numpyro.sample("trend", dist.Cauchy(0.0, unit))
    trend_beta = numpyro.sample("trend_beta", dist.Beta(1.0, 1.0))
    season_power = numpyro.sample("season_power", dist.Beta(1.0, 1.0))
    level_smoothing = numpyro.sample("level_smoothing", dist.Beta(1.0, 2.0))
    season_smoothing = numpyro.sample("season_smoothing", dist.Uniform(0.0, 1.0))
    seasons = numpyro.sample("seasons", dist.Cauchy(0.0, lagged[:seasonality] * 0.3))

    def step(carry, t):
        level, season, moving_sum = carry
        now = season[0] * level**season_power
        expected = jnp.clip(level + trend * level ** (1.5 * trend_beta - 0.5) + now, 0.0)
        year_ago = jnp.where(t >= seasonality, lagged[t - seasonality], 0.0)
        moving_sum = moving_sum + lagged[t] - year_ago
        smooth = jnp.where(t >= seasonality, moving_sum / seasonality, lagged[t] - now)
        level = jnp.clip(level_smoothing * smooth + (1.0 - level_smoothing) * level, 0.0)
        last = season_smoothing * (lagged[t] - level) / now + 1.0 - season_smoothing
        season = jnp.concatenate([season[1:], (last * season[0])[None]])
        spread = sigma * expected**power + offset
        drawn = numpyro.sample("y", dist.StudentT(nu, expected, spread))
        return (level, season, moving_sum), drawn

    start = (lagged[0], jnp.concatenate([seasons[1:], seasons[:1]]), lagged[0])
    with handlers.condition(data={} if y is None else {"y": jnp.asarray(y)}):
        scan(step, start, jnp.arange(lagged.shape[0]))


# hierarchical_forecasting: weekly riders of trains, from station to station.


def riders(covariates, data=None):
    """All stations; time is the second plate from the right."""
    duration, n_stations = covariates.shape[0], 3
    drift_scale = numpyro.sample("drift_scale", dist.LogNormal(-3.0, 1.0))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 1.0))
    with numpyro.plate("stations", n_stations, dim=-1):
        weight = numpyro.sample("weight", dist.Normal(0.0, 1.0).expand([covariates.shape[1]]).to_event(1))
        with numpyro.plate("time", duration, dim=-2):
            with handlers.reparam(config={"drift": LocScaleReparam(0)}):
                drift = numpyro.sample("drift", dist.Normal(0.0, drift_scale))
            mean = jnp.cumsum(drift, axis=-2) + covariates @ weight.T
            numpyro.sample("obs", dist.Normal(mean, noise), obs=data)


def journeys(covariates, data=None):
    """From each station to each other: an outcome with two axes for each time."""
    duration, n_stations = covariates.shape[0], 3
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 1.0))
    drift_scale = numpyro.sample("drift_scale", dist.LogNormal(-3.0, 1.0))
    time = numpyro.plate("time", duration, dim=-3)
    origins = numpyro.plate("origins", n_stations, dim=-2)
    destinations = numpyro.plate("destinations", n_stations, dim=-1)
    with origins:
        from_station = numpyro.sample("from_station", dist.Normal(0.0, 1.0))
    with destinations:
        to_station = numpyro.sample("to_station", dist.Normal(0.0, 1.0))
        weight = numpyro.sample("weight", dist.Normal(0.0, 1.0).expand([covariates.shape[1]]).to_event(1))
    with time, handlers.reparam(config={"drift": LocScaleReparam(0)}):
        drift = numpyro.sample("drift", dist.Normal(0.0, drift_scale))
    mean = jnp.cumsum(drift, axis=-3) + from_station + to_station + (covariates @ weight.T)[:, None, :]
    with time, origins, destinations:
        numpyro.sample("obs", dist.Normal(mean, noise), obs=data)


# lotka_volterra_multiple: several populations, some values of which are missing.


def growth(populations, time, theta):
    prey, predators = populations
    births, eaten, deaths, fed = theta
    return jnp.stack([(births - eaten * predators) * prey, (fed * prey - deaths) * predators])


def lotka_volterra(ts, y=None, *, y_init):
    start = numpyro.sample("start", dist.LogNormal(jnp.log(y_init), jnp.ones_like(y_init)))
    theta = numpyro.sample(
        "theta",
        dist.TruncatedNormal(low=0.0, loc=jnp.array([1.0, 0.05, 1.0, 0.05]), scale=jnp.array([0.2, 0.01, 0.2, 0.01])),
    )
    solve = functools.partial(odeint, rtol=1e-6, atol=1e-5, mxstep=1000)
    sizes = jax.vmap(solve, in_axes=(None, 0, 0, None))(growth, start, ts, theta)
    sigma = numpyro.sample("sigma", dist.LogNormal(-1.0, 1.0).expand([2]))
    if y is not None:
        seen = jnp.isfinite(jnp.log(y))
        numpyro.sample("y", dist.LogNormal(jnp.log(sizes), sigma).mask(seen), obs=y)
    else:
        numpyro.sample("y", dist.LogNormal(jnp.log(sizes), sigma))


def quarters():
    """Growing sales with seasons: lagged by one, and as they are."""
    rng = np.random.default_rng(0)
    t = np.arange(41)
    sales = (100.0 + 2.0 * t) * (1.0 + 0.2 * np.sin(2.0 * np.pi * t / 4.0)) + 2.0 * rng.normal(size=41)
    return sales[:-1], sales[1:]


def weeks(n_axes):
    rng = np.random.default_rng(1)
    t = np.arange(40)
    covariates = np.column_stack([np.sin(2.0 * np.pi * t / 10.0), np.cos(2.0 * np.pi * t / 10.0)])
    level = np.cumsum(0.05 * rng.normal(size=(40, *[3] * n_axes)), axis=0)
    season = covariates @ rng.normal(size=(2, 3))
    return covariates, level + season.reshape(40, *[1] * (n_axes - 1), 3) + 0.3 * rng.normal(size=level.shape)


def populations():
    """Three pairs of populations at ten times each, of which a tenth of the values is missing."""
    rng = np.random.default_rng(2)
    y_init = np.array([[2.0, 10.0], [6.0, 6.0], [10.0, 2.0]]) * 3.0
    ts = np.array([np.linspace(0.0, end, 10) for end in (6.0, 7.0, 8.0)])
    theta = jnp.array([1.0, 0.05, 1.0, 0.05])
    starts = map(jnp.asarray, y_init)
    sizes = np.array([odeint(growth, start, jnp.asarray(t), theta) for start, t in zip(starts, ts, strict=True)])
    y = sizes * np.exp(0.2 * rng.normal(size=sizes.shape))
    missing = rng.random(y.shape) < 0.1
    missing[:, 0] = False
    return ts, np.where(missing, np.nan, y), y_init


def pairs():
    ts, y, y_init = populations()
    return ts, y, {"y_init": y_init}


CASES = [
    Case(
        name="sales, seasonal trend",
        source="notebooks/source/time_series_forecasting.ipynb",
        construct="`condition` around `scan`, outcomes in its body",
        kernel=seasonal_trend,
        data=lambda: (*quarters(), {}),
        inference=nuts(seasonal_trend, max_tree_depth=5),
        settings={"param_input": "lagged"},
    ),
    Case(
        name="riders of a station",
        source="notebooks/source/hierarchical_forecasting.ipynb",
        construct="latent steps of rows, `LocScaleReparam`, outcomes of rank 2",
        kernel=riders,
        data=lambda: (*weeks(1), {}),
        inference=svi(lambda: AutoNormal(riders), steps=6000),
        settings={"param_input": "covariates", "param_output": "data"},
    ),
    Case(
        name="riders between stations",
        source="notebooks/source/hierarchical_forecasting.ipynb",
        construct="latent steps of rows, `LocScaleReparam`, outcomes of rank 3",
        kernel=journeys,
        data=lambda: (*weeks(2), {}),
        inference=svi(lambda: AutoNormal(journeys), steps=6000),
        settings={"param_input": "covariates", "param_output": "data"},
    ),
    Case(
        name="populations",
        source="notebooks/source/lotka_volterra_multiple.ipynb",
        construct="differential equations under `vmap`, outcomes of rank 3 with NaN",
        kernel=lotka_volterra,
        data=pairs,
        inference=nuts(lotka_volterra, warmup=150, draws=150, max_tree_depth=6),
        settings={"param_input": "ts", "missing_outcomes": "keep"},
    ),
]
