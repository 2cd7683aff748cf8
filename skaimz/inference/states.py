"""Discrete latent sites of a fit: which are summed out, and draws of their states once the other sites are drawn."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from skaimz.exceptions import StateWarning, warn_user
from skaimz.inference.data import Data, loaded
from skaimz.inference.guides import is_autoguide
from skaimz.inference.result import FitResult
from skaimz.inference.samplers import draws_discrete
from skaimz.inference.settings import MCMC, SVI
from skaimz.kernels import Fixed, MarginalKernel, TracedKernel, summed_out
from skaimz.runtime import Purpose, compiled, key_of, one_at_a_time, shared

__all__ = ["fitted_kernel", "log_likelihoods", "state_draws", "state_probabilities", "with_states", "without_states"]

PROGRAMS_KEPT = 12


def fitted_kernel(traced: TracedKernel, settings: Any, data: Data | None) -> TracedKernel:
    """Return the kernel as the model that a fit draws from: without its discrete sites, unless the fit draws them."""
    names = {site.name for site in traced.spec.discrete}
    if not names:
        return traced
    if isinstance(settings, MCMC) and draws_discrete(settings.sampler, names):
        return traced
    if isinstance(settings, SVI) and not is_autoguide(settings.guide):
        assert data is not None
        if names & _drawn_by(settings, traced, data):
            return traced
    return summed_out(traced)


@one_at_a_time
def _drawn_by(settings: SVI, traced: TracedKernel, data: Data) -> set[str]:
    """Return the names of the sites that a guide function samples."""
    spec, names = traced.spec, set[str]()
    size = settings.batch_size or (spec.least_rows if spec.fit_mixing is None else len(data.rows[spec.input]))
    some = loaded(data, min(size, len(data.rows[spec.input])))

    def run(rows: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        with handlers.trace() as trace, handlers.seed(rng_seed=0):
            traced.formed(settings.guide, rows, whole)
        names.update(name for name, site in trace.items() if site["type"] == "sample")

    jax.eval_shape(run, some.rows, some.whole)
    return names


def with_states(traced: TracedKernel, data: Data, result: FitResult, seed: int) -> FitResult:
    """Add draws of the discrete sites that are no concern of a single row to the result of a fit.

    Parameters
    ----------
    traced : TracedKernel
        Kernel as it was fitted; see :func:`fitted_kernel`.
    data : Data
        All rows of the fit.
    result : FitResult
    seed : int
    """
    if not _draws_states(traced):
        return result
    assert isinstance(traced, MarginalKernel)
    # The states of fresh draws follow from all rows, too.
    data = loaded(data, len(data.rows[traced.spec.input]))._replace(units=result.data.get("units"))
    result = dataclasses.replace(result, data=data._asdict())
    states = state_draws(traced, result, result.draws, seed)
    missing = [site.name for site in traced.drawn if site.name not in states]
    if missing:
        warn_user(
            f"The states of {missing} are not drawn: only those of a single chain can be, of which each state depends "
            "on the one before it. `infer_discrete` has their probabilities; predictions draw them from their prior.",
            StateWarning,
        )
    return dataclasses.replace(result, draws=result.draws | states)


def without_states(traced: TracedKernel, result: FitResult) -> FitResult:
    """Return the result of a fit as it was before :func:`with_states`."""
    if not _draws_states(traced):
        return result
    fitted = {site.name for site in traced.spec.latents}
    return dataclasses.replace(result, draws={name: draw for name, draw in result.draws.items() if name in fitted})


def state_draws(
    traced: TracedKernel, result: FitResult, draws: Mapping[str, np.ndarray], seed: int, *, first: int = 0
) -> dict[str, np.ndarray]:
    """Draw the states of discrete sites that are no concern of a single row, given draws of the other sites.

    Parameters
    ----------
    traced : TracedKernel
        Kernel as it was fitted.
    result : FitResult
        With all rows of the fit, where there are such sites.
    draws : dict of str to array of shape (n_chains, n_draws, ...)
    seed : int
    first : int, default=0
        Number of the first draw, on which its random numbers depend.

    Returns
    -------
    dict of str to array of shape (n_chains, n_draws, ...)
    """
    if not _draws_states(traced):
        return {}
    assert isinstance(traced, MarginalKernel)
    n_chains, n_draws = next((draw.shape[:2] for draw in draws.values()), (1, result.num_samples))
    flat = {name: draw.reshape(-1, *draw.shape[2:]) for name, draw in draws.items()}
    numbers = np.arange(first, first + n_chains * n_draws, dtype=np.uint32)
    data = Data(**result.data)
    params = traced.spec.values_of(result.params, lambda _, array: array)
    arguments = (data.hyperparameters, data.rows, data.whole)
    states = _drawing(traced)(arguments, params, flat, numbers, np.uint32(seed))
    return {name: np.asarray(state).reshape(n_chains, n_draws, *state.shape[1:]) for name, state in states.items()}


def state_probabilities(
    traced: MarginalKernel, arguments: tuple, params: Mapping[str, Any], draws: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the probabilities of the states of discrete sites given outcomes, averaged over posterior draws.

    Parameters
    ----------
    traced : MarginalKernel
    arguments : tuple of dict
        The kernel's hyperparameters, rows (the outcome among them) and whole arrays.
    params : dict of str to array
    draws : dict of str to array of shape (n_draws, ...)
        Draws of the latent sites that are not discrete.

    Returns
    -------
    dict of str to array of shape (..., n_states)
        Rows first, for sites with rows.
    """
    n_draws = next((len(draw) for draw in draws.values()), 1)
    averages = _averaging(traced)(arguments, dict(params), (dict(draws), np.arange(n_draws)))
    return {name: np.asarray(average) for name, average in averages.items()}


def log_likelihoods(
    traced: MarginalKernel, arguments: tuple, params: Mapping[str, Any], draws: Mapping[str, Any], n_draws: int
) -> np.ndarray:
    """Return log densities of what is observed, with all discrete sites summed out.

    Parameters
    ----------
    traced : MarginalKernel
    arguments, params, draws
        As in :func:`state_probabilities`.
    n_draws : int

    Returns
    -------
    array of shape (n_draws, n_rows) or (n_draws,)
        With an entry for each row if the rows are independent, and no site has draws by row.
    """
    own = traced.own
    by_row = own.fit_mixing is None and own.least_rows == 1 and not any(own[n].row_axis is not None for n in draws)
    numbered = dict(draws), np.arange(n_draws)
    return np.asarray(_likelihoods(traced, by_row)(arguments, dict(params), numbered))


@shared(maxsize=PROGRAMS_KEPT)
def _likelihoods(traced: MarginalKernel, by_row: bool) -> Callable:
    """Compile log densities of what is observed, of each row alone or of all."""

    @compiled
    @one_at_a_time
    def program(arguments: tuple, params: dict, numbered: tuple) -> Any:
        hyperparameters, rows, whole = arguments

        def of_draw(numbered: tuple) -> Any:
            values = {**params, **numbered[0]}

            def of_rows(rows: dict) -> Any:
                return traced.log_likelihood(Fixed(traced, (hyperparameters, rows, whole), values))

            return (
                jax.vmap(lambda row: of_rows(jax.tree.map(lambda a: a[None], row)))(rows) if by_row else of_rows(rows)
            )

        return jax.lax.map(of_draw, numbered)

    return program


def _draws_states(traced: TracedKernel) -> bool:
    return isinstance(traced, MarginalKernel) and bool(traced.drawn)


@shared(maxsize=PROGRAMS_KEPT)
def _drawing(traced: MarginalKernel) -> Callable:
    """Compile draws of states, one posterior draw after the other."""

    @compiled
    @one_at_a_time
    def program(arguments: tuple, params: dict, draws: dict, numbers: Any, seed: Any) -> dict:
        def one(numbered: tuple) -> dict:
            values, number = numbered
            return traced.draw(Fixed(traced, arguments, {**params, **values}), key_of(seed, Purpose.STATE, number))

        return jax.lax.map(one, (draws, numbers))

    return program


@shared(maxsize=PROGRAMS_KEPT)
def _averaging(traced: MarginalKernel) -> Callable:
    """Compile averages of the probabilities of states over posterior draws, one after the other."""

    @compiled
    @one_at_a_time
    def program(arguments: tuple, params: dict, numbered: tuple) -> dict:
        def of_draw(numbered: tuple) -> dict:
            return traced.probabilities(Fixed(traced, arguments, {**params, **numbered[0]}))

        def add(total: dict, numbered: tuple) -> tuple[dict, None]:
            return jax.tree.map(jnp.add, total, of_draw(numbered)), None

        first = jax.tree.map(lambda array: array[0], numbered)
        none = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), jax.eval_shape(of_draw, first))
        total, _ = jax.lax.scan(add, none, numbered)
        return jax.tree.map(lambda array: array / len(numbered[1]), total)

    return program
