"""Levels of an argument, which a kernel counts by a parameter ``n_<argument>``: where they are, and what more do.

Two abstract runs with different counts show which axes of sites hold levels. A proof, from two such traces, shows that
no level depends on the number of levels or on other levels. Results for known levels are then the same whatever other
levels there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpyro.distributions as dist
from jax.extend.core import Jaxpr, Literal

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.identity import ByValue
from skaimz.kernels.independence import RowProof
from skaimz.kernels.messages import unmasked_distribution
from skaimz.runtime import one_at_a_time

__all__ = ["axes_of_levels", "counted", "dependent_levels"]

COUNT = "n_"
# Rows and levels of the traces for a proof: levels are no other length in a model.
N_ROWS, COUNTS = 1009, (211, 422)
SAME_NUMBERS = frozenset("broadcast_in_dim convert_element_type copy copy_p expand_dims reshape squeeze".split())


def counted(call: AbstractCall) -> dict[str, int]:
    """Return the arguments with an entry for each row whose levels a kernel is given the number of, and that number."""
    rows = {name for name, *_ in call.rows}
    numbers = {name.removeprefix(COUNT): each.value for name, each in call.static if name.startswith(COUNT)}
    return {name: n for name, n in numbers.items() if name in rows and isinstance(n, int) and not isinstance(n, bool)}


def axes_of_levels(
    call: AbstractCall, n_rows: int, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str | None, ...]]:
    """Return for every axis of a kernel's sites the argument whose levels it holds.

    Parameters
    ----------
    call : AbstractCall
    n_rows : int
    shapes : dict of str to tuple of int
        Shapes of the sites with so many rows.
    """
    axes: dict[str, tuple[str | None, ...]] = {name: (None,) * len(shape) for name, shape in shapes.items()}
    for argument, count in counted(call).items():
        more = _run(call, argument, count + 1, n_rows)
        for name, shape in shapes.items():
            other = more.get(name, ())
            if len(other) == len(shape):
                grown = [(here, there) == (count, count + 1) for here, there in zip(shape, other, strict=True)]
                axes[name] = tuple(argument if g else a for a, g in zip(axes[name], grown, strict=True))
    return {name: names for name, names in axes.items() if any(names)}


def _run(call: AbstractCall, argument: str, count: int, n_rows: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a kernel's sites with another number of levels; nothing if it does not run."""
    for whole in (False, True):
        try:
            messages = _with_count(call, argument, count, whole=whole).sites_on(n_rows)
        except Exception:
            continue
        return {name: message.sizes for name, message in messages.items() if message.kind != "plate"}
    return {}


def _with_count(call: AbstractCall, argument: str, count: int, *, whole: bool) -> AbstractCall:
    """Return a call with another number of levels, and if ``whole`` with as many entries of arrays that have them."""
    before = counted(call)[argument]

    def of_count(array: tuple) -> tuple:
        shape, dtype = array
        return ((count, *shape[1:]), dtype) if shape and shape[0] == before else array

    static = tuple((name, ByValue.of(count) if name == COUNT + argument else value) for name, value in call.static)
    arrays = tuple((name, tree, tuple(map(of_count, each))) for name, tree, each in call.whole) if whole else call.whole
    return replace(call, static=static, whole=arrays)


@one_at_a_time
def dependent_levels(call: AbstractCall, argument: str, output: str) -> dict[str, str]:
    """Return the sites in which levels may depend on one another or on their number, and why.

    Parameters
    ----------
    call : AbstractCall
    argument : str
        The argument whose levels these are.
    output : str
        The output site.
    """
    for whole in (False, True):
        calls = [_with_count(call, argument, count, whole=whole) for count in COUNTS]
        try:
            described = [each.described_on(N_ROWS) for each in calls]
        except Exception as error:
            failure = error
            continue
        return _proved(calls, described, output)
    return {output: f"the kernel does not run with another number of them ({type(failure).__name__}: {failure})"}


def _proved(calls: Sequence[AbstractCall], described: Sequence[tuple], output: str) -> dict[str, str]:
    owners: list[str] = []
    names = [name for name, message in described[0][0].items() if message.kind == "latent"]

    def traced(call: AbstractCall, messages: Mapping[str, Any], trees: Mapping[str, Any]) -> Any:
        values = {name: jax.ShapeDtypeStruct(messages[name].sizes, messages[name].dtype) for name in names}

        def parts(*arguments: Any) -> list[Any]:
            trace = call.run(*arguments)
            found = [(name, part) for name, site in trace.items() for part in _parts(site, name == output)]
            owners[:] = [name for name, _ in found]
            return [part for _, part in found]

        return jax.make_jaxpr(parts)(*call.arguments(N_ROWS, None, {**values, **trees}))

    first, second = (traced(call, *each) for call, each in zip(calls, described, strict=True))
    if len(first.jaxpr.outvars) != len(second.jaxpr.outvars):
        return {output: "the kernel has other sites with another number of them"}
    proof = _LevelProof((first, second), COUNTS)
    reasons: dict[str, str] = {}
    for place, name in enumerate(owners):
        reason = proof.mixing(place)
        if reason is not None:
            reasons.setdefault(name, reason.replace("row", "level"))
    return reasons


def _parts(site: Mapping[str, Any], is_output: bool) -> list[Any]:
    """Return what must not mix levels: the density of each entry of a latent site, and deterministic values."""
    if site["type"] == "deterministic":
        return [site["value"]]
    if site["type"] != "sample" or (site["is_observed"] and not is_output):
        return []
    distribution = unmasked_distribution(site["fn"])
    while isinstance(distribution, dist.Independent):
        distribution = distribution.base_dist
    return [distribution.log_prob(site["value"])]


class _LevelProof(RowProof):
    """A proof in which rows pick their levels by the codes that an argument holds."""

    def _in_place(self, pair: tuple, jaxprs: tuple, numbers: Sequence[Mapping[Any, int]]) -> tuple[list, list] | None:
        in_place = super()._in_place(pair, jaxprs, numbers)
        if in_place is not None or pair[0].primitive.name != "gather" or pair[0].params != pair[1].params:
            return in_place
        dimensions = pair[0].params["dimension_numbers"]
        levels, of_indices = (self._axis(pair[0].invars[i], pair[1].invars[i]) for i in (0, 1))
        picks = levels in dimensions.start_index_map and levels in dimensions.collapsed_slice_dims
        if levels is None or not picks or of_indices is not None or jaxprs[0] is not self.traces[0].jaxpr:
            return None
        codes = [_codes(jaxpr, eqn.invars[1]) for jaxpr, eqn in zip(jaxprs, pair, strict=True)]
        first, second = codes
        if first is None or second is None:
            return None
        return [pair[0].invars[0], *first], [pair[1].invars[0], *second]

    def _keeps(self, eqn: Any, into: list[int | None], out: list[int | None]) -> bool:
        # A slice whose place does not depend on the number of levels takes known ones.
        return super()._keeps(eqn, into, out) or (eqn.primitive.name == "slice" and out == [None])


def _codes(jaxpr: Jaxpr, indices: Any) -> list[Any] | None:
    """Return the arguments of a program that indices are taken from unchanged; None if they are computed.

    Behind arguments JAX adds the number of levels to negative codes, of which there are none.
    """
    origin = {variable: eqn for eqn in jaxpr.eqns for variable in eqn.outvars}
    while not isinstance(indices, Literal) and indices in origin:
        eqn = origin[indices]
        name = eqn.primitive.name
        if name in SAME_NUMBERS:
            indices = eqn.invars[0]
        elif name == "select_n" and _adds_to_negative(origin, eqn):
            indices = eqn.invars[1]
        elif name == "concatenate":
            parts = [_codes(jaxpr, part) for part in eqn.invars]
            return None if None in parts else [code for part in parts for code in part or ()]
        else:
            return None
    return [indices]


def _adds_to_negative(origin: Mapping[Any, Any], select: Any) -> bool:
    which, code, moved = select.invars
    if any(isinstance(operand, Literal) for operand in select.invars):
        return False
    sign, added = origin.get(which), origin.get(moved)
    return (
        sign is not None
        and added is not None
        and (sign.primitive.name, added.primitive.name) == ("lt", "add")
        and sign.invars[0] is code
        and added.invars[0] is code
    )
