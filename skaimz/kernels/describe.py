"""The description of a kernel, from abstract runs with two numbers of rows."""

import collections
import contextlib
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.densities import SiteProofs, factors, fit_mixing, unweighted
from skaimz.kernels.independence import RowProof
from skaimz.kernels.indices import indices_of
from skaimz.kernels.messages import Message, density_parts
from skaimz.kernels.refusals import (
    check_names,
    compare_sites,
    refuse_fitted_alone,
    unobserved_output,
)
from skaimz.kernels.spec import KernelSpec, without_rows
from skaimz.runtime import one_at_a_time

__all__ = ["describe", "sites_if_run"]

# Numbers of rows on which a kernel is tried in order to find the fewest that it runs on.
LEAST_ROWS = (1, 2, 4, 8, 16)


def sites_if_run(call: AbstractCall, n_rows: int) -> list[str] | None:
    """Return the names of a kernel's sites on a number of rows, or None if the kernel fails there."""
    try:
        return [name for name, message in call.sites_on(n_rows).items() if message.kind != "plate"]
    except Exception:
        return None


@one_at_a_time
def describe(call: AbstractCall, n_rows: tuple[int, int]) -> KernelSpec:
    """Describe a kernel from abstract runs with two numbers of rows.

    Parameters
    ----------
    call : AbstractCall
    n_rows : pair of int

    Raises
    ------
    ValueError
        If the kernel cannot be used.
    """
    tracer = _Tracer(call, n_rows)
    check_names(tracer.templates)
    output, changes_outcome, fitting = tracer.output()
    others = [name for name in tracer.latents if name != output]
    refuse_fitted_alone(output, tracer.sites, fitting.messages)
    # Sites that exist only without an outcome, or are observed with it, are drawn together with the output.
    companions = {name for name in others if name not in fitting.messages or fitting.messages[name].kind == "observed"}
    if companions:
        fitting = tracer.prove([name for name in others if name not in companions], output)
    # A kernel may do something else when it has no outcome to observe, so prediction needs a proof of its own.
    predicting = tracer.prove(tracer.latents, None)
    kinds = {output: "output"} | dict.fromkeys(companions, "companion") | tracer.unused(fitting, predicting)
    sites = tuple(
        message.site(name, tracer.templates[name], kinds.get(name, message.kind), predicting.mixing(name))
        for name, message in tracer.sites.items()
    )
    local = [name for name in others if None in tracer.templates[name]]
    row_factors, unscored = factors(output, call.output, local, fitting)
    has_state = any(message.kind == "mutable" for message in tracer.sites.values())
    trains = has_state or (fitting.is_random(output) and not tracer.subsamples)
    is_masked = fitting.messages[output].is_masked
    if trains and (row_factors or is_masked or changes_outcome):
        unscored = unscored or (
            "layers of the kernel train where there is an outcome, and a factor, a mask or the value that is observed "
            "may depend on the outcome too"
        )
    mixing = "the kernel draws minibatches of its own" if tracer.subsamples else fit_mixing(sites, fitting)
    runs = ((n, sites_if_run(call, n)) for n in LEAST_ROWS)
    least_rows, fewest = next((run for run in runs if run[1] is not None), (1, None))
    compare_sites(least_rows, fewest, n_rows[0], tracer.templates)
    return KernelSpec(
        sites=sites,
        input=call.input,
        output=output,
        output_parameter=call.output,
        fit_mixing=mixing,
        unweighted=unweighted(sites, fitting),
        changes_outcome=changes_outcome,
        subsamples=tracer.subsamples,
        indices=tuple(dict.fromkeys(predicting.indices + fitting.indices)),
        width=predicting.proof.width,
        multiplies_matrices=predicting.proof.multiplies_matrices,
        factors=row_factors,
        unscored=unscored,
        masks=is_masked,
        least_rows=least_rows,
        trains=trains,
    )


class _Tracer:
    """Abstract runs of a kernel with two numbers of rows.

    Attributes
    ----------
    sites : dict of str to Message
        Sites of a run without an outcome, with the second number of rows.
    templates : dict of str to tuple
        Shape of each site, with None on the row axis.
    latents : list of str
        Sites that a run without an outcome does not observe.
    parameters : dict of int to dict
        Abstract values of parameters and states of layers, by the number of rows.
    subsamples : bool
        Whether the kernel draws minibatches.
    """

    def __init__(self, call: AbstractCall, n_rows: tuple[int, int]):
        self.call, self.n_rows = call, n_rows
        described = [call.described_on(n) for n in n_rows]
        runs = [messages for messages, _ in described]
        self.parameters = {n: trees for n, (_, trees) in zip(n_rows, described, strict=True)}
        self.subsamples = any(message.is_subsampled for messages in runs for message in messages.values())
        few, self.sites = (
            {name: message for name, message in messages.items() if message.kind != "plate"} for messages in runs
        )
        self.shapes = [{name: message.sizes for name, message in sites.items()} for sites in (few, self.sites)]
        self.templates = {name: self._template(name) for name in few}
        self.latents = [name for name, message in self.sites.items() if message.kind == "latent"]

    def _template(self, name: str) -> tuple[int | None, ...]:
        few, many = (shapes.get(name, ()) for shapes in self.shapes)
        if len(few) != len(many):
            return few
        return tuple(None if sizes == self.n_rows else sizes[0] for sizes in zip(few, many, strict=True))

    def unused(self, *proofs: SiteProofs) -> dict[str, str]:
        """Return the kind of parameters on which nothing in some proofs depends, by the names of their sites."""
        sites = {name: site.statement for name, site in self.sites.items() if site.kind == "param"}
        used = set[str]().union(*(proof.used_statements() for proof in proofs))
        return {name: "unused" for name, statement in sites.items() if statement not in used}

    def _value(self, name: str, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, self.sites[name].dtype)

    def output(self) -> tuple[str, bool, SiteProofs]:
        """Return the site that observes the outcome, whether it changes the outcome first, and the proofs for a fit."""
        observing = []
        for name in self._candidates():
            proofs = self.prove([other for other in self.latents if other != name], name)
            if name in proofs.messages and proofs.messages[name].kind == "observed":
                changes_outcome = not proofs.proof.only_moves(-2, -1)
                observing.append((name, changes_outcome, proofs))
                if not changes_outcome:
                    return observing[-1]
        if not observing:
            raise ValueError(unobserved_output(self.call.output, self._observers(), self.shapes, self.n_rows))
        return observing[0]

    def _candidates(self) -> list[str]:
        """Return the sites that may be the output, the most likely first."""
        if self.call.output in self.latents:
            return [self.call.output]
        return [name for name in reversed(self.latents) if None in self.templates[name]]

    def _observers(self) -> list[str]:
        """Return the sites that observe an outcome with one number for each row."""
        observers: list[str] = []

        def run(*arguments: Any) -> None:
            trace = self.call.run(*arguments)
            observers.extend(name for name in self.latents if trace[name]["is_observed"])

        for dtype in (float, int):
            outcome = jax.ShapeDtypeStruct((self.n_rows[-1],), jnp.result_type(dtype))
            with contextlib.suppress(Exception):
                jax.eval_shape(run, *self.call.arguments(self.n_rows[-1], outcome))
        return observers

    def prove(self, latents: Collection[str], outcome: str | None) -> SiteProofs:
        """Trace the densities of all sites.

        Parameters
        ----------
        latents : collection of str
            Sites whose values are arguments of the trace, beside parameters and states of layers.
        outcome : str or None
            Site that observes the outcome, as in a fit; None for a run without an outcome, as in a prediction.
        """
        messages: dict[str, Message] = {}
        owners: list[str] = []

        def densities(*arguments: Any) -> list[Any]:
            trace = self.call.run(*arguments)
            parts = [(name, part) for name, message in trace.items() for part in density_parts(message)]
            messages.clear()
            messages.update({name: Message.of(message) for name, message in trace.items()})
            owners[:] = [name for name, _ in parts]
            # The last two outputs show whether the site observes the outcome itself.
            observed = [trace[outcome]["value"], arguments[1][self.call.output]] if outcome in trace else []
            return [*(part for _, part in parts), *observed]

        def arguments_on(n_rows: int) -> tuple:
            shapes = {
                name: tuple(n_rows if size is None else size for size in self.templates[name]) for name in latents
            }
            sites = {name: self._value(name, shape) for name, shape in shapes.items()} | self.parameters[n_rows]
            if outcome is None:
                return self.call.arguments(n_rows, None, sites)
            rows_first = (n_rows, *without_rows(self.templates[outcome]))
            return self.call.arguments(n_rows, self._value(outcome, rows_first), sites)

        proof = RowProof.of(densities, arguments_on, self.n_rows)
        places: list[dict[str, list[int]]] = [collections.defaultdict(list) for _ in range(5)]
        for place, (path, _) in enumerate(jax.tree.leaves_with_path(arguments_on(self.n_rows[0]))):
            places[path[0].idx][path[1].key if len(path) > 1 else ""].append(place)
        indices = indices_of(proof.traces, [arguments_on(n) for n in self.n_rows], self.n_rows)
        return SiteProofs(proof, messages, owners, indices, places[1], places[3])
