"""What a proof of rows says of the densities of a kernel's sites."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import MaskedDistribution, Unit

from skaimz.kernels.affine import dependent
from skaimz.kernels.independence import MixedRowsError, RowProof
from skaimz.kernels.indices import Index
from skaimz.kernels.spec import Site

__all__ = ["SiteProofs", "density_parts", "factors", "facts_of", "fit_mixing", "unweighted"]


class SiteProofs(NamedTuple):
    """A proof whose outputs belong to sites.

    Attributes
    ----------
    proof : RowProof
    owners : list of str
        The site that each output belongs to.
    rows, sites : dict of str to list of int
        Places of the arguments with rows, and of the values of sites, among the inputs of the traced function.
    """

    proof: RowProof
    owners: list[str]
    indices: tuple[Index, ...]
    rows: dict[str, list[int]]
    sites: dict[str, list[int]]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a site's density at the second number of rows."""
        return self.proof.traces[-1].jaxpr.outvars[self.owners.index(name)].aval.shape

    def depends(self, output: int, places: Iterable[list[int]]) -> bool:
        """Whether an output may depend on some of the inputs, given their places."""
        return dependent(self.proof.traces[0], list(itertools.chain(*places)))[output]

    def mixing(self, name: str) -> str | None:
        """Return why the rows of a site may depend on one another, None where they provably do not."""
        reasons = (self.proof.mixing(i) for i, owner in enumerate(self.owners) if owner == name)
        return next((reason for reason in reasons if reason is not None), None)

    def has_rows(self, name: str) -> bool:
        """Whether something of a site's density has an entry for each row."""
        return any(self._has_rows(i) for i, owner in enumerate(self.owners) if owner == name)

    def _has_rows(self, output: int) -> bool:
        try:
            return self.proof.row_axis(output) is not None
        except MixedRowsError:
            return False  # it has no entry for each row, but say one fewer


def fit_mixing(sites: tuple[Site, ...], proofs: SiteProofs, messages: Mapping[str, Any]) -> str | None:
    """Return why the log density is no sum over rows, None where it provably is."""
    batched = {site.name for site in sites if site.rows_are_batched}
    for name in dict.fromkeys(proofs.owners):
        if messages[name]["type"] == "deterministic":
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


def unweighted(sites: tuple[Site, ...], proofs: SiteProofs, messages: Mapping[str, Any]) -> str | None:
    """Return an observed site that looks at rows, and whose density has no entry for each of them."""
    batched = {site.name for site in sites if site.rows_are_batched}
    for name in dict.fromkeys(proofs.owners):
        if messages[name]["type"] == "sample" and messages[name]["is_observed"]:
            has_rows = proofs.has_rows(name)
            if (has_rows or proofs.mixing(name) is not None) and not (has_rows and name in batched):
                return name
    return None


def factors(
    output: str, param_output: str, local: Sequence[str], proofs: SiteProofs, messages: Mapping[str, Any]
) -> tuple[tuple[str, ...], str | None]:
    """Return the factors that are a part of each row's density, and why there may be no such density.

    ``numpyro.factor`` may hold what an outcome's density lacks, such as that of a censored row whose own is masked.
    """
    of_rows: list[str] = []
    masked = messages[output]["is_masked"]
    shapes = {name: proofs.shape(name) for name in dict.fromkeys(proofs.owners)}
    for name, message in messages.items():
        if not message["is_factor"]:
            continue
        place = proofs.owners.index(name)
        by_outcome = proofs.depends(place, [proofs.rows[param_output]])
        if proofs.mixing(name) is not None or not proofs.has_rows(name):
            if by_outcome or (masked and proofs.depends(place, proofs.rows.values())):
                return (), f"the factor {name!r} has no entry for each row: write it within the plate of the rows"
        elif not by_outcome and proofs.depends(place, [proofs.sites[each] for each in local]):
            return (), f"the factor {name!r} may be a prior of {list(local)}: write that as a distribution"
        elif shapes[name] != shapes[output]:
            return (), (
                f"the factor {name!r} has the shape {shapes[name]} for {proofs.proof.n_rows[-1]} rows, where the "
                f"density of the output has {shapes[output]}: write it within the same plates"
            )
        else:
            of_rows.append(name)
    return tuple(of_rows), None


def facts_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is looked at of a site once the trace that its values belong to has ended."""
    distribution = message["fn"] if message["type"] == "sample" else None
    return {
        "type": message["type"],
        "is_observed": message.get("is_observed"),
        "is_factor": isinstance(innermost(distribution), Unit),
        "is_masked": is_masked(distribution),
    }


def innermost(distribution: Any) -> Any:
    """Return the distribution that others are wrapped around."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def is_masked(distribution: Any) -> bool:
    """Whether a mask that depends on data may leave out some of the outcomes."""
    while hasattr(distribution, "base_dist"):
        if isinstance(distribution, MaskedDistribution) and np.ndim(distribution._mask) > 0:
            return True
        distribution = distribution.base_dist
    return False


def density_parts(message: dict[str, Any]) -> list[Any]:
    """Return all that decides on a site: the parts of its log density, or its value where it has none."""
    if message["type"] == "plate":
        return []
    if message["type"] != "sample":
        return [message["value"]]
    distribution, parts = message["fn"], []
    while isinstance(distribution, MaskedDistribution):
        # A mask hides the density from a proof, but not the values that are drawn.
        parts.append(jnp.asarray(distribution._mask))
        distribution = distribution.base_dist
    if message["scale"] is not None:
        parts.append(jnp.asarray(message["scale"]))
    return [distribution.log_prob(message["value"]), *parts]
