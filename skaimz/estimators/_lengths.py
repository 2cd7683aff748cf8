"""Arrays that are passed whole and have an entry for each level of an argument, where a call has other levels."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from skaimz.estimators._columns import open_arguments

__all__ = ["lengths_checked"]


class _Entries(NamedTuple):
    """An axis of an array that had as many entries in the fit as an argument had levels."""

    name: str
    axis: int
    size: int
    argument: str
    n_known: int
    n_new: int

    @property
    def needed(self) -> int:
        return self.n_known + self.n_new


@contextlib.contextmanager
def lengths_checked(call: Any) -> Iterator[None]:
    """Say which array has too few or too many entries for the levels of a call.

    Blocks of a Dask collection see different new levels, so that no array fits them: it is refused.
    """
    found = list(_entries(call))
    if call.part is not None and (more := [each for each in found if each.size > each.n_known]):
        raise ValueError(
            f"Argument {more[0].name!r} has entries for new levels of {more[0].argument!r}. Dask collections are "
            "computed block by block, which see different ones: pass `X.compute()`."
        )
    for each in found:
        if each.size not in (each.n_known, each.needed):
            raise _wrong_length(each)
    try:
        yield
    except Exception as error:
        # An array that has as many entries as the fit had levels may have them for another reason.
        fewer = [each for each in found if each.size != each.needed]
        if fewer and _runs_with_other_lengths(call, fewer):
            raise _wrong_length(fewer[0]) from error
        raise


def _wrong_length(entries: _Entries) -> ValueError:
    name, axis, size, argument, n_known, n_new = entries
    return ValueError(
        f"Argument {name!r} has the length {size} on axis {axis}, and needs {entries.needed}: an entry for each level "
        f"of {argument!r}, those of `fit` first ({n_known}), then those that are new ({n_new}), in the order of X."
    )


def _entries(call: Any) -> Iterator[_Entries]:
    model = call.model
    for argument in open_arguments(model.column_args):
        (categories, *_) = (model.categories or {}).get(argument, [None])
        if categories is None:
            continue
        for name, (shape, _) in model.arguments.get("whole", {}).items():
            now = np.shape(call.arrays.get(name, ()))
            for axis, size in enumerate(shape if len(now) == len(shape) else ()):
                if size == len(categories):
                    yield _Entries(name, axis, now[axis], argument, size, len(call.levels.get(argument, ())))


def _runs_with_other_lengths(call: Any, wrong: list[_Entries]) -> bool:
    arrays = dict(call.arrays)
    for each in wrong:
        arrays[each.name] = np.take(arrays[each.name], np.arange(each.needed) % max(each.size, 1), each.axis)
    try:
        replace(call, arrays=arrays).traced  # noqa: B018
    except Exception:
        return False
    return True
