"""Models of the notebooks circulant_gp, gpjax_example, hsgp_example and hsgp_nd_example: Gaussian processes."""

import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts
from numpyro.contrib.hsgp.approximation import hsgp_matern, hsgp_squared_exponential

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]

NUGGET = 1e-4

# circulant_gp: a latent process on a ring, with binary outcomes.


def ring(x, y=None, *, method):
    n = x.size
    sigma = numpyro.sample("sigma", dist.HalfNormal())
    length = numpyro.sample("length", dist.InverseGamma(5.0, 15.0))
    k = jnp.arange(n // 2 + 1)
    decay = jnp.exp(-2.0 * (jnp.pi * k * length / n) ** 2)
    spectrum = sigma**2 * length * jnp.sqrt(2.0 * jnp.pi) * decay + NUGGET
    if method == "circulant":
        process = dist.CirculantNormal(jnp.zeros(n), covariance_rfft=spectrum)
    else:
        around = jnp.fft.irfft(spectrum, n)
        process = dist.MultivariateNormal(covariance_matrix=around[(x[:, None] - x) % n])
    z = numpyro.sample("z", process)
    with numpyro.plate("n", n):
        numpyro.sample("y", dist.BernoulliLogits(z), obs=y)


circulant = functools.partial(ring, method="circulant")
cholesky = functools.partial(ring, method="cholesky")


def matern(X, amplitude, length):
    apart = jnp.sqrt(jnp.sum((X[:, None] - X[None]) ** 2, axis=-1) + 1e-12)
    scaled = jnp.sqrt(3.0) * apart / length
    return amplitude**2 * (1.0 + scaled) * jnp.exp(-scaled)


def marginal(X, Y=None):
    """gpjax_example: a line and a process, which the likelihood, a factor, integrates out."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0).expand([2]))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    length = numpyro.sample("length", dist.LogNormal(0.0, 1.0))
    amplitude = numpyro.sample("amplitude", dist.LogNormal(0.0, 1.0))
    noise = numpyro.sample("noise", dist.LogNormal(0.0, 1.0))
    trend = X @ slope + intercept
    if Y is not None:
        covariance = matern(X, amplitude, length) + noise**2 * jnp.eye(X.shape[0])
        marginal_likelihood = dist.MultivariateNormal(0.0, covariance).log_prob(Y - trend)
        numpyro.factor("gp_log_lik", marginal_likelihood)


# hsgp_example: processes by a basis of eigenfunctions.


def squared_exponential(x, y=None, *, ell=1.3, m=12, non_centered=True):
    amplitude = numpyro.sample("amplitude", dist.InverseGamma(5.0, 5.0))
    length = numpyro.sample("length", dist.InverseGamma(5.0, 2.0))
    noise = numpyro.sample("noise", dist.InverseGamma(5.0, 2.0))
    f = numpyro.deterministic("f", hsgp_squared_exponential(x, amplitude, length, ell, m, non_centered))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(f, noise), obs=y)


def heteroscedastic(x, y=None, *, ell=1.3, m=8):
    """One process for the mean, and one for the logarithm of the noise."""
    amplitude = numpyro.sample("amplitude", dist.InverseGamma(5.0, 5.0))
    length = numpyro.sample("length", dist.InverseGamma(5.0, 2.0))
    f = numpyro.deterministic("f", hsgp_matern(x, 2.5, amplitude, length, ell, m))
    with numpyro.handlers.scope(prefix="noise"):
        log_noise = -1.0 + hsgp_squared_exponential(x, 0.5, 0.5, ell, m)
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(f, jnp.exp(log_noise)), obs=y)


# hsgp_nd_example: two inputs, by the exact process and by the basis.


def exact_surface(X, y=None):
    """All outcomes are one draw from a normal distribution."""
    amplitude = numpyro.sample("amplitude", dist.LogNormal(0.0, 0.5))
    length = numpyro.sample("length", dist.LogNormal(0.0, 0.5))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.5))
    squared = jnp.sum((X[:, None] - X[None]) ** 2, axis=-1)
    covariance = amplitude**2 * jnp.exp(-0.5 * squared / length**2) + noise**2 * jnp.eye(X.shape[0])
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=y)


def surface(X, y=None, *, ell=(1.5, 1.5), m=(4, 4)):
    amplitude = numpyro.sample("amplitude", dist.LogNormal(0.0, 0.5))
    length = numpyro.sample("length", dist.LogNormal(0.0, 0.5).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.5))
    f = hsgp_squared_exponential(X, amplitude, length, list(ell), list(m))
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Normal(f, noise), obs=y)


def signs(n=32):
    rng = np.random.default_rng(0)
    x = np.arange(n)
    z = 2.0 * np.sin(2.0 * np.pi * x / n)
    return x, (rng.random(n) < 1.0 / (1.0 + np.exp(-z))).astype(int)


def curve():
    rng = np.random.default_rng(1)
    x = np.linspace(-1.0, 1.0, 60)
    return x, np.sin(4.0 * x) + 0.3 * rng.normal(size=60)


def grid(n=40):
    rng = np.random.default_rng(2)
    X = rng.uniform(-1.0, 1.0, size=(n, 2))
    return X, np.sin(2.0 * X[:, 0]) * np.cos(2.0 * X[:, 1]) + X @ [1.0, -0.5] + 0.2 * rng.normal(size=n)


centred = functools.partial(squared_exponential, non_centered=False)

CASES = [
    *(
        Case(
            name=f"ring, {name}",
            source="notebooks/source/circulant_gp.ipynb",
            construct=construct,
            kernel=kernel,
            data=lambda: (*signs(), {}),
            inference=nuts(kernel, warmup=200, draws=200),
            estimator=NumPyroImpactClassifier,
            settings={"param_input": "x"},
        )
        for name, kernel, construct in (
            ("circulant", circulant, "`CirculantNormal` over rows"),
            ("Cholesky", cholesky, "`MultivariateNormal` over rows"),
        )
    ),
    Case(
        name="line and process",
        source="notebooks/source/gpjax_example.ipynb",
        construct="`factor` as the only likelihood, of all rows together",
        kernel=marginal,
        data=lambda: (*grid(20), {}),
        inference=nuts(marginal, warmup=100, draws=100),
        settings={"param_output": "Y"},
        refused="Its likelihood integrates the process out, and no site could draw the outcomes of new rows.",
    ),
    *(
        Case(
            name=f"basis, {name}",
            source="notebooks/source/hsgp_example.ipynb",
            construct=construct,
            kernel=kernel,
            data=lambda: (*curve(), {}),
            inference=nuts(kernel, target_accept_prob=0.9),
            settings={"param_input": "x"},
        )
        for name, kernel, construct in (
            ("squared exponential", squared_exponential, "`hsgp_squared_exponential`"),
            ("centred", centred, "`hsgp_squared_exponential`, centred"),
            ("with a spread", heteroscedastic, "`hsgp_matern`, and another process within `scope`"),
        )
    ),
    Case(
        name="surface, exact",
        source="notebooks/source/hsgp_nd_example.ipynb",
        construct="one density for all rows",
        kernel=exact_surface,
        data=lambda: (*grid(20), {}),
        inference=nuts(exact_surface, warmup=200, draws=200),
    ),
    Case(
        name="surface, by a basis",
        source="notebooks/source/hsgp_nd_example.ipynb",
        construct="`hsgp_squared_exponential` of two columns",
        kernel=surface,
        data=lambda: (*grid(), {}),
        inference=nuts(surface, target_accept_prob=0.9),
    ),
]
