"""Kernels described from abstract traces alone."""

import collections
import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import (
    CategoricalLogits,
    CategoricalProbs,
    ImproperUniform,
    biject_to,
    constraints,
)

from skaimz.kernels.densities import SiteProofs, density_parts, factors, facts_of, fit_mixing, unweighted
from skaimz.kernels.identity import ByValue, Kernel, number_policies, split_kernel
from skaimz.kernels.independence import RowProof
from skaimz.kernels.indices import indices_of
from skaimz.kernels.refusals import (
    RowCountError,
    check_names,
    compare_sites,
    explained,
    of_one_length,
    refuse_fitted_alone,
    refuse_mutable,
    unobserved_output,
)
from skaimz.kernels.signature import nested
from skaimz.kernels.spec import Inputs, KernelSpec, Site, TracedKernel, without_rows
from skaimz.kernels.values import narrowed
from skaimz.runtime import one_at_a_time, refuse_fork

__all__ = ["abstract_arrays", "check_row_count", "improper_value", "materialise", "trace_kernel"]

# Two row counts, odd and even, a prime apart, that are no other length in a model. Nothing is computed at these sizes.
ROW_COUNTS = (1009, 2022)
SPECS_KEPT = 256
LEAST_ROWS = (1, 2, 4, 8, 16)
# What is remembered of kernels that cannot be traced at these row counts: that they fail, and whether because of these.
FAILS, FAILS_HERE = "fails", "fails at these row counts"
SUPPORTS = ("positive", "nonnegative", "unit_interval", "nonnegative_integer", "positive_integer", "boolean")


def trace_kernel(
    kernel: Callable, inputs: Inputs, param_input: str, param_output: str
) -> tuple[TracedKernel, dict[str, Any]]:
    """Describe a kernel by tracing it abstractly at two row counts.

    Parameters
    ----------
    kernel : callable
    inputs : Inputs
        Arguments without the output. Only shapes and types are looked at.
    param_input, param_output : str
        Names of the kernel parameters that take the input and the output.

    Returns
    -------
    traced : TracedKernel
    hyperparameters : dict of str to number or array
        The kernel's numeric hyperparameters, to be passed to every program of ``traced``.
    """
    refuse_fork()
    error: Exception | None = None
    tried = None
    names = param_input, param_output
    n_rows = len(inputs.rows[param_input])
    # By value: 1, 1.0 and True are the same to Python, but not to a kernel.
    static = tuple((name, ByValue.of(value)) for name, value in inputs.static)
    for policy in number_policies():
        key, hyperparameters = split_kernel(kernel, policy)
        if hyperparameters.keys() == tried:
            continue
        tried = hyperparameters.keys()
        for name, value in hyperparameters.items():
            narrowed(f"The kernel's parameter {name!r}", np.asarray(value), jnp.result_type(float))
        described = abstract_arrays(hyperparameters), abstract_arrays(inputs.whole)
        first = abstract_arrays({name: array[:1] for name, array in inputs.rows.items()})
        found = _trace(key, static, first, *described, names, jnp.result_type(float) == np.float64)
        if isinstance(found, KernelSpec):
            return TracedKernel(key, static, found), hyperparameters
        try:
            if found is FAILS:
                spec = _describe(key, static, first, *described, names, ROW_COUNTS)
            else:
                # Some kernels do not take any number of rows.
                rows = abstract_arrays(inputs.rows)
                spec = _describe(key, static, rows, *described, names, (n_rows, 2 * n_rows))
        except Exception as caught:
            error = explained(caught)
            if found is FAILS_HERE:
                error.add_note(f"The kernel was being traced with {n_rows} abstract rows.")
                if not _fails_anywhere(error):
                    sites = functools.partial(_sites_at, key, inputs, static, hyperparameters, param_output)
                    only_here = sites(n_rows) is not None and sites(2 * n_rows) is None
                    held = of_one_length(kernel, n_rows) if only_here else None
                    if held is not None:
                        raise ValueError(held) from error
            if not _needs_a_value(error):
                break
        else:
            return TracedKernel(key, static, spec), hyperparameters
    assert error is not None
    try:
        raise error
    finally:
        # Or else it and this frame would keep each other, and the arrays of the call.
        del error


def _fails_anywhere(error: Exception) -> bool:
    return _needs_a_value(error) or isinstance(error, RowCountError)


def _needs_a_value(error: Exception) -> bool:
    return isinstance(error, jax.errors.ConcretizationTypeError) or "concrete values" in str(error)


def abstract_arrays(arrays: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...] | None, Any], ...]:
    """Describe arrays by shape and type; Python's numbers, which JAX types weakly, by their type alone."""
    described = []
    for name, value in arrays.items():
        weak = isinstance(value, int | float) and not isinstance(value, np.generic)
        described.append((name, None, type(value)) if weak else (name, np.shape(value), np.dtype(value.dtype)))
    return tuple(described)


def materialise(described: tuple, n_rows: int | None = None) -> dict[str, Any]:
    """Return abstract arrays from their description, with another number of rows where given."""
    return {
        name: dtype(1)
        if shape is None
        else jax.ShapeDtypeStruct(
            shape if n_rows is None else (n_rows, *shape[1:]), jax.dtypes.canonicalize_dtype(dtype)
        )
        for name, shape, dtype in described
    }


@functools.lru_cache(maxsize=SPECS_KEPT)
def _trace(
    kernel: Kernel, static: tuple, rows: tuple, hyperparameters: tuple, whole: tuple, names: tuple[str, str], x64: bool
) -> KernelSpec | str:
    """Trace at row counts of our own choice.

    That it failed is remembered, but not the error, which would keep alive all that its frames hold.
    """
    try:
        return _describe(kernel, static, rows, hyperparameters, whole, names, ROW_COUNTS)
    except Exception as error:
        return FAILS if _fails_anywhere(error) else FAILS_HERE


@one_at_a_time
def _sites_at(
    kernel: Kernel, inputs: Inputs, static: tuple, hyperparameters: dict, param_output: str, n_rows: int
) -> dict[str, Any] | None:
    """Return the sites of a kernel on so many rows without an outcome; None where it does not run."""

    def run(values: dict, rows: dict, whole: dict, key: Any) -> Any:
        model = handlers.substitute(handlers.seed(kernel.bind(values), key), substitute_fn=improper_value)
        constants = {name: constant.value for name, constant in static}
        trace = handlers.trace(model).get_trace(**rows, **whole, **constants, **{param_output: None})
        return {name: site["value"] for name, site in trace.items() if site["type"] != "plate"}

    fixed, tables = (materialise(abstract_arrays(each)) for each in (hyperparameters, inputs.whole))
    rows = materialise(abstract_arrays(inputs.rows), n_rows)
    try:
        return jax.eval_shape(run, fixed, rows, tables, jax.eval_shape(lambda: jax.random.key(0)))
    except Exception:
        return None


@one_at_a_time
def _describe(
    kernel: Kernel,
    static: tuple,
    rows: tuple,
    hyperparameters: tuple,
    whole: tuple,
    names: tuple[str, str],
    n_rows: tuple[int, int],
) -> KernelSpec:
    param_input, param_output = names

    def run(values: dict, rows: dict, whole: dict, latents: dict, key: Any) -> dict:
        model = kernel.bind(values)
        with (
            handlers.trace() as trace,
            handlers.seed(rng_seed=key),
            handlers.substitute(substitute_fn=improper_value),
            handlers.substitute(data=latents),
        ):
            model(**nested({**rows, **whole, **{name: constant.value for name, constant in static}}))
        return trace

    def sample(values: dict, rows: dict, whole: dict, key: Any) -> dict:
        messages = run(values, {**rows, param_output: None}, whole, {}, key)
        found.update({name: _Message(site) for name, site in messages.items() if site["type"] != "plate"})
        plates.update({name: site["args"] for name, site in messages.items() if site["type"] == "plate"})
        refuse_mutable(found)
        return {name: site["value"] for name, site in messages.items() if name in found}

    key = jax.eval_shape(lambda: jax.random.key(0))
    fixed, tables = materialise(hyperparameters), materialise(whole)
    found: dict[str, _Message] = {}
    plates: dict[str, Any] = {}
    shapes = []
    for n in n_rows:
        found.clear()
        values = jax.eval_shape(sample, fixed, materialise(rows, n), tables, key)
        shapes.append({name: value.shape for name, value in values.items()})
    templates = {name: _template(shapes[0][name], shapes[1].get(name, ()), n_rows) for name in shapes[0]}
    check_names(templates)

    def value_at(name: str, n: int) -> jax.ShapeDtypeStruct:
        shape = tuple(n if size is None else size for size in templates[name])
        return jax.ShapeDtypeStruct(shape, values[name].dtype)

    unobserved = [name for name, message in found.items() if message.kind == "latent"]

    def prove(given: list[str], outcome: str | None) -> tuple[SiteProofs, dict[str, Any]]:
        """Trace every site's density with the values of others given, and ``outcome`` observed."""
        messages: dict[str, Any] = {}
        owners: list[str] = []

        def densities(values: dict, rows: dict, whole: dict, sites: dict, key: Any) -> list:
            messages.clear()
            owners.clear()
            trace = run(values, {param_output: None, **rows}, whole, sites, key)
            # Values are left behind, since they may not outlive the trace.
            messages.update({name: facts_of(message) for name, message in trace.items()})
            parts = [(name, part) for name, message in trace.items() for part in density_parts(message)]
            owners.extend(name for name, _ in parts)
            # Beside the densities: what is observed, and the outcome.
            observed = [trace[outcome]["value"], rows[param_output]] if outcome in trace else []
            return [*(part for _, part in parts), *observed]

        def at(n: int) -> tuple:
            arrays = materialise(rows, n)
            if outcome is not None:
                shape = (n, *without_rows(templates[outcome]))
                arrays[param_output] = jax.ShapeDtypeStruct(shape, values[outcome].dtype)
            return fixed, arrays, tables, {name: value_at(name, n) for name in given}, key

        proof = RowProof.of(densities, at, n_rows)
        places: list[dict[str, list[int]]] = [collections.defaultdict(list) for _ in range(5)]
        for place, (path, _) in enumerate(jax.tree.leaves_with_path(at(n_rows[0]))):
            places[path[0].idx][getattr(path[-1], "key", "")].append(place)
        indices = indices_of(proof.traces, [at(n) for n in n_rows], n_rows)
        return SiteProofs(proof, owners, indices, places[1], places[3]), messages

    observing: list[tuple[bool, str]] = []
    for candidate in _candidates(unobserved, templates, param_output):
        fitting, messages = prove([name for name in unobserved if name != candidate], candidate)
        if candidate in messages and messages[candidate]["is_observed"]:
            observing.append((not fitting.proof.only_moves(-2, -1), candidate))
            if not observing[-1][0]:
                break
    if not observing:

        def observers(rows: dict) -> None:
            trace = run(fixed, rows, tables, {}, jax.random.key(0))
            observed.extend(name for name in unobserved if trace[name]["is_observed"])

        observed: list[str] = []
        for dtype in (float, int):
            outcome = jax.ShapeDtypeStruct((n_rows[-1],), jnp.result_type(dtype))
            with contextlib.suppress(Exception):
                jax.eval_shape(observers, {**materialise(rows, n_rows[-1]), param_output: outcome})
        raise ValueError(unobserved_output(param_output, observed, shapes, n_rows))
    # The likeliest site that observes the outcome itself, or else the likeliest one.
    changes_outcome, output = min(observing, key=lambda each: each[0])
    given = [name for name in unobserved if name != output]
    if output != candidate:
        fitting, messages = prove(given, output)
    refuse_fitted_alone(output, found, messages)
    # Sites that are there only where there is no outcome are drawn with it, as are those that are observed with it.
    companions = {name for name in given if name not in messages or messages[name]["is_observed"]}
    if companions:
        fitting, messages = prove([name for name in given if name not in companions], output)
    # A kernel may do something else when it has no outcome to observe, so prediction is proved apart.
    predicting, _ = prove(unobserved, None)
    sites = tuple(
        found[name].site(
            name,
            templates[name],
            shapes[-1][name],
            str(values[name].dtype),
            "output" if name == output else "companion" if name in companions else found[name].kind,
            predicting.mixing(name),
        )
        for name in found
    )
    local = [name for name in given if None in templates[name]]
    row_factors, unscored = factors(output, param_output, local, fitting, messages)
    subsamples = any(args[1] is not None and args[1] != args[0] for args in plates.values())
    mixing = "the kernel draws minibatches of its own" if subsamples else fit_mixing(sites, fitting, messages)
    least_rows, fewest = _on_few_rows(lambda n: jax.eval_shape(sample, fixed, materialise(rows, n), tables, key))
    compare_sites(least_rows, fewest, n_rows[0], templates)
    proof = predicting.proof
    return KernelSpec(
        sites,
        param_input,
        output,
        param_output,
        mixing,
        unweighted(sites, fitting, messages),
        changes_outcome,
        subsamples,
        tuple(dict.fromkeys(predicting.indices + fitting.indices)),
        proof.width,
        proof.multiplies_matrices,
        row_factors,
        unscored,
        messages[output]["is_masked"],
        least_rows,
    )


def _on_few_rows(trace: Callable[[int], dict[str, Any]]) -> tuple[int, dict[str, Any] | None]:
    """Return a small number of rows on which a kernel can be traced, and its sites there; 1 and None if none is."""
    for n in LEAST_ROWS:
        with contextlib.suppress(Exception):
            return n, trace(n)
    return 1, None


def check_row_count(
    traced: TracedKernel, hyperparameters: Mapping[str, Any], inputs: Inputs, param_input: str, param_output: str
) -> None:
    """Refuse a kernel that has other sites on exactly as many rows as there are than on those that it was traced on."""
    n_rows = len(inputs.rows[param_input])
    found = _sites_at(traced.kernel, inputs, traced.static, dict(hyperparameters), param_output, n_rows)
    compare_sites(n_rows, found, ROW_COUNTS[0], [site.name for site in traced.spec.sites])


class _Message:
    """The parts of a NumPyro message that outlive its trace."""

    def __init__(self, message: dict[str, Any]):
        self.kind = message["type"]
        self.distribution = self.support = self.n_classes = None
        self.event_dim = 0
        self.plates = tuple(message.get("cond_indep_stack", ()))
        self.event_names = (message.get("infer") or {}).get("event_dims", ())
        if message["type"] == "sample":
            distribution = message["fn"]
            self.kind = "observed" if message["is_observed"] else "latent"
            self.event_dim = distribution.event_dim
            self.support = next((name for name in SUPPORTS if distribution.support is getattr(constraints, name)), None)
            while type(distribution).__name__ in ("ExpandedDistribution", "Independent", "MaskedDistribution"):
                distribution = distribution.base_dist
            self.distribution = type(distribution).__name__
            if isinstance(distribution, CategoricalProbs | CategoricalLogits):
                self.n_classes = (
                    distribution.probs if isinstance(distribution, CategoricalProbs) else distribution.logits
                ).shape[-1]

    def site(self, name: str, shape: tuple, sizes: tuple, dtype: str, kind: str, mixing: str | None) -> Site:
        """Describe the site; ``sizes`` is its shape in the trace that the message is of."""
        row_axis = shape.index(None) if None in shape else None
        dims = tuple(self._dim(name, axis, sizes, row_axis) for axis in range(len(shape)))
        return Site(
            name,
            kind,
            self.distribution,
            shape,
            dtype,
            row_axis,
            self.event_dim,
            dims,
            self.support,
            self.n_classes,
            mixing,
        )

    def _dim(self, name: str, axis: int, sizes: tuple, row_axis: int | None) -> str:
        batch = len(sizes) - self.event_dim
        if batch <= axis < batch + len(self.event_names):
            return self.event_names[axis - batch]
        fitting = [plate for plate in self.plates if plate.size == sizes[axis]]
        for plate in fitting:
            # The event dimensions of a deterministic site are unknown: its rows are where the length says.
            if plate.dim == axis - batch or (axis == row_axis and self.distribution is None):
                return plate.name
        return "rows" if axis == row_axis else f"{name}_dim_{axis}"


def improper_value(message: dict[str, Any]) -> Any:
    """Return some value of a site that cannot be drawn; None for any other."""
    distribution: Any = message.get("fn")
    base = distribution
    while message["type"] == "sample" and hasattr(base, "base_dist"):
        base = base.base_dist
    if message["value"] is not None or not isinstance(base, ImproperUniform):
        return None
    transform = biject_to(distribution.support)
    return transform(jnp.zeros(transform.inverse_shape(distribution.shape())))


def _template(first: tuple[int, ...], second: tuple[int, ...], n_rows: tuple[int, int]) -> tuple[int | None, ...]:
    if len(first) != len(second):
        return first
    return tuple(None if sizes == n_rows else sizes[0] for sizes in zip(first, second, strict=True))


def _candidates(unobserved: list[str], templates: dict[str, tuple], param_output: str) -> list[str]:
    """Return the sites that may be the output, the likeliest first."""
    if param_output in unobserved:
        return [param_output]
    return [name for name in reversed(unobserved) if None in templates[name]]
