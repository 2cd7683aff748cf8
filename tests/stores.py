"""Stores of draws, seen from outside."""

import contextlib
import json
import re

import pytest

from skaimz.sampling.plan import Batch


def attributes(folder):
    return json.loads((folder / "zarr.json").read_text())["attributes"]


def marks(folder):
    """Return the numbers of the batches that an incomplete store has."""
    return sorted(int(mark.name) for mark in (folder / ".batches").iterdir() if not mark.suffix)


def snapshot(folder):
    """Return every file of a folder, and None for its folders."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def assert_same_files(folder, other):
    """Two stores agree in every byte but the time and place of their making."""
    found, expected = snapshot(folder), snapshot(other)
    assert sorted(found) == sorted(expected)
    for files in (found, expected):
        files["zarr.json"] = re.sub(rb'"(created_at|artifact_path)": "[^"]*"', b"", files["zarr.json"])
    assert [name for name in found if found[name] != expected[name]] == []


@contextlib.contextmanager
def breaking(owner, method, error, fails):
    """Let a method raise for some batches."""
    original = getattr(owner, method)

    def broken(*args):
        if fails(next(arg for arg in args if isinstance(arg, Batch)).number):
            raise error
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, broken)
        yield
