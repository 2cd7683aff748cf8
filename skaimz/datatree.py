"""Conversion between arrays and xarray objects. No other module builds a Dataset, a DataArray or a DataTree."""

import contextlib
import importlib.util
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pandas as pd
import xarray as xr

from skaimz.exceptions import IncompleteDrawsError
from skaimz.kernels import KernelSpec, as_numbers, stored_name
from skaimz.sampling import place_of, readable, store_state

__all__ = [
    "CHAIN_AND_DRAW",
    "FlatDraws",
    "arrays_to_dataset",
    "coordinates_to_dataset",
    "data_to_dataset",
    "draws_from",
    "draws_to_dataset",
    "effects_to_dataset",
    "joined_variables",
    "open_draws",
    "row_coordinates",
    "storable_labels",
    "to_tree",
    "with_labels",
    "with_more_rows",
    "write_tree",
]

CHAIN_AND_DRAW = ("chain", "draw")
# Python's warning filters belong to the whole process: two threads that changed them at once could leave ours in place.
_FILTERS = threading.Lock()
Tree = TypeVar("Tree", bound=xr.DataTree)


class FlatDraws(dict[str, np.ndarray]):
    """Draws that a user passed as a mapping.

    Their shapes alone do not show whether the arrays have an axis of chains. ``fit``, which knows the shapes of the
    kernel's sites, decides.
    """


def draws_from(draws: Any, num_chains: int = 1) -> dict[str, np.ndarray]:
    """Read posterior draws into arrays of shape ``(n_chains, n_draws, ...)``.

    Parameters
    ----------
    draws : mapping, xarray.Dataset, xarray.DataTree, an object with a ``posterior`` group or numpyro.infer.MCMC
        The leading axis of a mapping's arrays holds the draws of all chains. Variables of xarray objects have the
        dimensions ``chain`` and ``draw``. A NumPyro MCMC object that has run knows its chains.
    num_chains : int, default=1
        Number of chains that follow one another on the leading axis of a mapping's arrays.

    Returns
    -------
    dict of str to array
        ``FlatDraws`` if ``draws`` is a mapping.

    Raises
    ------
    TypeError, ValueError
        If there are no draws, an array is 0-dimensional, or sites differ in their number of draws.
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
        raise ValueError("Posterior draws cannot come from an MCMC object that has not run: call its `run` first.")
    draws = chains.get_samples(group_by_chain=True)
    if not isinstance(draws, Mapping):
        raise TypeError(
            "Posterior draws of an MCMC object must be a mapping of site names to arrays, got "
            f"{type(draws).__name__}. A sampler that was built from a model returns one."
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
    """Build a dataset from arrays of draws.

    Parameters
    ----------
    arrays : dict of str to array of shape (n_chains, n_draws, ...)
    spec : KernelSpec, optional
        Kernel whose sites name the dimensions.
    index : pandas.Index, array or DataFrame of levels, optional
        Labels of the rows.
    """
    named = {site.name: site for site in (*spec.only_fitted, *spec.sites)} if spec else {}
    variables: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        n_axes = array.ndim - 2
        unnamed = tuple(f"{name}_dim_{axis}" for axis in range(n_axes))
        own = named[name].dims_of(n_axes) if name in named else unnamed
        dims = (*CHAIN_AND_DRAW, *map(stored_name, own))
        variables[stored_name(name)] = (dims, array)
        sizes.update(zip(dims, array.shape, strict=True))
    return xr.Dataset(variables, _coordinates(sizes, spec, index))


def _coordinates(sizes: Mapping[str, int], spec: KernelSpec | None, index: Any) -> dict[str, Any]:
    """Return integer coordinates for every dimension, except that ``index``, if any, labels the rows."""
    coordinates: dict[str, Any] = {dim: np.arange(size) for dim, size in sizes.items()}
    if spec is None or index is None:
        return coordinates
    return coordinates | _labels_of_rows(sizes, spec, index)


def _labels_of_rows(dims: Collection[str], spec: KernelSpec, index: Any) -> dict[str, Any]:
    """Return the coordinates of every dimension that runs along the rows."""
    coordinates: dict[str, Any] = {}
    for dim in sorted({site.dims[site.row_axis] for site in spec.sites if site.row_axis is not None}):
        if dim in dims:
            taken = {*dims, *coordinates, *(stored_name(site.name) for site in spec.sites)}
            coordinates |= row_coordinates(dim, index, taken)
    return coordinates


def with_labels(dataset: xr.Dataset, spec: KernelSpec, index: Any) -> xr.Dataset:
    """Return a dataset with new labels of its rows."""
    labels = _labels_of_rows([str(dim) for dim in dataset.dims], spec, index)
    # xarray would take a variable with the name of an index level for the labels of that level.
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
    """Build a dataset from the data of a kernel.

    Parameters
    ----------
    rows : dict of str to array
        Arrays with an entry for each row on their first axis.
    whole : dict of str to array
        All other arrays.
    row_dim : str
        Name of the dimension of the rows.
    index : pandas.Index, array or DataFrame of levels, optional
        Labels of the rows.
    dims : dict of str to tuple of str, optional
        Names of the dimensions of some arrays.
    labels : dict of str to array, optional
        Coordinates of some dimensions.
    """
    coordinates = dict(labels or {})
    if index is not None:
        coordinates |= row_coordinates(row_dim, index)
    variables = {}
    for name, array in {**rows, **whole}.items():
        first = (row_dim,) if name in rows else ()
        own = tuple(f"{name}_dim_{axis}" for axis in range(np.ndim(array) - len(first)))
        # xarray would take a variable with the name of a dimension for the labels of that dimension.
        stored = stored_name(name)
        free = stored if stored not in coordinates and stored != row_dim else f"{stored}_values"
        variables[free] = ((dims or {}).get(name, (*first, *map(stored_name, own))), array)
    return xr.Dataset(variables, coordinates)


def arrays_to_dataset(arrays: Mapping[str, Any], dims: Mapping[str, tuple[str, ...]] | None = None) -> xr.Dataset:
    """Build a dataset from arrays and numbers; dimensions are named by ``dims`` or else ``<name>_dim_<axis>``."""
    named = dict(dims or {})
    for name, value in arrays.items():
        named.setdefault(name, tuple(f"{stored_name(name)}_dim_{axis}" for axis in range(np.ndim(value))))
    return xr.Dataset({stored_name(name): (named[name], np.asarray(value)) for name, value in arrays.items()})


def effects_to_dataset(
    arrays: Mapping[str, np.ndarray],
    dims: Sequence[Any],
    coordinates: Mapping[Any, Any],
    others: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build the dataset of one comparison.

    Parameters
    ----------
    arrays : dict of str to array of shape (n_chains, n_draws, ...)
        Draws of the effect, and of the averages that it compares.
    dims : sequence of str
        Names of the dimensions that follow ``chain`` and ``draw``.
    coordinates : dict of str to array
        Labels of ``dims``.
    others : dict of str to (dims, array), optional
        Variables without draws.
    """
    variables: dict[str, Any] = {name: ((*CHAIN_AND_DRAW, *dims), array) for name, array in arrays.items()}
    shape = next(iter(arrays.values())).shape
    counted: dict[Any, Any] = {dim: np.arange(size) for dim, size in zip(CHAIN_AND_DRAW, shape, strict=False)}
    return xr.Dataset(variables | dict(others or {}), counted | dict(coordinates))


def joined_variables(**variables: xr.DataArray) -> xr.Dataset:
    """Build a dataset from variables that share their coordinates."""
    return xr.Dataset(variables)


def row_coordinates(dim: str, index: Any, taken: Collection[str] = ()) -> dict[str, Any]:
    """Return the coordinates of the dimension that runs along the rows.

    Parameters
    ----------
    dim : str
        Name of the dimension.
    index : pandas.Index, array, or DataFrame of levels
        Labels of the rows, as a user passes them or as :func:`storable_labels` returns them.
    taken : collection of str, optional
        Names that levels of the index must not have.
    """
    if not isinstance(index, pd.MultiIndex | pd.DataFrame):
        # The dimension keeps the name of the plate, whatever the name of the index.
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
    """Return the levels of an index as columns of storable labels, with unique names."""
    if isinstance(index, pd.DataFrame):
        return index
    # netCDF and Zarr allow neither spaces nor slashes in names.
    names = ["" if name is None else re.sub(r"[\s/]+", "_", str(name)) for name in index.names]
    names = [name or f"level_{number}" for number, name in enumerate(names)]
    names = [name if name not in names[:number] else f"{name}_{number}" for number, name in enumerate(names)]
    values = [storable_labels(index.get_level_values(number)) for number in range(index.nlevels)]
    return pd.DataFrame(dict(zip(names, values, strict=True)), columns=names)


def storable_labels(index: Any) -> Any:
    """Return labels that netCDF and Zarr can store: numbers, times or text, and a MultiIndex as a DataFrame."""
    if isinstance(index, pd.MultiIndex):
        return _levels(index)
    labels = np.asarray(index)
    if labels.dtype.kind == "M":
        # xarray stores other years only with the optional package cftime.
        years = labels[~np.isnat(labels)].astype("M8[Y]").astype(int) + 1970
        is_known = not len(years) or (years.min() > 1677 and years.max() < 2262)
    else:
        is_known = labels.dtype.kind in "biufm" and labels.dtype != np.float16
    return labels if is_known else np.asarray([str(label) for label in labels])


@overload
def to_tree(groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any]) -> xr.DataTree: ...
@overload
def to_tree(groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any], kind: type[Tree]) -> Tree: ...
def to_tree(groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any], kind: Any = xr.DataTree) -> Any:
    """Build a tree from one dataset for each group.

    Parameters
    ----------
    groups : dict of str to Dataset
    attrs : dict of str to object
        Attributes of the root, which also records the time and the version of this package.
    kind : type, default=DataTree
        Class of the tree.
    """
    origin = {
        "created_at": datetime.now(UTC).isoformat(),
        "creation_library": "skaimz",
        "creation_library_version": version("skaimz"),
    }
    return kind.from_dict({"/": xr.Dataset(attrs=origin | dict(attrs)), **groups})


def with_more_rows(
    one: xr.DataTree,
    two: xr.DataTree,
    n_rows: int,
    index: Any,
    array: Callable[[str, Sequence[int], np.dtype, int | None], Any],
) -> xr.DataTree:
    """Return a tree of draws for many rows, whose layout follows from trees for one row and for two.

    Parameters
    ----------
    one, two : DataTree
        Draws for the first row, and for the first two rows. Dimensions in which they differ run along the rows.
    n_rows : int
    index : pandas.Index or None
        Labels of the rows.
    array : callable
        Returns the draws of a site. Its arguments are the stored name of the site, the shape and type of its draws
        for one row, and the axis of the rows or None.
    """
    groups: dict[str, xr.Dataset] = {}
    for group, node in one.children.items():
        few, more = node.to_dataset(), two[group].to_dataset()
        rows = {dim for dim, size in more.sizes.items() if size != few.sizes[dim]}
        if group == "posterior":
            # A latent site of the rows has draws for the first row only. The estimator has all of them.
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


def coordinates_to_dataset(sizes: Mapping[str, int], spec: KernelSpec, index: Any) -> xr.Dataset:
    """Build a dataset without variables, whose dimensions have the given sizes; ``index``, if any, labels the rows."""
    return xr.Dataset(coords=_coordinates(sizes, spec, index))


def write_tree(path: Path, groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any]) -> None:
    """Write a tree as a Zarr store, to which variables may be added later."""
    tree = to_tree(groups, attrs)
    for dataset in groups.values():
        for variable in dataset.data_vars.values():
            # Compression takes long, and hardly makes draws smaller.
            variable.encoding["compressors"] = None
    with _without_warnings():  # Zarr warns that its format of strings is not final; it reads what it wrote
        tree.to_zarr(path, zarr_format=3, consolidated=False)


def open_draws(path: Any) -> xr.DataTree:
    """Open draws that a call has written to a folder or a URL.

    Parameters
    ----------
    path : path-like or URL
        The ``output_dir`` of the call, or the attribute ``artifact_path`` of the tree that it returned.

    Returns
    -------
    xarray.DataTree
        Arrays are read when they are used, chunk by chunk if Dask is installed. Reading raises ``FileNotFoundError`` if
        the folder has been removed in the meantime.

    Raises
    ------
    FileNotFoundError
        If the folder holds no draws.
    IncompleteDrawsError
        If the call that wrote the draws was interrupted.
    """
    place = place_of(path)
    state = store_state(place)
    if state is None:
        raise FileNotFoundError(f"{str(place)!r} holds no draws: give the `output_dir` of a call that has ended.")
    if state != "complete":
        raise IncompleteDrawsError(
            f"The draws in {str(place)!r} are incomplete: the call that wrote them was interrupted. Repeat the call "
            "with the same `output_dir` to write the rest."
        )
    with _without_warnings():
        store: Any = readable(place)
        # With Dask, an average over draws that do not fit into memory is computed chunk by chunk.
        chunks: Any = {} if importlib.util.find_spec("dask") else None
        return xr.open_datatree(store, engine="zarr", consolidated=False, chunks=chunks)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
