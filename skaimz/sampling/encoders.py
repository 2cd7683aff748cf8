"""Guides that compute the latent sites of a row from its data, so that new rows need no fit of their own."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from numpyro import handlers

from skaimz.kernels import (
    ByValue,
    KeptState,
    RowProof,
    TracedKernel,
    materialise,
    named_leaves,
    nested,
    without_rows,
)
from skaimz.runtime import one_at_a_time
from skaimz.sampling.forward import Arguments

__all__ = ["Encoder", "encoder_of"]

ANSWERS_KEPT = 64
# Two row counts, odd and even, a prime apart, that are no other length in a model.
ROW_COUNTS = (1009, 2022)


@dataclass(frozen=True)
class Encoder:
    """A guide function that draws latent sites of rows.

    Attributes
    ----------
    guide : ByValue
        The function, with the kernel's arguments.
    sites : tuple of str
        Latent sites with an entry for each row that it draws.
    needs_outcome : bool
        Whether it cannot run without the outcome.
    mixing : str or None
        Why what it draws for a row may depend on other rows; None if it provably does not.
    """

    guide: ByValue
    sites: tuple[str, ...]
    needs_outcome: bool
    mixing: str | None

    @one_at_a_time
    def run(self, traced: TracedKernel, arguments: Arguments, values: Mapping[str, Any], key: Any) -> dict[str, Any]:
        """Run the guide with the values of some sites and parameters set, and return its trace."""
        output = traced.spec.output_parameter
        rows = arguments.rows if self.needs_outcome else {**arguments.rows, output: None}
        with (
            handlers.trace() as trace,
            handlers.seed(rng_seed=key),
            handlers.substitute(data=dict(values)),
            KeptState(),
        ):
            self.guide.value(**nested({**rows, **arguments.whole, **traced.constants}))
        return trace

    def draw(self, traced: TracedKernel, arguments: Arguments, values: Mapping[str, Any], key: Any) -> dict[str, Any]:
        """Draw the latent sites that have no values yet, given those that have."""
        trace = self.run(traced, arguments, values, key)
        return {name: trace[name]["value"] for name in self.sites if name not in values}


@functools.lru_cache(maxsize=ANSWERS_KEPT)
def encoder_of(guide: ByValue, traced: TracedKernel, arguments: Arguments) -> Encoder | None:
    """Return the encoder that a guide function is, or None if it cannot draw latent sites of new rows.

    Parameters
    ----------
    guide : ByValue
    traced : TracedKernel
    arguments : Arguments
        Descriptions of the kernel's arguments.
    """
    for needs_outcome in (False, True):
        try:
            return _described(Encoder(guide, (), needs_outcome, None), traced, arguments)
        except Exception:
            # It cannot run without the outcome, or on abstract rows.
            continue
    return None


def _described(encoder: Encoder, traced: TracedKernel, arguments: Arguments) -> Encoder | None:
    spec = traced.spec
    output = spec[spec.output]

    def arguments_on(n_rows: int) -> Arguments:
        rows = materialise(arguments.rows, n_rows)
        if encoder.needs_outcome:
            shape = (n_rows, *without_rows(output.shape))
            rows[spec.output_parameter] = jax.ShapeDtypeStruct(shape, output.dtype)
        return Arguments(materialise(arguments.hyperparameters), rows, materialise(arguments.whole))

    key = jax.eval_shape(lambda: jax.random.key(0))

    def values_of(*kinds: str) -> Callable:
        def values(arguments: Arguments, key: Any) -> dict[str, Any]:
            trace = encoder.run(traced, arguments, {}, key)
            return {name: message["value"] for name, message in trace.items() if message["type"] in kinds}

        return values

    learned = [jax.eval_shape(values_of("param", "mutable"), arguments_on(n), key) for n in ROW_COUNTS]
    shapes = [[{n: leaf.shape for n, leaf in named_leaves(name, tree).items()} for name, tree in trees.items()]
              for trees in learned]  # fmt: skip
    drawn = {n: jax.eval_shape(values_of("sample"), arguments_on(n), key) for n in ROW_COUNTS}
    sites = tuple(
        site.name
        for site in spec.local_latents
        if all(site.name in each and each[site.name].shape == site.shape_on(n) for n, each in drawn.items())
    )
    if not sites or shapes[0] != shapes[1]:
        return None  # A parameter has an entry for each row of the fit.

    def densities(arguments: Arguments, values: Mapping[str, Any], key: Any) -> list[Any]:
        trace = encoder.run(traced, arguments, values, key)
        return [trace[name]["fn"].log_prob(trace[name]["value"]) for name in sites]

    proof = RowProof.of(densities, lambda n: (arguments_on(n), drawn[n], key), ROW_COUNTS)
    reasons = (proof.mixing(place) for place in range(len(sites)))
    return Encoder(encoder.guide, sites, encoder.needs_outcome, next((reason for reason in reasons if reason), None))
