"""Stochastic variational inference as a few compiled programs that equal estimators share."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer

from skaimz.exceptions import StoppedFitWarning, warn_user
from skaimz.inference.chunks import CHUNK_STEPS
from skaimz.inference.course import Course, move_of_draws, move_of_point
from skaimz.inference.data import Data, bucket, constrained, loaded, padded
from skaimz.inference.devices import over_devices
from skaimz.inference.diagnostics import check_losses
from skaimz.inference.guide_rows import check_guide_of_windows, check_minibatches, check_stream, refuse_rows, units_of
from skaimz.inference.guides import (
    draws_of,
    is_autoguide,
    leaves_sites,
    make_guide,
    match_params,
    needs_data,
    refuse_left,
)
from skaimz.inference.minibatches import Passes, minibatch, minibatches, needs_stream
from skaimz.inference.pace import Pace, falling, legs_of
from skaimz.inference.problem import Problem
from skaimz.inference.result import FitResult, pack_state, to_numpy, unpack_state
from skaimz.inference.settings import SVI
from skaimz.kernels import ByValue, TracedKernel
from skaimz.runtime import Purpose, compiled, key_of, one_at_a_time, shared

__all__ = ["continue_svi", "draw_from_guide", "fit_svi"]

# A fit holds some 500 memory maps of compiled code, and a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 24
# The guide of a shorter fit is not judged.
JUDGED_STEPS = 100


class Programs(NamedTuple):
    """Compiled parts of a fit, each a function of arrays only.

    ``order`` is the number of all rows and the seed, from which the rows of each minibatch follow.
    """

    init: Callable
    advance: Callable
    draw: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(
    traced: TracedKernel, guide: ByValue, optim: ByValue, loss: ByValue, batch_size: int | None, n_padded: int
) -> Programs:
    """Make the programs for one padded number of rows, so that a bound on the cache is a bound on compiled code."""

    def start(
        key: Any, data: Data, pace: tuple, present: Any = None, kernel: TracedKernel = traced
    ) -> tuple[numpyro.infer.SVI, Any, Any]:
        """Build NumPyro's objects anew; compiled programs share nothing but arrays."""
        model, fitted_guide = make_guide(guide.value, kernel, data.units is not None, present)
        optimiser = optim.value(falling(*pace)) if isinstance(optim.value, type) else optim.value
        svi = numpyro.infer.SVI(model, fitted_guide, optimiser, loss.value)
        return svi, fitted_guide, svi.init(key, *data)

    @compiled
    @one_at_a_time
    def init(data: Data, order: tuple, pace: tuple, params: Any = None) -> Any:
        data, present = minibatch(data, None, order, batch_size)
        fitted_guide = make_guide(guide.value, traced, data.units is not None, present)[1]
        refuse_left(fitted_guide, traced, data, loss.value.can_infer_discrete)
        key = key_of(order[1], Purpose.GUIDE_START)
        svi, _, state = start(key, data, pace, present)
        if params is None:
            return state
        return svi.init(key, *data, init_params=match_params(params, svi.get_params(state)))

    @functools.partial(compiled, donate_argnums=0)
    @one_at_a_time
    def advance(state: Any, data: Data, order: tuple, pace: tuple, first: Any, count: Any) -> tuple[Any, Any]:
        def step(i: Any, carry: tuple) -> tuple:
            state, losses = carry
            # The optimiser's own counter stays where a step was not finite, and would ask for the same rows for ever.
            batch, present = minibatch(data, first + i, order, batch_size)
            # NumPyro's objects learn the parameters' constraints from a first pass, which the compiler then drops.
            svi, _, _ = start(jax.random.key(0), batch, pace, present)
            state, loss = svi.stable_update(state, *batch)
            return state, losses.at[i].set(loss)

        return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(CHUNK_STEPS, jnp.result_type(float))))

    @functools.partial(compiled, static_argnames="num_samples")
    @one_at_a_time
    def draw(state: Any, data: Data, order: tuple, pace: tuple, key: tuple, num_samples: int) -> tuple[dict, dict]:
        # An autoguide has the shapes of a minibatch. Any other guide computes the latent sites of all rows.
        of_batch = is_autoguide(guide.value) and not leaves_sites(guide.value)
        data, present = minibatch(data, None, order, batch_size) if of_batch else (data, None)
        key = key_of(*key)
        svi, fitted_guide, _ = start(key, data, pace, present, traced.with_all_rows())
        params = svi.get_params(state)
        draws = draws_of((svi.model, fitted_guide), traced, params, data, key, num_samples)
        if data.units is not None:
            draws = jax.vmap(lambda coordinates: constrained(traced, data, coordinates))(draws)
        return {site.name: draws[site.name] for site in traced.spec.latents}, params

    return Programs(init, advance, draw)


class Stretch(NamedTuple):
    """Steps from ``first`` up to ``stop``, and the data on the devices from which each takes its rows."""

    data: Data
    first: int
    stop: int


def fit_svi(problem: Problem, settings: SVI, *, judge: bool = True) -> FitResult:
    """Fit a guide and draw from it.

    Parameters
    ----------
    problem : Problem
        Rows and weights may be read in windows. Without units in the data, a guide given by name gets those of the
        posterior.
    settings : SVI
        Checked settings.
    judge : bool, default=True
        Report whether the guide has settled.

    Returns
    -------
    FitResult
    """
    traced, watch, n_rows, batch_size = problem.traced, problem.watch, problem.n_rows, settings.batch_size
    if batch_size is not None:
        check_minibatches(problem, settings)
    streamed = batch_size is not None and needs_stream(problem.data, n_rows)
    if streamed:
        check_stream(problem, settings)
    num_steps = settings.num_steps
    if settings.num_epochs is not None:
        num_steps = settings.num_epochs * -(-n_rows // (batch_size or n_rows))
    legs = legs_of(settings.learning_rate, num_steps, early_stopping=settings.early_stopping)
    if problem.data.units is None:
        problem = problem.in_units(units_of(problem, settings))
    # A streamed fit keeps the first minibatch alone, for the shapes of the programs and the types of the draws.
    n_loaded = batch_size if streamed and batch_size else n_rows
    first_rows = over_devices(padded(traced, loaded(problem.data, n_loaded), n_loaded))
    fitted = problem.of(first_rows)
    programs, order = _programs_of(traced, settings, first_rows), _order(problem)
    start = programs.init(first_rows, order, legs[0].pace, settings.init_params)
    course = Course(start, np.empty(num_steps, problem.dtype), watch.checkpoint.file("svi"))

    def look(before: Any, since: int) -> float:
        """Return how far the guide has moved since a step."""
        draws = [_drawn(fitted, settings, state)[0] for state in (before, course.state)]
        move = move_of_draws(*draws)
        return move_of_point(course.losses[: course.done], since, traced) if move is None else move

    with contextlib.ExitStack() as stack:
        stretches: Iterator[Stretch] = iter([Stretch(first_rows, 0, num_steps)])
        if streamed:
            passes = Passes(n_rows, n_loaded, num_steps, problem.seed)
            stretches = stack.enter_context(contextlib.closing(_streamed(problem.data, passes, course.done)))
        phase = stack.enter_context(watch.phase("SVI", num_steps))
        phase.skip(course.done)
        take = _taker(programs, stretches, order)
        looks = judge and num_steps >= JUDGED_STEPS
        move = course.run(legs, take, phase, look if looks else None, settings.early_stopping)
    done = course.done
    if watch.stopped and done < num_steps:
        warn_user(f"The fit stopped after {done} of {num_steps} steps: {watch.stopped}.", StoppedFitWarning)
    losses = course.losses[:done]
    if not np.isfinite(losses).all():
        refuse_rows(problem)
    result = _result(fitted, settings, course.state, losses, num_steps)
    return dataclasses.replace(result, diagnostics=check_losses(losses, move)) if judge else result


def _streamed(data: Data, passes: Passes, done: int) -> Generator[Stretch]:
    """Yield the steps of a fit of which some are done, from the beginning of an epoch on."""
    epoch = done // passes.per_epoch
    first = epoch * passes.per_epoch
    rest = passes._replace(num_steps=passes.num_steps - first, epoch=epoch)
    with contextlib.closing(minibatches(data, rest)) as stacks:
        for stack in stacks:
            stop = first + len(stack.sizes)
            if stop > done:
                yield Stretch(over_devices(stack.data, row_axis=1), first, stop)
            first = stop


def _taker(programs: Programs, stretches: Iterator[Stretch], order: tuple) -> Callable[..., tuple[Any, np.ndarray]]:
    """Return a function that takes steps, which need not end where a stretch does, and returns their losses."""
    stretch: Stretch | None = None

    def take(state: Any, pace: Pace, start: int, count: int) -> tuple[Any, np.ndarray]:
        nonlocal stretch
        losses = []
        while count:
            while stretch is None or start >= stretch.stop:
                stretch = next(stretches)
            some = min(count, stretch.stop - start)
            state, chunk = programs.advance(state, stretch.data, order, pace, start - stretch.first, some)
            losses.append(np.asarray(chunk)[:some])
            start, count = start + some, count - some
        return state, np.concatenate(losses)

    return take


def continue_svi(problem: Problem, settings: SVI, before: FitResult | None, scale: float) -> FitResult:
    """Take one step on each minibatch of an epoch, starting where an earlier fit ended.

    Parameters
    ----------
    problem : Problem
        Rows that are learnt from for the first time.
    settings : SVI
        Checked settings.
    before : FitResult or None
        The earlier fit.
    scale : float
        Factor on all weights.

    Returns
    -------
    FitResult
        Its losses are those of all steps since ``fit``, or since the first call.
    """
    check_guide_of_windows(settings)
    traced, n_rows = problem.traced, problem.n_rows
    size = min(settings.batch_size or n_rows, n_rows)
    if before is None:
        problem = problem.in_units(units_of(problem, dataclasses.replace(settings, batch_size=size), scale))
    else:
        problem = problem.of(problem.data._replace(units=before.data["units"]))
    losses = [] if before is None else [np.asarray(before.losses)]
    fall = _fall(settings, before, size)
    pace, order = Pace(settings.learning_rate, float(fall)), _order(problem)
    programs = state = None
    epoch = 0 if before is None else len(before.losses)  # type: ignore[arg-type]
    passes = Passes(n_rows, size, -(-n_rows // size), problem.seed, epoch)
    with contextlib.closing(minibatches(problem.data, passes, padded_size=bucket(size), scale=scale)) as stacks:
        for stack in stacks:
            if programs is None:
                first = stack.minibatch(0)[0]
                programs = _programs_of(traced, dataclasses.replace(settings, batch_size=None), first)
                if before is None:
                    state = programs.init(first, order, pace, settings.init_params)
                else:
                    state = unpack_state(before.state, jax.eval_shape(programs.init, first, order, pace))
            count = len(stack.sizes)
            state, chunk = programs.advance(state, stack.data, order, pace, 0, count)
            losses.append(np.asarray(chunk)[:count])
    last, last_size = stack.minibatch(-1)
    all_losses = np.concatenate(losses)
    result = _result(dataclasses.replace(problem, data=last, n_rows=last_size), settings, state, all_losses, fall)
    return dataclasses.replace(result, diagnostics=check_losses(all_losses, None))


def _fall(settings: SVI, before: FitResult | None, size: int) -> int:
    """Return the number of steps, earlier ones among them, over which the learning rate falls."""
    if settings.num_epochs is not None and before is not None:
        # An earlier fit fell over its own epochs, whatever the number of steps would be.
        return before.fall
    if settings.num_epochs is not None and settings.total_rows is not None:
        return settings.num_epochs * -(-settings.total_rows // size)
    return settings.num_steps


def _result(problem: Problem, settings: SVI, state: Any, losses: np.ndarray, fall: int) -> FitResult:
    """Draw from the guide and put together what a fit leaves behind."""
    problem = problem.of(_kept(problem.traced, settings, problem.data))
    draws, params = _drawn(problem, settings, state)
    return FitResult(
        method="svi",
        draws={name: draw[None] for name, draw in to_numpy(draws).items()},
        params=to_numpy(params),
        losses=losses,
        state=pack_state(state),
        data=problem.data._asdict(),
        n_rows=problem.n_rows,
        num_samples=settings.num_samples,
        fall=fall,
    )


def _drawn(problem: Problem, settings: SVI, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the draws of a guide in some state, and its parameters."""
    programs, inputs = _to_draw(problem.of(_kept(problem.traced, settings, problem.data)), settings)
    key = (np.uint32(problem.seed), int(Purpose.GUIDE_DRAW))
    return programs.draw(state, *inputs, key, num_samples=settings.num_samples)


def draw_from_guide(problem: Problem, settings: SVI, result: FitResult, num_samples: int) -> dict[str, np.ndarray]:
    """Take fresh draws ``(1, num_samples, ...)`` from a fitted guide."""
    programs, inputs = _to_draw(problem, settings)
    state = unpack_state(result.state, jax.eval_shape(programs.init, *inputs))
    key = (np.uint32(problem.seed), int(Purpose.FRESH_GUIDE_DRAW))
    draws, _ = programs.draw(state, *inputs, key, num_samples=num_samples)
    return {name: draw[None] for name, draw in to_numpy(draws).items()}


def _kept(traced: TracedKernel, settings: SVI, data: Data) -> Data:
    """Return the rows of a fit without which its guide cannot be drawn from."""
    if needs_data(settings.guide):
        return data
    rows, weight = jax.tree.map(
        lambda array: np.array(np.asarray(array)[: traced.spec.least_rows]), (data.rows, data.weight)
    )
    return data._replace(rows=rows, weight=weight)


def _to_draw(problem: Problem, settings: SVI) -> tuple[Programs, tuple]:
    """Return the programs that draw from a guide, and their inputs beside its state."""
    traced, data = problem.traced, problem.data
    if traced.spec.can_be_padded:
        data = padded(traced, data, len(data.rows[traced.spec.input]))
        if is_autoguide(settings.guide):
            # One program draws for fits of any size, and guides that look at data again see all of them.
            settings = dataclasses.replace(settings, batch_size=None)
    else:
        data = padded(traced, data, problem.n_rows)
    # A draw takes no step.
    pace = Pace(settings.learning_rate, float(settings.num_steps))
    return _programs_of(traced, settings, data), (data, _order(problem), pace)


def _order(problem: Problem) -> tuple[np.uint32, np.uint32]:
    return np.uint32(problem.n_rows), np.uint32(problem.seed)


def _programs_of(traced: TracedKernel, settings: SVI, data: Data) -> Programs:
    loss: Any = settings.loss
    if isinstance(loss, numpyro.infer.TraceEnum_ELBO) and not traced.spec.discrete:
        # Without discrete sites it is the same loss, which weights of rows can be given to.
        loss = numpyro.infer.Trace_ELBO(loss.num_particles, loss.vectorize_particles)
    guide, optim, loss = map(ByValue.of, (settings.guide, settings.optim, loss))
    return _programs(traced, guide, optim, loss, settings.batch_size, len(data.rows[traced.spec.input]))
