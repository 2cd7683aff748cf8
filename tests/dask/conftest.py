import dask
import pytest


@pytest.fixture
def in_this_thread():
    """Dask's simplest scheduler, whose errors and profiles are plain Python's."""
    with dask.config.set(scheduler="synchronous"):
        yield
