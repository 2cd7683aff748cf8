import os
import signal

import jax
import numpy as np
import pytest
from hypothesis import settings

from skaimz.inference import shuffle, svi

# Every run of the suite is the same run. `--hypothesis-profile=default` looks for examples that were not tried yet.
settings.register_profile("same", derandomize=True, deadline=None)
# `make doors`: as many examples as one has time for.
settings.register_profile("long", max_examples=int(os.environ.get("EXAMPLES", "20000")), deadline=None)
settings.load_profile("same")


def _seed_global_generator():
    """Start the generator behind ``random_state=None``: an unlucky fit may warn, which is an error here."""
    np.random.seed(0)  # noqa: NPY002


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup():
    _seed_global_generator()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    _seed_global_generator()


@pytest.fixture
def strict_jax():
    """Let no arrays of different rank meet by accident, and no NaN arise. NumPyro's guides themselves do both."""
    with jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _bounded_compiled_code():
    """Forget compiled programs after each module: NumPyro's own are many, and each holds memory maps."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def quick_compilation():
    """Compile quickly rather than well, here and in processes to come: fits of a few rows wait for the compiler."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
        yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def _interruptible():
    """Python's own handling of Ctrl-C, which is off in a process that was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def compilations():
    """Count programs that JAX compiles: a list that grows by a name for each."""
    names: list[str] = []

    def listen(event, _duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def small_windows(request):
    """Cut epochs into windows of the module's WINDOW rows, in blocks of its BLOCK rows, which a few rows fill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "WINDOW_ROWS", request.module.WINDOW)
        patch.setattr(shuffle, "BLOCK_ROWS", request.module.BLOCK)
        # The programs of other modules know other windows.
        svi._programs.cache_clear()
        yield
    svi._programs.cache_clear()


@pytest.fixture(scope="session")
def linear_data():
    """60 rows of a linear relation with known noise, in float64."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    return X, 1.0 + X @ [2.0, -1.0] + rng.normal(scale=0.5, size=60)
