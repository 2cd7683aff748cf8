"""Values that are trees of arrays, such as the parameters of a network: names for their leaves, and plain arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.primitives import Messenger

__all__ = ["KeptState", "map_leaves", "named_leaves", "plain_leaf", "restored_leaf", "without_trees"]

# Kinds of statements whose value may be a tree: parameters, and the state of layers.
TREES = ("param", "mutable")
# Generators of JAX, by the tags in the names of their types of keys.
GENERATORS = {"fry": "threefry2x32", "rbg": "rbg", "urbg": "unsafe_rbg"}


def named_leaves(name: str, value: Any) -> dict[str, Any]:
    """Return the arrays of a value by name: that of the value for an array, or with the path to a leaf of a tree.

    Parameters
    ----------
    name : str
    value : array or pytree of arrays

    Returns
    -------
    dict of str to array
        A leaf of ``net$params`` has a name such as ``net$params.Dense_0.kernel``.
    """
    leaves = jax.tree_util.tree_leaves_with_path(value)
    named = {".".join([name, *map(_step, path)]): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(f"Two arrays in {name!r} have the same path, {list(named)}: rename layers that contain '.'.")
    return named


def _step(key: Any) -> str:
    """Return the name of one step on a path of JAX."""
    return str(next(getattr(key, kind) for kind in ("key", "idx", "name") if hasattr(key, kind)))


def map_leaves(function: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    """Return a value with the results of a function of the name and the array of each leaf in their places."""
    leaves = named_leaves(name, value)
    return jax.tree.unflatten(jax.tree.structure(value), map(function, leaves.keys(), leaves.values()))


def without_trees(trace: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the messages of a trace, with one for each leaf in place of a parameter or a state that is a tree.

    A tree without leaves, as that of a network whose weights all have priors, has no message.
    """
    messages: dict[str, dict[str, Any]] = {}
    for name, message in trace.items():
        if message["type"] not in TREES:
            messages[name] = dict(message)
            continue
        for leaf, value in named_leaves(name, message["value"]).items():
            messages[leaf] = {**message, "name": leaf, "value": value, "statement": name}
    return messages


def plain_leaf(leaf: Any) -> np.ndarray:
    """Return an array on the host; random keys become their data."""
    is_key = hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def restored_leaf(array: Any, dtype: Any) -> Any:
    """Return a random key of some type from its data, and any other array as it is."""
    tag = str(dtype).removeprefix("key<").removesuffix(">")
    return array if tag == str(dtype) else jax.random.wrap_key_data(jnp.asarray(array), impl=GENERATORS[tag])


class KeptState(Messenger):
    """Give each run of a kernel its own copy of the state of layers, and a random key where it is not seeded.

    One run could otherwise change a state that the kernel holds, and the next would see it. Without a key, layers
    cannot draw their first values, nor dropout its masks; a handler outside that seeds the kernel comes first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_keys = 0

    def process_message(self, msg: dict[str, Any]) -> None:
        """Copy the state that a statement begins with."""
        value = msg.get("value")
        if msg["type"] != "mutable" or value is None:
            return
        if isinstance(value, dict):
            # The dictionary itself stays, because layers write their next state into it.
            value.update({key: _copied(entry) for key, entry in value.items()})
        else:
            msg["value"] = _copied(value)

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Give a key where no handler has."""
        if msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = jax.random.fold_in(jax.random.key(0), self.n_keys)
            self.n_keys += 1


def _copied(tree: Any) -> Any:
    """Return a state with other containers, in double precision if that is the precision of the run.

    Layers refuse a next state of another type than the last, and counters without a type of their own take the run's.
    """
    double = jnp.result_type(float) == np.float64

    def copied(leaf: Any) -> Any:
        dtype = getattr(leaf, "dtype", None) if double else None
        if dtype == np.float32:
            return leaf.astype(float)
        return leaf.astype(int) if dtype == np.int32 and leaf.weak_type else leaf

    return jax.tree.map(copied, tree)
