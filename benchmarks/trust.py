"""Can the posterior be trusted? Compare fits with reference posteriors, problem by problem.

``python benchmarks/trust.py`` fits every problem of `trust_problems.py` with ``inference="auto"``. It prints a table
and a summary. Name problems to fit only those; ``--inference`` chooses another inference.

With ``--peers`` each problem is also fitted with NumPyro's AutoNormal and NUTS, with bambi where it is installed and
can state the same model, and with ``--old PYTHON`` by another interpreter that has an earlier skaimz. The results are
stored, and later runs print them in the summary without fitting again.

``python benchmarks/trust.py references`` computes reference posteriors and stores them: in closed form where there is
one, otherwise from eight long chains of NumPyro's NUTS in float64. Name problems to compute only those.

Each fit runs in a fresh process. Its seconds include compilation but not imports. The error of a mean and the ratios of
standard deviations (sds) are the worst over all compared quantities.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trust_problems
from trust_problems import LEVELS, PROBLEMS, Data, Problem, Reference

STORE = Path(__file__).parent / "references" / "trust.json"
MOST_MEAN, MOST_SD, INTERVAL = 0.15, 0.10, 0.9
TITLE = f"effect: mass in {100 * INTERVAL:.0f} % interval"
HARMLESS = {"SpeedWarning"}  # the answer is right, it says
CHAINS, WARMUP, MOST_ROUNDS = 8, 1500, 4
MOST_RHAT, LEAST_ESS = 1.005, 4000
# Adam's step in NumPyro's documentation of `random_flax_module`, its example of AutoNormal.
ADAM_STEP, ADAM_STEPS, PEER_DRAWS = 5e-3, 10_000, 1000


# Models, by NumPyro alone.


def kernel_of(problem: Problem, data: Data) -> Callable:
    """Return the kernel as a plain function, that of the default estimator included."""
    if problem.kernel is not None:
        return problem.kernel
    return problem.reference_kernel(data) if problem.reference_kernel else partial(trust_problems.standardised, data)


def latent_sites(kernel: Callable, data: Data) -> list[str]:
    import jax
    from numpyro import handlers

    with handlers.block():
        trace = handlers.trace(handlers.seed(kernel, jax.random.key(0))).get_trace(data.X, data.y, **data.arguments)
    return [name for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]]


def expected(site: Any, label: int | None) -> Any:
    """Return each row's expected outcome, or the probability of its class."""
    return site["fn"].mean if label is None else site["fn"].probs[..., label]


def effect_draws(problem: Problem, kernel: Callable, data: Data, draws: Mapping[str, Any]) -> np.ndarray:
    """Return the average change of the expected outcome under the scenario for each draw."""
    import jax
    import jax.numpy as jnp
    from numpyro import handlers

    def average(X: Any, arguments: Mapping[str, Any], draw: Mapping[str, Any]) -> Any:
        seeded = handlers.seed(handlers.substitute(kernel, data=draw), jax.random.key(0))
        trace = handlers.trace(seeded).get_trace(X, data.y, **arguments)
        return jnp.mean(expected(trace["y"], problem.label))

    X, arguments = jax.tree.map(jnp.asarray, trust_problems.changed(data))
    base_X, base = jax.tree.map(jnp.asarray, (data.X, dict(data.arguments)))

    def change(draw: Mapping[str, Any]) -> Any:
        return average(X, arguments, draw) - average(base_X, base, draw)

    return np.asarray(jax.jit(partial(jax.lax.map, change, batch_size=16))(jax.tree.map(jnp.asarray, dict(draws))))


# References.


def long_chains(problem: Problem, data: Data, rounds: int) -> tuple[dict[str, np.ndarray], float]:
    """Return draws from the posterior, in float64, and the share of divergent ones.

    The chains start around a mode, are preconditioned by the curvature there, and adapt a mass matrix of their own.
    Where the density has a peak without mass (a scale of zero), they start around the prior's median, in its units.
    """
    import jax
    import jax.numpy as jnp
    import scipy.optimize
    from jax.flatten_util import ravel_pytree
    from numpyro import handlers
    from numpyro.infer import MCMC, NUTS, Predictive
    from numpyro.infer.reparam import LocScaleReparam
    from numpyro.infer.util import initialize_model, unconstrain_fn

    original = kernel_of(problem, data)
    sites = latent_sites(original, data)
    config = {site: LocScaleReparam(0) for site in problem.non_centred}
    kernel = problem.rewritten or (handlers.reparam(original, config=config) if config else original)
    key = jax.random.key(len(problem.name))
    arrays = {"y": jnp.asarray(data.y), **jax.tree.map(jnp.asarray, dict(data.arguments))}
    X = jnp.asarray(data.X)
    info = initialize_model(key, kernel, model_args=(X,), model_kwargs=arrays)
    start, unravel = ravel_pytree(info.param_info.z)
    prior = Predictive(kernel, num_samples=400)(key, X, **arrays)
    prior = {name: value for name, value in prior.items() if name in info.param_info.z}
    flat = jax.vmap(lambda draw: ravel_pytree(unconstrain_fn(kernel, (X,), arrays, draw))[0])(prior)
    middle, scale = jnp.median(flat, 0), jnp.std(flat, 0)

    def potential(u: Any) -> Any:
        return info.potential_fn(unravel(middle + scale * u))

    gradient = jax.jit(jax.value_and_grad(potential))
    mode, root = np.zeros(len(start)), jnp.eye(len(start))
    if problem.curvature:
        for _ in range(4):
            found = scipy.optimize.minimize(lambda u: [np.asarray(each, float) for each in gradient(u)], mode, jac=True)
            mode = found.x
        eigenvalues, vectors = np.linalg.eigh(np.asarray(jax.jit(jax.hessian(potential))(mode)))
        root = jnp.asarray(vectors / np.sqrt(np.where(eigenvalues > 0.1, eigenvalues, 1.0)))

    whitened = NUTS(
        potential_fn=lambda u: potential(mode + root @ u), dense_mass=problem.dense, target_accept_prob=0.95
    )
    chains = MCMC(
        whitened,
        num_warmup=WARMUP,
        num_samples=problem.draws * rounds,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    first = 0.5 * jax.random.normal(key, (CHAINS, len(start)))
    chains.run(jax.random.key(rounds), init_params=first, extra_fields=("diverging",))
    share = float(np.mean(chains.get_extra_fields()["diverging"]))

    def constrained(u: Any) -> Any:
        values = info.postprocess_fn(unravel(middle + scale * (mode + root @ u)))
        return {site: values[site] for site in sites}

    draws = jax.jit(partial(jax.lax.map, constrained, batch_size=64))(chains.get_samples())
    return {site: np.asarray(value) for site, value in draws.items()}, share


def check(values: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return the largest r-hat and the smallest effective size of all elements that vary."""
    from arviz_stats.base import array_stats

    rhat, ess = 1.0, np.inf
    for value in values.values():
        flat = value.reshape(CHAINS, len(value) // CHAINS, -1)
        flat = flat[..., flat.std((0, 1)) > 0]
        if flat.shape[-1]:
            rhat = max(rhat, float(np.max(array_stats.rhat(flat, chain_axis=0, draw_axis=1))))
            ess = min(ess, float(np.min(array_stats.ess(flat, chain_axis=0, draw_axis=1))))
    return rhat, ess


def reference_of(problem: Problem) -> dict[str, Any]:
    """Return the reference posterior of a problem in the form that is stored."""
    import jax

    jax.config.update("jax_enable_x64", True)
    start, data = time.perf_counter(), problem.data()
    if problem.exact is not None:
        reference, how = problem.exact(data), {"by": "closed form"}
    else:
        for rounds in (2**i for i in range(MOST_ROUNDS)):
            draws, divergent = long_chains(problem, data, rounds)
            values = problem.quantities(draws) if problem.quantities else draws
            effect = effect_draws(problem, kernel_of(problem, data), data, draws)
            rhat, ess = check({**values, "effect": effect})
            print(f"{problem.name}: r-hat {rhat:.4f}, ESS {ess:.0f}, divergent {divergent:.2%}", file=sys.stderr)
            if rhat < MOST_RHAT and ess > LEAST_ESS:
                break
        else:
            raise RuntimeError(f"{problem.name}: chains of {rounds * problem.draws} draws do not agree")
        moments = ({name: function(value, axis=0) for name, value in values.items()} for function in (np.mean, np.std))
        reference = Reference(*moments, np.quantile(effect, LEVELS))
        how = {"by": "NUTS", "rhat": round(rhat, 5), "ess": round(ess), "divergent": divergent}
    seconds = round(time.perf_counter() - start, 1)
    rows = (numbers(each) for each in (reference.mean, reference.sd, reference.effect))
    return {**how, "n": len(data.X), "seconds": seconds, **dict(zip(("mean", "sd", "effect"), rows, strict=True))}


def numbers(value: Any) -> Any:
    """Return arrays as nested lists of numbers with eleven digits."""
    if isinstance(value, Mapping):
        return {name: numbers(each) for name, each in value.items()}
    return [numbers(each) for each in value] if np.ndim(value) else float(f"{value:.11g}")


# Fits, each in a process of its own.


def fit_skaimz(problem: Problem, data: Data, inference: str | None) -> tuple[float, dict, tuple, str]:
    """Return seconds, draws, the interval of the effect, and the rung that answered; no inference is the default."""
    from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor

    estimator = NumPyroImpactClassifier if problem.classifier else NumPyroImpactRegressor
    settings = {} if inference is None else {"inference": inference}
    start = time.perf_counter()
    model = estimator(problem.kernel, random_state=0, **settings).fit(data.X, data.y, **data.arguments)
    seconds = time.perf_counter() - start
    draws = {name: np.reshape(value, (-1, *value.shape[2:])) for name, value in model.posterior_.items()}
    effects = model.estimate_effect(
        data.X, scenarios={"k": data.scenario}, in_sample=problem.in_sample, **data.arguments
    ).summary(level=INTERVAL)
    row = effects.iloc[problem.label or 0]
    return seconds, draws, (row["lower"], row["upper"]), str(model.fit_result_.diagnostics.get("rung", ""))


def fit_numpyro(problem: Problem, data: Data, how: str) -> tuple[float, dict, tuple, str]:
    """Fit with NumPyro's defaults, in the float32 that is one of them."""
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    kernel, key = kernel_of(problem, data), jax.random.key(0)
    start = time.perf_counter()
    X, y = jnp.asarray(data.X), jnp.asarray(data.y)
    arguments = jax.tree.map(jnp.asarray, dict(data.arguments))
    if how == "numpyro-nuts":
        chain = MCMC(NUTS(kernel), num_warmup=1000, num_samples=1000, progress_bar=False)
        chain.run(key, X, y, **arguments)
        draws = chain.get_samples()
    else:
        guide = AutoNormal(kernel)
        svi = SVI(kernel, guide, numpyro.optim.Adam(ADAM_STEP), Trace_ELBO())
        result = svi.run(key, ADAM_STEPS, X, y, progress_bar=False, **arguments)
        draws = guide.sample_posterior(key, result.params, X, y, sample_shape=(PEER_DRAWS,), **arguments)
    draws = {name: np.asarray(draws[name]) for name in latent_sites(kernel, data)}
    seconds = time.perf_counter() - start
    effect = effect_draws(problem, kernel, data, draws)
    return seconds, draws, tuple(np.quantile(effect, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])), ""


def fit_bambi(problem: Problem, data: Data) -> tuple[float, dict, tuple, str]:
    """Fit the same model with bambi's default sampler."""
    import bambi
    import pandas as pd

    formula, family, priors, names = problem.bambi
    table = pd.DataFrame({"y": data.y, **{f"x{place}": column for place, column in enumerate(data.X.T)}})
    start = time.perf_counter()
    model = bambi.Model(
        formula,
        table,
        family=family,
        priors={name: bambi.Prior(distribution, **values) for name, (distribution, values) in priors.items()},
        center_predictors=False,
    )
    posterior = model.fit(random_seed=0, progressbar=False).posterior
    seconds = time.perf_counter() - start
    flat = {name: np.asarray(value).reshape(-1) for name, value in posterior.items()}
    draws = {}
    for name, theirs in names.items():
        columns = [flat[each] for each in theirs.split()]
        draws[name] = np.column_stack(columns) if name == "coef" else columns[0]
    effect = effect_draws(problem, problem.kernel, data, draws)
    return seconds, draws, tuple(np.quantile(effect, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])), ""


def judge(problem: Problem, draws: Mapping[str, np.ndarray], interval: tuple, reference: Mapping) -> dict[str, Any]:
    """Hold draws and an effect's interval against the reference posterior."""
    values = problem.quantities(draws) if problem.quantities else draws
    errors, ratios = [], []
    for name, mean in reference["mean"].items():
        mean, sd = np.asarray(mean), np.asarray(reference["sd"][name])
        varies = sd > 0
        value = np.asarray(values[name], np.float64)
        errors.append((np.abs(value.mean(0) - mean)[varies] / sd[varies]).ravel())
        ratios.append((value.std(0)[varies] / sd[varies]).ravel())
    errors, ratios = np.concatenate(errors), np.concatenate(ratios)
    lower, upper = np.interp(interval, reference["effect"], LEVELS, left=0.0, right=1.0)
    found = {"error": errors.max(), "least": ratios.min(), "most": ratios.max(), "mass": upper - lower}
    return {name: float(value) for name, value in found.items()} | {"size": len(errors)}


def run_here(name: str, how: str) -> dict[str, Any]:
    """Fit one problem in one way, and return what is printed of it."""
    problem, reference = PROBLEMS[name], stored()[name]["reference"]
    data = problem.data()
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        if how.startswith("numpyro"):
            found = fit_numpyro(problem, data, how)
        elif how == "bambi":
            found = fit_bambi(problem, data)
        else:
            found = fit_skaimz(problem, data, None if how == "old" else how)
    seconds, draws, interval, rung = found
    told = {each.category.__name__ for each in given if each.category.__module__.startswith("skaimz")} - HARMLESS
    verdict = judge(problem, draws, interval, reference)
    return {**verdict, "seconds": round(seconds, 3), "rung": rung, "warnings": sorted(told)}


def run_apart(name: str, how: str, python: str, timeout: float) -> dict[str, Any]:
    """Run `run_here` in a fresh process, and return its answer or how it failed."""
    command = [python, __file__, "--one", how, name]
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer in {timeout:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


# Tables.


def stored() -> dict[str, Any]:
    return json.loads(STORE.read_text()) if STORE.exists() else {}


def store(name: str, **parts: Any) -> None:
    """Keep what was found of one problem, and leave everything else as it is."""
    everything = stored()
    known = everything.setdefault(name, {})
    for part, value in parts.items():
        known[part] = {**known.get(part, {}), **value} if part == "peers" else value
    lines = [f"{json.dumps(key)}: {json.dumps(everything[key])}" for key in PROBLEMS if key in everything]
    STORE.parent.mkdir(exist_ok=True)
    temporary = STORE.with_suffix(".new")
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(temporary, STORE)


def is_wrong(found: Mapping[str, Any]) -> bool:
    """Say whether a mean or a standard deviation is too far off."""
    right = found["error"] <= MOST_MEAN and found["least"] >= 1 - MOST_SD and found["most"] <= 1 + MOST_SD
    return not right  # NaN is wrong, too


def line(name: str, reference: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    size = sum(np.size(value) for value in reference["mean"].values())
    start = f"| {name} | {reference['n']:,} x {size} |"
    if "failed" in found:
        return f"{start} {found['failed'].replace('|', '/')} | | | | | |"
    told = ", ".join(found["warnings"]) or ("**none, and wrong**" if is_wrong(found) else "")
    ratios, mass = f"{found['least']:.2f} to {found['most']:.2f}", f"{100 * found['mass']:.0f} %"
    return f"{start} {found['error']:.2f} | {ratios} | {mass} | {found['rung']} | {found['seconds']:.1f} | {told} |"


def summary(founds: Mapping[str, Any]) -> dict[str, str]:
    """Return the numbers that goals are set for."""
    answered = {name: found for name, found in founds.items() if "failed" not in found}
    warned = [found for found in answered.values() if found["warnings"]]
    silent = [name for name, found in answered.items() if is_wrong(found) and not found["warnings"]]
    ratios = [found["seconds"] / found["beside"] for found in answered.values() if found.get("beside")]
    return {
        "problems": str(len(founds)),
        "no answer": str(len(founds) - len(answered)),
        "with a warning": str(len(warned)),
        "with a warning, though right": str(sum(not is_wrong(found) for found in warned)),
        "silent failures": str(len(silent)),
        "geometric mean of seconds": geometric_mean([found["seconds"] for found in answered.values()]),
        "problems where it took turns with the first column": str(len(ratios)) if ratios else "",
        "seconds there, as a multiple of the first column": geometric_mean(ratios),
    }


def geometric_mean(values: list[float]) -> str:
    return f"{np.exp(np.mean(np.log(values))):.2f}" if values else ""


def print_summaries(columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a summary with a column for each way to fit."""
    table = {how: summary(founds) for how, founds in columns.items()}
    print("\n| | " + " | ".join(table) + " |")
    print("| --- |" + " --- |" * len(table))
    for name in next(iter(table.values())):
        print(f"| {name} | " + " | ".join(column[name] for column in table.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="problems, or `references` and problems; all where none is named")
    parser.add_argument("--inference", default="auto", help="of the estimators")
    parser.add_argument("--peers", action="store_true", help="fit with the peers as well, and store what they give")
    parser.add_argument("--old", metavar="PYTHON", help="an interpreter with an earlier skaimz")
    parser.add_argument("--bambi", metavar="PYTHON", default=sys.executable, help="an interpreter with bambi")
    parser.add_argument("--missing", action="store_true", help="with references: leave out those that are stored")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one fit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_here(asked.names[0], asked.one)))
        return
    wants_references = asked.names[:1] == ["references"]
    names = asked.names[wants_references:] or list(PROBLEMS)
    unknown = [name for name in names if name not in PROBLEMS]
    if unknown:
        parser.error(f"no problem is named {unknown[0]!r}; there are {', '.join(PROBLEMS)}")
    if wants_references:
        for name in names:
            if not (asked.missing and "reference" in stored().get(name, {})):
                store(name, reference=reference_of(PROBLEMS[name]))
                print(f"{name}: {stored()[name]['reference']['seconds']} s", flush=True)
        return
    peers = interpreters(asked) if asked.peers else {}
    columns: dict[str, dict[str, Any]] = {asked.inference: {}}
    titles = "problem", "rows x quantities", "mean off, in sds", "sd ratios", TITLE, "rung", "seconds", "warnings"
    print("| " + " | ".join(titles) + " |")
    print("| --- |" + " --- |" * 7)
    for name in names:
        reference = stored()[name]["reference"]
        found = run_apart(name, asked.inference, sys.executable, asked.timeout)
        columns[asked.inference][name] = found
        print(line(name, reference, found), flush=True)
        for peer, python in peers.items():
            # In turns with ours, so that what else the machine does weighs on all alike.
            if peer != "bambi" or PROBLEMS[name].bambi is not None:
                theirs = run_apart(name, peer, python, asked.timeout)
                # Only seconds of one run are compared.
                theirs["beside"] = found.get("seconds")
                store(name, peers={peer: theirs})
                print(f"{peer}: {line(name, reference, theirs)}", file=sys.stderr, flush=True)
        for peer, theirs in stored()[name].get("peers", {}).items():
            columns.setdefault(peer, {})[name] = theirs
    print_summaries(columns)


def interpreters(asked: argparse.Namespace) -> dict[str, str]:
    """Return the peers that can be run, each with the interpreter that runs it."""
    found = {"numpyro-svi": sys.executable, "numpyro-nuts": sys.executable}
    if asked.old:
        found["old"] = asked.old
    if not subprocess.run([asked.bambi, "-c", "import bambi"], capture_output=True, check=False).returncode:
        found["bambi"] = asked.bambi
    return found


if __name__ == "__main__":
    main()
