"""Rows in Parquet files through a Dask cluster on this machine: how fast they go, how that grows, and what it holds.

Every worker is a process with one thread and a memory limit, at 60 % of which Dask would begin to write to disk what
it holds. Memory is that of the largest worker, sampled ten times a second: its peak over the second tenth of the
time, by when all is under way, and over the last; of the client, its peak. ``python benchmarks/cluster.py NAME ...``
runs the named parts alone; ``--rows N`` sets the rows of the largest part, of which the others take shares.
"""

import argparse
import os
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
from distributed import Client, LocalCluster

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

MIB = 2**20
LIMIT = 1536 * MIB
FILE_ROWS = 250_000
N_DRAWS, N_FEATURES, N_WORKERS = 200, 5, 2
WORK_COLUMNS = ("work", "rows", "time", "rows a second", "a worker, early", "at the end", "spilled", "the client")
FIT_COLUMNS = (
    *("rows in", "rows", "batch", "first epoch", "each further one", "rows a second of it"),
    *("memory of the client, one epoch", "eleven"),
)


def linear(X, y=None):
    import numpyro
    import numpyro.distributions as dist

    coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, sigma), obs=y)


def logistic(X, y=None):
    import numpyro
    import numpyro.distributions as dist

    coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ coef), obs=y)


def model_of(kernel, n_draws, n_features):
    """Return an estimator with a posterior made up for it."""
    rng = np.random.default_rng(0)
    draws = {"coef": 0.3 * rng.standard_normal((n_draws, n_features), dtype=np.float32)}
    if kernel is linear:
        draws["sigma"] = np.abs(rng.standard_normal(n_draws, dtype=np.float32)) + 0.1
    return NumPyroImpactRegressor(kernel, posterior=draws, random_state=0)


# Data


def part_of(number, n_rows, n_features):
    """Return the rows of one file: features ``x0`` and so on, and an outcome ``y``."""
    rng = np.random.default_rng(number)
    X = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(n_features)])
    coef = np.linspace(-1.0, 1.0, n_features, dtype=np.float32)
    frame["y"] = X @ coef + rng.standard_normal(n_rows, dtype=np.float32)
    return frame


def written(folder, n_rows, n_features):
    """Write Parquet files, unless they are there, and return the collection that reads them."""
    path = folder / f"{n_rows}x{n_features}"
    if not path.exists():
        path.mkdir()
        for number, start in enumerate(range(0, n_rows, FILE_ROWS)):
            frame = part_of(number, min(FILE_ROWS, n_rows - start), n_features)
            frame.to_parquet(path / f"{number:05d}.parquet", compression=None)
    frame = dd.read_parquet(path)
    return frame[[f"x{i}" for i in range(n_features)]], frame["y"]


# Measurement


def spilled(dask_worker):
    """Return the bytes that a worker has on disk for want of memory."""
    return dask_worker.data.spilled_total.disk


class Watch:
    """Time, and memory of the largest worker and of this process over time."""

    def __init__(self, client):
        self.processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        self.client, self.spilled = client, 0
        self._over = threading.Event()

    def __enter__(self):
        self.times, self.bytes, self.own = [], [], []
        self._thread = threading.Thread(target=self._sample)
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._start
        self._over.set()
        self._thread.join()
        self.spilled = sum(self.client.run(spilled).values())

    def _sample(self):
        while not self._over.wait(0.1):
            self.times.append(time.perf_counter() - self._start)
            self.bytes.append(max(process.memory_info().rss for process in self.processes))
            self.own.append(psutil.Process().memory_info().rss)

    def peak(self, tenth):
        """Return the peak of memory in a tenth of the time, in MiB."""
        low, high = (self.seconds * (tenth + i) / 10 for i in (0, 1))
        inside = [size for at, size in zip(self.times, self.bytes, strict=True) if low <= at <= high]
        return max(inside, default=max(self.bytes, default=0)) / MIB


class Cluster:
    """Workers on this machine, for as long as a ``with`` block lasts.

    Where ``tuned``, they keep memory that they free, which Dask has them give back to the system, and share the cores.
    """

    def __init__(self, n_workers=N_WORKERS, tuned=True):
        self.n_workers, self.tuned = n_workers, tuned

    def __enter__(self):
        threads = max(1, os.cpu_count() // self.n_workers)
        tuned = {"MALLOC_TRIM_THRESHOLD_": None, "PJRT_NPROC": threads} if self.tuned else {}
        # Dask leaves what it sets in the environment of this process, from where the next cluster would take it.
        for name in ("MALLOC_TRIM_THRESHOLD_", "PJRT_NPROC"):
            os.environ.pop(name, None)
        environ = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in tuned.items()}
        with dask.config.set(environ), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._cluster = LocalCluster(
                n_workers=self.n_workers, threads_per_worker=1, memory_limit=LIMIT, dashboard_address=None
            )
        self._client = Client(self._cluster)
        return self._client

    def __exit__(self, *_):
        self._client.close()
        self._cluster.close()


def row_of(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells):
    row_of(*cells)
    row_of(*("---" for _ in cells))


# Works: each takes an estimator, rows and a folder for the answer, and does its work to the end


def draws_to_disk(model, X, target):
    model.sample_posterior_predictive(X, in_sample=False, output_dir=target)


def mean(model, X, target):
    model.predict(X).sum().compute()


def quantiles(model, X, target):
    model.predict_quantiles(X, [0.05, 0.5, 0.95]).to_zarr(str(target))


def effect(model, X, target):
    # The outcome is not affine in the rows, so that every row is computed under both scenarios.
    scenarios = {"treated": {"columns": {0: 1.0}}}
    model.estimate_effect(X, baseline={"columns": {0: 0.0}}, scenarios=scenarios)


WORKS = {
    "draws to disk": (draws_to_disk, linear),
    "mean": (mean, linear),
    "quantiles to disk": (quantiles, linear),
    "average effect": (effect, logistic),
}


def measure(name, n_rows, folder, n_draws=N_DRAWS, n_features=N_FEATURES, n_workers=N_WORKERS, tuned=True):
    """Do a work once on a fresh cluster, in which its programs are compiled."""
    work, kernel = WORKS[name]
    model = model_of(kernel, n_draws, n_features)
    X, _ = written(folder, n_rows, n_features)
    few = dd.from_pandas(part_of(0, 2 * n_workers * 20_000, n_features).drop(columns="y"), npartitions=2 * n_workers)
    with Cluster(n_workers, tuned) as client:
        work(model, few, folder / "few")
        with Watch(client) as watch:
            work(model, X, folder / "answer")
    for answer in ("few", "answer"):
        shutil.rmtree(folder / answer, ignore_errors=True)
    return watch


# Parts


def part_size(n_rows, folder):
    """Measure the two large works."""
    head(*WORK_COLUMNS)
    for name, rows in {"draws to disk": n_rows, "average effect": 5 * n_rows}.items():
        watch = measure(name, rows, folder)
        row_of(
            name,
            f"{rows:,}",
            f"{watch.seconds:.1f} s",
            f"{rows / watch.seconds / 1e6:.2f} M",
            *(f"{size:.0f} MiB" for size in (watch.peak(1), watch.peak(9), watch.spilled / MIB, max(watch.own) / MIB)),
        )
        shutil.rmtree(folder / f"{rows}x{N_FEATURES}")


def part_growth(n_rows, folder):
    """Measure how times grow with one number at a time."""
    base = n_rows // 8
    changes = {
        **{f"{base // share:,} rows": {"n_rows": base // share} for share in (4, 2, 1)},
        **{f"{n_draws} draws": {"n_draws": n_draws} for n_draws in (100, 400)},
        "20 features": {"n_features": 20},
        **{f"{n_workers} worker{'s' * (n_workers > 1)}": {"n_workers": n_workers} for n_workers in (1, 4)},
        "Dask's settings": {"tuned": False},
    }
    head("time for", *WORKS)
    watches = {name: [] for name in WORKS}
    for what, change in changes.items():
        for name, before in watches.items():
            before.append(measure(name, folder=folder, **{"n_rows": base, **change}))
        row_of(what, *(f"{of_work[-1].seconds:.1f} s" for of_work in watches.values()))
    most = (max(watch.peak(9) for watch in of_work) for of_work in watches.values())
    row_of("a worker, at the end, at most", *(f"{size:.0f} MiB" for size in most))
    spilled = (sum(watch.spilled for watch in of_work) / MIB for of_work in watches.values())
    row_of("spilled, all together", *(f"{size:.0f} MiB" for size in spilled))


def part_fit(n_rows, folder):
    """Measure epochs of a fit in minibatches: from Parquet files through the cluster, and from a memory-mapped file."""
    n_rows, size = n_rows // 2, 8192
    X, y = written(folder, n_rows, N_FEATURES)
    path = folder / "rows.npy"
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, N_FEATURES))
    outcome = np.lib.format.open_memmap(folder / "y.npy", mode="w+", dtype=np.float32, shape=(n_rows,))
    for number, start in enumerate(range(0, n_rows, FILE_ROWS)):
        frame = part_of(number, min(FILE_ROWS, n_rows - start), N_FEATURES)
        mapped[start : start + len(frame)] = frame.drop(columns="y")
        outcome[start : start + len(frame)] = frame["y"]
    head(*FIT_COLUMNS)
    with Cluster() as client:
        for what, rows in {"Parquet, by the cluster": (X, y), "a memory-mapped file": (mapped, outcome)}.items():
            found = {}
            for epochs in (1, 1, 11):
                model = NumPyroImpactRegressor(
                    linear, inference=SVI(batch_size=size, num_epochs=epochs), random_state=0
                )
                with warnings.catch_warnings(), Watch(client) as watch:
                    warnings.simplefilter("ignore")
                    model.fit(*rows)
                found[epochs] = watch  # the first run compiles
            more = (found[11].seconds - found[1].seconds) / 10
            row_of(
                what,
                f"{n_rows:,}",
                size,
                f"{found[1].seconds:.1f} s",
                f"{more:.1f} s",
                f"{n_rows / more / 1e6:.2f} M",
                f"{max(found[1].own) / MIB:.0f} MiB",
                f"{max(found[11].own) / MIB:.0f} MiB",
            )


PARTS = {"size": part_size, "growth": part_growth, "fit": part_fit}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="parts to run; all where none is named")
    parser.add_argument("--rows", type=int, default=20_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for part in asked.parts or PARTS:
            PARTS[part](asked.rows, Path(name))
            print(flush=True)


if __name__ == "__main__":
    main()
