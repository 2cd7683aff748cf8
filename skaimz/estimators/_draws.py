"""Draws of sites and log densities of outcomes: which ones, and where they go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.datatree import coordinates_to_dataset, draws_to_dataset, open_draws, storable_labels, to_tree, write_tree
from skaimz.estimators import _temporary
from skaimz.estimators._arguments import check_count
from skaimz.estimators._model import Call, Model
from skaimz.estimators._questions import Question, frees_on_error, request_for
from skaimz.estimators._states import needs_all_rows, summed_log_likelihood
from skaimz.exceptions import SpeedWarning, StateWarning, warn_user
from skaimz.kernels import stored_name
from skaimz.rows import LazyRows, dask_door, is_collection, lazy_rows

__all__ = [
    "Destination",
    "DrawQuestion",
    "LogLikelihood",
    "PosteriorPredictive",
    "PriorPredictive",
    "answer_with_draws",
]

# Draws of at most so many bytes in total stay in memory by default.
MEMORY_BUDGET = 2**30


@dataclass(frozen=True)
class Destination:
    """Where draws go and how they are computed. Only ``draw_dtype`` changes draws: it rounds them.

    Attributes
    ----------
    store : {"auto", "zarr", "memory"}
    output_dir : path-like or URL, optional
    shard_axis : {"obs", "draw"}
    batch_size : int, optional
    compressors : Zarr codec or sequence of Zarr codecs, optional
    progress : bool
    draw_dtype : {"float16", "float32"}, optional
    """

    store: Any = "memory"
    output_dir: Any = None
    shard_axis: str = "obs"
    batch_size: int | None = None
    compressors: Any = None
    progress: bool = False
    draw_dtype: Any = None

    def __post_init__(self) -> None:
        if self.store not in ("auto", "zarr", "memory"):
            raise ValueError(f"`store` must be 'auto', 'zarr' or 'memory', got {self.store!r}.")
        if self.shard_axis not in ("obs", "draw"):
            raise ValueError(f"`shard_axis` must be 'obs' or 'draw', got {self.shard_axis!r}.")
        for name in ("output_dir", "draw_dtype"):
            if self.store == "memory" and getattr(self, name) is not None:
                raise ValueError(f"`{name}` needs a store on disk, got {getattr(self, name)!r} and `store='memory'`.")
        if self.draw_dtype is not None and str(self.draw_dtype) not in ("float16", "float32"):
            raise ValueError(f"`draw_dtype` must be 'float16', 'float32' or None, got {self.draw_dtype!r}.")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)

    def keeps_in_memory(self, nbytes: int) -> bool:
        """Whether draws of so many bytes stay in memory."""
        return not self.asks_for_store and (self.store == "memory" or nbytes <= MEMORY_BUDGET)

    @property
    def asks_for_store(self) -> bool:
        """Whether draws go to a store whatever their size."""
        return self.store == "zarr" or self.output_dir is not None or self.draw_dtype is not None


IN_MEMORY = Destination()


class DrawTask(NamedTuple):
    """What is drawn.

    Attributes
    ----------
    job : Job
    quantity : Quantity
    group : str
        Group of the tree that holds the draws.
    """

    job: sampling.Job
    quantity: Any
    group: str


class DrawQuestion(Question[dict[str, np.ndarray]]):
    """Base of the questions that draws answer."""

    def task(self, call: Call) -> DrawTask:
        """Return what is drawn."""
        raise NotImplementedError

    def answer(self, call: Call) -> dict[str, np.ndarray]:
        """Return arrays of shape ``(n_chains, n_draws, ...)`` by site, in memory."""
        with call.precision():
            return _drawing(self.task(call), IN_MEMORY).in_memory()

    def tree(self, call: Call, destination: Destination = IN_MEMORY) -> xr.DataTree:
        """Return a tree of draws, in memory or in a store."""
        with call.precision():
            task = self.task(call)
            drawing = _drawing(task, destination)
            if destination.keeps_in_memory(drawing.nbytes):
                job = task.job
                draws = drawing.in_memory(progress=destination.progress)
                known = _known(job, job.local_in(slice(0, job.n_rows)), call.row_labels)
                groups = {**known, task.group: draws_to_dataset(draws, job.spec, call.row_labels)}
                return to_tree(groups, _attributes(task, drawing))
            with _temporary.place(call.model.owner, destination.output_dir) as place:
                drawing.to_store(
                    _store(task, drawing, place, call.row_labels, destination), progress=destination.progress
                )
        return open_draws(place)

    def open_store(self, call: Call, destination: Destination, place: sampling.Place) -> sampling.Store:
        """Open a store for a whole table, given a call on a part of it."""
        with call.precision():
            task = self.task(call)
            assert call.part is not None
            return _store(task, _drawing(task, destination), place, call.part.labels, destination)

    def write_batch(self, call: Call, destination: Destination, store: sampling.Store) -> str:
        """Write the rows of a call, which are one batch of the store, and return their digest."""
        with call.precision():
            return _drawing(self.task(call), destination).to_batch(store)


@dataclass(frozen=True)
class PosteriorPredictive(DrawQuestion):
    """Sites of the kernel, run on posterior draws; the fields are those of the public method."""

    intervention: Mapping[str, Any] | None = None
    condition: Mapping[str, Any] | None = None
    in_sample: bool = True
    return_sites: str | Sequence[str] | None = None

    def task(self, call: Call) -> DrawTask:
        """Return what is drawn."""
        job = call.job(in_sample=self.in_sample, intervention=self.intervention, condition=self.condition)
        names = self.return_sites
        if names is None:
            names = [name for name in job.spec.return_sites if name not in job.intervention]
        group = "posterior_predictive" if self.in_sample else "predictions"
        quantity = sampling.Values(_check_sites(job, names))
        known = job.local.keys() | job.settings.keys()
        unknown = [site.name for site in job.spec.summed if site.name in quantity.names and site.name not in known]
        if self.in_sample and unknown:
            warn_user(
                f"The states of {unknown} are drawn given the other sites, but not given the outcomes of the rows. "
                "`infer_discrete` has their probabilities given the outcomes. Pass `in_sample=False` for other rows.",
                StateWarning,
            )
        return DrawTask(job, quantity, group)


@dataclass(frozen=True)
class PriorPredictive(DrawQuestion):
    """Sites of the kernel, run on draws from its prior; the fields are those of the public method."""

    num_samples: int
    intervention: Mapping[str, Any] | None = None
    condition: Mapping[str, Any] | None = None
    return_sites: str | Sequence[str] | None = None

    def uses_prior(self, model: Model) -> bool:
        """Return True."""
        return True

    def task(self, call: Call) -> DrawTask:
        """Return what is drawn."""
        num_samples = check_count("num_samples", self.num_samples)
        job = call.prior_job(num_samples, intervention=self.intervention, condition=self.condition)
        names = self.return_sites
        if names is None:
            latents = (site.name for site in job.spec.prior_sites)
            names = [name for name in (*job.spec.return_sites, *latents) if name not in job.intervention]
        return DrawTask(job, sampling.Values(_check_sites(job, names)), "prior_predictive")


@dataclass(frozen=True)
class LogLikelihood(DrawQuestion):
    """Log densities of outcomes; the fields are those of the public method."""

    y: Any = None
    in_sample: bool = True

    def answer(self, call: Call) -> dict[str, np.ndarray]:
        """Return arrays of shape ``(n_chains, n_draws, ...)`` by site, in memory."""
        if not needs_all_rows(call.spec):
            return super().answer(call)
        with call.precision():
            return summed_log_likelihood(self.task(call).job)

    def tree(self, call: Call, destination: Destination = IN_MEMORY) -> xr.DataTree:
        """Return a tree of log densities, in memory or in a store."""
        if not needs_all_rows(call.spec):
            return super().tree(call, destination)
        if destination.asks_for_store:
            names = [site.name for site in call.spec.discrete]
            raise ValueError(
                f"`log_likelihood` sums {names} out in memory: leave out `store`, `output_dir` and `draw_dtype`."
            )
        with call.precision():
            job = self.task(call).job
            densities = draws_to_dataset(summed_log_likelihood(job), job.spec, call.row_labels)
        groups = {**_known(job, job.local, call.row_labels), "log_likelihood": densities}
        return to_tree(groups, {"seed": job.seed, "output": job.spec.output})

    def task(self, call: Call) -> DrawTask:
        """Return what is computed."""
        spec = call.spec
        y = call.outcomes if self.y is None else self.y
        if y is None:
            raise ValueError("`log_likelihood` needs outcomes: pass y.")
        job = call.job(in_sample=self.in_sample, sums_states=True, has_outcome=True)
        sampling.check_densities(spec)
        rows = lazy_rows(y)
        if rows is not None:
            encode, dtype = call.model.outcome.encode, call.dtype
            y = LazyRows(rows, lambda part, start: encode(part, spec, dtype, start))
        else:
            y = call.encode(y, may_lack=True)
        check_consistent_length(call.X, y)
        job = job.with_rows({spec.output_parameter: y})
        return DrawTask(job, sampling.LogDensity((spec.output,)), "log_likelihood")


def answer_with_draws(
    model: Model, question: DrawQuestion, X: Any, arrays: Mapping[str, Any], random_state: Any, destination: Destination
) -> xr.DataTree:
    """Return a tree of draws. For a Dask collection it is lazy, or a store that the workers write."""
    request = request_for(model, question, arrays, random_state)
    if not is_collection(X):
        with frees_on_error():
            return question.tree(request.read(X), destination)
    if not destination.asks_for_store:
        return dask_door().draws_in_blocks(request, X)
    with _temporary.place(model.owner, destination.output_dir) as place:
        return dask_door().draws_to_store(request, X, destination, place)


def _drawing(task: DrawTask, destination: Destination) -> sampling.Drawing:
    job, quantity = task.job, task.quantity
    drawing = sampling.Drawing(
        job,
        quantity,
        shard_draws=destination.shard_axis == "draw",
        batch_size=destination.batch_size,
        draw_dtype=None if destination.draw_dtype is None else np.dtype(destination.draw_dtype),
    )
    mixing = [name for name in quantity.names if job.spec[name].mixing]
    if drawing.plan.whole and job.part is not None:
        raise ValueError(
            "Dask collections are computed block by block, but the kernel's rows may depend on one another: "
            f"{job.spec.rows_mix or job.spec[mixing[0]].mixing}. Compute them first: pass `X.compute()`."
        )
    if job.spec.rows_mix is None and mixing:
        warn_user(
            f"The kernel runs on all rows at once, because site {mixing[0]!r} may mix them: "
            f"{job.spec[mixing[0]].mixing}. Leave it out of `return_sites` to run tile by tile.",
            SpeedWarning,
        )
    return drawing


def _attributes(task: DrawTask, drawing: sampling.Drawing) -> dict[str, Any]:
    return {
        "seed": task.job.seed,
        "output": stored_name(task.job.spec.output),
        "batch_size": drawing.plan.batch_rows,
        "n_devices": jax.local_device_count(),
        "shard_axis": "draw" if drawing.shard_draws else "obs",
    }


def _known(job: sampling.Job, local: Mapping[str, Any], row_labels: Any) -> dict[str, Any]:
    """Return the group ``posterior``, with the draws that the kernel is run with."""
    draws = {
        name: array.reshape(job.posterior.n_chains, -1, *array.shape[1:])
        for name, array in {**job.posterior.draws, **local}.items()
    }
    return {"posterior": draws_to_dataset(draws, job.spec, row_labels)} if draws else {}


def _store(
    task: DrawTask, drawing: sampling.Drawing, place: sampling.Place, row_labels: Any, destination: Destination
) -> sampling.Store:
    """Open a new Zarr store, or one that an interrupted identical call left."""
    job = task.job
    labels = None if row_labels is None else storable_labels(row_labels)
    known = _known(job, job.local, labels)
    attributes = _attributes(task, drawing) | {"artifact_path": str(place)}
    return drawing.store(
        place,
        task.group,
        lambda folder, sizes: write_tree(
            folder, {**known, task.group: coordinates_to_dataset(sizes, job.spec, labels)}, attributes
        ),
        labels=_bytes_of(labels),
        compressors=destination.compressors,
    )


def _bytes_of(labels: Any) -> bytes:
    """Return bytes that tell whether two calls have the same labels of rows."""
    if labels is None:
        return b""
    if isinstance(labels, pd.DataFrame):
        return repr([(name, _bytes_of(labels[name].to_numpy())) for name in labels]).encode()
    return repr(labels.dtype).encode() + (
        repr(labels.tolist()).encode() if labels.dtype.hasobject else labels.tobytes()
    )


def _check_sites(job: sampling.Job, names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of sites to draw, which must be sites that no intervention sets."""
    # A leaf of a tree of parameters is no statement of the kernel.
    sites = {site.name: site for site in job.spec.sites if site.statement in ("", site.name)}
    task = tuple(dict.fromkeys([names] if isinstance(names, str) or not isinstance(names, Iterable) else names))
    for name in task:
        if name not in sites:
            raise ValueError(f"`return_sites` names {name!r}, which is not a site of the kernel: {list(sites)}.")
        for argument, levels in job.levels.items():
            if name in levels.mixed:
                raise ValueError(
                    f"Site {name!r} cannot be drawn, because it would depend on the new levels of {argument!r}: "
                    f"{levels.mixed[name]}. Name the sites to draw in `return_sites`, without it."
                )
        if name in job.intervention:
            raise ValueError(f"`return_sites` names {name!r}, which `intervention` sets: its value is the one given.")
    return task
