"""NumPyro's own fits and predictions, without skaimz."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import numpyro.infer
import numpyro.primitives
from numpyro import handlers
from numpyro.contrib.einstein import SteinVI
from numpyro.infer import Predictive
from numpyro.infer.autoguide import AutoGuide

from skaimz import inference

__all__ = [
    "Reference",
    "conditional_means",
    "hidden_sites",
    "log_likelihood",
    "means_given",
    "outcomes",
    "parameter_names",
    "reference",
    "totals",
]

# NumPyro's own variational fits differ between seeds: the optimiser is noisy, too.
SEEDS = 3
# Steps and draws of a fit by a NumPyro SVI object, which knows neither.
STEPS, DRAWS = 10_000, 1000
# Steps of point particles.
STEIN_STEPS = 500


@dataclass(frozen=True)
class Reference:
    """Posterior draws by NumPyro, from each of several runs.

    Attributes
    ----------
    runs : list of dict of str to array of shape (n_chains, n_draws, ...)
    params : list of dict of str to array
        Values of ``param`` sites of the kernel and the guide; empty for Markov chains.
    losses : list of array
    """

    runs: list[dict[str, np.ndarray]]
    params: list[dict[str, Any]] = field(default_factory=list)
    losses: list[np.ndarray] = field(default_factory=list)


def reference(kernel: Callable, new: Callable[[], Any], arguments: Mapping[str, Any]) -> Reference | None:
    """Fit a kernel by NumPyro, with the inference that a function makes; None for a kind that is not known here."""
    recipe = new()
    if isinstance(recipe, inference.MCMC):
        names = ("num_warmup", "num_samples", "num_chains", "thinning")
        recipe = numpyro.infer.MCMC(recipe.sampler, **{name: getattr(recipe, name) for name in names})
    if isinstance(recipe, numpyro.infer.MCMC):
        recipe.progress_bar = False
        recipe.run(jax.random.PRNGKey(1), **arguments)
        return Reference([_with_first_steps(jax.tree.map(np.asarray, recipe.get_samples(group_by_chain=True)))])
    if isinstance(recipe, SteinVI):
        points = recipe.run(jax.random.PRNGKey(1), STEIN_STEPS, progress_bar=False, **arguments).params
        return Reference([{name.removesuffix("_auto_loc"): np.asarray(each)[None] for name, each in points.items()}])
    if not isinstance(recipe, numpyro.infer.SVI | inference.SVI):
        return None
    found = Reference([])
    for seed in range(SEEDS):
        # A guide keeps where it first began, so each run has its own.
        draws, params, losses = _by_svi(kernel, new(), seed, arguments)
        found.runs.append({name: np.asarray(draw)[None] for name, draw in draws.items()})
        found.params.append(params)
        found.losses.append(losses)
    return found


def _with_first_steps(draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Join the first step of an enumerated `scan`, which NumPyro gives as a site of its own, with the later steps."""
    later = {name: draw for name, draw in draws.items() if not name.startswith("_PREV_")}
    first = {name.removeprefix("_PREV_"): draw for name, draw in draws.items() if name not in later}
    return {
        name: np.concatenate([first[name][:, :, None], draw], axis=2) if name in first else draw
        for name, draw in later.items()
    }


def _by_svi(kernel: Callable, recipe: Any, seed: int, arguments: Mapping[str, Any]) -> tuple[dict, dict, np.ndarray]:
    steps, n_draws = STEPS, DRAWS
    if isinstance(recipe, inference.SVI):
        steps, n_draws = recipe.num_steps, recipe.num_samples
        recipe = numpyro.infer.SVI(kernel, recipe.guide, recipe.optim, recipe.loss)
    result = recipe.run(jax.random.PRNGKey(10 + seed), steps, progress_bar=False, **arguments)
    params, key = {**result.params, **(result.state.mutable_state or {})}, jax.random.PRNGKey(20 + seed)
    if isinstance(recipe.guide, AutoGuide):
        draws = recipe.guide.sample_posterior(key, params, sample_shape=(n_draws,), **arguments)
    else:
        draws = Predictive(recipe.guide, params=params, num_samples=n_draws)(key, **arguments)
    return draws, jax.tree.map(np.asarray, params), np.asarray(result.losses)


def _trace(kernel: Callable, values: Mapping[str, Any], key: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return handlers.trace(handlers.seed(handlers.substitute(kernel, data=dict(values)), key)).get_trace(**arguments)


def parameter_names(kernel: Callable, values: Mapping[str, Any], arguments: Mapping[str, Any]) -> set[str]:
    """Return the names of a kernel's own parameters and states, given a value of each latent site."""
    trace = _trace(kernel, values, jax.random.PRNGKey(0), arguments)
    return {name for name, site in trace.items() if site["type"] in ("param", "mutable")}


def hidden_sites(kernel: Callable, values: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the distributions of the sample sites that are neither observed nor among some values."""
    trace = _trace(kernel, values, jax.random.PRNGKey(0), arguments)
    return {
        name: site["fn"]
        for name, site in trace.items()
        if site["type"] == "sample" and not site["is_observed"] and name not in values
    }


def conditional_means(
    kernel: Callable, draws: Mapping[str, Any], arguments: Mapping[str, Any], output: str, n_classes: int | None
) -> np.ndarray | None:
    """Return the mean of a site's distribution for each draw, or the probabilities of its classes.

    None if NumPyro does not know the mean, or if it depends on random numbers, as in an autoregression.
    """

    def of_draw(draw: Any, key: Any) -> Any:
        site = _trace(kernel, draw, key, arguments)[output]
        if site["type"] == "deterministic":
            return site["value"]
        distribution = site["fn"]
        if n_classes is None:
            if _is_of_angles(distribution):
                raise NotImplementedError  # NumPyro's mean is a direction
            return distribution.mean
        shape = distribution.batch_shape + distribution.event_shape
        return jnp.stack([jnp.exp(distribution.log_prob(jnp.full(shape, code))) for code in range(n_classes)], -1)

    def means(seed: int) -> Any:
        # A kernel may have no draws at all.
        numbered = (dict(draws), jnp.arange(len(jax.tree.leaves(draws)[0]) if draws else 1))
        return np.asarray(jax.lax.map(lambda each: of_draw(each[0], jax.random.PRNGKey(seed)), numbered))

    try:
        first = means(0)
    except NotImplementedError:
        return None
    return first if np.isfinite(first).all() and np.array_equal(first, means(1)) else None


def _is_of_angles(distribution: Any) -> bool:
    support = distribution.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return type(support) is type(dist.constraints.circular)


def means_given(
    kernel: Callable, draws: Mapping[str, Any], arguments: Mapping[str, Any], output: str, first: Any
) -> np.ndarray:
    """Return the means of the later entries of a multivariate normal site given the first, for each draw."""

    def of_draw(draw: Any) -> Any:
        normal, n = _trace(kernel, draw, jax.random.PRNGKey(0), arguments)[output]["fn"], len(first)
        loc, covariance = jnp.broadcast_to(normal.loc, normal.event_shape), normal.covariance_matrix
        return loc[n:] + covariance[n:, :n] @ jnp.linalg.solve(covariance[:n, :n], jnp.asarray(first) - loc[:n])

    return np.asarray(jax.lax.map(of_draw, dict(draws)))


def outcomes(kernel: Callable, draws: Mapping[str, Any], params: Any, arguments: Mapping[str, Any], output: str) -> Any:
    """Return outcomes by `Predictive`, one for each draw."""
    n_draws = len(next(iter(draws.values()))) if draws else DRAWS
    predictive = Predictive(
        kernel, dict(draws), params=params, num_samples=None if draws else n_draws, return_sites=[output]
    )
    return np.asarray(predictive(jax.random.PRNGKey(2), **arguments)[output])


def log_likelihood(
    kernel: Callable, draws: Mapping[str, Any], params: Any, arguments: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the log densities of observed sites, as NumPyro's function of this name."""
    # Layers may ask for a key that they do not use.
    substituted = handlers.seed(handlers.substitute(kernel, data=dict(params)), jax.random.PRNGKey(0))
    return jax.tree.map(np.asarray, numpyro.infer.log_likelihood(substituted, dict(draws), **arguments))


class _Unscored(numpyro.primitives.Messenger):
    """Leave the densities of some sites out of a kernel."""

    def __init__(self, fn: Callable, names: Collection[str]):
        super().__init__(fn)
        self.names = names

    def process_message(self, msg: dict[str, Any]) -> None:
        # NumPyro's name of the first step of an enumerated `scan` has this prefix, once or more often.
        if msg["type"] == "sample" and msg["name"].replace("_PREV_", "") in self.names:
            msg["fn"] = msg["fn"].mask(False)


def totals(
    kernel: Callable, draws: Mapping[str, Any], params: Any, arguments: Mapping[str, Any], scores: Collection[str]
) -> np.ndarray:
    """Return the log density of some sites for each draw, given all else, with discrete sites summed out by funsor."""
    from numpyro.contrib.funsor import config_enumerate, enum, log_density

    kernel = handlers.substitute(kernel, data=dict(params))
    trace = _trace(kernel, jax.tree.map(lambda draw: draw[0], dict(draws)), jax.random.PRNGKey(0), arguments)
    depth = max(
        [-frame.dim for site in trace.values() if site["type"] == "sample" for frame in site["cond_indep_stack"]],
        default=0,
    )
    models = kernel, _Unscored(kernel, scores)
    enumerated = [enum(config_enumerate(model), -1 - depth) for model in models]

    def of_draw(draw: Any) -> Any:
        joint, without = (log_density(model, (), dict(arguments), draw)[0] for model in enumerated)
        return joint - without

    return np.asarray(jax.lax.map(of_draw, dict(draws)))
