"""Ctrl-C during a fit: it raises soon, and the estimator is as it was."""

import gc
import os
import signal
import threading
import weakref

import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI, chunks
from skaimz.sampling import drawing

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

X = np.random.default_rng(0).normal(size=(40, 2))
y = X[:, 0]


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("settings", [
    SVI(num_steps=10**9, num_samples=10),
    MCMC(num_warmup=10**8, num_samples=10, num_chains=1),
], ids=["svi", "mcmc"])  # fmt: skip
def test_interrupting_leaves_the_estimator_as_it_was(settings, monkeypatch):
    model = NumPyroImpactRegressor(zoo.conjugate, inference=SVI(num_steps=50, num_samples=10), random_state=0)
    model.fit(X, y)
    model.set_params(inference=settings)
    before = dict(vars(model))
    steps = []
    run = chunks.time.perf_counter

    def count():
        # The clock is read around every chunk: a first one has ended when it has been read twice.
        steps.append(run())
        if len(steps) == 4:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return steps[-1]

    monkeypatch.setattr(chunks.time, "perf_counter", count)
    if isinstance(settings, SVI):  # a billion losses are more than memory is worth here
        settings.set_params(num_steps=10**7)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert vars(model) == before
    assert max(np.diff(steps[2:])) < 1.0


@pytest.mark.parametrize("settings", [
    SVI(num_steps=300, num_samples=10),
    MCMC(num_warmup=20, num_samples=20, num_chains=1),
], ids=["svi", "mcmc"])  # fmt: skip
def test_verbose_shows_progress(settings, capsys):
    NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0, verbose=1).fit(X, y)
    shown = capsys.readouterr().err
    assert "SVI: 100%" in shown or "MCMC: 100%" in shown
    NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(X, y)
    assert capsys.readouterr().err == ""


def test_an_interrupted_call_holds_no_draws(monkeypatch):
    """Not even where its error is kept, as notebooks keep the last one."""
    model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((50, 2))}, random_state=0)
    place, held = drawing.to_place, []

    def interrupted(target, *args):
        # The memory that a part of the draws lies in.
        held.append(weakref.ref(target.base))
        if len(held) == 3:
            del target, args  # the frame of this function is kept with the error
            raise KeyboardInterrupt
        place(target, *args)

    monkeypatch.setattr(drawing, "to_place", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.sample_posterior_predictive(np.ones((5000, 2)), in_sample=False, store="memory")
    del interrupted
    monkeypatch.undo()
    gc.collect()
    assert caught.value is not None
    assert held[0]() is None
