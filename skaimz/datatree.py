"""Between arrays and xarray. The only place that builds or reads xarray objects."""

import contextlib
import importlib.util
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from skaimz.exceptions import IncompleteDrawsError
from skaimz.kernels import KernelSpec, as_numbers
from skaimz.sampling import readable, store_state

__all__ = [
    "CHAIN_AND_DRAW",
    "FlatDraws",
    "data_to_dataset",
    "draws_from",
    "draws_to_dataset",
    "made_by",
    "open_draws",
    "row_coordinates",
    "storable_labels",
    "to_tree",
    "with_labels",
    "with_more_rows",
    "write_skeleton",
]

CHAIN_AND_DRAW = ("chain", "draw")
_FILTERS = threading.Lock()


class FlatDraws(dict[str, np.ndarray]):
    """Draws of a mapping, by whose shapes alone chains cannot be told: those of the kernel's sites tell, in a fit."""


def draws_from(draws: Any, num_chains: int = 1) -> dict[str, np.ndarray]:
    """Read posterior draws into arrays of shape ``(n_chains, n_draws, ...)``.

    Parameters
    ----------
    draws : mapping, xarray.Dataset, xarray.DataTree, an object with a ``posterior`` group or numpyro.infer.MCMC
        In a mapping, arrays with the draws of all chains on the leading axis; in xarray's objects, variables with
        dimensions ``chain`` and ``draw``; a NumPyro MCMC object that has run has its own chains.
    num_chains : int, default=1
        Chains that the leading axis of a mapping's arrays holds one after the other.

    Returns
    -------
    dict of str to array
        Those of a mapping as ``FlatDraws``: its arrays may have had an axis of chains.

    Raises
    ------
    TypeError, ValueError
        If there are no draws, if one is 0-dimensional, or if their numbers differ.
    """
    if callable(getattr(draws, "get_samples", None)):
        return _from_chains(draws)
    if isinstance(draws, xr.DataTree):
        draws = draws["posterior"] if "posterior" in draws.children else draws
        draws = draws.to_dataset()
    elif not isinstance(draws, Mapping) and hasattr(draws, "posterior"):
        draws = draws.posterior
        draws = draws.to_dataset() if isinstance(draws, xr.DataTree) else draws
    if isinstance(draws, xr.Dataset):
        return _from_dataset(draws)
    if not isinstance(draws, Mapping):
        raise TypeError(
            "Posterior draws must be a mapping of site names to arrays, an xarray Dataset or DataTree, an object with "
            f"a `posterior` group, or a NumPyro MCMC object that has run, got {type(draws).__name__}."
        )
    arrays = {str(name): _of_site(name, value) for name, value in draws.items()}
    if not arrays:
        raise ValueError("Posterior draws are empty: give an array of draws for each latent site.")
    scalars = [name for name, array in arrays.items() if array.ndim == 0]
    if scalars:
        raise ValueError(f"Posterior draws of {scalars} are 0-dimensional: the leading axis must be the draws.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Posterior draws differ in number: {lengths}.")
    n_draws = next(iter(lengths.values()))
    if n_draws == 0:
        raise ValueError("Posterior draws are empty: their leading axis has length 0.")
    if num_chains < 1 or n_draws % num_chains:
        raise ValueError(f"{n_draws} posterior draws cannot be divided into `num_chains`={num_chains} chains.")
    return FlatDraws({name: array.reshape(num_chains, -1, *array.shape[1:]) for name, array in arrays.items()})


def _from_chains(chains: Any) -> dict[str, np.ndarray]:
    """Return the draws of a NumPyro MCMC object."""
    if getattr(chains, "last_state", None) is None:
        raise ValueError("Posterior draws are those of an MCMC object that has not run: call its `run` before.")
    draws = chains.get_samples(group_by_chain=True)
    if not isinstance(draws, Mapping):
        raise TypeError(
            "Posterior draws of an MCMC object must be a mapping of site names to arrays, as those of a sampler with a "
            f"model are, got {type(draws).__name__}."
        )
    return {str(name): _of_site(name, value) for name, value in draws.items()}


def _of_site(name: Any, value: Any) -> np.ndarray:
    return as_numbers(f"The array of posterior draws of {name!r}", value)


def _from_dataset(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    if not dataset.data_vars:
        raise ValueError("Posterior draws are empty: the dataset has no variables.")
    arrays = {}
    for name, variable in dataset.data_vars.items():
        if "draw" not in variable.dims:
            raise ValueError(f"Posterior draws of {name!r} have no dimension 'draw', only {variable.dims}.")
        if "chain" not in variable.dims:
            variable = variable.expand_dims("chain")
        arrays[str(name)] = _of_site(name, variable.transpose(*CHAIN_AND_DRAW, ...).to_numpy())
    if 0 in next(iter(arrays.values())).shape[:2]:
        raise ValueError("Posterior draws are empty: a dimension has length 0.")
    return arrays


def draws_to_dataset(arrays: Mapping[str, np.ndarray], spec: KernelSpec | None = None, index: Any = None) -> xr.Dataset:
    """Build a dataset of arrays ``(n_chains, n_draws, ...)``, with the dimension names of a kernel's sites.

    ``index`` labels the rows.
    """
    named = {site.name: site.dims for site in spec.sites} if spec else {}
    variables: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        own = named.get(name, tuple(f"{name}_dim_{axis}" for axis in range(array.ndim - 2)))
        # A log density lacks the event dimensions of its site.
        dims = (*CHAIN_AND_DRAW, *own[: array.ndim - 2])
        variables[name] = (dims, array)
        sizes.update(zip(dims, array.shape, strict=True))
    return xr.Dataset(variables, _coordinates(sizes, spec, index))


def _coordinates(sizes: Mapping[str, int], spec: KernelSpec | None, index: Any) -> dict[str, Any]:
    """Return coordinates that count, for every dimension; for rows the labels of ``index``, where there is one."""
    coordinates: dict[str, Any] = {dim: np.arange(size) for dim, size in sizes.items()}
    if spec is None or index is None:
        return coordinates
    return coordinates | _labels_of_rows(sizes, spec, index)


def _labels_of_rows(dims: Collection[str], spec: KernelSpec, index: Any) -> dict[str, Any]:
    """Return the coordinates of all dimensions of rows."""
    coordinates: dict[str, Any] = {}
    for dim in sorted({site.dims[site.row_axis] for site in spec.sites if site.row_axis is not None}):
        if dim in dims:
            taken = {*dims, *coordinates, *(site.name for site in spec.sites)}
            coordinates |= row_coordinates(dim, index, taken)
    return coordinates


def with_labels(dataset: xr.Dataset, spec: KernelSpec, index: Any) -> xr.Dataset:
    """Return a dataset whose rows have other labels."""
    labels = _labels_of_rows([str(dim) for dim in dataset.dims], spec, index)
    # A variable by the name of a level would be taken for its labels.
    renamed = {name: f"{name}_values" for name in dataset.data_vars if name in labels}
    return dataset.rename_vars(renamed).assign_coords(labels)


def data_to_dataset(
    rows: Mapping[str, np.ndarray],
    whole: Mapping[str, np.ndarray],
    row_dim: str,
    index: Any = None,
    *,
    dims: Mapping[str, tuple[str, ...]] | None = None,
    labels: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a dataset of data: arrays whose first axis is the rows, and other arrays.

    ``dims`` names the dimensions of arrays, where they have names, and ``labels`` gives coordinates of dimensions.
    """
    coordinates = dict(labels or {})
    if index is not None:
        coordinates |= row_coordinates(row_dim, index)
    variables = {}
    for name, array in {**rows, **whole}.items():
        first = (row_dim,) if name in rows else ()
        own = tuple(f"{name}_dim_{axis}" for axis in range(np.ndim(array) - len(first)))
        # A variable by the name of a dimension would be taken for its labels.
        free = name if name not in coordinates and name != row_dim else f"{name}_values"
        variables[free] = ((dims or {}).get(name, (*first, *own)), array)
    return xr.Dataset(variables, coordinates)


def row_coordinates(dim: str, index: Any, taken: Collection[str] = ()) -> dict[str, Any]:
    """Return the coordinates of a dimension of rows, from their labels.

    Parameters
    ----------
    dim : str
    index : pandas.Index, array, or DataFrame of levels
        Labels as a user has them, or as :func:`storable_labels` returns them.
    taken : collection of str, optional
        Names that a level of the index cannot have.
    """
    if not isinstance(index, pd.MultiIndex | pd.DataFrame):
        # The index may have a name of its own, and the dimension keeps the plate's.
        return {dim: (dim, index)}
    levels = _levels(index)
    names = [str(name) if str(name) not in {dim, *taken} else f"{dim}_{name}" for name in levels.columns]
    if isinstance(index, pd.DataFrame):
        return {dim: (dim, np.arange(len(index)))} | {
            name: (dim, levels.iloc[:, number].to_numpy()) for number, name in enumerate(names)
        }
    index = pd.MultiIndex.from_frame(levels, names=names)
    return {str(name): level for name, level in xr.Coordinates.from_pandas_multiindex(index, dim).items()}


def _levels(index: pd.MultiIndex | pd.DataFrame) -> pd.DataFrame:
    """Return the levels of an index as columns of labels that xarray holds, with names that differ."""
    if isinstance(index, pd.DataFrame):
        return index
    # Files hold no names with spaces or slashes.
    names = ["" if name is None else re.sub(r"[\s/]+", "_", str(name)) for name in index.names]
    names = [name or f"level_{number}" for number, name in enumerate(names)]
    names = [name if name not in names[:number] else f"{name}_{number}" for number, name in enumerate(names)]
    values = [storable_labels(index.get_level_values(number)) for number in range(index.nlevels)]
    return pd.DataFrame(dict(zip(names, values, strict=True)), columns=names)


def storable_labels(index: Any) -> Any:
    """Return labels in a form that netCDF and Zarr hold: numbers, times, or else text; several levels as columns."""
    if isinstance(index, pd.MultiIndex):
        return _levels(index)
    labels = np.asarray(index)
    if labels.dtype.kind == "M":
        # Other years need a calendar that is no part of xarray.
        years = labels[~np.isnat(labels)].astype("M8[Y]").astype(int) + 1970
        is_known = not len(years) or (years.min() > 1677 and years.max() < 2262)
    else:
        is_known = labels.dtype.kind in "biufm" and labels.dtype != np.float16
    return labels if is_known else np.asarray([str(label) for label in labels])


def made_by(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that say when and by what a tree was made, and ``attrs``."""
    return {
        "created_at": datetime.now(UTC).isoformat(),
        "creation_library": "skaimz",
        "creation_library_version": version("skaimz"),
    } | dict(attrs)


def plain_dataset(arrays: Mapping[str, Any], dims: Mapping[str, Sequence[str]] | None = None) -> xr.Dataset:
    """Return arrays as a dataset; ``dims`` name the dimensions of some, and all others have their own."""
    shaped = {name: np.asarray(value) for name, value in arrays.items()}
    own = {name: [f"{name}_dim_{axis}" for axis in range(array.ndim)] for name, array in shaped.items()}
    return xr.Dataset({name: ({**own, **(dims or {})}[name], array) for name, array in shaped.items()})


def to_tree(groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any]) -> xr.DataTree:
    """Join datasets to a tree that says when and by what it was made."""
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=made_by(attrs)), **groups})


def with_more_rows(
    one: xr.DataTree,
    two: xr.DataTree,
    n_rows: int,
    index: Any,
    array: Callable[[str, Sequence[int], np.dtype, int | None], Any],
) -> xr.DataTree:
    """Return a tree of draws for many rows, from those for the first one and the first two.

    Parameters
    ----------
    one, two : DataTree
    n_rows : int
    index : pandas.Index or None
        Labels of the rows.
    array : callable
        Returns a site's draws, given its name, the shape and type for one row, and the axis of the rows, if any.
    """
    groups: dict[str, xr.Dataset] = {}
    for group, node in one.children.items():
        few, more = node.to_dataset(), two[group].to_dataset()
        rows = {dim for dim, size in more.sizes.items() if size != few.sizes[dim]}
        if group == "posterior":
            # Latent sites of rows, of which the first alone are here, can be had from the estimator.
            groups[str(group)] = few.drop_vars(
                [name for name, draws in few.data_vars.items() if rows & set(draws.dims)]
            )
            continue
        variables = {
            str(name): (
                draws.dims,
                array(str(name), draws.shape, draws.dtype, next(iter(_places(draws.dims, rows)), None)),
            )
            for name, draws in few.data_vars.items()
        }
        coordinates: dict[Any, Any] = {
            name: labels for name, labels in few.coords.items() if not rows & set(labels.dims)
        }
        for dim in rows:
            coordinates |= row_coordinates(str(dim), np.arange(n_rows) if index is None else index)
        groups[str(group)] = xr.Dataset(variables, coordinates)
    attrs = {str(name): value for name, value in one.attrs.items() if name != "batch_size"}
    return to_tree(groups, attrs)


def _places(dims: Sequence[Any], chosen: set[Any]) -> list[int]:
    return [place for place, dim in enumerate(dims) if dim in chosen]


def write_skeleton(
    path: Path,
    group: str,
    sizes: Mapping[str, int],
    others: Mapping[str, xr.Dataset],
    attrs: Mapping[str, Any],
    spec: KernelSpec,
    index: Any,
) -> None:
    """Write a Zarr store of a tree, of whose ``group`` there are only the coordinates yet."""
    coordinates = xr.Dataset(coords=_coordinates(sizes, spec, index))
    tree = to_tree({**others, group: coordinates}, attrs)
    for dataset in others.values():
        for variable in dataset.data_vars.values():
            # Draws hardly shrink, and take long to compress.
            variable.encoding["compressors"] = None
    with _without_warnings():  # Zarr 3 writes strings in a form that it does not call final yet; it reads them back
        tree.to_zarr(path, zarr_format=3, consolidated=False)


def open_draws(path: Any) -> xr.DataTree:
    """Open draws that were written to a folder.

    Parameters
    ----------
    path : path-like
        The ``output_dir`` of a call, or the path of a tree's ``artifact_path``.

    Returns
    -------
    xarray.DataTree
        Lazy: arrays are read as they are used, and a chunk at a time where Dask is installed. Reading what was removed
        since is a ``FileNotFoundError``.

    Raises
    ------
    FileNotFoundError
        If there are no draws.
    IncompleteDrawsError
        If they were not written to the end.
    """
    folder = Path(path)
    state = store_state(folder)
    if state is None:
        raise FileNotFoundError(f"{str(folder)!r} holds no draws: give the `output_dir` of a call that has ended.")
    if state != "complete":
        raise IncompleteDrawsError(
            f"The draws in {str(folder)!r} are incomplete: the call that wrote them was interrupted. The same call "
            "with the same `output_dir` goes on from there."
        )
    with _without_warnings():
        store: Any = readable(folder.resolve())
        # With Dask an average over draws that do not fit is taken chunk by chunk.
        chunks: Any = {} if importlib.util.find_spec("dask") else None
        return xr.open_datatree(store, engine="zarr", consolidated=False, chunks=chunks)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    # Filters are those of the process: two threads that left in the order in which they came would leave ours behind.
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
