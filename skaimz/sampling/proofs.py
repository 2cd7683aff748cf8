"""What is known of a job before anything is computed, from abstract traces of its kernel on one row and one draw."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels import TracedKernel, dependent, is_affine, materialise
from skaimz.runtime import compiled, fused_key
from skaimz.sampling.forward import (
    UNDRAWN,
    Arguments,
    base_distribution,
    expected_outcome,
    has_derivative,
    has_mean,
    materialised,
    run_kernel,
)
from skaimz.sampling.host_distributions import HostDistribution, host_distribution
from skaimz.sampling.job import Job
from skaimz.sampling.quantities import KernelRun, Quantity

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
# Rows on which derivatives are computed, to see whether they are zero.
ROWS_TRIED = 1024


def at_average_draw(job: Job, quantity: Quantity) -> Job:
    """Return a job with one draw, the average of all, if it has the same expectation; otherwise the job itself."""
    draws = job.posterior.draws
    if not _may_be_averaged(job, quantity, draws) or not _is_affine_in("draws", quantity, job.traced, *job.described()):
        return job
    average = {name: np.mean(draw, axis=0, keepdims=True, dtype=np.float64) for name, draw in draws.items()}
    average = {name: value.astype(draws[name].dtype) for name, value in average.items()}
    return replace(job, posterior=job.posterior._replace(draws=average, n_draws=1, n_chains=1))


def is_affine_in_rows(job: Job, quantity: Quantity) -> bool:
    """Whether, for every draw, the quantity at the average of some rows is its average over these rows."""
    if any(job.spec[name].row_axis is not None for name in job.settings):
        return False
    may_be_averaged = _may_be_averaged(job, quantity, job.inputs.rows)
    return may_be_averaged and _is_affine_in("rows", quantity, job.traced, *job.described())


def _may_be_averaged(job: Job, quantity: Quantity, arrays: Mapping[str, Any]) -> bool:
    """Whether arrays are continuous, and the quantity of a row is neither random nor dependent on other rows."""
    if not quantity.may_be_affine or job.local or job.spec.rows_mix is not None:
        return False
    continuous = all(np.issubdtype(array.dtype, np.floating) for array in arrays.values())
    return continuous and not is_random(quantity, job)


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def _is_affine_in(what: str, quantity: Quantity, traced: TracedKernel, arguments: Arguments, sites: tuple) -> bool:
    """Whether a quantity is affine in the draws of sites, or in the row-aligned arguments."""
    every = {**materialised(arguments)._asdict(), "draws": materialise(sites)}
    varying = every.pop(what)

    def run(varying: dict, others: dict) -> tuple:
        values = {**others, what: varying}
        draws = values.pop("draws")
        return _result_of(quantity, traced, Arguments(**values), draws, jax.random.key(0))

    trace = jax.make_jaxpr(run)(varying, every)
    return is_affine(trace, range(len(jax.tree.leaves(varying))))


def _result_of(quantity: Quantity, traced: TracedKernel, arguments: Arguments, sites: dict, key: Any) -> tuple:
    """Return a quantity for one draw."""
    run_key, own_key = jax.random.split(key)

    def trace_on(rows: Mapping[str, Any], states: Mapping[str, Any]) -> dict:
        return run_kernel(traced, arguments._replace(rows=rows), {**sites, **states}, run_key)

    return quantity.of_draw(KernelRun(traced.spec, arguments.rows, own_key, trace_on, sites.keys()))


def influence(job: Job, name: str) -> tuple[bool, list[str]] | None:
    """Tell what setting a site by the do-operator can change.

    Parameters
    ----------
    job : Job
        A job with an intervention on the site.
    name : str
        Name of the site.

    Returns
    -------
    reaches : bool
        Whether the output depends on the site's value.
    unchanged : list of str
        Latent sites that depend on the value too, but keep their posterior draws, which were made without the
        intervention.

    None is returned instead where the kernel cannot be traced on one row.
    """
    drawn = {*job.posterior.draws, *job.local} - job.settings.keys()
    latents = [site.name for site in job.spec.prior_sites if site.name in drawn]
    arguments, sites, interventions = _abstract(job)

    def run(value: Any, arguments: Arguments, sites: dict, interventions: dict) -> list:
        trace = run_kernel(job.traced, arguments, sites, jax.random.key(0), {**interventions, name: value})
        output = trace[job.spec.output]
        densities = [trace[site]["fn"].log_prob(trace[site]["value"]) for site in latents]
        return [output["value"], expected_outcome(output["fn"], jax.random.key(1)), *densities]

    others = {site: value for site, value in interventions.items() if site != name}
    try:
        trace = jax.make_jaxpr(run)(_few_rows(job, name), arguments, sites, others)
    except Exception:
        return None
    value, mean, *of_latents = dependent(trace, [0])
    return value or mean, [site for site, depends in zip(latents, of_latents, strict=True) if depends]


def upstream_of(job: Job, name: str) -> list[str]:
    """Return row-aligned latent sites that a conditioned site depends on, and that also affect the output directly.

    To observe the site's value would change what is known of them. But they keep their distributions, so that outcomes
    are not those of rows that happen to have this value.
    """
    latents = [site.name for site in job.spec.local_latents if site.name not in job.settings]
    arguments, sites, interventions = _abstract(job)

    def run(value: Any, latent: str, arguments: Arguments, sites: dict, interventions: dict) -> list:
        trace = run_kernel(job.traced, arguments, {**sites, latent: value}, jax.random.key(0), interventions)
        output = trace[job.spec.output]
        density = trace[name]["fn"].log_prob(trace[name]["value"])
        return [density, output["value"], expected_outcome(output["fn"], jax.random.key(1))]

    upstream = []
    for latent in latents:
        try:
            trace = jax.make_jaxpr(run, static_argnums=1)(
                _few_rows(job, latent), latent, arguments, sites, interventions
            )
        except Exception:
            continue
        density, value, mean = dependent(trace, [0])
        if density and (value or mean):
            upstream.append(latent)
    return upstream


def _abstract(job: Job) -> tuple[Arguments, dict, dict]:
    """Return a kernel's arguments, values of sites, and interventions, by shapes and types alone."""
    arguments, sites = job.described()
    values = materialise(sites) | {site: _few_rows(job, site) for site in (*job.local, *job.condition)}
    return materialised(arguments), values, {site: _few_rows(job, site) for site in job.intervention}


def without_derivative(job: Job, along: tuple[str, int | None]) -> list[str]:
    """Return sites whose contribution a slope of the expected outcome would miss.

    Their distributions depend on the input and the expected outcome depends on them, but their draws have no
    derivative: a class, a count, or the component of a mixture.

    Parameters
    ----------
    job : Job
    along : tuple of (str, int or None)
        Name of the argument, and number of its column.
    """
    name, column = along
    spec, traced, posterior = job.spec, job.traced, job.posterior
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
    known = {**posterior.params, **{site: draws[0] for site, draws in posterior.draws.items()}, **local, **settings}
    drawn: list[str] = []
    summed = {site.name for site in spec.summed}  # their derivative is that of the rows' weights

    def run(array: Any, sites: dict, key: Any) -> dict:
        run_key, _ = jax.random.split(key)
        arguments = Arguments(posterior.hyperparameters, {**rows, name: array}, job.inputs.whole)
        return run_kernel(traced, arguments, sites, run_key)

    def scores(array: Any, key: Any) -> list:
        """Return the log densities of draws that have no derivative, the draws being constant."""
        trace = run(array, known, key)
        drawn.clear()
        for site, message in trace.items():
            if message["type"] != "sample" or message["is_observed"] or site in known or site in summed:
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
    follow = [site for site, slope in zip(drawn, slopes, strict=True) if np.any(np.asarray(slope) != 0)]

    def mean(values: dict, array: Any, key: Any) -> Any:
        return expected_outcome(run(array, {**known, **values}, key)[spec.output]["fn"], key)

    values = jax.eval_shape(lambda: {site: run(array, known, key)[site]["value"] for site in follow})
    traces = {site: jax.make_jaxpr(mean)({site: value}, array, key) for site, value in values.items()}
    return [site for site, trace in traces.items() if site == spec.output or any(dependent(trace, [0]))]


def _few_rows(job: Job, name: str) -> jax.ShapeDtypeStruct:
    """Return shape and type of a site's value on as many rows as :meth:`Job.described` has."""
    site = job.spec[name]
    shape = tuple(job.spec.least_rows if size is None else size for size in site.shape)
    return jax.ShapeDtypeStruct(shape, site.dtype)


def is_random(quantity: Quantity, job: Job) -> bool:
    """Whether a quantity needs random numbers.

    It needs them for latent sites without draws, for distributions without closed moments, and for random numbers that
    are no sites, such as those of dropout in a network.
    """
    known = job.posterior.draws.keys() | job.local.keys() | job.settings.keys()
    if quantity.sums_states:
        known |= {site.name for site in job.spec.summed}
    if any(site.name not in known for site in job.spec.prior_sites):
        return True
    arguments, sites = job.described()
    more = {name: _few_rows(job, name) for name in (*job.local, *job.settings) if name not in job.posterior.draws}
    sites += tuple((name, value.shape, np.dtype(value.dtype)) for name, value in more.items())
    return _uses_key(quantity, job.traced, arguments, sites)


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def _uses_key(quantity: Quantity, traced: TracedKernel, arguments: Arguments, sites: tuple) -> bool:
    """Whether a quantity depends on random numbers, given the values of all latent sites."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    trace = jax.make_jaxpr(lambda key, arguments, sites: _result_of(quantity, traced, arguments, sites, key))(
        key, materialised(arguments), materialise(sites)
    )
    return any(dependent(trace, [0]))


def host_distribution_of(job: Job) -> HostDistribution | None:
    """Return NumPy's sampler of the output's distribution, None where JAX draws outcomes."""
    distribution = None if job.spec.output in job.settings else _output_distribution(job.traced, *job.described())
    return None if distribution is None else host_distribution(distribution)


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def _output_distribution(traced: TracedKernel, arguments: Arguments, sites: tuple) -> type | None:
    """Return the class of the output's distribution, None where JAX must draw outcomes.

    It must if the kernel cannot be traced on one row, if the output is drawn several times, and if it is drawn in the
    body of a ``scan`` or ``cond``, where later steps may depend on it.
    """
    classes: list[Any] = []

    def run(arguments: Arguments, sites: dict) -> None:
        trace = run_kernel(traced, arguments, sites, jax.random.key(0), without_outcome=True)
        output = trace[traced.spec.output]
        once = output["value"].shape == output["fn"].shape() and UNDRAWN in output["infer"]
        classes.append(type(base_distribution(output["fn"])) if once else None)

    try:
        jax.eval_shape(run, materialised(arguments), materialise(sites))
    except Exception:
        return None
    return classes[-1]


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def runs_fused(traced: TracedKernel, without_outcome: bool, arguments: Arguments, sites: tuple) -> bool:
    """Whether every distribution of the kernel can be drawn from with the fused generator; Poisson's cannot."""

    def run(arguments: Arguments, sites: dict) -> Any:
        key = fused_key(jax.random.key(0))
        return run_kernel(traced, arguments, sites, key, without_outcome=without_outcome)[traced.spec.output]["value"]

    try:
        jax.eval_shape(run, materialised(arguments), materialise(sites))
    except Exception:
        # This includes kernels that cannot be traced on one row. They lose nothing but speed.
        return False
    return True
