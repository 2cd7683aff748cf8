"""Stochastic variational inference as a few compiled programs that equal estimators share."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
import numpyro.optim

from skaimz.exceptions import LocalGuideWarning, StoppedFitWarning, warn_user
from skaimz.inference.chunks import CHUNK_STEPS, Watch
from skaimz.inference.course import Course, move_of_draws, move_of_point
from skaimz.inference.data import (
    Data,
    RowBlocks,
    Units,
    bucket,
    constrained,
    in_double,
    loaded,
    padded,
    refuse_discrete,
)
from skaimz.inference.devices import over_devices, spread
from skaimz.inference.diagnostics import check_losses
from skaimz.inference.explore import explore, some_rows
from skaimz.inference.guides import (
    CORRELATED,
    draws_of,
    is_autoguide,
    kind_of,
    leaves_sites,
    make_guide,
    match_params,
    needs_data,
    refuse_left,
)
from skaimz.inference.minibatches import Chunk, minibatches, needs_stream
from skaimz.inference.pace import Pace, falling, legs_of
from skaimz.inference.result import FitResult, pack_state, to_numpy, unpack_state
from skaimz.inference.settings import SVI
from skaimz.inference.shuffle import ordered
from skaimz.inference.target import refuse_outside
from skaimz.kernels import ByValue, TracedKernel
from skaimz.runtime import Purpose, compiled, key_of, one_at_a_time, shared

__all__ = ["continue_svi", "draw_from_guide", "fit_svi", "units_of"]

# A fit holds some 500 memory maps of compiled code, and a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 24
# Where nothing is known of the curvature, a guide starts with this share of the prior's spread.
FIRST_SPREAD = 0.1
# Rows whose outcomes are looked at together where a step was not finite.
CHECKED_ROWS = 2**14
# Fits of fewer steps are not judged.
JUDGED_STEPS = 100


class Programs(NamedTuple):
    """Compiled steps of a fit, each a function of arrays only."""

    init: Callable
    advance: Callable
    advance_through: Callable
    draw: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(
    traced: TracedKernel, guide: ByValue, optim: ByValue, loss: ByValue, batch_size: int | None, n_padded: int
) -> Programs:
    """Make the programs for one padded number of rows, so that the cache's bound is one on compiled code."""
    sums_out = loss.value.can_infer_discrete

    def start(key: Any, data: Data, pace: tuple, present: Any = None) -> tuple[numpyro.infer.SVI, Any, Any]:
        """Build NumPyro's objects anew; compiled programs share nothing but arrays."""
        model, fitted_guide = make_guide(guide.value, traced, data.units is not None, present)
        optimiser = optim.value(falling(*pace)) if isinstance(optim.value, type) else optim.value
        svi = numpyro.infer.SVI(model, fitted_guide, optimiser, loss.value)
        return svi, fitted_guide, svi.init(key, *data)

    def first_batch(data: Data, n_rows: Any) -> tuple[Data, Any]:
        if batch_size is None:
            return data, None
        places, n_rows = jnp.arange(batch_size, dtype=jnp.uint32), jnp.asarray(n_rows, jnp.uint32)
        return _take(data, jnp.minimum(places, n_rows - 1), places < n_rows, n_rows)

    @compiled
    @one_at_a_time
    def init(seed: Any, data: Data, n_rows: Any, pace: tuple, params: Any = None) -> Any:
        data, present = first_batch(data, n_rows)
        refuse_left(make_guide(guide.value, traced, data.units is not None, present)[1], traced, data, sums_out)
        key = key_of(seed, Purpose.GUIDE_START)
        svi, _, state = start(key, data, pace, present)
        if params is None:
            return state
        return svi.init(key, *data, init_params=match_params(params, svi.get_params(state)))

    def repeated(update: Callable[[Any, Any], tuple[Any, Any]], state: Any, count: Any) -> tuple[Any, Any]:
        def step(i: Any, carry: tuple) -> tuple:
            state, losses = carry
            state, loss = update(i, state)
            return state, losses.at[i].set(loss)

        return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(CHUNK_STEPS, jnp.result_type(float))))

    def ready(data: Data, pace: tuple, present: Any = None) -> numpyro.infer.SVI:
        # NumPyro's objects learn the parameters' constraints from a first pass, which the compiler then drops.
        return start(jax.random.key(0), data, pace, present)[0]

    @functools.partial(compiled, donate_argnums=0)
    @one_at_a_time
    def advance(state: Any, data: Data, n_rows: Any, pace: tuple, seed: Any, first: Any, count: Any) -> tuple[Any, Any]:
        if batch_size is None:
            svi = ready(data, pace)
            return repeated(lambda i, state: svi.stable_update(state, *data), state, count)

        size = len(next(iter(data.rows.values())))
        n_rows = jnp.asarray(n_rows, jnp.uint32)
        per_epoch = (n_rows + batch_size - 1) // batch_size

        def update(i: Any, state: Any) -> tuple[Any, Any]:
            # The optimiser's own counter stays where a step was not finite, and would ask for the same batch for ever.
            done = jnp.asarray(first + i, jnp.uint32)
            places = done % per_epoch * batch_size + jnp.arange(batch_size, dtype=jnp.uint32)
            chosen = ordered(jnp.minimum(places, n_rows - 1), n_rows, size, seed, done // per_epoch)
            batch, present = _take(data, chosen, places < n_rows, n_rows)
            return ready(batch, pace, present).stable_update(state, *batch)

        return repeated(update, state, count)

    @functools.partial(compiled, donate_argnums=0)
    @one_at_a_time
    def advance_through(state: Any, chunk: Data, pace: tuple, first: Any, count: Any) -> tuple[Any, Any]:
        def update(i: Any, state: Any) -> tuple[Any, Any]:
            rows, weight = jax.tree.map(lambda array: array[first + i], (chunk.rows, chunk.weight))
            batch = chunk._replace(rows=rows, weight=weight)
            return ready(batch, pace).stable_update(state, *batch)

        return repeated(update, state, count)

    @functools.partial(compiled, static_argnames="num_samples")
    @one_at_a_time
    def draw(state: Any, data: Data, n_rows: Any, pace: tuple, key: tuple, num_samples: int) -> tuple[dict, dict]:
        # An autoguide has the shapes of a batch; what else draws latent sites computes those of all rows.
        of_batch = is_autoguide(guide.value) and not leaves_sites(guide.value)
        data, present = first_batch(data, n_rows) if of_batch else (data, None)
        key = key_of(*key)
        svi, fitted_guide, _ = start(key, data, pace, present)
        params = svi.get_params(state)
        draws = draws_of(fitted_guide, svi.model, traced, params, data, key, num_samples)
        if data.units is not None:
            draws = jax.vmap(lambda coordinates: constrained(traced, data, coordinates))(draws)
        return {site.name: draws[site.name] for site in traced.spec.latents}, params

    return Programs(init, advance, advance_through, draw)


def fit_svi(
    traced: TracedKernel,
    data: Data,
    n_rows: int,
    settings: SVI,
    seed: int,
    *,
    watch: Watch | None = None,
    judge: bool = True,
) -> FitResult:
    """Fit a guide and draw from it.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Rows and weights, which may be read a part at a time. Where it has no units, a guide that is named gets those of
        the posterior.
    n_rows : int
    settings : SVI
        Checked settings.
    seed : int
    watch : Watch, optional
    judge : bool, default=True
        Tell whether the guide has settled, and whether it is near the posterior.

    Returns
    -------
    FitResult
    """
    watch = watch or Watch()
    batch_size = settings.batch_size
    if batch_size is not None:
        _check_minibatches(traced, settings, n_rows)
        if needs_stream(data, n_rows):
            _check_stream(traced, settings, n_rows)
    num_steps = settings.num_steps
    if settings.num_epochs is not None:
        num_steps = settings.num_epochs * -(-n_rows // (batch_size or n_rows))
    legs = legs_of(settings.learning_rate, num_steps, early_stopping=settings.early_stopping)
    looks = judge and num_steps >= JUDGED_STEPS
    seed_word, all_rows = np.uint32(seed), np.uint32(n_rows)
    if data.units is None:
        data = data._replace(units=units_of(traced, data, n_rows, settings, seed))
    # What begins with the first minibatch holds no other.
    n_held = n_rows if batch_size is None or not needs_stream(data, n_rows) else batch_size
    held = over_devices(padded(traced, loaded(data, n_held), n_held))
    programs = _programs_of(traced, settings, held)
    start = programs.init(seed_word, held, all_rows, legs[0].pace, settings.init_params)
    part = watch.checkpoint.part("svi")
    course = Course(start, np.empty(num_steps, data.rows[traced.spec.input].dtype), part.load())

    def take(state: Any, pace: Pace, first: int, count: int) -> tuple[Any, Any]:
        return programs.advance(state, held, all_rows, pace, seed_word, first, count)

    def look(before: Any, since: int) -> float:
        """Return how far the guide has moved since a step."""
        draws = [_drawn(traced, settings, state, held, n_rows, seed_word)[0] for state in (before, course.state)]
        move = move_of_draws(*draws)
        return move_of_point(course.losses[: course.done], since, traced) if move is None else move

    with contextlib.ExitStack() as stack:
        if n_held < n_rows:
            per_epoch = -(-n_rows // n_held)
            epoch = course.done // per_epoch
            first = epoch * per_epoch
            rest = minibatches(data, n_rows, n_held, num_steps - first, seed, epoch=epoch)
            take = _through(programs, stack.enter_context(contextlib.closing(rest)), first)
        phase = stack.enter_context(watch.phase("SVI", num_steps))
        phase.skip(course.done)
        move = course.run(legs, take, watch, phase, part, look if looks else None, settings.early_stopping)
    done = course.done
    if watch.stopped and done < num_steps:
        warn_user(f"The fit stopped after {done} of {num_steps} steps: {watch.stopped}.", StoppedFitWarning)
    if not np.isfinite(course.losses[:done]).all():
        _refuse_rows(traced, data, n_rows, seed)
    result = _result(traced, settings, course.state, held, n_rows, seed_word, course.losses[:done], num_steps)
    return dataclasses.replace(result, diagnostics=check_losses(course.losses[:done], move)) if judge else result


def _refuse_rows(traced: TracedKernel, data: Data, n_rows: int, seed: int) -> None:
    """Refuse rows whose outcomes no latent site allows, as the cause of steps that were not finite."""
    data = data._replace(units=None)
    if traced.spec.can_be_padded:
        refuse_outside(traced, RowBlocks(traced, data, n_rows, min(bucket(n_rows), CHECKED_ROWS)), seed)
    else:
        refuse_outside(traced, [in_double(padded(traced, loaded(data, n_rows), n_rows))], seed)


def units_of(
    traced: TracedKernel, data: Data, n_rows: int, settings: SVI, seed: int, scale: float = 1.0
) -> Units | None:
    """Return the units of a guide that is named; None for one whose numbers are its author's.

    Where there are minibatches, some of the rows stand for all, the same whether they are in memory or not.
    """
    guide, spec = settings.guide, traced.spec
    by_row = any(site.row_axis is not None for site in spec.latents)
    if not isinstance(guide, type) or not spec.latents or (settings.batch_size is not None and by_row):
        return None
    refuse_discrete(spec, "An automatic guide")
    if settings.batch_size is None:
        part = padded(traced, loaded(data, n_rows), n_rows)
    else:
        part = some_rows(traced, data, n_rows, seed, least=settings.batch_size, scale=scale)
    try:
        places = np.arange(n_rows) if settings.batch_size is None else None
        exploration = explore(traced, part, seed, places, only_mode=False)
    except ValueError:
        if settings.batch_size is not None:
            _refuse_rows(traced, data, n_rows, seed)  # by their numbers
        raise
    units = exploration.units(dense=issubclass(guide, CORRELATED))
    if not exploration.knows_curvature:
        # The prior's spread is far wider than a posterior's.
        units = units._replace(root=FIRST_SPREAD * units.root)
    dtype = data.rows[spec.input].dtype
    return jax.tree.map(lambda array: np.asarray(array, dtype), units)


def _through(programs: Programs, chunks: Iterator[Chunk], first_step: int) -> Callable:
    """Return a function that takes the steps of chunks, which need not end where its calls do."""
    first = stop = first_step
    held: Any = None

    def take(state: Any, pace: Pace, start: int, count: int) -> tuple[Any, np.ndarray]:
        nonlocal first, stop, held
        losses = []
        while count:
            while start >= stop:
                (held, inside), first = next(chunks), stop
                stop = first + len(inside)
                held = over_devices(held, row_axis=1)
            some = min(count, stop - start)
            state, found = programs.advance_through(state, held, pace, start - first, some)
            losses.append(np.asarray(found)[:some])
            start, count = start + some, count - some
        return state, np.concatenate(losses)

    return take


def continue_svi(
    traced: TracedKernel, chunks: Iterable[Chunk], before: FitResult | None, settings: SVI, seed: int, fall: int
) -> FitResult:
    """Take one step on each minibatch, starting where an earlier fit ended.

    Parameters
    ----------
    traced : TracedKernel
    chunks : iterable of Chunk
        Minibatches whose weights scale them to all rows.
    before : FitResult or None
        What to go on with.
    settings : SVI
        Checked settings.
    seed, fall : int
        The second is over how many steps the learning rate falls, earlier ones among them.

    Returns
    -------
    FitResult
        Its losses are those of all steps since ``fit``, or since the first batch.
    """
    _check_parts(settings)
    pace = Pace(settings.learning_rate, float(fall))
    seed_word = np.uint32(seed)
    state = None
    losses = [] if before is None else [np.asarray(before.losses)]
    for chunk in chunks:
        if state is None:
            programs, state = _begun(traced, *chunk.minibatch(0), before, settings, seed_word, pace)
        count = len(chunk.inside)
        state, found = programs.advance_through(state, chunk.data, pace, 0, count)
        losses.append(np.asarray(found)[:count])
    data, n_rows = chunk.minibatch(-1)
    all_losses = np.concatenate(losses)
    result = _result(traced, settings, state, data, n_rows, seed_word, all_losses, fall)
    return dataclasses.replace(result, diagnostics=check_losses(all_losses, None))


def _begun(
    traced: TracedKernel,
    data: Data,
    n_rows: int,
    before: FitResult | None,
    settings: SVI,
    seed_word: np.uint32,
    pace: Pace,
) -> tuple[Programs, Any]:
    """Return the programs for a minibatch, and the state to start from."""
    programs = _programs_of(traced, dataclasses.replace(settings, batch_size=None), data)
    given = (seed_word, data, np.uint32(n_rows), pace)
    if before is None:
        return programs, programs.init(*given, settings.init_params)
    return programs, unpack_state(before.state, jax.eval_shape(programs.init, *given))


def _result(
    traced: TracedKernel,
    settings: SVI,
    state: Any,
    data: Data,
    n_rows: int,
    seed_word: np.uint32,
    losses: np.ndarray,
    fall: int,
) -> FitResult:
    """Draw from the guide and put together what a fit leaves behind."""
    kept = _kept(traced, settings, data)
    draws, params = _drawn(traced, settings, state, kept, n_rows, seed_word)
    return FitResult(
        method="svi",
        draws={name: draw[None] for name, draw in to_numpy(draws).items()},
        params=to_numpy(params),
        losses=losses,
        state=pack_state(state),
        data=kept._asdict(),
        n_rows=n_rows,
        num_samples=settings.num_samples,
        fall=fall,
    )


def _drawn(
    traced: TracedKernel, settings: SVI, state: Any, data: Data, n_rows: int, seed_word: np.uint32
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the draws of a guide in some state, and its parameters."""
    programs, given = _to_draw(traced, settings, _kept(traced, settings, data), n_rows)
    return programs.draw(state, *given, (seed_word, int(Purpose.GUIDE_DRAW)), num_samples=settings.num_samples)


def draw_from_guide(
    traced: TracedKernel, result: FitResult, settings: SVI, seed: int, num_samples: int
) -> dict[str, np.ndarray]:
    """Take fresh draws ``(1, num_samples, ...)`` from a fitted guide."""
    programs, given = _to_draw(traced, settings, Data(**result.data), result.n_rows)
    seed_word = np.uint32(seed)
    state = unpack_state(result.state, jax.eval_shape(programs.init, seed_word, *given))
    draws, _ = programs.draw(state, *given, (seed_word, int(Purpose.FRESH_GUIDE_DRAW)), num_samples=num_samples)
    return {name: draw[None] for name, draw in to_numpy(draws).items()}


def _kept(traced: TracedKernel, settings: SVI, data: Data) -> Data:
    """Return those rows of a fit that its guide is drawn from with."""
    if needs_data(settings.guide):
        return data
    rows, weight = jax.tree.map(
        lambda array: np.array(np.asarray(array)[: traced.spec.least_rows]), (data.rows, data.weight)
    )
    return data._replace(rows=rows, weight=weight)


def _to_draw(traced: TracedKernel, settings: SVI, kept: Data, n_rows: int) -> tuple[Programs, tuple]:
    """Return the programs that draw from a guide, and what they are given of the fit beside its state."""
    if traced.spec.can_be_padded:
        data = padded(traced, kept, len(kept.rows[traced.spec.input]))
        if is_autoguide(settings.guide):
            # Fits of all sizes draw by one program, and guides that look at data again see all of them.
            settings = dataclasses.replace(settings, batch_size=None)
    else:
        data = padded(traced, kept, n_rows)
    # A draw takes no step.
    pace = Pace(settings.learning_rate, float(settings.num_steps))
    return _programs_of(traced, settings, data), (data, np.uint32(n_rows), pace)


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
    if local and is_autoguide(settings.guide):
        warn_user(
            f"Latent sites {local} have an entry for each row, and the guide has parameters for each entry: with "
            "`batch_size` they are fitted to whatever rows share a place in the batch. Write a guide function that "
            "computes them from the data, or set `batch_size=None`.",
            LocalGuideWarning,
        )


def _check_stream(traced: TracedKernel, settings: SVI, n_rows: int) -> None:
    if n_rows >= 2**32:
        raise ValueError(f"A fit takes fewer than 2**32 rows, got {n_rows}: give `partial_fit` a part at a time.")
    by_row = [site.name for site in traced.spec.sites if site.kind in ("latent", "param") and site.row_axis is not None]
    if by_row:
        raise ValueError(
            f"Sites {by_row} have an entry for each row, which needs all rows at once, but these are read a part at a "
            "time. Load them into memory, or sum the sites out in the kernel."
        )
    _check_parts(settings)


def _check_parts(settings: SVI) -> None:
    """Refuse guides that are drawn from with all rows, where rows are seen a part at a time."""
    if is_autoguide(settings.guide) and needs_data(settings.guide):
        raise ValueError(
            f"The guide {kind_of(settings.guide).__name__} looks at all rows when it is drawn from, but these are read "
            "a part at a time. Load them into memory, or use another guide, such as 'auto_multivariate_normal'."
        )


def _take(data: Data, chosen: Any, inside: Any, n_rows: Any) -> tuple[Data, Any]:
    """Take a minibatch of the rows ``inside`` it, and the factor by which they stand for all rows."""
    dtype = jnp.result_type(float)
    present = inside.astype(dtype) * (n_rows.astype(dtype) / inside.sum().astype(dtype))
    rows = spread({name: array[chosen] for name, array in data.rows.items()})
    weight = present if data.weight is None else data.weight[chosen] * present
    return data._replace(rows=rows, weight=weight), present
