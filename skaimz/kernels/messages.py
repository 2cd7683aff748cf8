"""What the description of a kernel takes from NumPyro's messages. It outlives the trace that the messages belong to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import (
    CategoricalLogits,
    CategoricalProbs,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
    Unit,
    constraints,
)

from skaimz.kernels.forms import SUBSAMPLED
from skaimz.kernels.names import stored_name
from skaimz.kernels.spec import Site
from skaimz.kernels.states import finite_support

__all__ = ["Message", "density_parts", "innermost", "masks_of", "unmasked_distribution"]

SUPPORTS = ("positive", "nonnegative", "unit_interval", "nonnegative_integer", "positive_integer", "boolean")
WRAPPERS = ("ExpandedDistribution", "Independent", "MaskedDistribution")


def innermost(distribution: Any) -> Any:
    """Return the distribution that others are wrapped around."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


@dataclass(frozen=True)
class Message:
    """The message of a site or a plate, without its value and its distribution.

    Attributes
    ----------
    kind : {"latent", "observed", "deterministic", "param", "mutable", "plate"}
    distribution : str or None
        Name of the distribution's class, without wrappers.
    event_dim : int
    support : str or None
        Name of the constraint on the values, if it has no parameters.
    n_classes : int or None
        Number of classes of a categorical distribution.
    states : tuple of number, or None
        Values that the site may have in a run without an outcome, if they are finitely many numbers.
    plates : tuple of numpyro.primitives.CondIndepStackFrame
    event_names : tuple of str
        Names of the event dimensions, from ``infer={"event_dims": ...}``.
    is_factor : bool
        Whether the site is a ``numpyro.factor``.
    is_masked : bool
        Whether a mask that depends on data may leave some of the outcomes out.
    is_subsampled : bool
        Whether the message belongs to a plate that draws minibatches.
    is_scanned : bool
        Whether the site is in the body of a ``scan``.
    statement : str
        Name of the statement whose value this is, or a leaf of it, if it is a parameter or a state.
    sizes : tuple of int
        Shape of the value.
    dtype : numpy.dtype or None
        Type of the value.
    """

    kind: str
    distribution: str | None
    event_dim: int
    support: str | None
    n_classes: int | None
    states: tuple[float, ...] | None
    plates: tuple[Any, ...]
    event_names: tuple[str, ...]
    is_factor: bool
    is_masked: bool
    is_subsampled: bool
    is_scanned: bool
    statement: str = ""
    sizes: tuple[int, ...] = ()
    dtype: Any = None

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Message":
        """Describe a message while its trace runs."""
        kind, name, support, n_classes, event_dim = message["type"], None, None, None, 0
        distribution = message["fn"] if kind == "sample" else None
        if distribution is not None:
            kind = "observed" if message["is_observed"] else "latent"
            event_dim = distribution.event_dim
            support = next((name for name in SUPPORTS if distribution.support is getattr(constraints, name)), None)
            base = distribution
            while type(base).__name__ in WRAPPERS:
                base = base.base_dist
            name = type(base).__name__
            if isinstance(base, CategoricalProbs | CategoricalLogits):
                n_classes = (base.probs if isinstance(base, CategoricalProbs) else base.logits).shape[-1]
        return cls(
            kind=kind,
            distribution=name,
            event_dim=event_dim,
            support=support,
            n_classes=n_classes,
            states=finite_support(distribution) if kind == "latent" else None,
            plates=tuple(message.get("cond_indep_stack", ())),
            event_names=tuple((message.get("infer") or {}).get("event_dims", ())),
            is_factor=isinstance(innermost(distribution), Unit),
            is_masked=any(np.ndim(mask) > 0 for mask in masks_of(distribution)),
            is_subsampled=SUBSAMPLED in message,
            is_scanned=bool(message.get("_control_flow_done")),
            statement=message.get("statement", ""),
        )

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the value without its event dimensions."""
        return self.sizes[: len(self.sizes) - self.event_dim]

    def site(self, name: str, template: tuple[int | None, ...], kind: str, mixing: str | None) -> Site:
        """Describe the site, whose shape is the ``template``, with None on the row axis."""
        row_axis = template.index(None) if None in template else None
        return Site(
            name=name,
            kind=kind,
            distribution=self.distribution,
            shape=template,
            dtype=str(self.dtype),
            row_axis=row_axis,
            event_dim=self.event_dim,
            dims=tuple(stored_name(self._dim(name, axis, row_axis)) for axis in range(len(template))),
            support=self.support,
            n_classes=self.n_classes,
            mixing=mixing,
            states=self.states,
            statement=self.statement,
            is_scanned=self.is_scanned,
        )

    def _dim(self, name: str, axis: int, row_axis: int | None) -> str:
        """Return the name of an axis: that of its plate if it has one."""
        batch = len(self.sizes) - self.event_dim
        if batch <= axis < batch + len(self.event_names):
            return self.event_names[axis - batch]
        for plate in self.plates:
            # The event dimensions of a deterministic site are unknown, but its row axis is recognised by its length.
            is_here = plate.dim == axis - batch or (axis == row_axis and self.distribution is None)
            if is_here and plate.size == self.sizes[axis]:
                return plate.name
        return "rows" if axis == row_axis else f"{name}_dim_{axis}"


def density_parts(message: Mapping[str, Any]) -> list[Any]:
    """Return the log density of a site with its masks and its scale, or the value of a site without a density."""
    if message["type"] == "plate":
        return []
    if message["type"] != "sample":
        return [message["value"]]
    # A mask would hide the density of the base distribution, whose rows matter for the values that are drawn.
    distribution, parts = message["fn"], list(map(jnp.asarray, masks_of(message["fn"])))
    if message["scale"] is not None:
        parts.append(jnp.asarray(message["scale"]))
    return [unmasked_distribution(distribution).log_prob(message["value"]), *parts]


def masks_of(distribution: Any) -> Iterator[Any]:
    """Yield the masks of a distribution, which say which values count."""
    while hasattr(distribution, "base_dist"):
        if isinstance(distribution, MaskedDistribution):
            yield distribution._mask
        distribution = distribution.base_dist


def unmasked_distribution(distribution: Any) -> Any:
    """Return a distribution without masks, also of the distributions that it repeats or regroups."""
    if isinstance(distribution, MaskedDistribution):
        return unmasked_distribution(distribution.base_dist)
    if isinstance(distribution, ExpandedDistribution):
        return unmasked_distribution(distribution.base_dist).expand(distribution.batch_shape)
    if isinstance(distribution, Independent):
        return unmasked_distribution(distribution.base_dist).to_event(distribution.reinterpreted_batch_ndims)
    return distribution
