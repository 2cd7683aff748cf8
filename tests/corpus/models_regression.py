"""Regressions of NumPyro's examples."""

import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from numpyro import handlers
from numpyro.infer import MCMC, NUTS
from numpyro.infer.reparam import LocScaleReparam

__all__ = ["CASES"]


def nuts(kernel, **options):
    def inference():
        return MCMC(NUTS(kernel, **options), num_warmup=300, num_samples=300, num_chains=2)

    return inference


# Batting averages: at bats are the input, hits the outcome, and every player is a row.
def at_bats():
    rng = np.random.default_rng(0)
    skill = rng.beta(30.0, 80.0, size=18)
    trials = rng.integers(35, 60, size=18)
    return trials, rng.binomial(trials, skill), {}


def fully_pooled(at_bats, hits=None):
    phi = numpyro.sample("phi", dist.Uniform(0, 1))
    with numpyro.plate("num_players", at_bats.shape[0]):
        return numpyro.sample("obs", dist.Binomial(at_bats, probs=phi), obs=hits)


def not_pooled(at_bats, hits=None):
    with numpyro.plate("num_players", at_bats.shape[0]):
        phi = numpyro.sample("phi", dist.Uniform(0, 1))
        return numpyro.sample("obs", dist.Binomial(at_bats, probs=phi), obs=hits)


def partially_pooled(at_bats, hits=None):
    mean = numpyro.sample("m", dist.Uniform(0, 1))
    size = numpyro.sample("kappa", dist.Pareto(1, 1.5))
    with numpyro.plate("num_players", at_bats.shape[0]):
        phi = numpyro.sample("phi", dist.Beta(mean * size, (1 - mean) * size))
        return numpyro.sample("obs", dist.Binomial(at_bats, probs=phi), obs=hits)


def partially_pooled_with_logit(at_bats, hits=None):
    loc = numpyro.sample("loc", dist.Normal(-1, 1))
    scale = numpyro.sample("scale", dist.HalfCauchy(1))
    with numpyro.plate("num_players", at_bats.shape[0]):
        with handlers.reparam(config={"alpha": LocScaleReparam(0)}):
            alpha = numpyro.sample("alpha", dist.Normal(loc, scale))
        return numpyro.sample("obs", dist.Binomial(at_bats, logits=alpha), obs=hits)


BASEBALL = {"param_input": "at_bats", "param_output": "hits"}

CASES = [
    Case(
        name=f"baseball, {kernel.__name__.replace('_', ' ')}",
        source="examples/baseball.py",
        construct=construct,
        kernel=kernel,
        data=at_bats,
        inference=nuts(kernel),
        settings=BASEBALL,
    )
    for kernel, construct in (
        (fully_pooled, "X of rank 1, integers"),
        (not_pooled, "a latent site for each row"),
        (partially_pooled, "a hierarchy over rows, beta distributed"),
        (partially_pooled_with_logit, "`LocScaleReparam` over rows"),
    )
]
