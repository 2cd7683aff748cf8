"""Effective draws per second of ours, NumPyro's, blackjax's and nutpie's No-U-Turn samplers.

``python benchmarks/chains.py`` measures four posteriors. ``--quick`` runs short chains once. Name problems or sides to
measure only those.

Each measurement is a process of its own, and sides take turns. *Cold* is the first fit of a process, and includes
tracing and compilation, but no imports. *Warm* is another fit with another seed: ours of a fresh estimator, theirs of
the object that has run before, whatever that keeps (NumPyro's compiles again). Seconds end when the draws are arrays
on the host.

Effective draws are those of the bulk (Vehtari et al. 2021), the least over all elements of all latent sites. Where
automatic inference answers with weighted draws, they are at most the effective size of the weights. All compute in
float32 but automatic inference, which does so in float64; ``--double`` lets all compute in float64.
"""

import argparse
import functools
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model
from sklearn.datasets import load_diabetes

import skaimz
from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor

NUM_CHAINS = 4
LIBRARIES = ("blackjax", "nutpie")
KINDS = ("cold", "warm")

# Posteriors


def logistic(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=intercept + X @ coef), obs=y)


def logistic_rows():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2000, 20))
    y = rng.random(2000) < 1 / (1 + np.exp(-X @ rng.normal(scale=0.7, size=20)))
    return {"X": X, "y": y.astype(int)}


def radon(X, y=None, *, county):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("counties", 85):
        off = numpyro.sample("off", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + tau * off[county] + X @ coef, sigma), obs=y)


def radon_rows():
    rng = np.random.default_rng(2)
    county = np.concatenate([np.arange(85), rng.choice(85, 815, p=rng.dirichlet(np.full(85, 0.5)))])
    X = np.column_stack([rng.random(900) < 0.2, rng.normal(size=85)[county]]).astype(float)
    y = 1.4 + 0.3 * rng.normal(size=85)[county] + X @ [-0.7, 0.4] + 0.75 * rng.normal(size=900)
    return {"X": X, "y": y, "county": county}


def regression(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 1000.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 100.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(200.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + X @ coef, sigma), obs=y)


def diabetes_rows():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return {"X": X, "y": y}


def horseshoe(X, y=None):
    tau = numpyro.sample("tau", dist.HalfCauchy(0.1))
    local = numpyro.sample("local", dist.HalfCauchy(1.0).expand([X.shape[1]]).to_event(1))
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ (tau * local * off), sigma), obs=y)


def horseshoe_rows():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 60))
    return {"X": X, "y": X[:, :4] @ [2.0, -1.0, 0.5, 0.3] + rng.normal(size=200)}


PROBLEMS = {
    "logistic 2000 x 20": (logistic, logistic_rows),
    "radon-like 900, 85 groups": (radon, radon_rows),
    "diabetes, raw units": (regression, diabetes_rows),
    "horseshoe 200 x 60": (horseshoe, horseshoe_rows),
}


# Sides. Each takes a kernel, its arguments and numbers of steps, and returns a function of a seed that gives draws of
# the latent sites, leapfrog steps in all, and how many draws the weights of weighted ones are worth.


def ours(inference, kernel, rows, warmup, draws):
    rows = dict(rows)
    X, y = rows.pop("X"), rows.pop("y")
    kind = NumPyroImpactClassifier if kernel is logistic else NumPyroImpactRegressor

    def run(seed):
        model = kind(kernel, inference=inference(warmup, draws), random_state=seed).fit(X, y, **rows)
        result = model.fit_result_
        steps = result.sample_stats.get("n_steps", np.zeros(1))
        return result.draws, float(steps.mean()), result.diagnostics.get("ess_of_weights")

    return run


def numpyro_chains(method, kernel, rows, warmup, draws):
    # As `numpyro.infer.MCMC` is told to in NumPyro's documentation.
    options = {} if method is None else {"chain_method": method}
    mcmc = MCMC(
        NUTS(kernel), num_warmup=warmup, num_samples=draws, num_chains=NUM_CHAINS, progress_bar=False, **options
    )

    def run(seed):
        mcmc.run(jax.random.key(seed), **rows, extra_fields=("num_steps",))
        found = mcmc.get_samples(group_by_chain=True)
        latent = {name: np.asarray(found[name]) for name in mcmc.last_state.z}
        return latent, float(mcmc.get_extra_fields()["num_steps"].mean()), None

    return run


def initialised(kernel, rows):
    info = initialize_model(jax.random.key(0), kernel, model_kwargs=rows)
    return info, lambda position: -info.potential_fn(position)


def blackjax_chains(kernel, rows, warmup, draws):
    # "Use BlackJAX with NumPyro" and "Sample with multiple chains" in blackjax's documentation.
    import blackjax

    info, density = initialised(kernel, rows)

    def chain(key, position):
        first, later = jax.random.split(key)
        adapt = blackjax.window_adaptation(blackjax.nuts, density, adaptation_info_fn=lambda *_: None)
        (state, parameters), _ = adapt.run(first, position, warmup)
        step = blackjax.nuts(density, **parameters).step

        def one(state, key):
            state, told = step(key, state)
            return state, (state.position, told.num_integration_steps)

        positions, steps = jax.lax.scan(one, state, jax.random.split(later, draws))[1]
        return jax.vmap(info.postprocess_fn)(positions), steps

    chains = jax.jit(jax.vmap(chain, (0, None)))

    def run(seed):
        found, steps = chains(jax.random.split(jax.random.key(seed), NUM_CHAINS), info.param_info.z)
        return {name: np.asarray(found[name]) for name in info.param_info.z}, float(steps.mean()), None

    return run


def nutpie_chains(kernel, rows, warmup, draws):
    # "Sampling with a function of Python" in nutpie's documentation.
    import nutpie
    from jax.flatten_util import ravel_pytree
    from nutpie.compiled_pyfunc import from_pyfunc

    info, density = initialised(kernel, rows)
    start, unravel = ravel_pytree(info.param_info.z)
    gradient = jax.jit(jax.value_and_grad(lambda flat: density(unravel(flat))))
    constrain = jax.jit(jax.vmap(jax.vmap(lambda flat: info.postprocess_fn(unravel(flat)))))

    def value_and_gradient(position):
        with jax.enable_x64(start.dtype == jnp.float64):
            value, slope = gradient(position)
            return float(value), np.asarray(slope, np.float64)

    model = from_pyfunc(
        ndim=start.size,
        make_logp_fn=lambda: value_and_gradient,
        make_expand_fn=lambda *_: lambda position: {"position": position},
        expanded_dtypes=[np.dtype(np.float64)],
        expanded_shapes=[(start.size,)],
        expanded_names=["position"],
        make_initial_point_fn=lambda seed: np.random.default_rng(seed).uniform(-2.0, 2.0, start.size),
    )

    def run(seed):
        # nutpie's own number of adaptation steps, where chains are of full length.
        tune = {} if warmup == 1000 else {"tune": warmup}
        trace = nutpie.sample(model, draws=draws, chains=NUM_CHAINS, seed=seed, progress_bar=False, **tune)
        found = constrain(trace.posterior["position"].values.astype(start.dtype))
        steps = float(trace.sample_stats["n_steps"].mean())
        return {name: np.asarray(found[name]) for name in info.param_info.z}, steps, None

    return run


def our_mcmc(warmup, draws):
    return skaimz.inference.MCMC(num_warmup=warmup, num_samples=draws, num_chains=NUM_CHAINS)


def our_auto(warmup, draws):
    return skaimz.inference.Auto(num_samples=draws, num_chains=NUM_CHAINS)


def our_blackjax(warmup, draws):
    return skaimz.inference.BlackJAX(num_warmup=warmup, num_samples=draws, num_chains=NUM_CHAINS)


def our_nutpie(warmup, draws):
    tune = {} if warmup == 1000 else {"num_warmup": warmup}
    return skaimz.inference.Nutpie(num_samples=draws, num_chains=NUM_CHAINS, **tune)


SIDES = {
    "skaimz `MCMC()`": functools.partial(ours, our_mcmc),
    "skaimz `Auto()`": functools.partial(ours, our_auto),
    "NumPyro, vectorized": functools.partial(numpyro_chains, "vectorized"),
    "NumPyro, default": functools.partial(numpyro_chains, None),
    "blackjax": blackjax_chains,
    "nutpie": nutpie_chains,
}
# Measured where they are named.
MORE_SIDES = {
    "skaimz `BlackJAX()`": functools.partial(ours, our_blackjax),
    "skaimz `Nutpie()`": functools.partial(ours, our_nutpie),
}


# Measuring


def measure(problem, side, seed, warmup, draws):
    """Fit twice in this process, and return what came of it."""
    warnings.simplefilter("ignore")
    compiling = []

    def listen(event, duration, **_):
        if event.startswith("/jax/core/compile/"):
            compiling.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    kernel, make_rows = PROBLEMS[problem]
    real = np.float64 if jax.config.read("jax_enable_x64") else np.float32
    rows = {name: array.astype(real) if array.dtype.kind == "f" else array for name, array in make_rows().items()}
    # Imports are no part of a fit.
    for library in LIBRARIES:
        if library in side.lower():
            importlib.import_module(library)
    found = {}
    begun = time.perf_counter()
    run = {**SIDES, **MORE_SIDES}[side](kernel, rows, warmup, draws)
    for name in KINDS:
        compiling.clear()
        latent, steps, effective = run(seed + 1000 * (name == "warm"))
        seconds = time.perf_counter() - begun
        ess = min(map(least_effective, latent.values()))
        found[name] = {
            "seconds": seconds,
            "ess": ess if effective is None else min(ess, effective),
            "compiling": sum(compiling),
            "leapfrogs": steps,
            "r_hat": max(map(worst_r_hat, latent.values())),
        }
        begun = time.perf_counter()
    return found


def elements(draws):
    return np.moveaxis(np.asarray(draws, np.float64).reshape(*draws.shape[:2], -1), -1, 0)


def least_effective(draws):
    return float(min(array_stats.ess(each, chain_axis=0, draw_axis=1, method="bulk") for each in elements(draws)))


def worst_r_hat(draws):
    return float(max(array_stats.rhat(each, chain_axis=0, draw_axis=1, method="rank") for each in elements(draws)))


def measure_apart(problem, side, seed, warmup, draws, double):
    """Measure in a process of its own."""
    arguments = ["--one", problem, side, str(seed), str(warmup), str(draws)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    environment["JAX_ENABLE_X64"] = str(int(double))
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{side} on {problem} failed:\n{done.stderr[-3000:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(problems, sides, repeats, warmup, draws, double):
    found = {}
    for repeat in range(repeats):
        for problem in problems:
            for side in sides:
                one = measure_apart(problem, side, repeat, warmup, draws, double)
                if one is not None:
                    found.setdefault((problem, side), []).append(one)
                print(repeat, problem, side, one, file=sys.stderr, flush=True)
    return found


def show(found, repeats, warmup, draws, double):
    versions = f"JAX {jax.__version__}, NumPyro {numpyro.__version__}"
    for library in LIBRARIES:
        versions += f", {library} {importlib.import_module(library).__version__}"
    print(
        f"\nEffective draws per second: {NUM_CHAINS} chains of {warmup} + {draws} steps (nutpie: its own adaptation; "
        f"automatic inference: {draws} draws, and chains only where needed), float{64 if double else 32}; medians of "
        f"{repeats}\n{versions}, ArviZ {arviz_stats.__version__}, skaimz {skaimz.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {jax.devices()[0].platform}\n"
    )
    print(
        "| problem | side | cold, draws/s | warm, draws/s | cold, s | of it tracing and compiling | warm, s | "
        "effective draws | leapfrogs a draw | worst r-hat |"
    )
    print("| --- " * 10 + "|")
    problems = list(dict.fromkeys(problem for problem, _ in found))
    for problem in problems:
        mine = {side: runs for (of, side), runs in found.items() if of == problem}
        rates = {
            side: [statistics.median(run[kind]["ess"] / run[kind]["seconds"] for run in runs) for kind in KINDS]
            for side, runs in mine.items()
        }
        best = [max(rate[i] for rate in rates.values()) for i in range(2)]
        for side, runs in mine.items():

            def middle(kind, name, runs=runs):
                return statistics.median(run[kind][name] for run in runs)

            shown = [
                f"**{rate:.0f}**" if rate >= 0.9 * most else f"{rate:.0f}"
                for rate, most in zip(rates[side], best, strict=True)
            ]
            leapfrogs, r_hat = middle("warm", "leapfrogs"), max(middle(kind, "r_hat") for kind in KINDS)
            print(
                f"| {problem} | {side} | {shown[0]} | {shown[1]} | {middle('cold', 'seconds'):.1f} | "
                f"{middle('cold', 'compiling'):.1f} | {middle('warm', 'seconds'):.2f} | "
                f"{middle('warm', 'ess'):.0f} | {f'{leapfrogs:.1f}' if leapfrogs else 'none'} | "
                f"{f'{r_hat:.3f}' if r_hat > 0 else 'none'} |"
            )
    print("\nBold: the best of a problem, or within 10 % of it.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short chains, once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--problems", nargs="+", default=[], help="words in the names of problems")
    parser.add_argument("--sides", nargs="+", default=[], help="words in the names of sides, also BlackJAX and Nutpie")
    parser.add_argument("--double", action="store_true", help="all compute in float64")
    parser.add_argument("--one", nargs=5, metavar=("PROBLEM", "SIDE", "SEED", "WARMUP", "DRAWS"), help="used by itself")
    options = parser.parse_args()
    if options.one:
        problem, side, *numbers = options.one
        print(json.dumps(measure(problem, side, *map(int, numbers))))
    else:
        steps = (300, 300) if options.quick else (1000, 1000)
        repeats = 1 if options.quick else options.repeats
        problems = [name for name in PROBLEMS if not options.problems or any(word in name for word in options.problems)]
        named = [name for name in {**SIDES, **MORE_SIDES} if any(word in name for word in options.sides)]
        sides = named or list(SIDES)
        show(measure_all(problems, sides, repeats, *steps, options.double), repeats, *steps, options.double)
