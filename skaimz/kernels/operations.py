"""JAX's operations, and which of them keep the rows of a kernel apart."""

import math
from typing import Any

__all__ = ["MOVES", "carried_by", "keeps_rows"]

ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz conj
    convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt
    igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min
    mul ne neg nextafter not one_minus_square optimization_barrier or polygamma population_count pow random_gamma_grad
    real reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta mul_add
    """.split()
)
SAME_BLOCKS = frozenset({"reshape", "squeeze", "expand_dims"})
# Operations whose result contains nothing but numbers of their first operand.
MOVES = SAME_BLOCKS | frozenset(
    """
    broadcast_in_dim convert_element_type copy copy_p dynamic_slice gather slice stop_gradient transpose
    """.split()
)
REDUCTIONS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split()
)
SCANS_AN_AXIS = frozenset("cumsum cumprod cummax cummin cumlogsumexp".split())
MATRIX_FUNCTIONS = frozenset("cholesky triangular_solve lu qr eigh eig svd lu_pivots_to_permutation".split())


def carried_by(scan: Any, body: Any) -> slice:
    """Return which inputs of a scan's body are carried from step to step; they are its first outputs, too.

    The others are constants, and slices, which have one axis less than what they are taken from. JAX's own names for
    these numbers differ between its versions.
    """
    ndim = lambda variable: len(getattr(variable.aval, "shape", ()))  # noqa: E731
    n_sliced = sum(ndim(one) < ndim(whole) for one, whole in zip(body.invars, scan.invars, strict=True))
    n_carried = sum(ndim(one) == ndim(whole) for one, whole in zip(body.outvars, scan.outvars, strict=True))
    last = len(body.invars) - n_sliced
    return slice(last - n_carried, last)


def keeps_rows(eqn: Any, into: list[int | None], out: list[int | None]) -> bool:
    """Whether each row of the result of an operation depends on the same row of its operands only.

    Parameters
    ----------
    eqn : JaxprEqn
        An operation without inner programs.
    into, out : list of (int or None)
        Row axes of the operands and of the results.
    """
    name = eqn.primitive.name
    rows = next((axis for axis in into if axis is not None), None)
    shapes = [getattr(v.aval, "shape", ()) for v in eqn.invars]
    result = eqn.outvars[0].aval.shape
    params = eqn.params
    match name:
        case _ if name in ELEMENTWISE:
            # Each operand is a scalar or has the shape of the result, so that equal row axes hold the same rows.
            return rows is not None and {axis for axis in into if axis is not None} == set(out)
        case "broadcast_in_dim":
            return rows is None or params["broadcast_dimensions"][rows] == out[0]
        case "iota":
            return params["dimension"] != out[0]
        case "gather":
            return _gather_keeps_rows(params, into, shapes)
        case _ if rows is None:
            return False  # the row axis of the result comes from none of the operands
        case _ if name in SAME_BLOCKS:
            in_order = name != "reshape" or params["dimensions"] is None
            return in_order and out[0] is not None and math.prod(shapes[0][:rows]) == math.prod(result[: out[0]])
        case "transpose":
            return out[0] is not None and params["permutation"][out[0]] == rows
        case _ if name in REDUCTIONS:
            return rows not in params["axes"]
        case _ if name in SCANS_AN_AXIS:
            return params["axis"] != rows
        case "sort" | "concatenate":
            return params["dimension"] not in into and len({*into, *out} - {None}) == 1
        case "stack":
            return {*into} == {rows} and out[0] == rows + (params["axis"] <= rows)
        case "split" | "top_k":
            return params.get("axis", len(shapes[0]) - 1) not in (rows, (rows or 0) - len(shapes[0]))
        case "rev":
            return rows not in params["dimensions"]
        case "pad":
            return into[1] is None and params["padding_config"][rows] == (0, 0, 0)
        case "slice":
            strides = params["strides"] or (1,) * len(result)
            return out[0] == rows and params["start_indices"][rows] == 0 and strides[rows] == 1
        case "dynamic_slice":
            return out[0] == rows and into[0] == rows and set(into[1:]) <= {None}
        case "dynamic_update_slice":
            return into[0] == into[1] == out[0] and set(into[2:]) <= {None}
        case "dot_general":
            return _product_keeps_rows(params["dimension_numbers"], into)
        case "conv_general_dilated":
            numbers = params["dimension_numbers"]
            return into == [numbers.lhs_spec[0], None] and params["batch_group_count"] == 1
        case "triangular_solve" if into[0] is None:
            # Right-hand sides do not mix: they are the columns of b in `a @ x = b`, and its rows in `x @ a = b`.
            return rows < len(result) - 2 or rows == len(result) - (1 if params["left_side"] else 2)
        case _ if name in MATRIX_FUNCTIONS:
            return {*into, *out} == {rows} and all(rows < len(shape) - 2 for shape in shapes)
    return False


def _product_keeps_rows(dimension_numbers: Any, into: list[int | None]) -> bool:
    contracted, batched = dimension_numbers
    if any(axis is not None and axis in summed for axis, summed in zip(into, contracted, strict=True)):
        return False
    if None in into:
        return all(axis is None or axis not in batch for axis, batch in zip(into, batched, strict=True))
    return tuple(into) in set(zip(*batched, strict=True))


def _gather_keeps_rows(params: Any, into: list[int | None], shapes: list[tuple]) -> bool:
    numbers, (operand, indices) = params["dimension_numbers"], into
    batched = set(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    if operand is None:
        return indices is not None and indices != len(shapes[1]) - 1
    if indices is not None:
        return (operand, indices) in batched
    return (
        params["slice_sizes"][operand] == shapes[0][operand]
        and operand not in numbers.collapsed_slice_dims
        and operand not in numbers.operand_batching_dims
    )
