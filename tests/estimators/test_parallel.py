"""Fits in several processes and threads: the same results as one after the other, and no waiting without end."""

import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import jax
import joblib
import numpy as np
import numpyro
import numpyro.distributions as dist
import parallel_script
import pytest
import zoo
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI, Data, mcmc, svi
from skaimz.kernels import Inputs, trace, trace_kernel
from skaimz.sampling import programs, proofs

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

QUICK = SVI(num_steps=50, num_samples=20)

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
y = X @ [1.0, -2.0] + rng.normal(scale=0.5, size=40)


# Processes


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder in which processes share what they compile."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    given = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {name: value for name, value in given.items() if name not in os.environ}


@pytest.mark.parametrize(("backend", "how"), [
    ("loky", {}),
    ("loky", {"on_stdin": True}),
    ("multiprocessing", {"JOBLIB_START_METHOD": "spawn"}),
], ids=["loky", "loky, as in a notebook", "spawn"])  # fmt: skip
def test_processes_find_the_same(backend, how, compiled):
    parallel_script.check_same(parallel_script.run(backend, **compiled, **how))


def test_a_process_forked_after_jax_has_started_is_refused(compiled):
    assert "was forked from one" in parallel_script.run("fork", **compiled)


# Threads


def at_once(functions):
    """Call functions in a thread each, all starting together, with threads switched as often as Python can."""
    barrier = threading.Barrier(len(functions))

    def call(function):
        barrier.wait()
        return function()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(functions)) as pool:
            return list(pool.map(call, functions, timeout=240))
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def nothing_traced():
    """Forget programs, so that kernels run in Python again."""

    def forget():
        for module in (trace, svi, mcmc, programs, proofs):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()

    forget()
    return forget


def with_sites(*names):
    """Return a kernel that lets other threads run wherever it could meet them."""

    def kernel(X, y=None):
        total = X[:, 0]
        for name in names:
            total = total + numpyro.sample(name, dist.Normal(0.0, 1.0))
            time.sleep(0.003)
        with numpyro.plate(f"rows of {names[0]}", X.shape[0]):
            numpyro.sample("y", dist.Normal(total, 1.0), obs=y)

    return kernel


def test_threads_that_trace_do_not_see_each_other():
    """NumPyro's handlers are one stack for all threads."""

    def trace_some(thread):
        found = []
        for number in range(4):
            names = [f"site {i} of {number} in {thread}" for i in range(1 + (thread + number) % 4)]
            traced, _ = trace_kernel(with_sites(*names), Inputs({"X": X}, {}), "X", "y")
            found.append((names, [(site.name, site.dims) for site in traced.spec.sites]))
        return found

    for found in at_once([lambda thread=thread: trace_some(thread) for thread in range(4)]):
        for names, sites in found:
            assert sites == [*((name, ()) for name in names), ("y", (f"rows of {names[0]}",))]


def everything(model, X):
    fitted = clone(model).fit(X, y)
    return [
        *fitted.posterior_.values(),
        *fitted.predict(X, return_std=True),
        fitted.predict_quantiles(X),
        fitted.sample_y(X, 3),
    ]


@pytest.mark.slow
def test_threads_fit_different_kernels_at_once(nothing_traced):
    """In both precisions, which are each thread's own, and by both kinds of inference."""
    chains = MCMC(num_warmup=20, num_samples=20, num_chains=1)
    cases = [
        (NumPyroImpactRegressor(with_sites("a", "b"), inference=QUICK, random_state=0), X),
        (NumPyroImpactRegressor(with_sites("c"), inference=QUICK, random_state=1), X.astype(np.float32)),
        (NumPyroImpactRegressor(with_sites("d"), inference=chains, random_state=2), X),
    ]
    alone = [everything(*case) for case in cases]
    assert [arrays[-1].dtype for arrays in alone] == [np.float64, np.float32, np.float64]
    nothing_traced()
    for one, other in zip(alone, at_once([lambda case=case: everything(*case) for case in cases]), strict=True):
        for array, again in zip(one, other, strict=True):
            assert array.dtype == again.dtype
            np.testing.assert_array_equal(array, again)


def test_threads_predict_at_once(monkeypatch, compilations):
    """Posterior draws are given, so that nothing but prediction is traced; two threads share each estimator."""
    jit = jax.jit

    def slow_jit(function, **options):
        if function.__name__ == "compute":
            time.sleep(0.3)  # so that the other thread asks for the program while it is made
        return jit(function, **options)

    monkeypatch.setattr(jax, "jit", slow_jit)
    draws = rng.normal(size=(4, 30))
    models = [
        NumPyroImpactRegressor(with_sites(f"one of {i}", f"other of {i}"), random_state=0).set_posterior_sample(
            {f"one of {i}": draws[i], f"other of {i}": draws[i]}
        )
        for i in range(4)
    ]
    before = [dict(vars(model)) for model in models]
    for place, predicted in enumerate(at_once([lambda model=model: model.predict(X) for model in models * 2])):
        np.testing.assert_allclose(predicted, X[:, 0] + 2 * draws[place % 4].mean(), rtol=1e-12, atol=1e-12)
    assert [vars(model) for model in models] == before
    assert compilations.count("jit(compute)") == len(models)


@pytest.mark.parametrize("module", [svi, mcmc])
def test_threads_share_programs(module, monkeypatch, nothing_traced):
    make = module.Programs
    monkeypatch.setattr(module, "Programs", lambda *parts: time.sleep(0.05) or make(*parts))
    traced, _ = trace_kernel(zoo.conjugate, Inputs({"X": X}, {}), "X", "y")
    settings = {svi: SVI(), mcmc: MCMC()}[module].checked()
    data = Data({}, {"X": X, "y": y}, {}, None)
    given = (traced, settings, data) if module is svi else (traced, settings, mcmc.groups_of(settings)[0], data)
    programs_of_threads = at_once([lambda: module._programs_of(*given)] * 4)
    assert len({id(found) for found in programs_of_threads}) == 1


def scores(search):
    return [search.cv_results_[f"split{fold}_test_score"].tolist() for fold in range(search.n_splits_)]


def test_a_search_in_threads_finds_the_same_and_compiles_once(nothing_traced, compilations):
    grid = {"kernel__prior_scale": [0.01, 1.0], "inference__learning_rate": [0.05, 0.1]}
    model = NumPyroImpactRegressor(zoo.Shrinkage(), inference=QUICK, random_state=0)
    alone = GridSearchCV(model, grid, cv=3).fit(X, y)
    nothing_traced()
    compilations.clear()
    with joblib.parallel_config(backend="threading"):
        together = GridSearchCV(model, grid, cv=3, n_jobs=2).fit(X, y)
    assert scores(together) == scores(alone)
    assert together.best_params_ == alone.best_params_
    assert Counter(compilations) == dict.fromkeys(["jit(init)", "jit(advance)", "jit(draw)", "jit(compute)"], 1)


# joblib's Memory


def test_memory_in_a_pipeline(tmp_path):
    grid = {"model__kernel__prior_scale": [0.01, 1.0]}
    model = NumPyroImpactRegressor(zoo.Shrinkage(), inference=QUICK, random_state=0)
    plain, cached = (
        GridSearchCV(Pipeline([("scale", StandardScaler()), ("model", model)], memory=memory), grid, cv=3).fit(X, y)
        for memory in (None, joblib.Memory(tmp_path, verbose=0))
    )
    assert scores(cached) == scores(plain)
    np.testing.assert_array_equal(cached.predict(X), plain.predict(X))
    # Three folds and all rows, whatever the model's settings.
    assert len(list(tmp_path.rglob("output.pkl"))) == 4


def fit_and_tell(model, X, y):
    print("fitting")
    return model.fit(X, y)


def test_memory_of_a_fit(tmp_path, capsys):
    """An estimator and its kernel are hashed, and read back from disk."""
    fit = joblib.Memory(tmp_path, verbose=0).cache(fit_and_tell)
    model = NumPyroImpactRegressor(zoo.Shrinkage(), inference=QUICK, random_state=0)
    first, again = (fit(clone(model), X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), again.predict(X))
    other = fit(clone(model).set_params(kernel__prior_scale=0.01), X, y)
    assert abs(other.predict(X)).max() < abs(first.predict(X)).max()
    assert capsys.readouterr().out.split() == ["fitting"] * 2
