"""Clusters of worker processes on this machine, and what makes their workers tell of themselves or die."""

import contextlib
import os
import signal
import time
import warnings
from pathlib import Path

import zoo


@contextlib.contextmanager
def processes(count):
    """Start as many workers, with a thread each, and give their client."""
    from distributed import Client, LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client
            # Dask trips over a worker that comes back while its cluster closes.
            end = time.monotonic() + 30
            while time.monotonic() < end:
                known = {*cluster.scheduler_info["workers"]}
                if len(known) == len(cluster.workers) and known == {*client.scheduler_info(n_workers=-1)["workers"]}:
                    break
                time.sleep(0.1)


class KilledOnce:
    """Kills the worker that it first runs in, by SIGKILL, and does nothing then.

    Parameters
    ----------
    mark : str
        File that tells of it.
    """

    def __init__(self, mark):
        self.mark, self.home = mark, os.getpid()

    def __call__(self, block):
        if os.getpid() != self.home:
            with contextlib.suppress(FileExistsError):
                Path(self.mark).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return block


class KernelKilledOnce(KilledOnce):
    """A kernel whose first run in a worker kills that."""

    def __call__(self, X, y=None):
        super().__call__(None)
        zoo.conjugate(X, y)


class TellingKernel:
    """A kernel that writes the number of each process that it arrives in to a file.

    Parameters
    ----------
    file : str
    """

    def __init__(self, file):
        self.file = file

    def __call__(self, X, y=None):
        zoo.conjugate(X, y)

    def __reduce__(self):
        return _arrive, (self.file,)


def _arrive(file):
    with Path(file).open("a") as told:
        told.write(f"{os.getpid()}\n")
    return TellingKernel(file)
