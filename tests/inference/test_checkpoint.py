"""A fit that was killed goes on to the same draws, and what it saved belongs to it alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import StoppedFitWarning
from skaimz.inference import MCMC, SVI, Auto

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 2))
Y = X @ [1.0, -2.0] + RNG.normal(size=60)


def kernel(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0, 5).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, noise), obs=y)


FITS = {
    "svi": SVI(num_steps=3000),
    "minibatches": SVI(num_steps=3000, batch_size=16),
    "early": SVI(num_steps=8000, early_stopping=True, learning_rate=0.01),
    "chains": MCMC(num_warmup=300, num_samples=900, num_chains=2, thinning=3),
    "one after the other": MCMC(num_warmup=300, num_samples=900, num_chains=2, chain_method="sequential"),
    "together": MCMC(num_warmup=300, num_samples=900, num_chains=2, chain_method="vectorized"),
}


class Killer:
    """End the process, as a machine that goes down would, once a fit has done so many steps of a phase."""

    def __init__(self, phase, done):
        self.phase, self.done = phase, done

    def __call__(self, progress):
        if progress.phase == self.phase and progress.done >= self.done:
            os._exit(9)


def fit(name, folder, callback=None):
    settings = FITS[name].set_params(checkpoint_dir=folder, callback=callback)
    return NumPyroImpactRegressor(kernel, inference=settings, random_state=5).fit(X, Y)


def fit_in_process(name, folder, phase, done):
    code = f"import test_checkpoint as t; t.fit({name!r}, {str(folder)!r}, t.Killer({phase!r}, {done}))"
    here = Path(__file__).parent
    return subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "phase", "done"),
    [
        ("svi", "SVI", 300),
        ("svi", "SVI", 2400),
        ("minibatches", "SVI", 1500),
        ("early", "SVI", 1500),
        ("chains", "MCMC warm-up", 200),
        ("chains", "MCMC", 200),
        ("one after the other", "MCMC", 1000),
        ("together", "MCMC", 500),
    ],
)
def test_killed_fit_goes_on_to_the_same_draws(tmp_path, name, phase, done):
    killed = fit_in_process(name, tmp_path, phase, done)
    assert killed.returncode == 9, killed.stderr
    saved = list(tmp_path.glob("fit-*/**/*.npz"))
    assert saved
    seen = []
    resumed = fit(name, tmp_path, lambda progress: seen.append(progress.done))
    whole = fit(name, None)
    for site, draws in whole.posterior_.items():
        np.testing.assert_array_equal(resumed.posterior_[site], draws)
    for statistic, values in whole.fit_result_.sample_stats.items():
        np.testing.assert_array_equal(resumed.fit_result_.sample_stats[statistic], values)
    if whole.fit_result_.losses is not None:
        np.testing.assert_allclose(resumed.fit_result_.losses, whole.fit_result_.losses, rtol=1e-12)
    assert not list(tmp_path.iterdir())


def test_stopped_fit_goes_on(tmp_path):
    with pytest.warns(StoppedFitWarning):
        stopped = fit("svi", tmp_path, lambda progress: progress.done > 500)
    assert 500 < len(stopped.fit_result_.losses) < 3000
    seen = []
    resumed = fit("svi", tmp_path, lambda progress: seen.append(progress.done))
    assert seen[0] > len(stopped.fit_result_.losses)
    np.testing.assert_array_equal(resumed.posterior_["coef"], fit("svi", None).posterior_["coef"])


def test_automatic_inference_saves_its_chains(tmp_path):
    def two_humps(X, y=None):
        place = numpyro.sample("place", dist.Normal(0, 5))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(place**2 + 0 * X[:, 0], 1.0), obs=y)

    def stop(progress):
        return progress.phase == "MCMC" and progress.done > 3000

    model = NumPyroImpactRegressor(two_humps, random_state=0)
    model.set_params(inference=Auto(checkpoint_dir=tmp_path, callback=stop))
    with pytest.warns(Warning):  # noqa: PT030 -- chains in two modes disagree, besides
        model.fit(X, X[:, 0] ** 2 + 4)
    assert {path.name for path in tmp_path.glob("fit-*/nuts/*")} >= {"draws 0.npz", "warm-up 0.npz"}


@pytest.mark.parametrize("other", ["data", "seed", "settings", "kernel"])
def test_checkpoint_of_another_fit_is_left_alone(tmp_path, other):
    with pytest.warns(StoppedFitWarning):
        fit("svi", tmp_path, lambda progress: progress.done > 500)
    (before,) = tmp_path.iterdir()

    def another(X, y=None):
        kernel(X, y)

    seen = []
    settings = SVI(num_steps=700 if other == "settings" else 3000, callback=lambda p: seen.append(p.done))
    model = NumPyroImpactRegressor(
        another if other == "kernel" else kernel,
        inference=settings.set_params(checkpoint_dir=tmp_path),
        random_state=6 if other == "seed" else 5,
    )
    model.fit(X, Y + (other == "data"))
    assert seen[0] < 500
    assert list(tmp_path.iterdir()) == [before]


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.warns(StoppedFitWarning):
        fit("svi", tmp_path, lambda progress: progress.done > 500)
    (file,) = tmp_path.glob("fit-*/svi.npz")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"svi\.npz' cannot be read.*Delete it"):
        fit("svi", tmp_path)


def test_seed_must_be_an_integer(tmp_path):
    model = NumPyroImpactRegressor(kernel, inference=SVI(checkpoint_dir=tmp_path))
    with pytest.raises(ValueError, match="`checkpoint_dir` needs an integer `random_state`"):
        model.fit(X, Y)
    with pytest.raises(TypeError, match="`checkpoint_dir` must be the path of a folder, got 3"):
        model.set_params(inference__checkpoint_dir=3).fit(X, Y)
