"""Markov chain Monte Carlo as two compiled programs that equal estimators share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer

from skaimz.exceptions import SpeedWarning, warn_user
from skaimz.inference.chunks import CHUNK_STEPS, run_in_chunks
from skaimz.inference.data import Data, refuse_discrete, weighted_model
from skaimz.inference.diagnostics import check_chains
from skaimz.inference.result import FitResult, pack_state, to_numpy, unpack_state
from skaimz.inference.settings import MCMC
from skaimz.kernels import ByValue, TracedKernel, compiled, key_of, one_at_a_time, shared

__all__ = ["continue_chains", "fit_mcmc"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12
# Purpose of random numbers, folded into the seed so that no other shares its stream.
CHAIN = 14


class Programs(NamedTuple):
    """Compiled steps of a fit, each a function of arrays only."""

    init: Callable
    advance: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(
    traced: TracedKernel, sampler: ByValue, num_warmup: int, num_chains: int, chain_method: str, n_padded: int
) -> Programs:
    """Make the programs for one padded number of rows, so that the cache's bound is one on compiled code."""
    model = weighted_model(traced)
    latents = [site.name for site in traced.spec.latents]

    def start(key: Any, data: Data) -> tuple[Any, Any]:
        """Build the sampler anew; compiled programs share nothing but arrays."""
        hmc = sampler.value.wrap_model(lambda _: model)
        return hmc, hmc.init(key, num_warmup, model_args=data)

    @one_at_a_time
    def init_chain(chain: Any, data: Data, seed: Any) -> Any:
        return start(key_of(seed, CHAIN, chain), data)[1]

    @one_at_a_time
    def advance_chain(state: Any, data: Data, count: Any, thinning: Any) -> tuple[Any, dict, dict]:
        hmc, _ = start(jax.random.key(0), data)
        constrain = hmc.postprocess_fn(data, {})

        def kept(state: Any) -> tuple[dict, dict]:
            draws = constrain(state.z)
            return {name: draws[name] for name in latents}, _statistics(state)

        def step(i: Any, carry: tuple) -> tuple:
            state, kept_so_far = carry
            state = jax.lax.fori_loop(0, thinning, lambda _, state: hmc.sample(state, data, {}), state)
            written = jax.tree.map(lambda all_, one: all_.at[i].set(one), kept_so_far, kept(state))
            return state, written

        empty = jax.tree.map(lambda one: jnp.zeros((CHUNK_STEPS, *one.shape), one.dtype), jax.eval_shape(kept, state))
        state, (draws, statistics) = jax.lax.fori_loop(0, count, step, (state, empty))
        return state, draws, statistics

    over = _over_chains(num_chains, chain_method)
    return Programs(compiled(over(init_chain)), compiled(over(advance_chain), donate_argnums=0))


def _over_chains(num_chains: int, chain_method: str) -> Callable[[Callable], Callable]:
    """Return a transformation that runs a function of one chain's state for all of them."""

    def vectorized(function: Callable) -> Callable:
        return lambda states, *shared: jax.vmap(lambda state: function(state, *shared))(states)

    def sequential(function: Callable) -> Callable:
        return lambda states, *shared: jax.lax.map(lambda state: function(state, *shared), states)

    def parallel(function: Callable) -> Callable:
        mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()[:num_chains]), ("chain",))
        chains, everywhere = jax.sharding.PartitionSpec("chain"), jax.sharding.PartitionSpec()

        def run(states: Any, *shared: Any) -> Any:
            specs = (chains, *(everywhere for _ in shared))
            return jax.shard_map(vectorized(function), mesh=mesh, in_specs=specs, out_specs=chains, check_vma=False)(
                states, *shared
            )

        return run

    return {"vectorized": vectorized, "sequential": sequential, "parallel": parallel}[chain_method]


def _statistics(state: Any) -> dict[str, Any]:
    return {
        "diverging": state.diverging,
        "energy": state.energy,
        "lp": -state.potential_energy,
        "n_steps": state.num_steps,
        "acceptance_rate": state.accept_prob,
        "step_size": state.adapt_state.step_size,
    }


def fit_mcmc(
    traced: TracedKernel, data: Data, n_rows: int, settings: MCMC, seed: int, *, verbose: int = 0
) -> FitResult:
    """Run Markov chains.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded arrays with weights.
    n_rows : int
        Number of rows before padding.
    settings : MCMC
        Checked settings.
    seed : int
    verbose : int
        Show a progress bar where positive.

    Returns
    -------
    FitResult
    """
    if not traced.spec.latents:
        raise ValueError("MCMC needs a kernel with at least one latent site, and this one has none.")
    refuse_discrete(traced.spec, "MCMC")
    params = [site.name for site in traced.spec.sites if site.kind == "param"]
    if params:
        raise ValueError(
            f"MCMC does not learn {params}: `numpyro.param` would stay at its first value. Give it a prior by "
            "`numpyro.sample`, or fit by SVI."
        )
    programs = _programs_of(traced, settings, data)
    states = programs.init(np.arange(settings.num_chains, dtype=np.uint32), data, np.uint32(seed))

    def warm_up(start: int, count: int) -> None:
        nonlocal states
        states, *_ = programs.advance(states, data, count, 1)
        jax.block_until_ready(states)

    run_in_chunks(warm_up, settings.num_warmup, label="MCMC warm-up", verbose=verbose, first=64)
    states, draws, statistics = _collect(programs, states, data, settings, settings.num_samples, verbose)
    if isinstance(settings.sampler, numpyro.infer.NUTS):
        # A tree of this depth has up to 2**depth - 1 steps, and more than half of them.
        statistics["tree_depth"] = np.log2(statistics["n_steps"]).astype(int) + 1
    return FitResult(
        method="mcmc",
        draws=draws,
        sample_stats=statistics,
        diagnostics=check_chains(draws, statistics["diverging"]),
        state=pack_state(states),
        data=data._asdict(),
        n_rows=n_rows,
    )


def continue_chains(
    traced: TracedKernel, data: Data, result: FitResult, settings: MCMC, num_samples: int, verbose: int = 0
) -> dict[str, np.ndarray]:
    """Take draws ``(n_chains, num_samples, ...)`` from where the chains of a fit ended."""
    programs = _programs_of(traced, settings, data)
    chains = np.arange(settings.num_chains, dtype=np.uint32)
    like = jax.eval_shape(programs.init, chains, data, np.uint32(0))
    states = unpack_state(result.state, like)
    _, draws, _ = _collect(programs, states, data, settings, num_samples * settings.thinning, verbose)
    return draws


def _collect(
    programs: Programs, states: Any, data: Data, settings: MCMC, num_samples: int, verbose: int
) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    chunks: list[tuple[dict, dict]] = []

    def sample(start: int, count: int) -> str:
        nonlocal states
        states, *kept = programs.advance(states, data, count, settings.thinning)
        draws, statistics = ({name: np.asarray(a)[:, :count] for name, a in arrays.items()} for arrays in kept)
        chunks.append((draws, statistics))
        return f"{int(sum(s['diverging'].sum() for _, s in chunks))} divergences"

    run_in_chunks(sample, num_samples // settings.thinning, label="MCMC", verbose=verbose, first=64)
    draws, statistics = (
        to_numpy({name: np.concatenate([chunk[part][name] for chunk in chunks], axis=1) for name in chunks[0][part]})
        for part in (0, 1)
    )
    return states, draws, statistics


def _programs_of(traced: TracedKernel, settings: MCMC, data: Data) -> Programs:
    method = settings.chain_method
    n_devices = jax.local_device_count()
    if method == "parallel" and n_devices < settings.num_chains:
        warn_user(
            f"{settings.num_chains} chains cannot run in parallel on {n_devices} JAX device(s); they run one after the "
            "other. Set `chain_method='vectorized'`, or give JAX more devices.",
            SpeedWarning,
        )
        method = "sequential"
    sampler = ByValue.of(settings.sampler)
    n_padded = len(data.rows[traced.spec.input])
    return _programs(traced, sampler, settings.num_warmup, settings.num_chains, method, n_padded)
