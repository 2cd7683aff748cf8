"""A kernel and the shapes and types of its arguments, which are all that an abstract run needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import ImproperUniform, biject_to

from skaimz.kernels.forms import AS_WRITTEN, Form, Formed
from skaimz.kernels.identity import ByValue, Kernel
from skaimz.kernels.messages import Message, innermost
from skaimz.kernels.observed_masks import JoinedMasks
from skaimz.kernels.signature import nested
from skaimz.kernels.spec import Inputs, with_seen_outcome
from skaimz.kernels.trees import TREES, KeptState, without_trees
from skaimz.runtime import one_at_a_time

__all__ = ["AbstractCall", "abstract_arrays", "improper_value", "materialise"]

# The name of each value, its structure, which is that of a leaf for an array, and the shape and type of each of its
# arrays; the shape is None for a Python number.
Described = tuple[tuple[str, Any, tuple[tuple[tuple[int, ...] | None, Any], ...]], ...]


def abstract_arrays(arrays: Mapping[str, Any]) -> Described:
    """Describe arrays, and trees of them, by shape and type; Python numbers, typed weakly by JAX, by their type."""
    described = []
    for name, value in arrays.items():
        leaves, structure = jax.tree.flatten(value)
        described.append((name, structure, tuple(map(_described, leaves))))
    return tuple(described)


def _described(array: Any) -> tuple[tuple[int, ...] | None, Any]:
    weak = isinstance(array, int | float) and not isinstance(array, np.generic)
    return (None, type(array)) if weak else (np.shape(array), array.dtype)


def materialise(described: Described, n_rows: int | None = None) -> dict[str, Any]:
    """Return abstract arrays from their description. ``n_rows`` replaces the length of the first axis."""

    def materialised(shape: tuple[int, ...] | None, dtype: Any) -> Any:
        if shape is None:
            return dtype(1)
        return jax.ShapeDtypeStruct(
            shape if n_rows is None else (n_rows, *shape[1:]),
            jax.dtypes.canonicalize_dtype(dtype, allow_extended_dtype=True),
        )

    return {
        name: jax.tree.unflatten(structure, [materialised(*array) for array in arrays])
        for name, structure, arrays in described
    }


def improper_value(message: dict[str, Any]) -> Any:
    """Return a value for a site with an improper prior, which cannot be sampled; None for any other site."""
    distribution: Any = message.get("fn")
    if message["type"] != "sample" or message["value"] is not None:
        return None
    if not isinstance(innermost(distribution), ImproperUniform):
        return None
    transform = biject_to(distribution.support)
    return transform(jnp.zeros(transform.inverse_shape(distribution.shape())))


@dataclass(frozen=True)
class AbstractCall:
    """A kernel with abstract arguments. Equal calls have equal descriptions, so that a call is a key of a cache.

    Attributes
    ----------
    kernel : Kernel
    input, output : str
        Names of the kernel parameters that take the input and the output.
    static : tuple of (str, ByValue)
        Arguments that are not arrays.
    hyperparameters, rows, whole : tuple of (str, shape, dtype)
        Descriptions of arrays, of one row in the case of ``rows``.
    x64 : bool
        Whether JAX computes in double precision.
    form : Form
        What is changed in the kernel when it runs.
    values : tuple of (str, ByValue)
        Rows of arguments whose values the kernel sees; they are repeated for more rows.
    outcome : tuple of int or None
        Shape of the outcome of one row; None for that of the site which observes it.
    """

    kernel: Kernel
    input: str
    output: str
    static: tuple[tuple[str, ByValue], ...]
    hyperparameters: Described
    rows: Described
    whole: Described
    x64: bool
    form: Form = AS_WRITTEN
    values: tuple[tuple[str, ByValue], ...] = ()
    outcome: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls, kernel: Kernel, hyperparameters: Mapping[str, Any], inputs: Inputs, names: tuple[str, str]
    ) -> "AbstractCall":
        """Describe the arguments of a kernel, whose input and output have the ``names``."""
        # By value, because Python takes 1, 1.0 and True for equal, and a kernel may not.
        static = tuple((name, ByValue.of(value)) for name, value in inputs.static)
        return cls(
            kernel,
            *names,
            static=static,
            hyperparameters=abstract_arrays(hyperparameters),
            rows=abstract_arrays({name: array[:1] for name, array in inputs.rows.items()}),
            whole=abstract_arrays(inputs.whole),
            x64=jnp.result_type(float) == np.float64,
        )

    def arguments(self, n_rows: int, outcome: Any = None, sites: Mapping[str, Any] | None = None) -> tuple:
        """Return abstract arguments of :meth:`run` for a number of rows, and with an outcome if there is one."""
        rows = materialise(self.rows, n_rows) | ({} if outcome is None else {self.output: outcome})
        key = jax.eval_shape(lambda: jax.random.key(0))
        return materialise(self.hyperparameters), rows, materialise(self.whole), dict(sites or {}), key

    def run(self, hyperparameters: dict, rows: dict, whole: dict, sites: dict, key: Any) -> dict[str, Any]:
        """Run the kernel with the values of some sites set, and return the messages of all sites.

        Parameters and states that are trees have a message for each of their leaves.
        """
        return without_trees(self._trace(hyperparameters, rows, whole, sites, key))

    def _trace(self, hyperparameters: dict, rows: dict, whole: dict, sites: dict, key: Any) -> dict[str, Any]:
        constants = {name: constant.value for name, constant in self.static}
        with (
            handlers.trace() as trace,
            handlers.seed(rng_seed=key),
            handlers.substitute(substitute_fn=improper_value),
            handlers.substitute(data=sites),
            KeptState(),
        ):
            kernel, n_rows = JoinedMasks(self.kernel.bind(hyperparameters)), len(rows[self.input])
            for name, seen in self.values:
                constants[name] = np.resize(seen.value, (n_rows, *seen.value.shape[1:]))
            constants = with_seen_outcome(constants, self.output, rows)
            kernel = Formed(kernel, self.form, n_rows, observes=self.output in rows)
            try:
                kernel(**nested({self.output: None, **rows, **whole, **constants}))
            except (AttributeError, TypeError) as error:
                if "NoneType" in str(error):
                    error.add_note(self._of_none(self.output in rows))
                raise
        return trace

    def _of_none(self, has_outcome: bool) -> str:
        """Return a note for an error of a kernel that does not expect an argument to be None."""
        if has_outcome:
            return (
                "Arguments that are not passed are None. A kernel also runs with an outcome before it predicts: pass "
                "what it needs then."
            )
        return (
            f"{self.output!r} is None in predictions: take the number of rows from {self.input!r}, and use "
            f"{self.output!r} only where it is not None."
        )

    def sites_on(self, n_rows: int, outcome: Any = None) -> dict[str, Message]:
        """Describe the sites and plates of a run, without an outcome or with an abstract one."""
        return self.described_on(n_rows, outcome)[0]

    @one_at_a_time
    def described_on(self, n_rows: int, outcome: Any = None) -> tuple[dict[str, Message], dict[str, Any]]:
        """Describe the sites and plates of a run, and its parameters and states as they are."""
        messages: dict[str, Message] = {}

        def run(*arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            trace = self._trace(*arguments)
            leaves = without_trees(trace)
            messages.update({name: Message.of(message) for name, message in leaves.items()})
            values = {name: message["value"] for name, message in leaves.items() if message["type"] != "plate"}
            return values, {name: message["value"] for name, message in trace.items() if message["type"] in TREES}

        values, trees = jax.eval_shape(run, *self.arguments(n_rows, outcome))
        described = {
            name: replace(messages[name], sizes=value.shape, dtype=value.dtype) for name, value in values.items()
        }
        return messages | described, trees
