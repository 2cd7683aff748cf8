"""What the proof of independent rows says about the densities of a kernel's sites."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jax.interpreters.partial_eval import dce_jaxpr

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.affine import dependent
from skaimz.kernels.independence import MixedRowsError, RowProof
from skaimz.kernels.indices import Index
from skaimz.kernels.messages import Message
from skaimz.kernels.spec import Site

__all__ = ["SiteProofs", "factors", "fit_mixing", "unweighted"]


class SiteProofs(NamedTuple):
    """A proof about a function whose outputs are parts of the densities of sites.

    Attributes
    ----------
    proof : RowProof
    messages : dict of str to Message
        All sites and plates of the run.
    owners : list of str
        The site that each output belongs to.
    indices : tuple of Index
        Arguments and sites that the function uses as indices.
    rows, sites : dict of str to list of int
        Positions of the arguments with rows, and of the values of sites, among the inputs of the traced function.
    """

    proof: RowProof
    messages: Mapping[str, Message]
    owners: list[str]
    indices: tuple[Index, ...]
    rows: dict[str, list[int]]
    sites: dict[str, list[int]]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a site's density for the second number of rows."""
        return self.proof.traces[-1].jaxpr.outvars[self.owners.index(name)].aval.shape

    def follows_rows(self, name: str) -> bool:
        """Whether the shape of a site's density follows the number of rows, whether or not the rows mix."""
        output = self.owners.index(name)
        few, many = (trace.jaxpr.outvars[output].aval.shape for trace in self.proof.traces)
        return bool(few != many)

    def depends(self, name: str, positions: Iterable[list[int]]) -> bool:
        """Whether the density of a site may depend on some of the inputs, given their positions."""
        found = dependent(self.proof.traces[0], list(itertools.chain(*positions)))
        return any(found[output] for output in self._outputs(name))

    def inputs_of(self, outputs: Iterable[str]) -> list[bool]:
        """Return for each input of the traced function whether the densities or values of some sites depend on it."""
        jaxpr, chosen = self.proof.traces[0].jaxpr, set(outputs)
        wanted = [owner in chosen for owner in self.owners]
        return dce_jaxpr(jaxpr, [*wanted, *[False] * (len(jaxpr.outvars) - len(wanted))])[1]

    def used_statements(self) -> set[str]:
        """Return the names of the statements of parameters and states on which anything else depends."""
        inputs = self.inputs_of(owner for owner in self.owners if not self.messages[owner].statement)
        return {name for name, positions in self.sites.items() if any(inputs[position] for position in positions)}

    def is_random(self, name: str) -> bool:
        """Whether the density of a site depends on random numbers that are no sites, such as those of dropout."""
        return self.inputs_of([name])[-1]

    def mixing(self, name: str) -> str | None:
        """Return why the rows of a site may depend on one another, or None if they provably do not."""
        reasons = (self.proof.mixing(output) for output in self._outputs(name))
        return next((reason for reason in reasons if reason is not None), None)

    def has_rows(self, name: str) -> bool:
        """Whether some part of a site's density has an entry for each row."""
        return any(self._has_rows(output) for output in self._outputs(name))

    def _outputs(self, name: str) -> list[int]:
        return [output for output, owner in enumerate(self.owners) if owner == name]

    def _has_rows(self, output: int) -> bool:
        try:
            return self.proof.row_axis(output) is not None
        except MixedRowsError:
            return False  # its length follows from the number of rows, but is another one, such as one fewer


def fit_mixing(sites: tuple[Site, ...], proofs: SiteProofs) -> str | None:
    """Return why the log density may not be a sum over rows, or None if it provably is one."""
    batched = {site.name for site in sites if site.rows_are_batched}
    for name in dict.fromkeys(proofs.owners):
        if proofs.messages[name].kind == "deterministic":
            continue
        reason = proofs.mixing(name)
        if reason is not None:
            return f"site {name!r}: {reason}"
        if proofs.has_rows(name) and name not in batched:
            return f"site {name!r} has a density for each row, but no value for each"
    for site in sites:
        if site.kind != "deterministic" and site.row_axis is not None and not site.rows_are_batched:
            return f"site {site.name!r} has its rows on an event axis"
    return None


def unweighted(sites: tuple[Site, ...], proofs: SiteProofs) -> str | None:
    """Return an observed site that depends on rows, but whose density has no entry for each row."""
    batched = {site.name for site in sites if site.rows_are_batched}
    for name in dict.fromkeys(proofs.owners):
        if proofs.messages[name].kind == "observed":
            has_rows = proofs.has_rows(name)
            if (has_rows or proofs.mixing(name) is not None) and not (has_rows and name in batched):
                return name
    return None


def factors(
    output: str,
    call: AbstractCall,
    local: tuple[Sequence[str], Sequence[str]],
    proofs: SiteProofs,
    predicting: SiteProofs,
) -> tuple[tuple[str, ...], str | None]:
    """Return the sites beside the output that are part of each row's density, and why rows may have none of their own.

    Other sites may observe the outcome too, or other parts of it. A ``numpyro.factor`` may hold what the density of an
    outcome lacks, such as the term of a censored row, whose own density is masked. If the output does not exist in a
    fit, factors or observed sites hold all of it.

    Parameters
    ----------
    output : str
        Output site.
    call : AbstractCall
        The kernel, in its form.
    local : pair of sequence of str
        Latent sites with an entry for each row, and those of them that have few states, which are summed out.
    proofs, predicting : SiteProofs
        Proofs for a fit and for a prediction.
    """
    branches, outcome = call.form.branches, [proofs.rows[call.output]]
    states = local[1]
    continuous = [site for site in local[0] if site not in states]
    masked = not branches and proofs.messages[output].is_masked
    of_rows: list[str] = []
    for name, message in proofs.messages.items():
        if message.kind != "observed" or (name == output and not branches):
            continue
        by_outcome, what = proofs.depends(name, outcome), "factor" if message.is_factor else "site"
        if not (by_outcome or message.is_factor or branches):
            continue
        if proofs.mixing(name) is not None or not proofs.has_rows(name):
            if by_outcome or (masked and proofs.depends(name, proofs.rows.values())):
                reason = proofs.mixing(name)
                if reason is not None and proofs.follows_rows(name):
                    if not message.is_factor:
                        of_rows.append(name)  # such as one of an outcome less something that all rows share
                        continue
                    return (), f"the rows of the {what} {name!r} may depend on one another: {reason}"
                return (), f"the {what} {name!r} has no entry for each row: write it within the plate of the rows"
        elif not by_outcome and proofs.depends(name, [proofs.sites[site] for site in continuous]):
            return (), f"the factor {name!r} may be a prior of {continuous}: write that as a distribution"
        elif not by_outcome and name in predicting.messages and proofs.depends(name, [proofs.sites[s] for s in states]):
            continue  # it tells something of the states of a row, whose density is given that
        elif by_outcome or message.is_factor:
            of_rows.append(name)
    return tuple(of_rows), None
