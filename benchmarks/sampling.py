"""Draws, means and quantiles: against aimz and NumPyro's ``Predictive``.

Each system runs in a process of its own; the runs are interleaved, and the table gives medians of time and the peak of
memory that a run took beyond what the process held before. ``python benchmarks/sampling.py NAME ...`` runs the named
tasks alone; without names all of them.
"""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_DRAWS = 1000
MIB = 2**20


# Kernels


def linear(X, y=None):
    import numpyro
    import numpyro.distributions as dist

    coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, sigma), obs=y)


def make_kernel(distribution):
    """Return a kernel with a linear predictor and an outcome distribution of its own."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    distributions = {
        "bernoulli": lambda eta: dist.Bernoulli(logits=eta),
        "poisson": lambda eta: dist.Poisson(jnp.exp(eta)),
        "negative binomial": lambda eta: dist.NegativeBinomial2(jnp.exp(eta), 3.0),
        "gamma": lambda eta: dist.Gamma(2.0, 2.0 * jnp.exp(-eta)),
        "student t": lambda eta: dist.StudentT(4.0, eta, 1.0),
        "binomial": lambda eta: dist.Binomial(10, logits=eta),
    }

    def kernel(X, y=None):
        coef = numpyro.sample("coef", dist.Normal(0.0, 0.2).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", distributions[distribution](X @ coef), obs=y)

    return kernel


def network(X, y=None):
    """The network of the aimz paper."""
    import jax
    import numpyro
    import numpyro.distributions as dist

    hidden, sizes = X, (100, 128, 128, 128, 1)
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        weight = numpyro.sample(f"weight_{layer}", dist.Normal().expand([n_in, n_out]).to_event(2))
        bias = numpyro.sample(f"bias_{layer}", dist.Normal().expand([n_out]).to_event(1))
        hidden = hidden @ weight + bias
        hidden = jax.nn.relu(hidden) if layer < 3 else hidden
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(probs=jax.nn.sigmoid(hidden[..., 0])), obs=y)


def problem(model, n_rows):
    """Return kernel, rows and posterior draws."""
    import numpy as np

    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    if model == "network":
        sizes = (100, 128, 128, 128, 1)
        draws = {}
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            draws |= {f"weight_{layer}": normal(N_DRAWS, n_in, n_out), f"bias_{layer}": normal(N_DRAWS, n_out)}
        return network, normal(n_rows, 100), draws
    X = normal(n_rows, 20)
    if model == "linear":
        return linear, X, {"coef": normal(N_DRAWS, 20), "sigma": np.abs(normal(N_DRAWS)) + 0.1}
    return make_kernel(model), X, {"coef": 0.2 * normal(N_DRAWS, 20)}


# Systems: each returns a function that runs a task once


def ours(model, task, n_rows, folder):
    import numpy as np

    from skaimz import NumPyroImpactRegressor

    kernel, X, draws = problem(model, n_rows)
    estimator = NumPyroImpactRegressor(kernel, posterior=draws, random_state=0)
    estimator.fit(X[:100], np.ones(100, np.float32))
    stream = estimator.sample_posterior_predictive
    untreated = {"columns": {0: 0.0}}
    scenarios = {f"dose {dose}": {"columns": {0: float(dose)}} for dose in range(1, 9)}
    one = {"dose 1": scenarios["dose 1"]}
    return {
        "effect": lambda: estimator.estimate_effect(X, baseline=untreated, scenarios=one),
        "8 effects": lambda: estimator.estimate_effect(X, baseline=untreated, scenarios=scenarios),
        "mean": lambda: estimator.predict(X),
        "quantiles": lambda: estimator.predict_quantiles(X, [0.05, 0.95]),
        "disk": lambda: stream(X, in_sample=False, store="zarr", output_dir=folder),
        "memory": lambda: stream(X, in_sample=False, store="memory"),
    }[task]


def aimz(model, task, n_rows, folder):
    import jax
    import numpy as np
    from aimz import ImpactModel
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.optim import Adam

    kernel, X, draws = problem(model, n_rows)
    X = np.asarray(X)
    impact = ImpactModel(kernel, jax.random.key(0), SVI(kernel, AutoNormal(kernel), Adam(0.01), Trace_ELBO()))
    impact.fit_on_batch(X[:100], np.ones(100, np.float32), num_steps=1, progress=False)
    impact.set_posterior_sample(draws)

    def predict():
        return impact.predict(X, in_sample=False, output_dir=folder, progress=False)

    def read():
        return predict()["predictions"]["y"]

    def whole(draws):
        return draws.chunk({"chain": -1, "draw": -1})

    def effect():
        moved = (np.where(np.arange(X.shape[1]) == 0, np.float32(dose), X) for dose in (0, 1))
        baseline, treated = (
            {"X": rows, "in_sample": False, "progress": False, "output_dir": f"{folder}-{i}"}
            for i, rows in enumerate(moved)
        )
        draws = impact.estimate_effect(args_baseline=baseline, args_intervention=treated)["predictions"]["y"]
        return draws.mean([dim for dim in draws.dims if dim not in ("chain", "draw")]).to_numpy()

    return {
        "mean": lambda: read().mean(("chain", "draw")).to_numpy(),
        "quantiles": lambda: whole(read()).quantile([0.05, 0.95], ("chain", "draw")).to_numpy(),
        "disk": predict,
        "effect": effect,
    }[task]


def predictive(model, task, n_rows, folder):
    import jax
    from numpyro.infer import Predictive

    kernel, X, draws = problem(model, n_rows)
    sample = Predictive(kernel, draws)
    return lambda: jax.block_until_ready(sample(jax.random.key(0), X))


SYSTEMS = {"skaimz": ours, "aimz": aimz, "Predictive": predictive}


def work(system, model, task, n_rows):
    """Answer every line of the input with the seconds and the peak of extra memory of a run."""
    n_rows, folder = int(n_rows), Path(tempfile.mkdtemp()) / "draws"
    run = SYSTEMS[system](model, task, n_rows, str(folder))
    run()
    for _ in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        seconds = []
        # As timeit does: what is fast is repeated, since the first of its runs also pays for a processor gone cold.
        while sum(seconds) < 0.5:
            for left in folder.parent.iterdir():
                shutil.rmtree(left, ignore_errors=True)
            start = time.perf_counter()
            result = run()
            seconds.append(time.perf_counter() - start)
            if len(seconds) == 1:
                extra = memory("VmHWM") - before
            del result
        print(json.dumps([statistics.median(seconds), extra]), flush=True)
    shutil.rmtree(folder.parent, ignore_errors=True)


def memory(field):
    """Return a field of the process's status in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def settle(size=4 * 2**30):
    """Let no run pay for what came before it.

    What the run before wrote is brought to the disk, and memory is written to and freed, so that a virtual machine's
    host has already given it when a run asks for it.
    """
    import numpy as np

    os.sync()
    np.empty(size, np.uint8).fill(1)


class Worker:
    """A system in a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, __file__, "--work", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(self):
        settle()
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# Tasks: name, model, what, rows, reference, rounds, goal
TASKS = [
    ("mean", "posterior mean, 100,000 rows", "linear", "mean", 100_000, "aimz", 5, "100x"),
    ("disk", "draws to disk, 100,000 rows", "linear", "disk", 100_000, "aimz", 5, "5x"),
    ("disk-1m", "draws to disk, 1,000,000 rows", "linear", "disk", 1_000_000, "aimz", 3, "5x"),
    ("memory", "draws in memory, 100,000 rows", "linear", "memory", 100_000, "Predictive", 5, "5x"),
    ("quantiles", "5 % and 95 % quantiles, 100,000 rows", "linear", "quantiles", 100_000, "aimz", 5, "15x"),
    ("effect", "average effect, 100,000 rows", "linear", "effect", 100_000, "aimz", 5, "100x"),
    ("effect-bernoulli", "average effect, Bernoulli, 100,000 rows", "bernoulli", "effect", 100_000, "aimz", 3, ""),
    ("effect-1m", "average effect, 1,000,000 rows", "linear", "effect", 1_000_000, "aimz", 2, "100x"),
    ("bernoulli", "Bernoulli draws to disk, 100,000 rows", "bernoulli", "disk", 100_000, "aimz", 5, ""),
    *(
        (
            distribution.replace(" ", "-"),
            f"{distribution} draws to disk, 20,000 rows",
            distribution,
            "disk",
            20_000,
            "aimz",
            3,
            "8x",
        )
        for distribution in ("poisson", "negative binomial", "gamma", "student t", "binomial")
    ),
    ("network", "Bayesian network to disk, 10,000 rows", "network", "disk", 10_000, "aimz", 3, "1.15x"),
]


def compare(title, model, task, n_rows, reference, rounds, goal):
    """Run both systems in turn and print a row of the table."""
    workers = [Worker(system, model, task, n_rows) for system in ("skaimz", reference)]
    runs = [[worker.run() for worker in workers] for _ in range(rounds)]
    for worker in workers:
        worker.close()
    (mine, mine_mib), (theirs, theirs_mib) = (
        (statistics.median(run[i][0] for run in runs), max(run[i][1] for run in runs)) for i in (0, 1)
    )
    print(
        f"| {title} | {reference} {theirs:.2f} s, {theirs_mib:.0f} MiB | {mine:.3f} s, {mine_mib:.0f} MiB | "
        f"{theirs / mine:.1f}x | {goal} |",
        flush=True,
    )
    return mine


def scaling():
    """Print how the time of a row changes from 10,000 to 1,000,000 rows."""
    for task in ("mean", "disk"):
        sizes = (10_000, 100_000, 1_000_000)
        workers = [Worker("skaimz", "linear", task, n_rows) for n_rows in sizes]
        runs = [[worker.run()[0] for worker in workers] for _ in range(5)]
        for worker in workers:
            worker.close()
        times = [statistics.median(run[i] for run in runs) / n_rows for i, n_rows in enumerate(sizes)]
        shown = ", ".join(f"{1e6 * each:.2f}" for each in times)
        print(f"- {task}: {shown} µs a row at 10,000, 100,000 and 1,000,000 rows: {times[2] / times[0]:.2f} times")


def many_scenarios():
    """Print what eight scenarios cost, where tiles are computed for each."""
    workers = [Worker("skaimz", "bernoulli", task, 100_000) for task in ("effect", "8 effects")]
    runs = [[worker.run()[0] for worker in workers] for _ in range(5)]
    for worker in workers:
        worker.close()
    one, eight = (statistics.median(run[i] for run in runs) for i in (0, 1))
    print(
        f"- 8 scenarios, Bernoulli, 100,000 rows: {eight:.3f} s in one pass; one: {one:.3f} s, {eight / one:.1f} times"
    )


def matrix_rate():
    """Print the rate of a large matrix product, and that of the network's."""
    import jax
    import numpy as np

    size, product = 4096, jax.jit(lambda a: a @ a)
    a = jax.numpy.asarray(np.random.default_rng(0).standard_normal((size, size), dtype=np.float32))
    product(a).block_until_ready()
    worker = Worker("skaimz", "network", "disk", 10_000)
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(5):
            product(a).block_until_ready()
        one = 5 * 2 * size**3 / (time.perf_counter() - start) / 1e9
        flops = 2 * (100 * 128 + 2 * 128 * 128 + 128) * 10_000 * N_DRAWS
        rates.append((one, flops / worker.run()[0] / 1e9))
    worker.close()
    one, network_rate = (statistics.median(rate[i] for rate in rates) for i in (0, 1))
    print(f"- network: {network_rate:.0f} GFLOP/s, one large product {one:.0f}: {network_rate / one:.0%}", flush=True)


def main(names):
    print(f"{N_DRAWS} draws, 20 features (network: 100), {os.cpu_count()} cores; medians, peak extra memory\n")
    print("| work | reference | skaimz | ratio | goal |\n| --- | --- | --- | --- | --- |")
    for name, *task in TASKS:
        if not names or name in names:
            compare(*task)
    print()
    if not names or "network" in names:
        matrix_rate()
    if not names or "scenarios" in names:
        many_scenarios()
    if not names or "scaling" in names:
        scaling()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        main(set(sys.argv[1:]))
