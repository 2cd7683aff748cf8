"""The default inference: the cheapest of several ways that passes its own check."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.infer import autoguide

from skaimz.exceptions import EffectiveSampleSizeWarning, FitWarning, RHatWarning
from skaimz.inference import shuffle
from skaimz.inference.chunks import Watch
from skaimz.inference.data import Data, Units, in_double, loaded, merged, padded
from skaimz.inference.diagnostics import problems_of, warn_of_chains
from skaimz.inference.explore import Exploration, explore, explore_many
from skaimz.inference.importance import LARGEST_K_HAT, Weights, resampled, weigh
from skaimz.inference.mcmc import fit_mcmc
from skaimz.inference.mode import Mode
from skaimz.inference.result import FitResult
from skaimz.inference.settings import MCMC, SVI, Auto
from skaimz.inference.svi import fit_svi
from skaimz.inference.target import Target
from skaimz.kernels import ConjugatePosterior, LinearRegression, TracedKernel
from skaimz.runtime import Purpose, generator_of

__all__ = ["chains_of", "draw_again", "fit_auto", "needs_variational"]

# Draws that are weighted for each that is returned: several where rows are few. Where rows are many, one: the posterior
# is then nearly normal, and the weights nearly equal.
PROPOSALS = 4
PROPOSAL_ROWS = 2**28
# Effective draws that weighted draws must be worth, as a share of their number. Fewer tell of a posterior with places
# that hardly any draw has come to, such as small scales of groups, whatever k-hat says of the weights that there are.
LEAST_EFFICIENCY = 0.5
# Tails of the approximation: normal ones, and, where these are too light, heavier ones.
DEGREES_OF_FREEDOM = (np.inf, 7.0)
# Rounds of bettering the approximation by its weighted draws, and a k-hat at which they tell nothing.
ADAPTATIONS = 2
HOPELESS_K_HAT = 1.5
# Chains that disagree by more than this r-hat will not agree by care alone: they are in different modes.
HOPELESS_R_HAT = 1.2
# What longer chains may mend.
LENGTH_MENDS = {RHatWarning, EffectiveSampleSizeWarning}
# A full covariance matrix beyond this size is not fitted by variational inference.
MOST_COVARIANCE = 100
REFINING = SVI(guide=autoguide.AutoMultivariateNormal, num_steps=2000, learning_rate=0.03, num_samples=1).checked()
# Markov chains: of ordinary care, and, where those diverge or disagree, of great care, and then longer ones.
CAREFUL = {"num_warmup": 2000, "sampler_options": {"target_accept_prob": 0.99}}
CHAINS: dict[str, dict[str, Any]] = {
    "nuts": {"num_warmup": 500, "sampler_options": {"target_accept_prob": 0.85}},
    "careful nuts": CAREFUL,
    "long nuts": {**CAREFUL, "thinning": 5},
}


class Proposals(NamedTuple):
    """Draws of a normal approximation, and their weights."""

    positions: np.ndarray
    weights: Weights

    @property
    def efficiency(self) -> float:
        """Effective draws, as a share of all."""
        return self.weights.ess / len(self.positions)

    @property
    def pass_check(self) -> bool:
        """Whether weighted draws stand for the posterior."""
        return self.weights.k_hat <= LARGEST_K_HAT and self.efficiency >= LEAST_EFFICIENCY

    def moments(self, before: Mode) -> Mode:
        """Return an approximation with the mean and covariance of the weighted draws.

        Few effective draws tell little of a covariance: they count beside as many of the approximation before as there
        are coordinates.
        """
        weight, size = self.weights.weight, self.positions.shape[1]
        share = self.weights.ess / (self.weights.ess + size)
        mean = weight @ self.positions
        away = self.positions - mean
        covariance = share * (away.T * weight) @ away + (1 - share) * before.root @ before.root.T
        return Mode(share * mean + (1 - share) * before.middle, np.linalg.cholesky(covariance), "")


def needs_variational(traced: TracedKernel) -> bool:
    """Whether a kernel can be fitted by variational inference alone: it has parameters, or nothing is latent."""
    return not traced.spec.latents or any(site.kind == "param" for site in traced.spec.sites)


def fit_auto(
    traced: TracedKernel,
    data: Data,
    n_rows: int,
    settings: Auto,
    seed: int,
    watch: Watch | None = None,
) -> FitResult:
    """Climb from the mode to Markov chains, as far as is needed.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Rows and weights that are in memory, or can be sliced.
    n_rows : int
    settings : Auto
        Checked settings.
    seed : int
    watch : Watch, optional

    Returns
    -------
    FitResult
        Its diagnostics tell which ``rung`` answered, and in ``rungs`` what was found on each.
    """
    watch = watch or Watch()
    dtype = data.rows[traced.spec.input].dtype
    rungs: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        begun = time.perf_counter()
        exact = _in_closed_form(traced, data, settings, seed, n_rows)
        if exact is not None:
            rungs.append({"rung": "exact", "seconds": time.perf_counter() - begun, "evaluations": 0, "why": ""})
            return _told(exact, dtype, rungs)
        if traced.spec.can_be_padded and n_rows > shuffle.WINDOW_ROWS:
            exploration = explore_many(traced, data, n_rows, seed)
        else:
            data, places = merged(traced, loaded(data, n_rows))
            data = in_double(padded(traced, data, len(data.rows[traced.spec.input])))
            exploration = explore(traced, data, seed, places)
        target, mode = exploration.start.target, exploration.mode
        found = None if mode.reason else _weighted(target, mode, settings, seed)
        rungs.append(_rung("mode", begun, target, found, mode.reason))
        if found is None or not found.pass_check:
            # What follows needs all rows in memory.
            data = in_double(padded(traced, loaded(data, n_rows), n_rows)) if len(target.blocks) > 1 else data
        if found is not None and _worth_refining(found, target, settings):
            begun = time.perf_counter()
            found = _weighted(target, _refined(traced, data, n_rows, mode, seed, watch, target), settings, seed)
            rungs.append(_rung("variational", begun, target, found, ""))
        if found is not None and found.pass_check:
            result = _normal_result(target, found, settings, seed, n_rows)
        else:
            result = _chains(traced, data, n_rows, exploration, settings, seed, watch, rungs)
    return _told(result, dtype, rungs)


def _told(result: FitResult, dtype: Any, rungs: list[dict[str, Any]]) -> FitResult:
    """Return a result in the precision of the data, with what was found on each rung."""
    draws = {name: draw.astype(dtype) if draw.dtype.kind == "f" else draw for name, draw in result.draws.items()}
    diagnostics = {"rung": rungs[-1]["rung"], "rungs": rungs, **result.diagnostics}
    return dataclasses.replace(result, draws=draws, diagnostics=diagnostics)


def _in_closed_form(traced: TracedKernel, data: Data, settings: Auto, seed: int, n_rows: int) -> FitResult | None:
    """Return draws from the posterior of a kernel that knows it in closed form; None for any other."""
    kernel = traced.kernel.bind(data.hyperparameters)
    if not isinstance(kernel, LinearRegression):
        return None
    if n_rows <= shuffle.WINDOW_ROWS:
        data, _ = merged(traced, loaded(data, n_rows))
    posterior = kernel.closed_form(data.rows["X"], data.rows["y"], data.weight)
    draws = kernel.draw(posterior, settings.num_samples, generator_of(seed, Purpose.CLOSED_FORM))
    return FitResult(
        method="independent",
        draws={name: draw[None] for name, draw in draws.items()},
        state=tuple(np.asarray(array) for array in posterior),
        n_rows=n_rows,
        num_samples=settings.num_samples,
    )


def chains_of(settings: Auto, rung: str) -> MCMC:
    """Return checked settings of the Markov chains on a rung."""
    options = CHAINS[rung]
    steps = options.get("thinning", 1) * settings.num_samples
    return MCMC(num_samples=steps, num_chains=settings.num_chains, **options).checked()


def draw_again(result: FitResult, seed: int, num_samples: int) -> dict[str, np.ndarray]:
    """Take draws ``(1, num_samples, ...)`` anew: from a closed form, or of weighted draws by their weights."""
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


def _weighted(target: Target, mode: Mode, settings: Auto, seed: int) -> Proposals:
    """Draw from an approximation, weigh the draws by the posterior, and better the approximation by what they tell.

    The approximation is a normal distribution at first, a multivariate t distribution where the posterior's tails are
    too heavy for it, and then one with the mean and covariance of the weighted draws.
    """
    best = _best(target, mode, settings, seed, 0)
    for turn in range(ADAPTATIONS):
        if best.pass_check or best.weights.k_hat > HOPELESS_K_HAT:
            break
        better = _best(target, best.moments(mode), settings, seed, turn + 1)
        best = max(best, better, key=lambda each: (each.pass_check, each.efficiency))
    return best


def _best(target: Target, mode: Mode, settings: Auto, seed: int, turn: int) -> Proposals:
    """Return weighted draws from the first family of approximations that passes its check, or else from the best."""
    found = []
    for freedom in DEGREES_OF_FREEDOM:
        found.append(_proposed(target, mode, freedom, settings, seed, turn))
        if found[-1].pass_check:
            return found[-1]
    return max(found, key=lambda each: each.efficiency)


def _proposed(target: Target, mode: Mode, freedom: float, settings: Auto, seed: int, turn: int) -> Proposals:
    rng = generator_of(seed, Purpose.PROPOSAL, turn)
    number = settings.num_samples * int(np.clip(PROPOSAL_ROWS // (target.n_rows * settings.num_samples), 1, PROPOSALS))
    v = rng.standard_normal((number, target.size))
    if np.isfinite(freedom):
        v *= np.sqrt(freedom / rng.chisquare(freedom, size=(number, 1)))
        log_q = -(freedom + target.size) / 2 * np.log1p(np.square(v).sum(axis=1) / freedom)
    else:
        log_q = -np.square(v).sum(axis=1) / 2
    positions = mode.middle + v @ mode.root.T
    with np.errstate(all="ignore"):
        return Proposals(positions, weigh(target.log_densities(positions) - log_q))


def _refined(
    traced: TracedKernel, data: Data, n_rows: int, mode: Mode, seed: int, watch: Watch, target: Target
) -> Mode:
    """Return the normal approximation that is nearest to the posterior, from the one at the mode on."""
    units = Units(target.unpack(mode.middle), mode.root)
    params = fit_svi(traced, data._replace(units=units), n_rows, REFINING, seed, watch=watch, judge=False).params
    target.evaluations += REFINING.num_steps
    loc, tril = np.asarray(params["auto_loc"]), np.asarray(params["auto_scale_tril"])
    return Mode(mode.middle + mode.root @ loc, mode.root @ tril, "")


def _normal_result(target: Target, found: Proposals, settings: Auto, seed: int, n_rows: int) -> FitResult:
    weight = found.weights.weight
    sites = target.constrain(found.positions)
    chosen = resampled(weight, settings.num_samples, generator_of(seed, Purpose.RESAMPLING))
    return FitResult(
        method="independent",
        draws={name: draw[chosen][None] for name, draw in sites.items()},
        diagnostics={"k_hat": found.weights.k_hat, "ess_of_weights": found.weights.ess},
        state=(weight, *(sites[name] for name in sorted(sites))),
        n_rows=n_rows,
        num_samples=settings.num_samples,
    )


def _chains(
    traced: TracedKernel,
    data: Data,
    n_rows: int,
    exploration: Exploration,
    settings: Auto,
    seed: int,
    watch: Watch,
    rungs: list[dict[str, Any]],
) -> FitResult:
    """Run Markov chains, and run them again with more care where they do not pass their check."""
    units = exploration.units(dense=True)
    data = data._replace(units=units)

    def run(rung: str, before: FitResult | None = None) -> FitResult:
        begun, chains = time.perf_counter(), chains_of(settings, rung)
        result = fit_mcmc(
            traced,
            data,
            n_rows,
            chains,
            seed,
            starts=lambda chain: exploration.begin(units, seed, chain),
            watch=watch,
            name=rung,
            warn=False,
            before=before,
        )
        rungs.append({
            "rung": rung,
            "seconds": time.perf_counter() - begun,
            "evaluations": chains.thinning * int(result.sample_stats["n_steps"].sum()),
            "why": "; ".join(each.__name__.removesuffix("Warning") for each in _problems(result)),
        })  # fmt: skip
        return result

    result = run("nuts")
    if _problems(result) and not watch.stopped and _may_agree(result.diagnostics):
        result = run("careful nuts")
        if set() < _problems(result) <= LENGTH_MENDS and not watch.stopped:
            result = run("long nuts", before=result)
    warn_of_chains(result.diagnostics)
    return result


def _problems(result: FitResult) -> set[type[FitWarning]]:
    return {category for category, _ in problems_of(result.diagnostics)}


def _worth_refining(found: Proposals, target: Target, settings: Auto) -> bool:
    """Whether an approximation that does not pass its check is near enough, and small enough, to be refined."""
    near = found.weights.k_hat <= HOPELESS_K_HAT and target.size <= MOST_COVARIANCE
    return near and not found.pass_check


def _may_agree(diagnostics: Mapping[str, Any]) -> bool:
    """Whether chains are near enough to one another that longer ones with smaller steps may agree."""
    known = [value for value in diagnostics["r_hat"].values() if value is not None]
    return max(known, default=1.0) <= HOPELESS_R_HAT and not diagnostics["stuck_chains"]


def _rung(name: str, begun: float, target: Target, found: Proposals | None, reason: str) -> dict[str, Any]:
    """Note what was found on a rung that ends in a normal approximation."""
    k_hat = None if found is None else found.weights.k_hat
    ess = None if found is None else found.weights.ess
    why = reason
    if k_hat is not None and k_hat > LARGEST_K_HAT:
        why = f"k-hat {k_hat:.2f} exceeds {LARGEST_K_HAT}"
    elif found is not None and not found.pass_check:
        why = f"weighted draws are worth {found.efficiency:.0%} of their number"
    noted = {"rung": name, "seconds": time.perf_counter() - begun, "evaluations": target.evaluations}
    target.evaluations = 0
    return noted | {"k_hat": k_hat, "ess": ess, "why": why}
