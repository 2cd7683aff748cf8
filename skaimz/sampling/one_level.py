"""The distribution of one of several levels that are independent of one another, each with its own parameters."""

import copy
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import jax
import numpyro.distributions as dist
from numpyro.distributions.util import lazy_property

from skaimz.sampling.conditionals import elementwise

__all__ = ["of_one_level"]


def of_one_level(distribution: dist.Distribution, axis: int, level: Any) -> dist.Distribution:
    """Return the distribution of one level, whose random numbers depend neither on its place nor on other levels.

    Parameters
    ----------
    distribution : numpyro.distributions.Distribution
    axis : int
        Axis of its values that holds the levels, which are independent of one another.
    level : int or array of an integer
        Place of the level.

    Returns
    -------
    Distribution
        Its values have one entry on the axis.

    Raises
    ------
    ValueError
        If the distribution has parameters of which it is not known which belong to a level.
    """
    shape, base = distribution.shape(), elementwise(distribution)
    place = len(shape) - axis - base.event_dim
    batch = shape[: len(shape) - base.event_dim]
    one = _cut(base, place, level)
    whole = (*batch[:axis], 1, *batch[axis + 1 :])
    try:
        one = one.expand(whole)
        drawn = jax.eval_shape(one.sample, jax.random.key(0)).shape
    except (TypeError, ValueError) as error:
        drawn = error
    if drawn != (*whole, *base.event_shape):
        raise ValueError(
            f"it is not known which parameters of its distribution, {type(base).__name__}, belong to one level. List "
            "all levels in `column_args` with 'categories', so that the fit knows of them"
        )
    return one


def _cut(distribution: dist.Distribution, place: int, level: Any) -> dist.Distribution:
    """Keep one entry of a batch axis, counted from the last, which is 1."""
    if isinstance(distribution, dist.ExpandedDistribution):
        return _cut(distribution.base_dist, place, level).expand(_cut_shape(distribution.batch_shape, place))
    one = copy.copy(distribution)
    one._batch_shape = _cut_shape(distribution.batch_shape, place)
    # Chi2 has the parameters of Gamma as well as its own.
    constraints = ChainMap(*(vars(kind).get("arg_constraints", {}) for kind in type(distribution).__mro__))
    for name, value in vars(distribution).items():
        if name == "transforms":
            # They are applied to whole values, on the right of which are the axes of the event.
            cut: Any = [_cut_transform(each, place + distribution.event_dim, level) for each in value]
        elif isinstance(value, list | tuple) and value and all(isinstance(v, dist.Distribution) for v in value):
            cut = type(value)(_cut_part(distribution, each, place, level) for each in value)
        elif isinstance(value, dist.Distribution):
            cut = _cut_part(distribution, value, place, level)
        elif isinstance(getattr(type(distribution), name, None), lazy_property) and name not in constraints:
            delattr(one, name)  # it is computed again
            continue
        elif hasattr(value, "shape") and name in constraints:
            cut = _cut_array(value, place + _event_dim(constraints, name), level)
        else:
            continue
        setattr(one, name, cut)
    return one


def _cut_part(whole: dist.Distribution, part: dist.Distribution, place: int, level: Any) -> dist.Distribution:
    """Cut a part of a distribution, such as the components of a mixture, which have axes of their own on the right."""
    return _cut(part, place + max(0, len(part.batch_shape) - len(whole.batch_shape)), level)


def _cut_transform(transform: Any, place: int, level: Any) -> Any:
    one = copy.copy(transform)
    for name, value in vars(transform).items():
        if hasattr(value, "shape"):
            setattr(one, name, _cut_array(value, place, level))
    return one


def _cut_array(array: Any, place: int, level: Any) -> Any:
    """Keep one entry of an axis that is counted from the last; an array without the axis, or of one entry, is kept."""
    axis = len(array.shape) - place
    return array if axis < 0 or array.shape[axis] == 1 else jax.lax.dynamic_slice_in_dim(array, level, 1, axis)


def _cut_shape(shape: tuple[int, ...], place: int) -> tuple[int, ...]:
    axis = len(shape) - place
    return shape if axis < 0 else (*shape[:axis], 1, *shape[axis + 1 :])


def _event_dim(constraints: Mapping[str, Any], name: str) -> int:
    try:
        return constraints[name].event_dim
    except NotImplementedError:
        return 0
