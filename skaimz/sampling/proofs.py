"""What is known of a pass before anything is computed, from abstract traces of its kernel on one row and one draw."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels import TracedKernel, dependent, is_affine, materialise
from skaimz.runtime import compiled, fused_key
from skaimz.sampling.forward import (
    UNDRAWN,
    base_distribution,
    class_probabilities,
    conditional_mean,
    conditional_moments,
    expected_outcome,
    has_derivative,
    has_mean,
    run_kernel,
)
from skaimz.sampling.host_distributions import HostDistribution, host_distribution
from skaimz.sampling.job import Job, Quantity

__all__ = [
    "at_average_draw",
    "host_distribution_of",
    "influence",
    "is_affine_in_rows",
    "is_random",
    "runs_fused",
    "upstream_of",
    "without_derivative",
]

ANSWERS_KEPT = 64
# Rows on which derivatives are looked at.
ROWS_TRIED = 1024


def at_average_draw(job: Job, quantity: Quantity) -> Job:
    """Return a pass of one draw, the average one, where the quantity is the same for it; else the pass itself."""
    draws = job.posterior.draws
    if quantity.kind != "mean" or not _may_be_averaged(job, draws) or not _is_affine_in("draws", job):
        return job
    average = {name: np.mean(draw, axis=0, keepdims=True, dtype=np.float64) for name, draw in draws.items()}
    average = {name: value.astype(draws[name].dtype) for name, value in average.items()}
    return replace(job, posterior=job.posterior._replace(draws=average, n_draws=1, n_chains=1))


def is_affine_in_rows(job: Job, quantity: Quantity) -> bool:
    """Whether the quantity at the average of some rows is its average over them, for every draw."""
    set_by_row = any(job.spec[name].row_axis is not None for name in job.settings)
    wanted = quantity.kind == "means" and quantity.names == (job.spec.output,) and not set_by_row
    return wanted and _may_be_averaged(job, job.inputs.rows) and _is_affine_in("rows", job)


def _may_be_averaged(job: Job, arrays: Mapping[str, Any]) -> bool:
    """Whether arrays are continuous, and an expectation follows from them alone, row by row."""
    continuous = all(np.issubdtype(array.dtype, np.floating) for array in arrays.values())
    return continuous and not job.local and job.spec.rows_mix is None and not is_random(Quantity("mean"), job)


def _is_affine_in(what: str, job: Job) -> bool:
    return _mean_is_affine(what, job.traced, *job.described())


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def _mean_is_affine(
    what: str, traced: TracedKernel, hyperparameters: tuple, sites: tuple, rows: tuple, whole: tuple
) -> bool:
    """Whether the expected outcome is affine in the sites' draws, or in the arguments with rows."""
    arguments = {"draws": materialise(sites), "rows": materialise(rows)}
    others = {"hyperparameters": materialise(hyperparameters), "whole": materialise(whole)}
    moving = arguments.pop(what)

    def run(moving: dict, others: dict) -> Any:
        given = {what: moving, **others}
        trace = run_kernel(
            traced, given["hyperparameters"], given["draws"], given["rows"], given["whole"], jax.random.key(0)
        )
        return expected_outcome(trace[traced.spec.output]["fn"], jax.random.key(1))

    trace = jax.make_jaxpr(run)(moving, {**arguments, **others})
    return is_affine(trace, range(len(jax.tree.leaves(moving))))


def influence(job: Job, name: str) -> tuple[bool, list[str]] | None:
    """Tell what setting a site by the do-operator can change.

    Parameters
    ----------
    job : Job
        With an intervention on the site.
    name : str

    Returns
    -------
    reaches : bool
        Whether the output depends on the site's value.
    held : list of str
        Latent sites that depend on it as well, and whose posterior draws, which were made without the intervention,
        stand in the way. The whole answer is None where the kernel cannot be traced on one row.
    """
    drawn = {*job.posterior.draws, *job.local} - job.settings.keys()
    held = [site.name for site in job.spec.latents if site.name in drawn]
    hyperparameters, sites, rows, whole = map(materialise, job.described())
    sites |= {site: _few_rows(job, site) for site in (*job.local, *job.condition)}
    done = {site: _few_rows(job, site) for site in job.intervention if site != name}

    def run(value: Any, hyperparameters: dict, sites: dict, done: dict, rows: dict, whole: dict) -> list:
        trace = run_kernel(job.traced, hyperparameters, sites, rows, whole, jax.random.key(0), {**done, name: value})
        output = trace[job.spec.output]
        densities = [trace[site]["fn"].log_prob(trace[site]["value"]) for site in held]
        return [output["value"], expected_outcome(output["fn"], jax.random.key(1)), *densities]

    try:
        trace = jax.make_jaxpr(run)(_few_rows(job, name), hyperparameters, sites, done, rows, whole)
    except Exception:
        return None
    value, mean, *answers = dependent(trace, [0])
    reaches = value or mean
    return reaches, [site for site, depends in zip(held, answers, strict=True) if depends]


def upstream_of(job: Job, name: str) -> list[str]:
    """Return latent sites of rows that a fixed site depends on, and the output by another way.

    To learn the fixed value would change what is known of them. They keep their distributions, so that outcomes are not
    those of rows that happen to have the value.
    """
    among = [site.name for site in job.spec.local_latents if site.name not in job.settings]
    hyperparameters, sites, rows, whole = map(materialise, job.described())
    sites |= {site: _few_rows(job, site) for site in (*job.local, *job.condition)}
    done = {site: _few_rows(job, site) for site in job.intervention}

    def run(value: Any, latent: str, hyperparameters: dict, sites: dict, done: dict, rows: dict, whole: dict) -> list:
        given = {**sites, latent: value}
        trace = run_kernel(job.traced, hyperparameters, given, rows, whole, jax.random.key(0), done)
        output = trace[job.spec.output]
        density = trace[name]["fn"].log_prob(trace[name]["value"])
        return [density, output["value"], expected_outcome(output["fn"], jax.random.key(1))]

    found = []
    for latent in among:
        try:
            trace = jax.make_jaxpr(run, static_argnums=1)(
                _few_rows(job, latent), latent, hyperparameters, sites, done, rows, whole
            )
        except Exception:
            continue
        density, value, mean = dependent(trace, [0])
        if density and (value or mean):
            found.append(latent)
    return found


def without_derivative(job: Job, along: tuple[str, int | None]) -> list[str]:
    """Return sites that a slope of the expected outcome would leave out.

    They are drawn, their distributions depend on the input, the expected outcome depends on them, and the draws
    themselves have no derivative: such as a class, a count, or the part of a mixture.

    Parameters
    ----------
    job : Job
    along : tuple of (str, int or None)
        Argument, and column of it.
    """
    name, column = along
    spec, traced = job.spec, job.traced
    given = {**job.posterior.params, **{site: draws[0] for site, draws in job.posterior.draws.items()}}
    rows = {key: np.asarray(array[:ROWS_TRIED]) for key, array in job.inputs.rows.items()}
    n_rows = len(rows[spec.input])
    local = {
        site: np.take(draws[0], range(n_rows), axis=spec[site].row_axis or 0)
        for site, draws in job.local_in(slice(0, n_rows)).items()
    }
    settings = {
        site: value if spec[site].row_axis is None else np.take(value, range(n_rows), axis=spec[site].row_axis)
        for site, value in job.settings.items()
    }
    given |= local | settings
    drawn: list[str] = []

    def run(array: Any, sites: dict, key: Any) -> dict:
        run_key, _ = jax.random.split(key)
        return run_kernel(
            traced, job.posterior.hyperparameters, sites, {**rows, name: array}, job.inputs.whole, run_key
        )

    def scores(array: Any, key: Any) -> list:
        """Return the log densities of the draws that have no derivative, which are held as they are."""
        trace = run(array, given, key)
        drawn.clear()
        for site, message in trace.items():
            if message["type"] != "sample" or message["is_observed"] or site in given:
                continue
            if not has_derivative(message["fn"]) and (site != spec.output or not has_mean(message["fn"])):
                drawn.append(site)
        return [trace[site]["fn"].log_prob(jax.lax.stop_gradient(trace[site]["value"])) for site in drawn]

    array, key = jnp.asarray(rows[name]), jax.random.key(job.seed)
    jax.eval_shape(scores, array, key)
    if not drawn:
        return []
    ones = jnp.ones_like(array)
    direction = ones if column is None else jnp.zeros_like(array).at[:, column].set(1.0)
    slopes = compiled(lambda array, key: jax.jvp(lambda moved: scores(moved, key), (array,), (direction,))[1])(
        array, key
    )
    moved = [site for site, slope in zip(drawn, slopes, strict=True) if np.any(np.asarray(slope) != 0)]

    def mean(values: dict, array: Any, key: Any) -> Any:
        return expected_outcome(run(array, {**given, **values}, key)[spec.output]["fn"], key)

    values = jax.eval_shape(lambda: {site: run(array, given, key)[site]["value"] for site in moved})
    traces = {site: jax.make_jaxpr(mean)({site: value}, array, key) for site, value in values.items()}
    return [site for site, trace in traces.items() if site == spec.output or any(dependent(trace, [0]))]


def _few_rows(job: Job, name: str) -> jax.ShapeDtypeStruct:
    """Return a site's value for as many rows as a pass is described with, by its shape and type alone."""
    site = job.spec[name]
    shape = tuple(job.spec.least_rows if size is None else size for size in site.shape)
    return jax.ShapeDtypeStruct(shape, site.dtype)


def is_random(quantity: Quantity, job: Job) -> bool:
    """Whether an expectation needs random numbers.

    They are needed for latent sites without draws, for a distribution without closed moments, and for what the kernel
    draws unseen, as it does in a network with dropout.
    """
    given = job.posterior.draws.keys() | job.local.keys() | job.settings.keys()
    if any(site.name not in given for site in job.spec.latents):
        return True
    hyperparameters, sites, rows, whole = job.described()
    more = {name: _few_rows(job, name) for name in (*job.local, *job.settings) if name not in job.posterior.draws}
    sites += tuple((name, value.shape, np.dtype(value.dtype)) for name, value in more.items())
    return _uses_key(quantity.kind, job.traced, hyperparameters, sites, rows, whole)


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def _uses_key(kind: str, traced: TracedKernel, hyperparameters: tuple, sites: tuple, rows: tuple, whole: tuple) -> bool:
    """Whether an average depends on random numbers, given the values of all latent sites."""
    averages: dict[str, Callable] = {
        "mean": conditional_mean,
        "moments": conditional_moments,
        "probabilities": lambda distribution, _: class_probabilities(distribution),
    }

    def run(key: Any, hyperparameters: dict, sites: dict, rows: dict, whole: dict) -> Any:
        run_key, distribution_key = jax.random.split(key)
        distribution = run_kernel(traced, hyperparameters, sites, rows, whole, run_key)[traced.spec.output]["fn"]
        return averages[kind](distribution, distribution_key)

    key = jax.eval_shape(lambda: jax.random.key(0))
    trace = jax.make_jaxpr(run)(key, *map(materialise, (hyperparameters, sites, rows, whole)))
    return any(dependent(trace, [0]))


def host_distribution_of(job: Job) -> HostDistribution | None:
    """Return how the output is drawn on the host, None where JAX draws it."""
    distribution = None if job.spec.output in job.settings else _output_distribution(job.traced, *job.described())
    return None if distribution is None else host_distribution(distribution)


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def _output_distribution(
    traced: TracedKernel, hyperparameters: tuple, sites: tuple, rows: tuple, whole: tuple
) -> type | None:
    """Return the class of the output's distribution, None where JAX must draw it.

    It must where the output is drawn several times, where it is drawn in the body of a ``scan`` or ``cond``, whose
    later steps may follow from it, and where the kernel takes no single row.
    """
    found: list[Any] = []

    def run(hyperparameters: dict, sites: dict, rows: dict, whole: dict) -> None:
        trace = run_kernel(traced, hyperparameters, sites, rows, whole, jax.random.key(0), without_outcome=True)
        output = trace[traced.spec.output]
        once = output["value"].shape == output["fn"].shape() and UNDRAWN in output["infer"]
        found.append(type(base_distribution(output["fn"])) if once else None)

    try:
        jax.eval_shape(run, *map(materialise, (hyperparameters, sites, rows, whole)))
    except Exception:
        return None
    return found[-1]


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def runs_fused(
    traced: TracedKernel, without_outcome: bool, hyperparameters: tuple, sites: tuple, rows: tuple, whole: tuple
) -> bool:
    """Whether every distribution of the kernel can be drawn from with the fusing generator; Poisson's cannot."""

    def run(hyperparameters: dict, sites: dict, rows: dict, whole: dict) -> Any:
        key = fused_key(jax.random.key(0))
        trace = run_kernel(traced, hyperparameters, sites, rows, whole, key, without_outcome=without_outcome)
        return trace[traced.spec.output]["value"]

    try:
        jax.eval_shape(run, *map(materialise, (hyperparameters, sites, rows, whole)))
    except Exception:
        # Kernels that do not take one row alone end here too, and lose nothing but speed.
        return False
    return True
