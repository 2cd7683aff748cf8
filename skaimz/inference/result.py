"""The result of a fit: plain arrays only, so that it can be pickled, memory-mapped and sent anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import jax
import numpy as np

from skaimz.inference.facts import facts_of
from skaimz.kernels import TracedKernel, plain_leaf, restored_leaf

__all__ = ["FitResult", "check_same_sites", "pack_state", "unpack_state"]

ANOTHER = "A fit cannot go on with another guide, optimiser or kernel: call `fit` to start afresh."


@dataclass(frozen=True, repr=False)
class FitResult:
    """Result of an inference.

    Attributes
    ----------
    method : {"independent", "svi", "mcmc", "injected"}
        ``"independent"`` are draws from a closed form, or weighted draws from an approximation; injected draws were
        made elsewhere.
    draws : dict of str to array of shape (n_chains, n_draws, ...)
        Posterior draws of the latent sites.
    params : dict of str to array or tree of arrays
        Values of the ``param`` sites of kernel and guide, and states of layers, in the structure that NumPyro gives
        them; empty for MCMC. Random keys among the states are held as their data.
    losses : array of shape (n_steps,) or None
        Loss at every step; None for MCMC.
    sample_stats : dict of str to array of shape (n_chains, n_draws)
        Statistics of the sampler, by ArviZ's names; empty for SVI.
    diagnostics : dict of str to number or dict
        For SVI ``loss_final``, ``loss_is_finite``, ``guide_move``, the largest move of a median or of the logarithm of
        a spread in the last quarter of the steps, in standard deviations of the guide (None for fewer than 100 steps),
        ``guide_is_settled``, and ``k_hat`` of the ratios of the densities by kernel and guide, if they are known. For
        MCMC ``r_hat`` and ``ess`` by site (the worst of its elements), ``num_divergences``, ``stuck_chains``,
        ``num_chains`` and ``finite``. For automatic inference ``rung``, the method that gave the draws; ``rungs``, a
        dictionary for each method that was tried, with ``seconds``, ``evaluations`` of the log density, ``k_hat``,
        ``ess``, and ``why`` it was left; and ``k_hat`` and ``ess_of_weights`` of weighted draws.
    state : tuple of array
        The inference state, from which ``sample_posterior`` goes on.
    data : dict of str to dict of array, or array
        The training data that the state needs to go on.
    n_rows : int
        Number of training rows; those of the last minibatch after ``partial_fit``.
    num_samples : int
        Draws a chain, which a kernel without latent sites has too.
    seen : float
        Sum of the weights of all rows that were learnt from, where a row without a weight counts once.
    n_given : int
        Number of rows that were learnt from in all calls, whatever their weights.
    fall : int
        Steps over which the learning rate of a variational fit falls.
    """

    method: str
    draws: dict[str, np.ndarray]
    params: dict[str, Any] = field(default_factory=dict)
    losses: np.ndarray | None = None
    sample_stats: dict[str, np.ndarray] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    state: tuple[np.ndarray, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    n_rows: int = 0
    num_samples: int = 1000
    seen: float = 0.0
    n_given: int = 0
    fall: int = 0

    def __repr__(self) -> str:
        # All arrays would fill pages, and scikit-learn's table of fitted attributes cuts what exceeds 30 characters.
        n_chains, n_draws = next((draw.shape[:2] for draw in self.draws.values()), (1, self.num_samples))
        return f"FitResult({self.method}, {n_chains} x {n_draws} draws)"

    def __str__(self) -> str:
        facts = facts_of(self)
        width = max(map(len, facts))
        return "\n".join([repr(self), *(f"  {name:<{width}}  {fact}" for name, fact in facts.items())])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        cells = ((escape(name), escape(fact)) for name, fact in facts_of(self).items())
        rows = "".join(f"<tr><th>{name}</th><td>{fact}</td></tr>" for name, fact in cells)
        return f"<b>{escape(repr(self))}</b><table>{rows}</table>"


def check_same_sites(traced: TracedKernel, before: FitResult) -> None:
    """Refuse to go on with a kernel whose latent sites are not those of an earlier fit."""
    sites = {site.name: site for site in traced.spec.latents}
    if sites.keys() != before.draws.keys() or not all(
        site.allows(before.draws[name].shape[2:]) for name, site in sites.items()
    ):
        raise ValueError(ANOTHER)


def pack_state(state: Any) -> tuple[np.ndarray, ...]:
    """Reduce a state of any structure to its arrays; keys become their data."""
    return tuple(map(plain_leaf, jax.tree.leaves(state)))


def unpack_state(arrays: tuple[np.ndarray, ...], like: Any) -> Any:
    """Rebuild a state from its arrays and an abstract state of its structure."""
    leaves, structure = jax.tree.flatten(like)
    keys = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    fits = len(arrays) == len(leaves) and all(
        is_key or array.shape == leaf.shape for array, leaf, is_key in zip(arrays, leaves, keys, strict=True)
    )
    if not fits:
        raise ValueError(ANOTHER)
    return jax.tree.unflatten(
        structure, [restored_leaf(array, leaf.dtype) for array, leaf in zip(arrays, leaves, strict=True)]
    )


def to_numpy(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return writable copies of arrays on the host, in whatever they are nested; random keys become their data."""
    return jax.tree.map(lambda leaf: np.array(plain_leaf(leaf)), dict(arrays))
