"""Stochastic variational inference as three compiled programs that equal estimators share."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
import numpyro.optim
from numpyro import handlers
from numpyro.infer import autoguide

from skaimz.exceptions import LocalGuideWarning, warn_user
from skaimz.inference.chunks import CHUNK_STEPS, run_in_chunks
from skaimz.inference.data import Data, refuse_discrete, weighted_guide, weighted_model
from skaimz.inference.diagnostics import check_losses
from skaimz.inference.result import FitResult, pack_state, to_numpy, unpack_state
from skaimz.inference.settings import SVI
from skaimz.inference.shuffle import shuffled
from skaimz.kernels import ByValue, TracedKernel, key_of, one_at_a_time, shared

__all__ = ["continue_svi", "draw_from_guide", "fit_svi", "make_guide"]

# A fit holds some 500 memory maps of compiled code, and a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 24
# Purposes of random numbers, folded into the seed so that no two of them share a stream.
INIT, ORDER, DRAW, FRESH_DRAW = 11, 12, 13, 15
# The learning rate ends at this share of its first value.
FINAL_RATE = 0.01
# These guides look at the data again when they are drawn from.
GUIDES_WITH_DATA = (
    autoguide.AutoLaplaceApproximation,
    autoguide.AutoDAIS,
    autoguide.AutoSemiDAIS,
)


class Programs(NamedTuple):
    """Compiled steps of a fit, each a function of arrays only."""

    init: Callable
    advance: Callable
    draw: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(
    traced: TracedKernel, guide: ByValue, optim: ByValue, loss: ByValue, batch_size: int | None, n_padded: int
) -> Programs:
    """Make the programs for one padded number of rows, so that the cache's bound is one on compiled code."""

    def start(key: Any, data: Data, pace: tuple, present: Any = None) -> tuple[numpyro.infer.SVI, Any, Any]:
        """Build NumPyro's objects anew; compiled programs share nothing but arrays."""
        model = weighted_model(traced, present)
        fitted_guide = make_guide(guide.value, model, traced, present)
        optimiser = optim.value(_schedule(*pace)) if _takes_rate(optim.value) else optim.value
        svi = numpyro.infer.SVI(model, fitted_guide, optimiser, loss.value)
        return svi, fitted_guide, svi.init(key, *data)

    def first_batch(data: Data, n_rows: Any) -> tuple[Data, Any]:
        if batch_size is None:
            return data, None
        places, n_rows = jnp.arange(batch_size, dtype=jnp.uint32), jnp.asarray(n_rows, jnp.uint32)
        return _take(data, jnp.minimum(places, n_rows - 1), places < n_rows, n_rows)

    @jax.jit
    @one_at_a_time
    def init(seed: Any, data: Data, n_rows: Any, pace: tuple) -> Any:
        data, present = first_batch(data, n_rows)
        return start(key_of(seed, INIT), data, pace, present)[2]

    @functools.partial(jax.jit, donate_argnums=0)
    @one_at_a_time
    def advance(state: Any, data: Data, n_rows: Any, pace: tuple, seed: Any, count: Any) -> tuple[Any, Any]:
        losses = jnp.zeros(CHUNK_STEPS, jnp.result_type(float))
        # NumPyro's objects learn the parameters' constraints from a first pass, which the compiler then drops.
        key = jax.random.key(0)
        if batch_size is None:
            svi, *_ = start(key, data, pace)

            def step(i: Any, carry: tuple) -> tuple:
                state, losses = carry
                state, loss = svi.stable_update(state, *data)
                return state, losses.at[i].set(loss)

            return jax.lax.fori_loop(0, count, step, (state, losses))

        size = len(next(iter(data.rows.values())))
        n_rows = jnp.asarray(n_rows, jnp.uint32)
        per_epoch = (n_rows + batch_size - 1) // batch_size

        def minibatch_step(i: Any, carry: tuple) -> tuple:
            state, losses = carry
            done = jnp.asarray(state.optim_state[0], jnp.uint32)
            places = done % per_epoch * batch_size + jnp.arange(batch_size, dtype=jnp.uint32)
            order = key_of(seed, ORDER, done // per_epoch)
            chosen = shuffled(jnp.minimum(places, n_rows - 1), n_rows, size, order)
            batch, present = _take(data, chosen, places < n_rows, n_rows)
            svi, *_ = start(key, batch, pace, present)
            state, loss = svi.stable_update(state, *batch)
            return state, losses.at[i].set(loss)

        return jax.lax.fori_loop(0, count, minibatch_step, (state, losses))

    @functools.partial(jax.jit, static_argnames="num_samples")
    @one_at_a_time
    def draw(state: Any, data: Data, n_rows: Any, pace: tuple, key: tuple, num_samples: int) -> tuple[dict, dict]:
        # An autoguide has the shapes of a batch; a guide function computes the latent sites of all rows.
        data, present = first_batch(data, n_rows) if _is_autoguide(guide.value) else (data, None)
        key = key_of(*key)
        svi, fitted_guide, _ = start(key, data, pace, present)
        params = svi.get_params(state)
        draws = _draw(fitted_guide, params, data, key, num_samples)
        return {site.name: draws[site.name] for site in traced.spec.latents}, params

    return Programs(init, advance, draw)


def fit_svi(traced: TracedKernel, data: Data, n_rows: int, settings: SVI, seed: int, *, verbose: int = 0) -> FitResult:
    """Fit a guide and draw from it.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded arrays with weights.
    n_rows : int
        Number of rows before padding.
    settings : SVI
        Checked settings.
    seed : int
    verbose : int
        Show a progress bar where positive.

    Returns
    -------
    FitResult
    """
    programs = _programs_of(traced, settings, data)
    batch_size = settings.batch_size
    if batch_size is not None:
        _check_minibatches(traced, settings, n_rows)
    num_steps = settings.num_steps
    if settings.num_epochs is not None:
        num_steps = settings.num_epochs * -(-n_rows // (batch_size or n_rows))
    pace = _pace(settings, num_steps)
    seed_word = np.uint32(seed)
    state = programs.init(seed_word, data, n_rows, pace)
    losses = np.empty(num_steps, data.rows[traced.spec.input].dtype)

    def advance(start: int, count: int) -> str:
        nonlocal state
        state, chunk = programs.advance(state, data, n_rows, pace, seed_word, count)
        losses[start : start + count] = np.asarray(chunk)[:count]
        return f"loss {losses[start + count - 1]:.4g}"

    run_in_chunks(advance, num_steps, label="SVI", verbose=verbose)
    return _result(programs, state, data, n_rows, settings, pace, seed_word, losses, check_losses(losses))


def continue_svi(
    traced: TracedKernel, batches: Sequence[tuple[Data, int]], before: FitResult | None, settings: SVI, seed: int
) -> FitResult:
    """Take one step on each batch, starting where an earlier fit ended.

    Parameters
    ----------
    traced : TracedKernel
    batches : sequence of (Data, int)
        Padded arrays with weights that scale them to all rows, and their numbers of rows before padding.
    before : FitResult or None
        What to go on with.
    settings : SVI
        Checked settings.
    seed : int

    Returns
    -------
    FitResult
        Its losses are those of all steps since ``fit``, or since the first batch.
    """
    settings = dataclasses.replace(settings, batch_size=None)
    programs = _programs_of(traced, settings, batches[0][0])
    pace = _pace(settings, settings.num_steps)
    seed_word = np.uint32(seed)
    first = (seed_word, *batches[0], pace)
    if before is None:
        state = programs.init(*first)
    else:
        state = unpack_state(before.state, jax.eval_shape(programs.init, *first))
    losses = np.empty(len(batches), batches[0][0].rows[traced.spec.input].dtype)
    for i, (data, n_rows) in enumerate(batches):
        state, chunk = programs.advance(state, data, n_rows, pace, seed_word, 1)
        losses[i] = np.asarray(chunk)[0]
    all_losses = losses if before is None else np.concatenate([before.losses, losses])
    diagnostics = check_losses(all_losses, ended=False)
    return _result(programs, state, data, n_rows, settings, pace, seed_word, all_losses, diagnostics)


def _result(
    programs: Programs,
    state: Any,
    data: Data,
    n_rows: int,
    settings: SVI,
    pace: tuple[float, float],
    seed_word: np.uint32,
    losses: np.ndarray,
    diagnostics: dict[str, Any],
) -> FitResult:
    """Draw from the guide and put together what a fit leaves behind."""
    draws, params = programs.draw(state, data, n_rows, pace, (seed_word, DRAW), num_samples=settings.num_samples)
    return FitResult(
        method="svi",
        draws={name: draw[None] for name, draw in to_numpy(draws).items()},
        params=to_numpy(params),
        losses=losses,
        diagnostics=diagnostics,
        state=pack_state(state),
        data=data._asdict() if _needs_data(settings.guide) else _first_row(data),
        n_rows=n_rows,
        num_samples=settings.num_samples,
    )


def draw_from_guide(
    traced: TracedKernel, data: Data, result: FitResult, settings: SVI, seed: int, num_samples: int
) -> dict[str, np.ndarray]:
    """Take fresh draws ``(1, num_samples, ...)`` from a fitted guide."""
    programs = _programs_of(traced, settings, data)
    pace = _pace(settings, settings.num_steps)
    seed_word = np.uint32(seed)
    like = jax.eval_shape(programs.init, seed_word, data, result.n_rows, pace)
    state = unpack_state(result.state, like)
    draws, _ = programs.draw(state, data, result.n_rows, pace, (seed_word, FRESH_DRAW), num_samples=num_samples)
    return {name: draw[None] for name, draw in to_numpy(draws).items()}


def _programs_of(traced: TracedKernel, settings: SVI, data: Data) -> Programs:
    guide, optim, loss = map(ByValue.of, (settings.guide, settings.optim, settings.loss))
    return _programs(traced, guide, optim, loss, settings.batch_size, len(data.rows[traced.spec.input]))


def _check_minibatches(traced: TracedKernel, settings: SVI, n_rows: int) -> None:
    if settings.batch_size > n_rows:  # type: ignore[operator]
        raise ValueError(f"SVI: `batch_size`={settings.batch_size} exceeds the number of rows, {n_rows}.")
    if traced.spec.fit_mixing is not None:
        raise ValueError(
            "SVI: `batch_size` needs a kernel whose log density is a sum over rows, but "
            f"{traced.spec.fit_mixing}. Set `batch_size=None`."
        )
    local = [site.name for site in traced.spec.local_latents]
    if local and _is_autoguide(settings.guide):
        warn_user(
            f"Latent sites {local} have an entry for each row, and the guide has parameters for each entry: with "
            "`batch_size` they are fitted to whatever rows share a place in the batch. Write a guide function that "
            "computes them from the data, or set `batch_size=None`.",
            LocalGuideWarning,
        )


def _take(data: Data, chosen: Any, inside: Any, n_rows: Any) -> tuple[Data, Any]:
    """Take a minibatch of the rows ``inside`` it, and the factor by which they stand for all rows."""
    dtype = jnp.result_type(float)
    present = inside.astype(dtype) * (n_rows / inside.sum()).astype(dtype)
    rows = {name: array[chosen] for name, array in data.rows.items()}
    weight = present if data.weight is None else data.weight[chosen] * present
    return data._replace(rows=rows, weight=weight), present


def _pace(settings: SVI, num_steps: int) -> tuple[float, float]:
    return settings.learning_rate, float(num_steps)


def _schedule(learning_rate: Any, num_steps: Any) -> Callable[[Any], Any]:
    def rate(step: Any) -> Any:
        fallen = (1 + jnp.cos(jnp.pi * jnp.minimum(step / num_steps, 1.0))) / 2
        return learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * fallen)

    return rate


def _takes_rate(optim: Any) -> bool:
    return isinstance(optim, type)


def make_guide(setting: Any, model: Callable, traced: TracedKernel, present: Any) -> Callable:
    """Return the guide that a setting describes, for a model of ``Data``'s fields; see :func:`weighted_model`."""
    if not traced.spec.latents:
        return _nothing_latent
    if _is_autoguide(setting):
        refuse_discrete(traced.spec, "An automatic guide")
    if isinstance(setting, type):
        return setting(model)
    if isinstance(setting, autoguide.AutoGuide):
        guide = copy.deepcopy(setting)
        guide.model = model
        return guide
    return weighted_guide(setting, traced, present)


def _draw(guide: Callable, params: dict, data: Data, key: Any, num_samples: int) -> dict[str, Any]:
    if isinstance(guide, autoguide.AutoGuide):
        return guide.sample_posterior(key, params, *data, sample_shape=(num_samples,))

    def one(key: Any) -> dict[str, Any]:
        with handlers.trace() as trace, handlers.seed(rng_seed=key), handlers.substitute(data=params):
            guide(*data)
        return {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}

    return jax.vmap(one)(jax.random.split(key, num_samples))


def _nothing_latent(*data: Any) -> None:
    """Guide a kernel that has parameters alone."""


def _kind(guide: Any) -> type:
    return guide if isinstance(guide, type) else type(guide)


def _is_autoguide(guide: Any) -> bool:
    return issubclass(_kind(guide), autoguide.AutoGuide)


def _needs_data(guide: Any) -> bool:
    return not _is_autoguide(guide) or issubclass(_kind(guide), GUIDES_WITH_DATA)


def _first_row(data: Data) -> dict[str, Any]:
    first = {name: np.array(array[:1]) for name, array in data.rows.items()}
    return data._replace(rows=first, weight=None if data.weight is None else np.array(data.weight[:1]))._asdict()
