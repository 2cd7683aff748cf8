"""The default inference: the cheapest of several methods that passes its own check."""

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro.infer import autoguide

from skaimz.exceptions import EffectiveSampleSizeWarning, FitWarning, RHatWarning
from skaimz.inference import shuffle
from skaimz.inference.data import Units, in_double, loaded, merged
from skaimz.inference.diagnostics import problems_of, warn_of_chains
from skaimz.inference.explore import Exploration, explore, explore_many
from skaimz.inference.importance import LARGEST_K_HAT, resampled
from skaimz.inference.mcmc import fit_mcmc
from skaimz.inference.mode import Mode
from skaimz.inference.problem import Problem
from skaimz.inference.proposals import HOPELESS_K_HAT, Proposals, weighted
from skaimz.inference.result import FitResult
from skaimz.inference.settings import MCMC, SVI, Auto
from skaimz.inference.svi import fit_svi
from skaimz.inference.target import Target
from skaimz.kernels import ConjugatePosterior, LinearRegression, TracedKernel
from skaimz.runtime import Purpose, generator_of

__all__ = ["chains_of", "draw_again", "fit_auto", "needs_variational"]

# Chains with a greater r-hat are in different modes, and smaller steps will not make them agree.
HOPELESS_R_HAT = 1.2
# Problems that longer chains may solve.
LENGTH_MENDS = {RHatWarning, EffectiveSampleSizeWarning}
# Chains go on for longer if their draws are worth less than this share of independent ones: slow chains have seldom
# been in the tails, so that their standard deviations are too small.
LEAST_EFFICIENCY = 0.25
# Variational inference fits a full covariance matrix up to this number of coordinates.
MOST_COVARIANCE = 100
REFINING = SVI(guide=autoguide.AutoMultivariateNormal, num_steps=2000, learning_rate=0.03, num_samples=1).checked()
# Markov chains: first ordinary ones, then ones with smaller steps if those diverge or disagree. Either may go on, or
# run again in the units of their draws.
ORDINARY: dict[str, Any] = {"num_warmup": 500, "sampler_options": {"target_accept_prob": 0.85}}
CAREFUL: dict[str, Any] = {"num_warmup": 2000, "sampler_options": {"target_accept_prob": 0.99}}
LONG_THINNING = 5


def needs_variational(traced: TracedKernel) -> bool:
    """Whether variational inference alone can fit a kernel: it has parameters or states, or nothing is latent."""
    return not traced.spec.latents or bool(traced.spec.learned)


def fit_auto(problem: Problem, settings: Auto) -> FitResult:
    """Climb from the mode to Markov chains, as far as is needed.

    Parameters
    ----------
    problem : Problem
        Rows and weights that are in memory, or can be sliced.
    settings : Auto
        Checked settings.

    Returns
    -------
    FitResult
        Its diagnostics name the ``rung`` that answered, and describe each of the ``rungs``.
    """
    traced, dtype, rungs = problem.traced, problem.dtype, list[dict[str, Any]]()
    with jax.enable_x64(True):
        begun = time.perf_counter()
        exact = _in_closed_form(problem, settings)
        if exact is not None:
            rungs.append({"rung": "exact", "seconds": time.perf_counter() - begun, "evaluations": 0, "why": ""})
            return _described(exact, dtype, rungs)
        if traced.spec.can_be_padded and problem.n_rows > shuffle.WINDOW_ROWS:
            exploration = explore_many(problem)
        else:
            problem = _in_double(problem.distinct())
            exploration = explore(problem)
        target, mode = exploration.start.target, exploration.mode
        proposals = None if mode.reason else weighted(target, mode, settings.num_samples, problem.seed)
        rungs.append(_rung("mode", begun, target, proposals, mode.reason))
        if len(target.blocks) > 1 and (proposals is None or not proposals.pass_check):
            # What follows needs all rows in memory.
            problem = _in_double(problem.padded())
        if proposals is not None and _worth_refining(proposals, target):
            begun = time.perf_counter()
            refined = _refined(problem, mode, target)
            proposals = weighted(target, refined, settings.num_samples, problem.seed)
            rungs.append(_rung("variational", begun, target, proposals, ""))
        if proposals is not None and proposals.pass_check:
            result = _normal_result(problem, settings, target, proposals)
        else:
            result = _chains(problem, settings, exploration, rungs)
    return _described(result, dtype, rungs)


def _in_double(problem: Problem) -> Problem:
    return problem.of(in_double(problem.data), problem.places)


def _described(result: FitResult, dtype: Any, rungs: list[dict[str, Any]]) -> FitResult:
    """Return a result in the precision of the data, with a description of each rung."""
    draws = {name: draw.astype(dtype) if draw.dtype.kind == "f" else draw for name, draw in result.draws.items()}
    diagnostics = {"rung": rungs[-1]["rung"], "rungs": rungs, **result.diagnostics}
    return dataclasses.replace(result, draws=draws, diagnostics=diagnostics)


def _in_closed_form(problem: Problem, settings: Auto) -> FitResult | None:
    """Return draws from a posterior that the kernel knows in closed form; None for any other kernel."""
    data, n_rows = problem.data, problem.n_rows
    kernel = problem.traced.kernel.bind(data.hyperparameters)
    if not isinstance(kernel, LinearRegression):
        return None
    if n_rows <= shuffle.WINDOW_ROWS:
        data, _ = merged(problem.traced, loaded(data, n_rows))
    posterior = kernel.closed_form(data.rows["X"], data.rows["y"], data.weight)
    draws = kernel.draw(posterior, settings.num_samples, generator_of(problem.seed, Purpose.CLOSED_FORM))
    return FitResult(
        method="independent",
        draws={name: draw[None] for name, draw in draws.items()},
        state=tuple(np.asarray(array) for array in posterior),
        n_rows=n_rows,
        num_samples=settings.num_samples,
    )


def chains_of(settings: Auto, rung: str) -> MCMC:
    """Return checked settings of the Markov chains on a rung."""
    options = CAREFUL if "careful" in rung else ORDINARY
    thinning = LONG_THINNING if rung.startswith("long") else 1
    steps = thinning * settings.num_samples
    return MCMC(num_samples=steps, thinning=thinning, num_chains=settings.num_chains, **options).checked()


def draw_again(result: FitResult, seed: int, num_samples: int) -> dict[str, np.ndarray]:
    """Take fresh draws ``(1, num_samples, ...)``: from a closed form, or from weighted draws by their weights."""
    rng = generator_of(seed, Purpose.FRESH_RESAMPLING)
    if result.diagnostics["rung"] == "exact":
        exact = LinearRegression.draw(ConjugatePosterior(*result.state), num_samples, rng)
        return {name: draw[None].astype(result.draws[name].dtype) for name, draw in exact.items()}
    weight, *draws = result.state
    chosen = resampled(weight, num_samples, rng)
    return {
        name: draw[chosen][None].astype(result.draws[name].dtype)
        for name, draw in zip(sorted(result.draws), draws, strict=True)
    }


def _refined(problem: Problem, mode: Mode, target: Target) -> Mode:
    """Return the normal approximation that a variational fit finds, starting at the mode."""
    units = Units(target.unpack(mode.middle), mode.root)
    params = fit_svi(problem.in_units(units), REFINING, judge=False).params
    target.evaluations += REFINING.num_steps
    loc, tril = np.asarray(params["auto_loc"]), np.asarray(params["auto_scale_tril"])
    return Mode(mode.middle + mode.root @ loc, mode.root @ tril, "")


def _normal_result(problem: Problem, settings: Auto, target: Target, proposals: Proposals) -> FitResult:
    """Return draws of an approximation that passed its check, resampled in proportion to their weights."""
    weights = proposals.weights
    sites = target.constrain(proposals.positions)
    chosen = resampled(weights.weight, settings.num_samples, generator_of(problem.seed, Purpose.RESAMPLING))
    return FitResult(
        method="independent",
        draws={name: draw[chosen][None] for name, draw in sites.items()},
        diagnostics={"k_hat": weights.k_hat, "ess_of_weights": weights.ess},
        state=(weights.weight, *(sites[name] for name in sorted(sites))),
        n_rows=problem.n_rows,
        num_samples=settings.num_samples,
    )


def _chains(problem: Problem, settings: Auto, exploration: Exploration, rungs: list[dict[str, Any]]) -> FitResult:
    """Run Markov chains, and run them again with more care if they do not pass their check."""
    watch = problem.watch

    def run(rung: str, units: Units, before: FitResult | None = None) -> FitResult:
        begun, chains = time.perf_counter(), chains_of(settings, rung)
        starts = functools.partial(exploration.begin, units, problem.seed)
        result = fit_mcmc(problem.in_units(units), chains, starts=starts, name=rung, before=before)
        rungs.append({
            "rung": rung,
            "seconds": time.perf_counter() - begun,
            "evaluations": chains.thinning * int(result.sample_stats["n_steps"].sum()),
            "why": "; ".join(each.__name__.removesuffix("Warning") for each in _problems(result)),
        })  # fmt: skip
        return result

    units = exploration.units(dense=True)
    for rung in ("nuts", "careful nuts"):
        result = run(rung, units)
        lacking = (_problems(result) or _is_slow(result)) and not watch.stopped
        better = exploration.stretched(units, result.draws) if lacking else None
        if better is not None:
            rung, units = f"adapted {rung}", better
            result = run(rung, units)
        if _may_go_on(result) and not watch.stopped:
            result = run(f"long {rung}", units, before=result)
        if not _problems(result) or not _may_agree(result.diagnostics) or watch.stopped:
            break
    warn_of_chains(result.diagnostics)
    return result


def _problems(result: FitResult) -> set[type[FitWarning]]:
    return {category for category, _ in problems_of(result.diagnostics)}


def _may_go_on(result: FitResult) -> bool:
    """Whether chains need to be longer, and nothing else."""
    problems = _problems(result)
    return (problems <= LENGTH_MENDS and _may_agree(result.diagnostics)) if problems else _is_slow(result)


def _is_slow(result: FitResult) -> bool:
    """Whether the draws of chains are worth too few independent ones."""
    n_chains, n_draws = next(iter(result.draws.values())).shape[:2]
    sizes = [size for size in result.diagnostics["ess"].values() if size is not None]
    return min(sizes, default=np.inf) < LEAST_EFFICIENCY * n_chains * n_draws


def _worth_refining(proposals: Proposals, target: Target) -> bool:
    """Whether an approximation that does not pass its check is near enough, and small enough, to be refined."""
    near = proposals.weights.k_hat <= HOPELESS_K_HAT and target.size <= MOST_COVARIANCE
    return near and not proposals.pass_check


def _may_agree(diagnostics: Mapping[str, Any]) -> bool:
    """Whether chains are near enough to one another that longer ones with smaller steps may agree."""
    known = [value for value in diagnostics["r_hat"].values() if value is not None]
    return max(known, default=1.0) <= HOPELESS_R_HAT and not diagnostics["stuck_chains"]


def _rung(name: str, begun: float, target: Target, proposals: Proposals | None, reason: str) -> dict[str, Any]:
    """Describe a rung that ends in a normal approximation; ``reason`` says why there is none."""
    k_hat = ess = None
    why = reason
    if proposals is not None:
        k_hat, ess = proposals.weights.k_hat, proposals.weights.ess
        if k_hat > LARGEST_K_HAT:
            why = f"k-hat {k_hat:.2f} exceeds {LARGEST_K_HAT}"
        elif not proposals.pass_check:
            why = f"weighted draws are worth {proposals.efficiency:.0%} of their number"
    description = {"rung": name, "seconds": time.perf_counter() - begun, "evaluations": target.evaluations}
    target.evaluations = 0
    return description | {"k_hat": k_hat, "ess": ess, "why": why}
