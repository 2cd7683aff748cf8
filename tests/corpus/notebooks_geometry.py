"""Models of the notebooks bad_posterior_geometry and variationally_inferred_parameterization.

The same posterior in several coordinates: written by hand, and by NumPyro's reparameterisers.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts, svi
from numpyro import handlers
from numpyro.distributions.transforms import AffineTransform
from numpyro.infer.autoguide import AutoDiagonalNormal
from numpyro.infer.reparam import LocScaleReparam, TransformReparam

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]


def horseshoe_centred(X, Y=None):
    lambdas = numpyro.sample("lambdas", dist.HalfCauchy(jnp.ones(X.shape[1])))
    tau = numpyro.sample("tau", dist.HalfCauchy(jnp.ones(1)))
    betas = numpyro.sample("betas", dist.Normal(scale=tau * lambdas))
    numpyro.sample("Y", dist.Normal(jnp.dot(X, betas), 0.5), obs=Y)


def horseshoe_by_hand(X, Y=None):
    lambdas = numpyro.sample("lambdas", dist.HalfCauchy(jnp.ones(X.shape[1])))
    tau = numpyro.sample("tau", dist.HalfCauchy(jnp.ones(1)))
    unscaled = numpyro.sample("unscaled", dist.Normal(scale=jnp.ones(X.shape[1])))
    betas = numpyro.deterministic("betas", tau * lambdas * unscaled)
    numpyro.sample("Y", dist.Normal(jnp.dot(X, betas), 0.5), obs=Y)


horseshoe_decentred = handlers.reparam(horseshoe_centred, config={"betas": LocScaleReparam(centered=0)})


def horseshoe_transformed(X, Y=None):
    lambdas = numpyro.sample("lambdas", dist.HalfCauchy(jnp.ones(X.shape[1])))
    tau = numpyro.sample("tau", dist.HalfCauchy(jnp.ones(1)))
    with handlers.reparam(config={"betas": TransformReparam()}):
        unit = dist.Normal(0.0, jnp.ones(X.shape[1]))
        betas = numpyro.sample("betas", dist.TransformedDistribution(unit, AffineTransform(0.0, tau * lambdas)))
    numpyro.sample("Y", dist.Normal(jnp.dot(X, betas), 0.5), obs=Y)


def credit(X, y=None):
    """Logistic regression, where each coefficient has a scale of its own."""
    with numpyro.plate("features", X.shape[1]):
        log_scale = numpyro.sample("log_scale", dist.Normal(0.0, 1.0))
        beta = numpyro.sample("beta", dist.Normal(0.0, jnp.exp(log_scale)))
    with numpyro.plate("persons", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


credit_decentred = handlers.reparam(credit, config={"beta": LocScaleReparam(centered=0)})
credit_learned = handlers.reparam(credit, config={"beta": LocScaleReparam(centered=None)})


def sparse():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8))
    return X, 1.5 * X[:, 0] + 0.5 * rng.normal(size=60)


def persons():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 4))
    chance = 1.0 / (1.0 + np.exp(-X @ [1.5, -1.0, 0.0, 0.3]))
    return X, (rng.random(120) < chance).astype(int)


GEOMETRY = "notebooks/source/bad_posterior_geometry.ipynb"
LEARNED = "notebooks/source/variationally_inferred_parameterization.ipynb"

CASES = [
    *(
        Case(
            name=f"horseshoe, {name}",
            source=GEOMETRY,
            construct=construct,
            kernel=kernel,
            data=lambda: (*sparse(), {}),
            inference=nuts(kernel, warmup=500, draws=1000, target_accept_prob=0.95),
            settings={"param_output": "Y"},
        )
        for name, kernel, construct in (
            ("centred", horseshoe_centred, "a hierarchy that is hard to sample"),
            ("by hand", horseshoe_by_hand, "coefficients as a deterministic site"),
            ("decentred", horseshoe_decentred, "`LocScaleReparam` around the kernel"),
            ("transformed", horseshoe_transformed, "`TransformReparam` in the kernel"),
        )
    ),
    *(
        Case(
            name=f"credit, {name}",
            source=LEARNED,
            construct=construct,
            kernel=kernel,
            data=lambda: (*persons(), {}),
            inference=inference,
            estimator=NumPyroImpactClassifier,
        )
        for name, kernel, construct, inference in (
            ("centred", credit, "a scale for each coefficient", nuts(credit)),
            ("decentred", credit_decentred, "`LocScaleReparam` around the kernel", nuts(credit_decentred)),
            (
                "learned",
                credit_learned,
                "`LocScaleReparam` with parameters",
                svi(lambda: AutoDiagonalNormal(credit_learned)),
            ),
        )
    ),
]
