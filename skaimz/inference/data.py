"""Training data for compiled fits: rows padded to a few lengths, a weight for each, and models that use the weights."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import ImproperUniform, constraints
from numpyro.infer.util import constrain_fn, log_density, potential_energy
from numpyro.primitives import Messenger

from skaimz.kernels import KernelSpec, TracedKernel

__all__ = [
    "Data",
    "RowBlocks",
    "Units",
    "bucket",
    "constrained",
    "in_double",
    "in_memory",
    "loaded",
    "merged",
    "pad_rows",
    "padded",
    "steady",
    "weighted_guide",
    "weighted_model",
    "whitened_model",
]


# Equal rows are merged up to this number of rows.
MOST_MERGED = 2**14


class Units(NamedTuple):
    """Coordinates ``v`` of the latent sites in which a fit takes its steps: ``position = middle + root @ v``.

    Attributes
    ----------
    middle : dict of str to array
        Unconstrained value of each latent site where ``v`` is zero.
    root : array of shape (size,) or (size, size)
        Lengths of the coordinates, or a matrix; sites are joined in the order of their names.
    """

    middle: dict[str, Any]
    root: Any

    def position(self, coordinates: Mapping[str, Any]) -> dict[str, Any]:
        """Return unconstrained values at coordinates, site by site."""
        middle, unpack = ravel_pytree(dict(self.middle))
        v, _ = ravel_pytree(dict(coordinates))
        return unpack(middle + (self.root * v if jnp.ndim(self.root) == 1 else self.root @ v))

    def coordinates(self, position: Mapping[str, Any]) -> dict[str, Any]:
        """Return the coordinates of unconstrained values, site by site."""
        middle, unpack = ravel_pytree(dict(self.middle))
        away = ravel_pytree(dict(position))[0] - middle
        return unpack(away / self.root if jnp.ndim(self.root) == 1 else jnp.linalg.solve(self.root, away))

    def log_volume(self) -> Any:
        """Return the logarithm of the volume of one cubic unit."""
        if jnp.ndim(self.root) == 1:
            return jnp.log(jnp.abs(self.root)).sum()
        return jnp.linalg.slogdet(self.root)[1]


class Data(NamedTuple):
    """Arrays of a fit.

    Attributes
    ----------
    hyperparameters : dict
        The kernel's numeric hyperparameters.
    rows : dict of str to array
        Row-aligned arguments, the output among them, and ``OBSERVED`` where outcomes are missing. Before a fit pads
        them, rows and weight may be any objects with ``shape`` and ``dtype`` that give arrays when they are sliced by
        rows.
    whole : dict of str to array
    weight : array of shape (n_rows,) or None
        Factor on the log-likelihood of each row; None if every row counts once and none is padding.
    units : Units or None
        Coordinates in which the fit takes its steps; None for those of the kernel's latent sites.
    """

    hyperparameters: dict[str, Any]
    rows: dict[str, Any]
    whole: dict[str, Any]
    weight: Any
    units: Units | None = None

    @property
    def float_type(self) -> np.dtype:
        """Type of the floats among the rows, which have one precision; JAX's default if all rows are whole numbers."""
        types = (np.dtype(array.dtype) for array in self.rows.values())
        return next((dtype for dtype in types if dtype.kind == "f"), np.dtype(jnp.result_type(float)))


def bucket(n_rows: int) -> int:
    """Return the padded number of rows, one of few values, so that the folds of a search share programs.

    The values are powers of two from 64 to 1024, and eight values to each power of two beyond.
    """
    power = max(6, math.ceil(math.log2(n_rows)))
    step = 2**power if power <= 10 else 2 ** (power - 4)
    return -(-n_rows // step) * step


def pad_rows(array: np.ndarray, n_rows: int) -> np.ndarray:
    """Lengthen an array with copies of its first row, which is a valid one.

    The result is always another object: JAX remembers arrays that were constants of a program, and would use those of a
    program in single precision for one in double precision.
    """
    missing = n_rows - len(array)
    return np.concatenate([array, np.repeat(array[:1], missing, axis=0)]) if missing else array[:]


def padded(traced: TracedKernel, data: Data, n_rows: int) -> Data:
    """Pad rows to the length of :func:`bucket`, with weight zero, if that leaves the kernel's fit unchanged."""
    spec = traced.spec
    if not spec.can_be_padded:
        weight = None if data.weight is None else np.broadcast_to(data.weight, n_rows)
        return data._replace(rows={name: pad_rows(array, n_rows) for name, array in data.rows.items()}, weight=weight)
    size = bucket(n_rows)
    weight = np.zeros(size, data.float_type)
    weight[:n_rows] = 1.0 if data.weight is None else np.broadcast_to(data.weight[:n_rows], n_rows)
    return data._replace(rows={name: pad_rows(array, size) for name, array in data.rows.items()}, weight=weight)


def merged(traced: TracedKernel, data: Data) -> tuple[Data, np.ndarray]:
    """Keep each distinct row once, in sorted order, with the sum of its weights.

    The posterior then depends neither on the order of rows nor on whether a row is repeated or weighs more, to the last
    bit. More than ``MOST_MERGED`` rows are left as they are, since sorting them takes long.

    Returns
    -------
    data : Data
    places : array of shape (n_rows,)
        Where each row is among the distinct ones; -1 for rows of weight zero.
    """
    n_rows = len(data.rows[traced.spec.input])
    if not traced.spec.can_be_padded or n_rows > MOST_MERGED:
        return data, np.arange(n_rows)
    weight = np.ones(n_rows) if data.weight is None else np.asarray(data.weight, np.float64)
    parts = [np.ascontiguousarray(data.rows[name]).reshape(n_rows, -1).view(np.uint8) for name in sorted(data.rows)]
    joined = np.concatenate(parts, axis=1)
    _, first, place = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    total = np.bincount(np.ravel(place), weight, minlength=len(first))
    kept = total > 0
    places = np.where(kept, np.cumsum(kept) - 1, -1)[np.ravel(place)]
    dtype = data.float_type
    rows = {name: array[first[kept]] for name, array in data.rows.items()}
    return data._replace(rows=rows, weight=total[kept].astype(dtype)), places


def in_memory(array: Any) -> bool:
    """Whether an array is in memory, rather than read slice by slice."""
    return isinstance(array, np.ndarray) and not isinstance(array, np.memmap)


def loaded(data: Data, stop: int) -> Data:
    """Read the first rows into memory."""

    def read(array: Any) -> np.ndarray:
        return array if in_memory(array) and len(array) == stop else np.asarray(array[:stop])

    weight = None if data.weight is None else read(data.weight)
    return data._replace(rows={name: read(array) for name, array in data.rows.items()}, weight=weight)


def in_double(data: Data) -> Data:
    """Return data whose floating-point arrays have 64 bits, for use under ``jax.enable_x64``."""

    def double(value: Any) -> Any:
        kind = np.asarray(value).dtype if not hasattr(value, "dtype") else value.dtype
        if isinstance(value, float) or not np.issubdtype(kind, np.floating):
            return value
        return np.asarray(value, np.float64)

    return jax.tree.map(double, data)


class RowBlocks:
    """Blocks of rows, padded and in double precision, which are read each time they are iterated over.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
    n_rows : int
    block_rows : int
    """

    def __init__(self, traced: TracedKernel, data: Data, n_rows: int, block_rows: int):
        self.traced, self.data, self.n_rows, self.block_rows = traced, data, n_rows, block_rows

    def __len__(self) -> int:
        return -(-self.n_rows // self.block_rows)

    def __iter__(self) -> Iterator[Data]:
        dtype = self.data.float_type
        for start in range(0, self.n_rows, self.block_rows):
            block = slice(start, min(start + self.block_rows, self.n_rows))
            size = block.stop - start
            rows = {name: np.asarray(array[block]) for name, array in self.data.rows.items()}
            weight = np.zeros(self.block_rows, dtype)
            weight[:size] = 1.0 if self.data.weight is None else np.asarray(self.data.weight[block])
            padded_rows = {name: pad_rows(array, self.block_rows) for name, array in rows.items()}
            yield in_double(self.data._replace(rows=padded_rows, weight=weight))


class _Weighted(Messenger):
    """Multiply the log density of row-aligned sites by a weight for each row."""

    def __init__(self, fn: Callable, spec: KernelSpec, observed: Any, latent: Any = None):
        super().__init__(fn)
        self.spec = spec
        kinds = {"latent": latent, "latent factor": latent}
        self.by_kind = kinds | dict.fromkeys(("output", "observed", "companion"), observed)
        self.sites = {site.name: site for site in spec.every_site}

    def process_message(self, msg: dict[str, Any]) -> None:
        site = self.sites.get(msg["name"]) if msg["type"] == "sample" else None
        weight = None if site is None else self.by_kind.get(site.kind)
        if site is None or weight is None or site.row_axis is None or not site.rows_are_batched:
            return
        after = len(site.shape) - site.event_dim - site.row_axis - 1
        weight = weight.reshape(weight.shape + (1,) * after)
        msg["scale"] = weight if msg["scale"] is None else msg["scale"] * weight


def weighted_model(traced: TracedKernel, present: Any = None) -> Callable[..., Any]:
    """Return the kernel as a model of ``Data``'s fields, with its rows weighted.

    ``present`` is the factor on row-aligned latent sites in a minibatch.
    """

    def model(hyperparameters: Mapping, rows: Mapping, whole: Mapping, weight: Any, units: Units | None = None) -> Any:
        return _Weighted(traced.model, traced.spec, weight, present)(hyperparameters, rows, whole)

    return model


@jax.custom_jvp
def _stretched(value: Any, factor: Any) -> Any:
    """Return a value whose derivatives are multiplied by a factor."""
    return value


@_stretched.defjvp
def _stretched_tangent(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    return primals[0], tangents[0] * primals[1]


class _OfParams(Messenger):
    """Apply a function to the values of all params."""

    def __init__(self, function: Callable[[Any], Any]):
        super().__init__()
        self.function = function

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "param":
            msg["value"] = self.function(msg["value"])


def steady(density: Callable[[Any], Any], position: Any, weight: Any) -> Any:
    """Return a log density at a position, with derivatives that are computed as if no weight were above one.

    A kernel may contain derivatives near the largest float, such as that of the logarithm of a probability that NumPyro
    keeps from zero. NumPyro multiplies them by zero later, but a weight of 4 makes them infinite, and the result NaN.
    So the density is differentiated with its weights divided by a power of two, which loses no digit.
    """
    if weight is None:
        return density(position)
    _, exponent = jnp.frexp(jnp.maximum(weight.max(), 0.5))
    factor = jnp.ldexp(jnp.ones((), weight.dtype), exponent)

    def stretch(leaf: Any) -> Any:
        leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)  # a parameter may begin as a Python number
        return _stretched(leaf, factor.astype(leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    stretch_all = functools.partial(jax.tree.map, stretch)
    with _OfParams(stretch_all):
        return _stretched(density(stretch_all(position)), 1 / factor)


def whitened_model(traced: TracedKernel, present: Any = None, *, jacobian: bool = True) -> Callable[..., Any]:
    """Return the kernel as a model of ``Data``'s fields whose latent sites are coordinates in its ``units``.

    Its latent sites have the kernel's names, are real, and share one density: that of the posterior on unconstrained
    space, up to a constant, or, without the ``jacobian`` of the constraints, that of the kernel's own latent sites.
    """
    weighted = weighted_model(traced, present)

    def model(hyperparameters: Mapping, rows: Mapping, whole: Mapping, weight: Any, units: Units) -> None:
        coordinates = {
            name: numpyro.sample(name, ImproperUniform(constraints.real, (), jnp.shape(middle)))
            for name, middle in units.middle.items()
        }
        data = (hyperparameters, rows, whole, weight)

        def log_posterior(position: Any) -> Any:
            if jacobian:
                return -potential_energy(weighted, data, {}, position)
            return log_density(weighted, data, {}, constrain_fn(weighted, data, {}, position))[0]

        # The kernel's own samples are hidden, and its parameters are not. Control flow is hidden because handlers
        # outside would substitute the coordinates, which have the sites' names, in the body of a loop.
        with handlers.block(hide_fn=lambda site: site["type"] in ("sample", "deterministic", "control_flow")):
            density = steady(log_posterior, units.position(coordinates), weight)
        numpyro.factor("posterior_density", density)

    return model


def constrained(traced: TracedKernel, data: Data, coordinates: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of the kernel's latent sites at coordinates in the ``units`` of its data."""
    assert data.units is not None
    model = weighted_model(traced.with_all_rows())
    values = constrain_fn(model, data, {}, data.units.position(coordinates))
    return {site.name: values[site.name] for site in traced.spec.latents}


def weighted_guide(guide: Callable, traced: TracedKernel, present: Any = None) -> Callable[..., Any]:
    """Return a guide function, written for the kernel's arguments, as one of ``Data``'s fields."""

    def wrapped(
        hyperparameters: Mapping, rows: Mapping, whole: Mapping, weight: Any, units: Units | None = None
    ) -> Any:
        return traced.formed(_Weighted(guide, traced.spec, None, present), rows, whole)

    return wrapped
