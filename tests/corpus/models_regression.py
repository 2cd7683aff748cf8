"""Regressions and classifications of NumPyro's examples."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts, svi
from numpyro import handlers
from numpyro.infer import HMC, HMCECS, MCMC, NUTS, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta, AutoDiagonalNormal
from numpyro.infer.reparam import LocScaleReparam

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]


# Batting averages: each player's tries are the input, the hits among them the outcome.
def players():
    rng = np.random.default_rng(0)
    tries = rng.integers(35, 60, size=18)
    return tries, rng.binomial(tries, rng.beta(30.0, 80.0, size=18)), {}


def fully_pooled(tries, hits=None):
    skill = numpyro.sample("skill", dist.Uniform(0, 1))
    with numpyro.plate("players", tries.shape[0]):
        return numpyro.sample("obs", dist.Binomial(tries, probs=skill), obs=hits)


def not_pooled(tries, hits=None):
    with numpyro.plate("players", tries.shape[0]):
        skill = numpyro.sample("skill", dist.Uniform(0, 1))
        return numpyro.sample("obs", dist.Binomial(tries, probs=skill), obs=hits)


def partially_pooled(tries, hits=None):
    mean = numpyro.sample("mean", dist.Uniform(0, 1))
    size = numpyro.sample("size", dist.Pareto(1, 1.5))
    with numpyro.plate("players", tries.shape[0]):
        skill = numpyro.sample("skill", dist.Beta(mean * size, (1 - mean) * size))
        return numpyro.sample("obs", dist.Binomial(tries, probs=skill), obs=hits)


def partially_pooled_with_logit(tries, hits=None):
    loc = numpyro.sample("loc", dist.Normal(-1, 1))
    scale = numpyro.sample("scale", dist.HalfCauchy(1))
    with numpyro.plate("players", tries.shape[0]):
        with handlers.reparam(config={"logit": LocScaleReparam(0)}):
            logit = numpyro.sample("logit", dist.Normal(loc, scale))
        return numpyro.sample("obs", dist.Binomial(tries, logits=logit), obs=hits)


BASEBALL = [
    Case(
        name=f"baseball, {kernel.__name__.replace('_', ' ')}",
        source="examples/baseball.py",
        construct=construct,
        kernel=kernel,
        data=players,
        inference=nuts(kernel),
        settings={"param_input": "tries", "param_output": "hits"},
    )
    for kernel, construct in (
        (fully_pooled, "X of rank 1, integers"),
        (not_pooled, "a latent site for each row"),
        (partially_pooled, "a hierarchy over rows, beta distributed"),
        (partially_pooled_with_logit, "`LocScaleReparam` of a site over rows"),
    )
]


# A Bayesian neural network written by hand, with an outcome of shape (rows, 1).
def wave():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1.0, 1.0, size=(40, 1))
    X = np.hstack([np.ones_like(x), x, x**2])
    return X, np.tanh(2.0 * x) + 0.1 * rng.normal(size=(40, 1)), {"width": 4}


def bayesian_network(X, Y=None, width=4):
    n_columns = X.shape[1]
    first = numpyro.sample("first", dist.Normal(jnp.zeros((n_columns, width)), jnp.ones((n_columns, width))))
    second = numpyro.sample("second", dist.Normal(jnp.zeros((width, width)), jnp.ones((width, width))))
    last = numpyro.sample("last", dist.Normal(jnp.zeros((width, 1)), jnp.ones((width, 1))))
    level = jnp.tanh(jnp.tanh(X @ first) @ second) @ last
    precision = numpyro.sample("precision", dist.Gamma(3.0, 1.0))
    with numpyro.plate("data", X.shape[0], dim=-2):
        numpyro.sample("Y", dist.Normal(level, 1 / jnp.sqrt(precision)), obs=Y)


# Kinds of forests: an outcome without a plate, and integer labels.
def forests():
    rng = np.random.default_rng(2)
    X = np.hstack([rng.normal(size=(150, 4)), np.ones((150, 1))])
    chance = 1 / (1 + np.exp(-X @ [1.0, -0.5, 0.0, 0.3, 0.2]))
    return X, (rng.random(150) < chance).astype(int), {}


def forest_kind(data, labels):
    n_columns = data.shape[1]
    coefs = numpyro.sample("coefs", dist.Normal(jnp.zeros(n_columns), jnp.ones(n_columns)))
    return numpyro.sample("kind", dist.Bernoulli(logits=data @ coefs), obs=labels)


# The horseshoe, for numbers and for labels.
def sparse_numbers():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(40, 6))
    return X, X @ [2.0, -1.0, 0.5, 0.0, 0.0, 0.0] + 0.2 * rng.normal(size=40), {}


def sparse_labels():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(120, 6))
    return X, (X @ [2.0, -1.0, 0.5, 0.0, 0.0, 0.0] + rng.logistic(size=120) > 0).astype(int), {}


def horseshoe(n_columns):
    local = numpyro.sample("local", dist.HalfCauchy(jnp.ones(n_columns)))
    common = numpyro.sample("common", dist.HalfCauchy(jnp.ones(1)))
    direction = numpyro.sample("direction", dist.Normal(0.0, jnp.ones(n_columns)))
    return numpyro.deterministic("betas", common * local * direction)


def horseshoe_normal(X, Y):
    level = X @ horseshoe(X.shape[1])
    precision = numpyro.sample("precision", dist.Gamma(3.0, 1.0))
    numpyro.sample("Y", dist.Normal(level, 1 / jnp.sqrt(precision)), obs=Y)


def horseshoe_bernoulli(X, Y):
    numpyro.sample("Y", dist.Bernoulli(logits=X @ horseshoe(X.shape[1])), obs=Y)


# Coefficients and their interactions integrated out: the outcome is one normal vector.
def interactions():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 5))
    Y = X[:, 0] - 0.7 * X[:, 1] + X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=30)
    return X, (Y - Y.mean()) / Y.std(), {"hyper": {"sparsity": 1.0, "shape": 3.0, "noise": 1.0, "constant": 1.0}}


def sparse_interactions(X, Y, hyper):
    n_rows, n_columns = X.shape
    sigma = numpyro.sample("sigma", dist.HalfNormal(hyper["noise"]))
    scale = sigma * (hyper["sparsity"] / jnp.sqrt(n_rows)) / (n_columns - hyper["sparsity"])
    main = numpyro.sample("main", dist.HalfCauchy(scale))
    slab = numpyro.sample("slab", dist.InverseGamma(hyper["shape"], 1.0))
    ratio = numpyro.sample("ratio", dist.InverseGamma(hyper["shape"], 1.0))
    pair = main**2 * jnp.sqrt(ratio) / slab
    local = numpyro.sample("local", dist.HalfCauchy(jnp.ones(n_columns)))
    scaled = X * jnp.sqrt(slab) * local / jnp.sqrt(slab + (main * local) ** 2)
    dots = scaled @ scaled.T
    covariance = (
        0.5 * pair**2 * ((1 + dots) ** 2 - scaled**2 @ (scaled**2).T - 1)
        + (main**2 - pair**2) * dots
        + hyper["constant"] ** 2
        + (sigma**2 + 1e-4) * jnp.eye(n_rows)
    )
    numpyro.sample("Y", dist.MultivariateNormal(jnp.zeros(n_rows), covariance_matrix=covariance), obs=Y)


# Does a call help to sell?
def calls():
    rng = np.random.default_rng(5)
    called, female = rng.integers(2, size=(2, 400))
    chance = np.where(called == 1, 0.3, 0.2)
    return np.column_stack([np.ones(400), called, female]), (rng.random(400) < chance).astype(int), {}


def proportions(design, outcome=None):
    coef = numpyro.sample("coef", dist.MultivariateNormal(loc=0.0, covariance_matrix=jnp.eye(design.shape[1])))
    with numpyro.plate("customers", design.shape[0]):
        numpyro.sample("bought", dist.Bernoulli(logits=design @ coef), obs=outcome)


# Admissions by department: a kernel that looks at the values of an argument, and a site without the outcome only.
def admissions():
    rng = np.random.default_rng(6)
    department = np.repeat(np.arange(5), 2)
    male = np.tile([0, 1], 5)
    applications = rng.integers(30, 200, size=10)
    rate = 1 / (1 + np.exp(-(np.linspace(1.0, -2.0, 5)[department] - 0.3 * male)))
    return department, rng.binomial(applications, rate), {"male": male, "applications": applications}


def admission(department, admitted=None, *, male, applications):
    mean = numpyro.sample("mean", dist.Normal(0, jnp.array([4.0, 1.0])))
    sigma = numpyro.sample("sigma", dist.HalfNormal(jnp.ones(2)))
    correlation = numpyro.sample("correlation", dist.LKJCholesky(2, concentration=2))
    n_departments = len(np.unique(department))
    z = numpyro.sample("z", dist.Normal(jnp.zeros((n_departments, 2)), 1))
    effects = (sigma[:, None] * correlation @ z.T).T
    logits = mean[0] + effects[department, 0] + (mean[1] + effects[department, 1]) * male
    if admitted is None:
        rates = jax.nn.sigmoid(logits)
        numpyro.sample("rates", dist.Delta(rates), obs=rates)
    numpyro.sample("admitted", dist.Binomial(applications, logits=logits), obs=admitted)


# Fish caught by visitors of a park, many of whom do not fish.
def visitors():
    rng = np.random.default_rng(7)
    X = np.column_stack([rng.integers(2, size=120), rng.integers(1, 5, size=120), np.ones(120)]).astype(float)
    fishing = rng.random(120) < 0.6
    return X, fishing * rng.poisson(np.exp(X @ [0.5, 0.3, -0.5])), {}


def fish(X, Y):
    gate = numpyro.sample("gate", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    rate = numpyro.sample("rate", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    q = jax.scipy.special.expit(jnp.dot(X, gate[:, None])).reshape(-1)
    mean = jnp.exp(jnp.dot(X, rate[:, None]).reshape(-1))
    with numpyro.plate("visitors", X.shape[0]):
        numpyro.sample("Y", dist.ZeroInflatedPoisson(gate=q, rate=mean), obs=Y)


# Minibatches by the kernel's own plate, in Hamiltonian Monte Carlo.
def particles():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(200, 3))
    return X, (X @ [1.0, -0.5, 0.2] + rng.logistic(size=200) > 0).astype(int), {"subsample_size": 40}


def particle(data, obs=None, subsample_size=None):
    n_rows, n_columns = data.shape
    theta = numpyro.sample("theta", dist.Normal(jnp.zeros(n_columns), 0.5 * jnp.ones(n_columns)))
    with numpyro.plate("N", n_rows, subsample_size=subsample_size):
        some = numpyro.subsample(data, event_dim=1)
        outcomes = obs if obs is None else numpyro.subsample(obs, event_dim=0)
        numpyro.sample("obs", dist.Bernoulli(logits=some @ theta), obs=outcomes)


def energy_conserving(proxy):
    def inference():
        sampler = HMCECS(NUTS(particle), num_blocks=10, proxy=proxy() if proxy else None)
        return MCMC(sampler, num_warmup=500, num_samples=1000, num_chains=2, progress_bar=False)

    return inference


def taylor():
    return HMCECS.taylor_proxy({"theta": jnp.array([0.8, -0.4, 0.2])})


# Deaths by age, place and year: three plates, each with random effects, and rows that point into them.
def deaths():
    rng = np.random.default_rng(9)
    age, place, year = (grid.ravel() for grid in np.meshgrid(np.arange(4), np.arange(3), np.arange(4), indexing="ij"))
    population = rng.integers(200, 400, size=len(age))
    rate = 1 / (1 + np.exp(3.0 - 0.5 * age + 0.05 * year - np.array([0.0, 0.3, -0.2])[place]))
    further = {"place": place, "year": year, "region_of_place": np.array([0, 0, 1]), "population": population}
    return age, rng.binomial(population, rate), further


SPREADS = {
    name: LocScaleReparam(0) for name in ("by_region", "by_place", "step_by_age", "slope_by_age", "step_by_year")
}


@handlers.reparam(config=SPREADS)
def mortality(age, deaths=None, *, place, year, region_of_place, population):
    n_regions, n_places = len(np.unique(region_of_place)), len(np.unique(place))
    n_ages, n_years = len(np.unique(age)), len(np.unique(year))
    sigma_region = numpyro.sample("sigma_region", dist.HalfNormal(1.0))
    sigma_place = numpyro.sample("sigma_place", dist.HalfNormal(1.0))
    sigma_age = numpyro.sample("sigma_age", dist.HalfNormal(1.0))
    sigma_slope = numpyro.sample("sigma_slope", dist.HalfNormal(1.0))
    sigma_year = numpyro.sample("sigma_year", dist.HalfNormal(1.0))
    with numpyro.plate("regions", n_regions, dim=-2):
        by_region = numpyro.sample("by_region", dist.Normal(0, sigma_region))
    with numpyro.plate("places", n_places, dim=-2):
        by_place = numpyro.sample("by_place", dist.Normal(by_region[region_of_place], sigma_place))
    with numpyro.plate("ages", n_ages, dim=-3):
        # The first step is the level, whose prior is wide.
        scale = jnp.pad(jnp.broadcast_to(sigma_age, n_ages - 1), (1, 0), constant_values=10.0)[:, None, None]
        by_age = jnp.cumsum(numpyro.sample("step_by_age", dist.Normal(0, scale)), -3)
        scale = jnp.pad(jnp.broadcast_to(sigma_slope, n_ages - 1), (1, 0), constant_values=10.0)[:, None, None]
        slope = jnp.cumsum(numpyro.sample("slope_by_age", dist.Normal(0, scale)), -3)
    trend = jnp.outer(slope, jnp.arange(n_years))[:, None, :]
    with numpyro.plate("years", n_years - 1, dim=-1):
        step = numpyro.sample("step_by_year", dist.Normal(0, sigma_year))
    by_year = jnp.pad(jnp.cumsum(step, -1), (1, 0))
    logit = (by_age + trend + by_place + by_year)[age, place, year]
    with numpyro.plate("N", len(population)):
        rate = numpyro.deterministic("rate", jax.nn.sigmoid(logit))
        numpyro.sample("deaths", dist.Binomial(population, rate), obs=deaths)


# A normal distribution with a guide of two parameters.
def points():
    rng = np.random.default_rng(10)
    return np.zeros((60, 1)), 3.0 + rng.normal(size=60), {}


def location(X, data=None):
    loc = numpyro.sample("loc", dist.Normal(0.0, 1.0))
    with numpyro.plate("points", X.shape[0]):
        numpyro.sample("obs", dist.Normal(loc, 1.0), obs=data)


def location_scalar(X, data=None):
    """One number for all rows: without a plate, the outcome has no axis of rows unless it is observed."""
    loc = numpyro.sample("loc", dist.Normal(0.0, 1.0))
    numpyro.sample("obs", dist.Normal(loc, 1.0), obs=data)


def location_guide(X, data=None):
    loc = numpyro.param("guide_loc", 0.0)
    scale = jnp.exp(numpyro.param("guide_log_scale", 0.0))
    numpyro.sample("loc", dist.Normal(loc, scale))


CASES = [
    *BASEBALL,
    Case(
        name="Bayesian neural network by hand",
        source="examples/bnn.py",
        construct="y of shape (rows, 1), weights that can be exchanged",
        kernel=bayesian_network,
        data=wave,
        inference=nuts(bayesian_network),
        settings={"param_output": "Y"},
        local=dict.fromkeys(("first", "second", "last"), "hidden units can be exchanged"),
    ),
    Case(
        name="covtype",
        source="examples/covtype.py",
        construct="an outcome without a plate, and a parameter for it without a default",
        kernel=forest_kind,
        data=forests,
        inference=nuts(forest_kind),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "data", "param_output": "labels"},
    ),
    Case(
        name="covtype, HMC",
        source="examples/covtype.py",
        construct="HMC with a trajectory length",
        kernel=forest_kind,
        data=forests,
        inference=lambda: MCMC(
            HMC(forest_kind, trajectory_length=0.5), num_warmup=300, num_samples=500, num_chains=2, progress_bar=False
        ),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "data", "param_output": "labels"},
    ),
    Case(
        name="horseshoe regression, normal",
        source="examples/horseshoe_regression.py",
        construct="half-Cauchy scales, a deterministic site",
        kernel=horseshoe_normal,
        data=sparse_numbers,
        inference=nuts(horseshoe_normal, warmup=500, draws=500, target_accept_prob=0.95),
        settings={"param_output": "Y"},
    ),
    Case(
        name="horseshoe regression, Bernoulli",
        source="examples/horseshoe_regression.py",
        construct="half-Cauchy scales, labels",
        kernel=horseshoe_bernoulli,
        data=sparse_labels,
        inference=nuts(horseshoe_bernoulli, warmup=500, draws=500, target_accept_prob=0.95),
        estimator=NumPyroImpactClassifier,
        settings={"param_output": "Y"},
    ),
    Case(
        name="sparse regression",
        source="examples/sparse_regression.py",
        construct="all rows are one multivariate normal outcome; a dictionary of settings",
        kernel=sparse_interactions,
        data=interactions,
        inference=nuts(sparse_interactions, target_accept_prob=0.95),
        settings={"param_output": "Y"},
    ),
    Case(
        name="proportion test",
        source="examples/proportion_test.py",
        construct="a multivariate normal prior",
        kernel=proportions,
        data=calls,
        inference=nuts(proportions),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "design", "param_output": "outcome"},
    ),
    Case(
        name="ucbadmit",
        source="examples/ucbadmit.py",
        construct="`np.unique` of an argument, `LKJCholesky`, a site that exists only without the outcome",
        kernel=admission,
        data=admissions,
        inference=nuts(admission, warmup=500, draws=500),
        settings={"param_input": "department", "param_output": "admitted"},
    ),
    Case(
        name="zero-inflated Poisson, MCMC",
        source="examples/zero_inflated_poisson.py",
        construct="`ZeroInflatedPoisson`",
        kernel=fish,
        data=visitors,
        inference=nuts(fish),
        settings={"param_output": "Y"},
    ),
    Case(
        name="zero-inflated Poisson, MAP",
        source="examples/zero_inflated_poisson.py",
        construct="`AutoDelta`",
        kernel=fish,
        data=visitors,
        inference=svi(lambda: AutoDelta(fish)),
        settings={"param_output": "Y"},
    ),
    Case(
        name="zero-inflated Poisson, VI",
        source="examples/zero_inflated_poisson.py",
        construct="`AutoDiagonalNormal`",
        kernel=fish,
        data=visitors,
        inference=svi(lambda: AutoDiagonalNormal(fish), steps=4000),
        settings={"param_output": "Y"},
    ),
    Case(
        name="HMCECS",
        source="examples/hmcecs.py",
        construct="`HMCECS` over a subsampling plate, `numpyro.subsample`",
        kernel=particle,
        data=particles,
        inference=energy_conserving(None),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "data", "param_output": "obs"},
        at_prediction={"subsample_size": None},
    ),
    Case(
        name="HMCECS, Taylor proxy",
        source="examples/hmcecs.py",
        construct="`HMCECS` with `taylor_proxy`",
        kernel=particle,
        data=particles,
        inference=energy_conserving(taylor),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "data", "param_output": "obs"},
        at_prediction={"subsample_size": None},
    ),
    Case(
        name="HMCECS, all rows",
        source="examples/hmcecs.py",
        construct="`subsample_size=None` in a plate with `numpyro.subsample`",
        kernel=particle,
        data=lambda: (*particles()[:2], {"subsample_size": None}),
        inference=nuts(particle),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "data", "param_output": "obs"},
    ),
    Case(
        name="mortality",
        source="examples/mortality.py",
        construct="`np.unique` of arguments, plates on three axes, `handlers.reparam` around the kernel",
        kernel=mortality,
        data=deaths,
        inference=nuts(mortality, warmup=500, draws=300),
        settings={"param_input": "age", "param_output": "deaths"},
    ),
    Case(
        name="minipyro",
        source="examples/minipyro.py",
        construct="a guide function with `numpyro.param`",
        kernel=location,
        data=points,
        inference=svi(lambda: location_guide, rate=0.02, loss=Trace_ELBO(num_particles=10)),
        settings={"param_output": "data"},
    ),
    Case(
        name="minipyro, no plate",
        source="examples/minipyro.py",
        construct="one distribution for all rows, without a plate",
        kernel=location_scalar,
        data=points,
        inference=svi(lambda: location_guide, rate=0.02, loss=Trace_ELBO(num_particles=10)),
        settings={"param_output": "data"},
    ),
]
