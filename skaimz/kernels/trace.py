"""Kernels described from abstract traces alone."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import (
    CategoricalLogits,
    CategoricalProbs,
    ImproperUniform,
    MaskedDistribution,
    biject_to,
    constraints,
)

from skaimz._forks import refuse_fork
from skaimz.kernels.identity import ByValue, Kernel, number_policies, split_kernel
from skaimz.kernels.rows import RowProof
from skaimz.kernels.spec import Inputs, KernelSpec, Site, TracedKernel, without_rows
from skaimz.kernels.threads import one_at_a_time

__all__ = ["abstract_arrays", "improper_value", "materialise", "trace_kernel"]

# Two row counts, odd and even, a prime apart, that are no other length in a model. Nothing is computed at these sizes.
ROW_COUNTS = (1009, 2022)
SPECS_KEPT = 256
# What is remembered of kernels that cannot be traced at these sizes.
NEEDS_A_VALUE, FAILED = "needs a value", "failed"
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
    numbers : dict of str to number or array
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
        key, numbers = split_kernel(kernel, policy)
        if numbers.keys() == tried:
            continue
        tried = numbers.keys()
        described = abstract_arrays(numbers), abstract_arrays(inputs.whole)
        first = abstract_arrays({name: array[:1] for name, array in inputs.rows.items()})
        found = _trace(key, static, first, *described, names, jnp.result_type(float) == np.float64)
        if isinstance(found, KernelSpec):
            return TracedKernel(key, static, found), numbers
        try:
            if found is NEEDS_A_VALUE:
                spec = _describe(key, static, first, *described, names, ROW_COUNTS)
            else:
                # Some kernels do not take any number of rows.
                rows = abstract_arrays(inputs.rows)
                spec = _describe(key, static, rows, *described, names, (n_rows, 2 * n_rows))
        except Exception as caught:
            if found is not NEEDS_A_VALUE:
                caught.add_note(f"The kernel was being traced with {n_rows} abstract rows.")
            error = _explained(caught)
            if not _needs_a_value(error):
                break
        else:
            return TracedKernel(key, static, spec), numbers
    assert error is not None
    try:
        raise error
    finally:
        # Or else it and this frame would keep each other, and the arrays of the call.
        del error


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
    kernel: Kernel, static: tuple, rows: tuple, numbers: tuple, whole: tuple, names: tuple[str, str], x64: bool
) -> KernelSpec | str:
    """Trace at row counts of our own choice.

    That it failed is remembered, but not the error, which would keep alive all that its frames hold.
    """
    try:
        return _describe(kernel, static, rows, numbers, whole, names, ROW_COUNTS)
    except Exception as error:
        return NEEDS_A_VALUE if _needs_a_value(error) else FAILED


def _explained(error: Exception) -> Exception:
    """Add to an error of JAX's, which speaks of its own functions, what to do about it in a kernel."""
    if isinstance(error, jax.errors.JAXTypeError):
        error.add_note(
            "A kernel runs on arrays without values: write `jnp.where(condition, a, b)` in the place of `if`, and call "
            "functions of `jax.numpy` in the place of NumPy's."
        )
    return error


@one_at_a_time
def _describe(
    kernel: Kernel,
    static: tuple,
    rows: tuple,
    numbers: tuple,
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
            model(**rows, **whole, **{name: constant.value for name, constant in static})
        return trace

    def sample(values: dict, rows: dict, whole: dict, key: Any) -> dict:
        messages = run(values, {**rows, param_output: None}, whole, {}, key)
        found.update({name: _Message(site) for name, site in messages.items() if site["type"] != "plate"})
        plates.update({name: site["args"] for name, site in messages.items() if site["type"] == "plate"})
        _refuse_mutable(found)
        return {name: site["value"] for name, site in messages.items() if name in found}

    key = jax.eval_shape(lambda: jax.random.key(0))
    fixed, tables = materialise(numbers), materialise(whole)
    found: dict[str, _Message] = {}
    plates: dict[str, Any] = {}
    shapes = []
    for n in n_rows:
        found.clear()
        values = jax.eval_shape(sample, fixed, materialise(rows, n), tables, key)
        shapes.append({name: value.shape for name, value in values.items()})
    templates = {name: _template(shapes[0][name], shapes[1].get(name, ()), n_rows) for name in shapes[0]}
    _check_names(templates)

    def value_at(name: str, n: int) -> jax.ShapeDtypeStruct:
        shape = tuple(n if size is None else size for size in templates[name])
        return jax.ShapeDtypeStruct(shape, values[name].dtype)

    unobserved = [name for name, message in found.items() if message.kind == "latent"]

    def prove(given: list[str], outcome: str | None) -> tuple[_SiteProofs, dict[str, Any]]:
        """Trace every site's density with the values of others given, and ``outcome`` observed."""
        messages: dict[str, Any] = {}
        owners: list[str] = []

        def densities(values: dict, rows: dict, whole: dict, sites: dict, key: Any) -> list:
            messages.clear()
            owners.clear()
            trace = run(values, {param_output: None, **rows}, whole, sites, key)
            # Values are left behind, since they may not outlive the trace.
            messages.update(
                {name: {part: message.get(part) for part in ("type", "is_observed")} for name, message in trace.items()}
            )
            parts = [(name, part) for name, message in trace.items() for part in _density(message)]
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
        return _SiteProofs(proof, owners), messages

    observing: list[tuple[bool, str]] = []
    for candidate in _candidates(unobserved, templates, param_output):
        fitting, messages = prove([name for name in unobserved if name != candidate], candidate)
        if candidate in messages and messages[candidate]["is_observed"]:
            observing.append((not fitting.proof.only_moves(-2, -1), candidate))
            if not observing[-1][0]:
                break
    if not observing:
        raise ValueError(
            f"Kernel never observes its output: no sample site takes the argument {param_output!r} as `obs`. "
            f"Write `numpyro.sample({param_output!r}, ..., obs={param_output})`."
        )
    # The likeliest site that observes the outcome itself, or else the likeliest one.
    changes_outcome, output = min(observing, key=lambda each: each[0])
    given = [name for name in unobserved if name != output]
    if output != candidate:
        fitting, messages = prove(given, output)
    companions = {name for name in given if name in messages and messages[name]["is_observed"]}
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
    subsamples = any(args[1] is not None and args[1] != args[0] for args in plates.values())
    fit_mixing = "the kernel draws minibatches of its own" if subsamples else _fit_mixing(sites, fitting, messages)
    proof = predicting.proof
    return KernelSpec(
        sites,
        param_input,
        output,
        param_output,
        fit_mixing,
        _unweighted(sites, fitting, messages),
        changes_outcome,
        subsamples,
        proof.width,
        proof.multiplies_matrices,
    )


class _SiteProofs(NamedTuple):
    """A proof whose outputs belong to sites."""

    proof: RowProof
    owners: list[str]

    def mixing(self, name: str) -> str | None:
        reasons = (self.proof.mixing(i) for i, owner in enumerate(self.owners) if owner == name)
        return next((reason for reason in reasons if reason is not None), None)

    def has_rows(self, name: str) -> bool:
        return any(self.proof.row_axis(i) is not None for i, owner in enumerate(self.owners) if owner == name)


def _fit_mixing(sites: tuple[Site, ...], proofs: _SiteProofs, messages: Mapping[str, Any]) -> str | None:
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


def _unweighted(sites: tuple[Site, ...], proofs: _SiteProofs, messages: Mapping[str, Any]) -> str | None:
    """Return an observed site that looks at rows, and whose density has no entry for each of them."""
    batched = {site.name for site in sites if site.rows_are_batched}
    for name in dict.fromkeys(proofs.owners):
        if messages[name]["type"] == "sample" and messages[name]["is_observed"]:
            has_rows = proofs.has_rows(name)
            if (has_rows or proofs.mixing(name) is not None) and not (has_rows and name in batched):
                return name
    return None


def _refuse_mutable(found: Mapping[str, Any]) -> None:
    mutable = [name for name, message in found.items() if message.kind == "mutable"]
    if mutable:
        raise ValueError(
            f"The kernel has mutable state {mutable}, which a prediction would not know from the fit. Use layers "
            "without state, such as layer normalisation in the place of batch normalisation."
        )


class _Message:
    """The parts of a NumPyro message that outlive its trace."""

    def __init__(self, message: dict[str, Any]):
        self.kind = message["type"]
        self.law = self.support = self.n_classes = None
        self.event_dim = 0
        self.plates = tuple(message.get("cond_indep_stack", ()))
        self.event_names = (message.get("infer") or {}).get("event_dims", ())
        if message["type"] == "sample":
            law = message["fn"]
            self.kind = "observed" if message["is_observed"] else "latent"
            self.event_dim = law.event_dim
            self.support = next((name for name in SUPPORTS if law.support is getattr(constraints, name)), None)
            while type(law).__name__ in ("ExpandedDistribution", "Independent", "MaskedDistribution"):
                law = law.base_dist
            self.law = type(law).__name__
            if isinstance(law, CategoricalProbs | CategoricalLogits):
                self.n_classes = (law.probs if isinstance(law, CategoricalProbs) else law.logits).shape[-1]

    def site(self, name: str, shape: tuple, sizes: tuple, dtype: str, kind: str, mixing: str | None) -> Site:
        """Describe the site; ``sizes`` is its shape in the trace that the message is of."""
        row_axis = shape.index(None) if None in shape else None
        dims = tuple(self._dim(name, axis, sizes, row_axis) for axis in range(len(shape)))
        return Site(
            name, kind, self.law, shape, dtype, row_axis, self.event_dim, dims, self.support, self.n_classes, mixing
        )

    def _dim(self, name: str, axis: int, sizes: tuple, row_axis: int | None) -> str:
        batch = len(sizes) - self.event_dim
        if batch <= axis < batch + len(self.event_names):
            return self.event_names[axis - batch]
        fitting = [plate for plate in self.plates if plate.size == sizes[axis]]
        for plate in fitting:
            # The event dimensions of a deterministic site are unknown: its rows are where the length says.
            if plate.dim == axis - batch or (axis == row_axis and self.law is None):
                return plate.name
        return "rows" if axis == row_axis else f"{name}_dim_{axis}"


def improper_value(message: dict[str, Any]) -> Any:
    """Return some value of a site that cannot be drawn; None for any other."""
    law: Any = message.get("fn")
    base = law
    while message["type"] == "sample" and hasattr(base, "base_dist"):
        base = base.base_dist
    if message["value"] is not None or not isinstance(base, ImproperUniform):
        return None
    transform = biject_to(law.support)
    return transform(jnp.zeros(transform.inverse_shape(law.shape())))


def _density(message: dict[str, Any]) -> list[Any]:
    """Return all that decides on a site: the parts of its log density, or its value where it has none."""
    if message["type"] == "plate":
        return []
    if message["type"] != "sample":
        return [message["value"]]
    law, parts = message["fn"], []
    while isinstance(law, MaskedDistribution):
        # A mask hides the density from a proof, but not the values that are drawn.
        parts.append(jnp.asarray(law._mask))
        law = law.base_dist
    if message["scale"] is not None:
        parts.append(jnp.asarray(message["scale"]))
    return [law.log_prob(message["value"]), *parts]


def _template(first: tuple[int, ...], second: tuple[int, ...], n_rows: tuple[int, int]) -> tuple[int | None, ...]:
    if len(first) != len(second):
        return first
    return tuple(None if sizes == n_rows else sizes[0] for sizes in zip(first, second, strict=True))


def _candidates(unobserved: list[str], templates: dict[str, tuple], param_output: str) -> list[str]:
    """Return the sites that may be the output, the likeliest first."""
    if param_output in unobserved:
        return [param_output]
    return [name for name in reversed(unobserved) if None in templates[name]]


def _check_names(templates: Mapping[str, tuple]) -> None:
    for name, shape in templates.items():
        if "/" in name:
            raise ValueError(f"Site name {name!r} contains '/', which separates groups of a DataTree: rename the site.")
        if name in ("chain", "draw"):
            raise ValueError(f"Site name {name!r} is the name of a dimension of draws: rename the site.")
        if sum(size is None for size in shape) > 1:
            raise ValueError(f"Site {name!r} has the rows on more than one axis.")
