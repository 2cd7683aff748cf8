"""Stores of draws seen from outside, and what may befall those who write them."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from distributed import WorkerPlugin

from skaimz.sampling import store
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


class DiesOnce(WorkerPlugin):
    """The first worker that writes a certain file is killed when it has written half of it."""

    def __init__(self, file, died):
        self.file, self.died = file, died

    def setup(self, worker):
        replace = store._replace

        def dying(path, content):
            if path == self.file and not self.died.exists():
                self.died.touch()
                path.with_name(f"{path.name}.half.partial").write_bytes(bytes(content)[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            replace(path, content)

        store._replace = dying


def slowly(block):
    """Return rows that take some time to load."""
    time.sleep(0.1)
    return block


def removing(block, folder, block_info=None):
    """Return rows whose last chunk removes a folder."""
    if block_info[0]["chunk-location"][0] == block_info[0]["num-chunks"][0] - 1:
        Path(folder).rename(f"{folder} elsewhere")
    return block
