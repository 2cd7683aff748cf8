"""The description of a kernel, from abstract runs with two numbers of rows."""

import collections
import contextlib
import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.densities import SiteProofs, factors, fit_mixing, unweighted
from skaimz.kernels.forms import Form
from skaimz.kernels.independence import RowProof
from skaimz.kernels.indices import indices_of
from skaimz.kernels.levels import axes_of_levels
from skaimz.kernels.messages import Message, density_parts
from skaimz.kernels.refusals import (
    check_names,
    compare_sites,
    unobserved_output,
)
from skaimz.kernels.spec import KernelSpec, without_rows
from skaimz.kernels.states import count_states
from skaimz.kernels.unchanged import is_outcome
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
    runs = ((n, sites_if_run(call, n)) for n in LEAST_ROWS)
    least_rows, fewest = next((run for run in runs if run[1] is not None), (1, None))
    if fewest is not None:
        # A loop that makes a site for each row is found before it makes a thousand.
        compare_sites(least_rows + 1, sites_if_run(call, least_rows + 1), least_rows, fewest)
    plain = tracer = _Tracer(call, n_rows)
    check_names(tracer.templates)
    found = tracer.output()
    if found is None:
        form = plain.form()
        if form is not None:
            tracer = _Tracer(call := replace(call, form=form), n_rows)
            found = tracer.output()
    if found is None:
        raise ValueError(plain.unobserved())
    output, changes_outcome, fitting = found
    others = [name for name in tracer.latents if name != output]
    tracer.learn_fit_sites(output, fitting.messages)
    # Sites that exist only without an outcome, or are observed with it, are drawn together with the output.
    companions = {name for name in others if name not in fitting.messages or fitting.messages[name].kind == "observed"}
    more = [name for name, message in tracer.fit_sites.items() if message.kind == "latent"]
    if companions or more:
        fitting = tracer.prove([*(name for name in others if name not in companions), *more], output)
    # A kernel may do something else when it has no outcome to observe, so prediction needs a proof of its own.
    predicting = tracer.prove(tracer.latents, None)
    kinds = {output: "output"} | dict.fromkeys(companions, "companion") | tracer.unused(fitting, predicting)
    levels = axes_of_levels(call, n_rows[-1], tracer.shapes[-1])
    sites = tuple(
        replace(
            message.site(name, tracer.templates[name], kinds.get(name, message.kind), predicting.mixing(name)),
            following=tracer.following(name, tracer.shapes),
            levels=levels.get(name, ()),
        )
        for name, message in tracer.sites.items()
    )
    only_fitted = tuple(
        replace(
            message.site(name, tracer.fit_templates[name], message.kind, None),
            following=tracer.following(name, tracer.fit_shapes),
        )
        for name, message in tracer.fit_sites.items()
    )
    of_fit = tuple({site.name: site for site in (*sites, *only_fitted)}.values())
    local = [name for name in (*others, *more) if None in tracer.template(name)]
    states = [name for name in local if tracer.message(name).states is not None]
    row_factors, unscored = factors(output, call, (local, states), fitting, predicting)
    rowless = [name for name in row_factors if None not in {**tracer.templates, **tracer.fit_templates}[name]]
    if rowless:
        row_factors, unscored = (), f"the site {rowless[0]!r} has another number of entries than there are rows"
    mixed = [reason for reason in map(fitting.mixing, row_factors) if reason is not None]
    sites = tuple(
        replace(site, mixing=site.mixing or mixed[0]) if mixed and site.name == output else site for site in sites
    )
    latents = (site for site in of_fit if site.kind == "latent" and site.name in fitting.sites)
    discrete = {site.name for site in latents if not np.issubdtype(site.dtype, np.floating)}
    by_state = [
        name
        for name in dict.fromkeys(fitting.owners)
        if name not in discrete
        and fitting.messages[name].kind in ("latent", "observed")
        and fitting.depends(name, [fitting.sites[site] for site in discrete])
    ]
    masks = any(fitting.messages[name].is_masked for name in (output, *row_factors) if name in fitting.messages)
    trains = any(message.kind == "mutable" for message in tracer.sites.values()) or fitting.is_random(output)
    if trains and (row_factors or masks or changes_outcome):
        unscored = unscored or (
            "layers of the kernel train where there is an outcome, and a factor, a mask or the value that is observed "
            "may depend on the outcome too"
        )
    compare_sites(least_rows, fewest, n_rows[0], tracer.templates)
    spec = KernelSpec(
        sites=sites,
        input=call.input,
        output=output,
        output_parameter=call.output,
        fit_mixing=fit_mixing(of_fit, fitting),
        unweighted=unweighted(of_fit, fitting),
        changes_outcome=changes_outcome,
        subsamples=tracer.subsamples or any(message.is_subsampled for message in fitting.messages.values()),
        indices=tuple(dict.fromkeys(predicting.indices + fitting.indices)),
        width=predicting.proof.width,
        multiplies_matrices=predicting.proof.multiplies_matrices,
        factors=row_factors,
        unscored=unscored,
        masks=masks,
        least_rows=least_rows,
        only_fitted=only_fitted,
        form=call.form,
        by_state=tuple(by_state),
        trains=trains,
        outcome=call.outcome,
        observes_bounds=output in fitting.messages
        and fitting.messages[output].distribution == "IntervalCensoredDistribution",
    )
    # Each row is computed in all of its joint states.
    return replace(spec, width=spec.width * count_states(spec.summed))


class _Output(NamedTuple):
    """The output of a kernel, whether it changes the outcome before it observes it, and the proofs for a fit."""

    name: str
    changes_outcome: bool
    proofs: SiteProofs


class _Tracer:
    """Abstract runs of a kernel with two numbers of rows.

    Attributes
    ----------
    sites : dict of str to Message
        Sites of a run without an outcome, with the second number of rows.
    shapes : pair of dict
        Shape of each site on each of the numbers of rows.
    templates : dict of str to tuple
        Shape of each site, with None on the row axis.
    fit_sites, fit_shapes, fit_templates
        The same for sites that exist only with an outcome; empty before :meth:`learn_fit_sites`.
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
        compare_sites(n_rows[0], few, n_rows[1], self.sites)
        self.shapes = [{name: message.sizes for name, message in sites.items()} for sites in (few, self.sites)]
        self.templates = {name: self._template(name, self.shapes) for name in few}
        self.fit_sites: dict[str, Message] = {}
        self.fit_shapes: list[dict[str, tuple[int, ...]]] = [{}, {}]
        self.fit_templates: dict[str, tuple[int | None, ...]] = {}
        self.latents = [name for name, message in self.sites.items() if message.kind == "latent"]

    def _template(self, name: str, shapes: list[dict[str, tuple[int, ...]]]) -> tuple[int | None, ...]:
        few, many = (of_run.get(name, ()) for of_run in shapes)
        if len(few) != len(many):
            return few
        return tuple(None if sizes == self.n_rows else sizes[0] for sizes in zip(few, many, strict=True))

    def following(self, name: str, shapes: list[dict[str, tuple[int, ...]]]) -> tuple[int, ...]:
        """Return the axes of a site whose length follows from the number of rows."""
        few, many = (of_run.get(name, ()) for of_run in shapes)
        each = enumerate(itertools.zip_longest(few, many))
        return tuple(axis for axis, sizes in each if sizes == self.n_rows or sizes[0] != sizes[1])

    def template(self, name: str) -> tuple[int | None, ...]:
        """Return the shape of a latent site, with None on the row axis."""
        return self.templates[name] if name in self.templates else self.fit_templates[name]

    def message(self, name: str) -> Message:
        """Return the message of a site, in a run without an outcome if the site exists there."""
        return self.sites[name] if name in self.sites else self.fit_sites[name]

    def _shape(self, name: str, n_rows: int) -> tuple[int, ...]:
        """Return the shape of a latent site on a number of rows."""
        run = self.n_rows.index(n_rows)
        return (self.shapes if name in self.templates else self.fit_shapes)[run][name]

    def unused(self, *proofs: SiteProofs) -> dict[str, str]:
        """Return the kind of parameters on which nothing in some proofs depends, by the names of their sites."""
        sites = {name: site.statement for name, site in self.sites.items() if site.kind == "param"}
        used = set[str]().union(*(proof.used_statements() for proof in proofs))
        return {name: "unused" for name, statement in sites.items() if statement not in used}

    def _value(self, name: str, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, self.message(name).dtype)

    def _outcome(self, name: str, n_rows: int) -> jax.ShapeDtypeStruct:
        """Return an outcome for a site that observes it, or that has the outcome's shape."""
        row = without_rows(self.templates[name]) if self.call.outcome is None else self.call.outcome
        return self._value(name, (n_rows, *row))

    def output(self) -> _Output | None:
        """Return the output, None if no site with an entry for each row observes the outcome."""
        form, observing = self.call.form, []
        for name in self._candidates():
            proofs = self.prove([other for other in self.latents if other != name], name)
            if form.branches:
                return _Output(name, False, proofs)
            message = proofs.messages.get(name)
            if message is None or message.kind != "observed" or message.is_factor:
                continue
            checked = name == form.output or self.call.outcome is not None
            if checked and proofs.shape(name) != self.sites[name].batch:
                continue
            # An outcome whose values the kernel sees is no argument of the trace.
            seen = any(argument == self.call.output for argument, _ in self.call.values)
            as_given = seen or is_outcome(proofs.proof.traces[0], -2, -1, self.n_rows[0])
            observing.append(_Output(name, not as_given, proofs))
            if not observing[-1].changes_outcome:
                return observing[-1]
        return observing[0] if observing else None

    def _candidates(self) -> list[str]:
        """Return the sites that may be the output, the most likely first."""
        if self.call.form.output is not None:
            return [self.call.form.output]
        names = [self.call.output] if self.call.output in self.latents else reversed(self.latents)
        return [name for name in names if None in self.templates[name]]

    def form(self) -> Form | None:
        """Return a form of the kernel in which it has an output, or None if there is none."""
        # Two equal numbers of rows show nothing of what rows share.
        observers = self._observers() if self.n_rows[0] != self.n_rows[1] else []
        shared = [name for name in observers if self.shapes[0][name] == self.shapes[1][name]]
        if shared:
            return Form(self.call.output if self.call.output in shared else shared[-1])
        drawn = [name for name, site in self.sites.items() if site.kind in ("latent", "deterministic")]
        names = [self.call.output] if self.call.output in drawn else reversed(drawn)
        for name in names:
            if None in self.templates[name] and self._is_scored_elsewhere(name):
                return Form(name, branches=True)
        return None

    def _is_scored_elsewhere(self, name: str) -> bool:
        """Whether a site does not observe the outcome, and others that exist only with an outcome do."""
        proofs = self.prove([other for other in self.latents if other != name], name)
        here = proofs.messages.get(name)
        # A deterministic site may have the place of the outcome, and the name of the site that observes it.
        is_outcome = name == self.call.output and self.sites[name].kind == "deterministic"
        if here is not None and not here.is_factor and not is_outcome:
            return False
        outcome = [proofs.rows[self.call.output]]
        observed = [other for other, message in proofs.messages.items() if message.kind == "observed"]
        return any((other not in self.sites or other == name) and proofs.depends(other, outcome) for other in observed)

    def learn_fit_sites(self, output: str, messages: Mapping[str, Message]) -> None:
        """Describe the sites that exist only with an outcome, given the messages of a run with an outcome."""
        names = [
            name
            for name, message in messages.items()
            if message.kind in ("observed", "latent", "param")
            and (name not in self.sites or (name == output and self.call.form.branches))
        ]
        if names:
            few, many = (self.call.sites_on(n, self._outcome(output, n)) for n in self.n_rows)
            self.fit_shapes = [{name: sites[name].sizes for name in names if name in sites} for sites in (few, many)]
            self.fit_sites = {name: many[name] for name in names}
            self.fit_templates = {name: self._template(name, self.fit_shapes) for name in names}
            check_names({name: template for name, template in self.fit_templates.items() if name != output})

    def unobserved(self) -> str:
        """Return a message about a kernel without an output."""
        return unobserved_output(self.call.output, self._observers(), self._scoring(), self.shapes, self.n_rows)

    def _scoring(self) -> list[str]:
        """Return the sites that exist only with an outcome, and score it."""
        scoring: list[str] = []
        for outcome in self._some_outcomes():
            with contextlib.suppress(Exception):
                messages = self.call.sites_on(self.n_rows[-1], outcome)
                scoring += [n for n, m in messages.items() if m.kind == "observed" and n not in self.sites]
        return scoring

    def _observers(self) -> list[str]:
        """Return the sites that observe an outcome."""
        observers: list[str] = []

        def run(*arguments: Any) -> None:
            trace = self.call.run(*arguments)
            observers.extend(name for name in self.latents if name in trace and trace[name].get("is_observed"))

        for outcome in self._some_outcomes():
            with contextlib.suppress(Exception):
                jax.eval_shape(run, *self.call.arguments(self.n_rows[-1], outcome))
        return observers

    def _some_outcomes(self) -> list[jax.ShapeDtypeStruct]:
        """Return outcomes of each kind, in their known shape, or else with one number for each row."""
        shape = (self.n_rows[-1], *(self.call.outcome or ()))
        return [jax.ShapeDtypeStruct(shape, jnp.result_type(dtype)) for dtype in (float, int)]

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
            sites = {name: self._value(name, self._shape(name, n_rows)) for name in latents} | self.parameters[n_rows]
            if outcome is None:
                return self.call.arguments(n_rows, None, sites)
            return self.call.arguments(n_rows, self._outcome(outcome, n_rows), sites)

        proof = RowProof.of(densities, arguments_on, self.n_rows)
        places: list[dict[str, list[int]]] = [collections.defaultdict(list) for _ in range(5)]
        for place, (path, _) in enumerate(jax.tree.leaves_with_path(arguments_on(self.n_rows[0]))):
            places[path[0].idx][path[1].key if len(path) > 1 else ""].append(place)
        indices = indices_of(proof.traces, [arguments_on(n) for n in self.n_rows], self.n_rows)
        return SiteProofs(proof, messages, owners, indices, places[1], places[3])
