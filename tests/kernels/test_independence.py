"""The proof of independent rows, compared with numeric results of the same functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.experimental import io_callback

from skaimz.kernels.independence import RowProof
from skaimz.kernels.trace import ROW_COUNTS as N_ROWS

N_FEATURES = 3
LONG = np.linspace(0.0, 1.0, 3000, dtype=np.float32)

# Arguments of every function below: rows of numbers, a group for each row, and a table for all rows.
_random = np.random.default_rng(0)
X = _random.normal(size=(12, N_FEATURES)).astype(np.float32)
GROUP = _random.integers(0, N_FEATURES, size=12).astype(np.int32)
TABLE = np.sort(_random.normal(size=(5, N_FEATURES)).astype(np.float32), axis=0)


def prove(function):
    def at(n):
        return (
            jax.ShapeDtypeStruct((n, N_FEATURES), jnp.float32),
            jax.ShapeDtypeStruct((n,), jnp.int32),
            jax.ShapeDtypeStruct(TABLE.shape, jnp.float32),
        )

    return RowProof.of(function, at, N_ROWS)


def keeps_rows_in_numbers(function):
    """Whether a function returns the same numbers for some rows, or for shuffled rows, as for all rows."""
    table = jnp.asarray(TABLE)
    whole = np.asarray(function(jnp.asarray(X), jnp.asarray(GROUP), table))
    for chosen in (np.array([7, 2, 11, 0, 5]), np.array([3, 9, 0, 5, 11, 1, 10, 2, 8, 4, 6, 7])):
        part = np.asarray(function(jnp.asarray(X[chosen]), jnp.asarray(GROUP[chosen]), table))
        if part.shape != whole[chosen].shape or not np.allclose(part, whole[chosen], rtol=1e-4, atol=1e-5):
            return False
    return True


def network(x, weights):
    for w in (weights[:3], weights[1:4]):
        x = jnp.tanh(x @ w + weights[4])
    return jax.nn.relu(x) @ weights[0]


@jax.custom_jvp
def one_times(x):
    return 1.0 * x


one_times.defjvp(lambda x, tangent: (one_times(*x), tangent[0] - tangent[0].sum(0)))


def tangent_less_its_sum(x):
    return jax.jvp(one_times, (x,), (x,))[1]


def row_convolution(x):
    return lax.conv_general_dilated(x[:, None, :], jnp.array([[[1.0, 2.0, 3.0]]]), (1,), "SAME")[:, 0]


APART = {
    "gather with row numbers": lambda X, g, t: X[jnp.arange(X.shape[0])],
    "gather with row numbers and groups": lambda X, g, t: X[jnp.arange(X.shape[0]), g],
    "gather of a column with row numbers": lambda X, g, t: X[jnp.arange(X.shape[0])[:, None], 1],
    "elementwise": lambda X, g, t: jnp.exp(X) * 2 + jnp.sin(X) / (1 + X**2) - jax.nn.softplus(X),
    "special functions": lambda X, g, t: jax.scipy.special.ndtr(X) + jax.scipy.special.gammaln(X**2 + 1),
    "comparisons": lambda X, g, t: (X > 0.3) & ~(X < -0.2) | jnp.isnan(X),
    "where": lambda X, g, t: jnp.where(X > 0, X, t[0]),
    "clip": lambda X, g, t: jnp.clip(X, -0.5, 0.5),
    "dot product": lambda X, g, t: X @ t[0],
    "matrix product": lambda X, g, t: X @ t.T,
    "matrix product from the left": lambda X, g, t: (t @ X.T).T,
    "row-wise product": lambda X, g, t: jnp.einsum("ij,ij->i", X, X),
    "einsum with a table": lambda X, g, t: jnp.einsum("ij,kj,kl->il", X, t, t),
    "outer product in a row": lambda X, g, t: jnp.einsum("ij,ik->ijk", X, X),
    "gather of a scalar": lambda X, g, t: t[:, 0][g],
    "gather of vectors": lambda X, g, t: (X * t[g]).sum(-1),
    "gather of two axes": lambda X, g, t: t[g, g],
    "take": lambda X, g, t: jnp.take(t, g, axis=0),
    "gather of a column": lambda X, g, t: X[:, 1] * X[:, -1],
    "gather of columns": lambda X, g, t: X[:, jnp.array([2, 0])],
    "take_along_axis": lambda X, g, t: jnp.take_along_axis(X, g[:, None], axis=1)[:, 0],
    "one_hot": lambda X, g, t: jax.nn.one_hot(g, 5) @ t,
    "vmap": lambda X, g, t: jax.vmap(lambda x, k: jnp.dot(x, t[k]) + x.sum())(X, g),
    "vmap of a branch": lambda X, g, t: jax.vmap(lambda x: lax.cond(x[0] > 0, jnp.sum, jnp.prod, x))(X),
    "softmax": lambda X, g, t: jax.nn.softmax(X, axis=-1),
    "logsumexp": lambda X, g, t: jax.nn.logsumexp(X, axis=1),
    "layer normalisation": lambda X, g, t: (X - X.mean(1, keepdims=True)) / (X.std(1, keepdims=True) + 1e-3),
    "reductions over features": lambda X, g, t: X.max(1) + X.min(1) + X.prod(1) + X.argmax(1),
    "norm": lambda X, g, t: jnp.linalg.norm(X, axis=1),
    "median over features": lambda X, g, t: jnp.median(X, axis=1),
    "sort over features": lambda X, g, t: jnp.sort(X, axis=1),
    "argsort over features": lambda X, g, t: jnp.argsort(X, axis=1),
    "top_k over features": lambda X, g, t: lax.top_k(X, 2)[0],
    "cumsum over features": lambda X, g, t: jnp.cumsum(X, axis=1),
    "associative scan over features": lambda X, g, t: lax.associative_scan(jnp.multiply, X, axis=1),
    "roll over features": lambda X, g, t: jnp.roll(X, 1, axis=1),
    "flip over features": lambda X, g, t: X[:, ::-1],
    "feature numbers": lambda X, g, t: X * jnp.arange(X.shape[1]),
    "padding of features": lambda X, g, t: jnp.pad(X, ((0, 0), (1, 2))),
    "stack": lambda X, g, t: jnp.stack([X, 2 * X], axis=1),
    "stack before the rows": lambda X, g, t: jnp.stack([X, 2 * X], axis=0).sum(0),
    "concatenate": lambda X, g, t: jnp.concatenate([X, X**2, jnp.ones((X.shape[0], 1))], axis=1),
    "split": lambda X, g, t: sum(jnp.split(X, 3, axis=1)),
    "transpose twice": lambda X, g, t: (X.T * t[0][:, None]).T,
    "reshape of features": lambda X, g, t: jnp.einsum("ij,ik->ijk", X, X).reshape(X.shape[0], -1),
    "broadcast": lambda X, g, t: jnp.broadcast_to(t[0], X.shape) + X[:, :1],
    "full": lambda X, g, t: jnp.full(X.shape[0], 2.0) * X[:, 0],
    "interp": lambda X, g, t: jnp.interp(X[:, 0], t[:, 0], t[:, 1]),
    "searchsorted": lambda X, g, t: jnp.searchsorted(t[:, 0], X[:, 0]),
    "convolution over features": lambda X, g, t: row_convolution(X),
    "network": lambda X, g, t: network(X, t),
    "checkpointed": lambda X, g, t: jax.checkpoint(lambda x: jnp.tanh(x @ t[0]))(X),
    "jitted": lambda X, g, t: jax.jit(lambda x: network(x, t))(X),
    "scan over features": lambda X, g, t: lax.scan(lambda c, x: (c * 0.5 + x, c), X[:, 0], X.T)[0],
    "scan over features, stacked": lambda X, g, t: lax.scan(lambda c, x: (c * 0.5 + x, c), X[:, 0], X.T)[1].T,
    "scan over a table": lambda X, g, t: lax.scan(lambda c, w: (jnp.tanh(c + X @ w), None), X[:, 0], t)[0],
    "fori_loop": lambda X, g, t: lax.fori_loop(0, 4, lambda i, x: jnp.sin(x) + t[i], X),
    "branch on a table": lambda X, g, t: lax.cond(t[0, 0] > 0, jnp.sin, jnp.cos, X),
    "derivative": lambda X, g, t: jax.grad(lambda x: (jnp.sin(x) ** 3).sum())(X),
    "batched cholesky": lambda X, g, t: jax.vmap(lambda x: jnp.linalg.cholesky(jnp.outer(x, x) + jnp.eye(3)))(X),
    "setting a slice of features": lambda X, g, t: lax.dynamic_update_slice(X, 2 * X[:, :1], (0, 1)),
    "ravel of one column": lambda X, g, t: X[:, :1].ravel(),
    "right-hand sides of one triangle": lambda X, g, t: lax.linalg.triangular_solve(t[:3] + 3 * jnp.eye(3), X),
    "right-hand sides on the left": lambda X, g, t: (
        lax.linalg.triangular_solve(t[:3] + 3 * jnp.eye(3), X.T, left_side=True).T
    ),
    "whitened rows": lambda X, g, t: jax.scipy.linalg.solve_triangular(jnp.eye(3) + 0.1 * t[:3], X.T, lower=True).T,
    "loops of other lengths": lambda X, g, t: jax.vmap(
        lambda x, k: lax.fori_loop(0, 4, lambda i, c: c * jnp.where(i < k, 0.5, 1.0), x)
    )(X, g),
    "constant table": lambda X, g, t: X @ np.eye(N_FEATURES, dtype=np.float32)[1],
}

# Functions that mix rows. Some have words that the reason must contain.
TOGETHER = {
    "gather of the row before": (lambda X, g, t: X[jnp.arange(X.shape[0]) - 1], "gather"),
    "gather with half the row numbers": (lambda X, g, t: X[jnp.arange(X.shape[0]) // 2], "gather"),
    "gather with groups and row numbers": (lambda X, g, t: X[g, jnp.arange(X.shape[0]) % 3], ""),
    "mean": (lambda X, g, t: X - X.mean(0), ""),
    "sum": (lambda X, g, t: X / jnp.abs(X).sum(0), "reduce_sum"),
    "max": (lambda X, g, t: X - X.max(0), "reduce_max"),
    "argmax": (lambda X, g, t: X + X.argmax(0), "argmax"),
    "standard deviation": (lambda X, g, t: X / X.std(0), ""),
    "median": (lambda X, g, t: X - jnp.median(X, axis=0), "may mix rows"),
    "softmax over rows": (lambda X, g, t: jax.nn.softmax(X, axis=0), "reduce_sum"),
    "centring inside jit": (lambda X, g, t: jax.jit(lambda x: x - x.sum(0))(X), "reduce_sum"),
    "centring inside a checkpoint": (lambda X, g, t: jax.checkpoint(lambda x: x - x.sum(0))(X), "reduce_sum"),
    "centring inside a loop": (lambda X, g, t: lax.fori_loop(0, 2, lambda i, x: x - x.sum(0), X), "reduce_sum"),
    "centring inside a branch": (
        lambda X, g, t: lax.cond(t.size > 0, lambda x: x - x.sum(0), lambda x: x, X),
        "reduce_sum",
    ),
    "gram matrix": (lambda X, g, t: (X @ X.T).sum(1), "rows on two axes"),
    "pairwise distances": (lambda X, g, t: ((X[:, None] - X[None]) ** 2).sum((1, 2)), "rows on two axes"),
    "second moments": (lambda X, g, t: X @ (X.T @ X), "dot_general"),
    "second moments by einsum": (lambda X, g, t: X @ jnp.einsum("ij,ik->jk", X, X), "dot_general"),
    "scan over rows": (lambda X, g, t: lax.scan(lambda c, x: (c * 0.5 + x, c), t[0], X)[1], "scan runs along"),
    "associative scan": (lambda X, g, t: lax.associative_scan(jnp.add, X), ""),
    "row numbers": (lambda X, g, t: X[:, 0] * jnp.arange(X.shape[0]), "iota"),
    "row numbers of a line": (lambda X, g, t: X[:, 0] + jnp.linspace(0.0, 1.0, X.shape[0]), ""),
    "row numbers from numpy": (lambda X, g, t: X[:, 0] * np.arange(X.shape[0]), "a constant of the kernel"),
    "row numbers in a jitted closure": (
        lambda X, g, t: jax.jit(lambda x: x * np.arange(X.shape[0]))(X[:, 0]),
        "a constant of the kernel",
    ),
    "the count": (lambda X, g, t: X / X.shape[0], "number of rows as a value"),
    "the count's logarithm": (lambda X, g, t: X * np.log(X.shape[0]), "number of rows as a value"),
    "the count in a vector": (lambda X, g, t: X * np.full(3, X.shape[0] / 7), "a constant of the kernel"),
    "the count as a bound": (
        lambda X, g, t: X * lax.while_loop(lambda c: c[0] < X.shape[0], lambda c: (c[0] + 1, c[1] * 1.1), (0, 1.0))[1],
        "number of rows as a value",
    ),
    "a literal output": (lambda X, g, t: float(X.shape[0]), "number of rows as a value"),
    "sort": (lambda X, g, t: jnp.sort(X, axis=0), "sort"),
    "ranks": (lambda X, g, t: jnp.argsort(jnp.argsort(X, axis=0), axis=0), "sort"),
    "top_k": (lambda X, g, t: X - lax.top_k(X.T, 1)[0].T, "top_k"),
    "cumsum": (lambda X, g, t: jnp.cumsum(X, axis=0), "cumsum"),
    "cumulative maximum": (lambda X, g, t: lax.cummax(X, axis=0), "cummax"),
    "roll": (lambda X, g, t: jnp.roll(X, 1, axis=0), ""),
    "lag": (lambda X, g, t: jnp.concatenate([jnp.zeros((1, 3)), X[:-1]]), ""),
    "lag by padding": (lambda X, g, t: lax.pad(X, 0.0, ((1, -1, 0), (0, 0, 0))), "pad"),
    "differences": (lambda X, g, t: jnp.diff(X, axis=0, prepend=X[:1]), ""),
    "flip": (lambda X, g, t: X[::-1], "rev"),
    "first row": (lambda X, g, t: X - X[0], ""),
    "gather of other rows": (lambda X, g, t: X[g % X.shape[0]], ""),
    "take_along_axis of rows": (lambda X, g, t: jnp.take_along_axis(X, g[:, None] % 1, axis=0), "gather"),
    "segment sum": (lambda X, g, t: jax.ops.segment_sum(X, g, 5)[g], "scatter-add"),
    "counts": (lambda X, g, t: jnp.bincount(g, length=5)[g], "scatter-add"),
    "setting one row": (lambda X, g, t: X.at[0].set(0.0), "scatter"),
    "branch on a row": (lambda X, g, t: lax.cond(X[0, 0] > 0, lambda x: x, lambda x: -x, X), ""),
    "loop until all are done": (
        lambda X, g, t: lax.while_loop(lambda x: jnp.abs(x).sum() > 1, lambda x: x / 2, X),
        "reduce_sum",
    ),
    "repeated rows": (lambda X, g, t: jnp.repeat(X, 2, axis=0)[: X.shape[0]], "grows with the rows"),
    "doubled rows": (lambda X, g, t: jnp.flip(jnp.concatenate([X, X]), 0)[: X.shape[0]], "grows with the rows"),
    "flattened the other way": (lambda X, g, t: X.T.ravel().reshape(X.shape), "grows with the rows"),
    "reshaped the other way": (lambda X, g, t: X.T.reshape(X.shape), "reshape"),
    "convolution over rows": (lambda X, g, t: row_convolution(X.T).T, "conv_general_dilated"),
    "smoothing": (lambda X, g, t: jnp.convolve(X[:, 0], jnp.ones(3), mode="same"), "conv_general_dilated"),
    "window": (lambda X, g, t: lax.reduce_window(X, 0.0, lax.add, (3, 1), (1, 1), "SAME"), "reduce_window"),
    "transform": (lambda X, g, t: jnp.fft.fft(X, axis=0).real, "fft"),
    "rows of a long table": (lambda X, g, t: X[:, 0] + jnp.asarray(LONG)[: X.shape[0]], "slice"),
    "rows of a long numpy table": (lambda X, g, t: X[:, 0] + LONG[: X.shape[0]], "a constant of the kernel"),
    "derivative of a mean": (lambda X, g, t: jax.grad(lambda x: (x**3).mean())(X), "number of rows as a value"),
    "derivative through a sum": (lambda X, g, t: jax.grad(lambda x: jnp.log((x**2).sum()))(X), "reduce_sum"),
    "a triangle of rows": (
        lambda X, g, t: X + lax.linalg.triangular_solve(jnp.eye(3) + jnp.tril(X.T @ X), t[:1]),
        "dot_general",
    ),
    "a scaled solve": (
        lambda X, g, t: X + lax.custom_linear_solve(lambda v: v, t[0], lambda f, b: b * X.shape[0], symmetric=True),
        "custom_linear_solve",
    ),
    "row numbers on two axes": (
        lambda X, g, t: X * lax.broadcasted_iota(jnp.float32, X.shape, 0),
        "iota",
    ),
    "one product of all rows": (lambda X, g, t: lax.dot_general(X, X, (((0,), (0,)), ((), ())))[0] * X, "dot_general"),
    "a key for each row": (
        lambda X, g, t: X + jax.vmap(jax.random.uniform)(jax.random.split(jax.random.key(0), X.shape[0]))[:, None],
        "",
    ),
    "a derivative of its own": (lambda X, g, t: tangent_less_its_sum(X), "reduce_sum"),
    "noise by position": (lambda X, g, t: X[:, 0] + jax.random.normal(jax.random.key(0), X.shape[:1]), ""),
}

# Functions that keep rows apart, which the proof does not recognise. They are slower than necessary, but correct.
GIVEN_UP = {
    "map over rows": (lambda X, g, t: lax.map(lambda x: x.sum(), X), "scan runs along"),
    "setting a column": (lambda X, g, t: X.at[:, 0].set(0.0), "scatter"),
    "there and back": (lambda X, g, t: X[::-1][::-1], "rev"),
}

# Functions whose result depends on the number or the order of rows in a way that is easily overlooked.
HIDDEN = {
    "the count as an exponent": lambda X, g, t: (X / 4) ** (X.shape[0] % 3),
    "the count as a loop's length": lambda X, g, t: X * lax.fori_loop(0, X.shape[0], lambda i, c: c + 1.0, 0.0),
    "the count as a scan's length": lambda X, g, t: (
        X * lax.scan(lambda c, _: (c * 1.1, None), 1.0, None, length=X.shape[0])[0]
    ),
    "the count by fives": lambda X, g, t: X * (X.shape[0] % 5 + 1),
    "the count choosing a column": lambda X, g, t: X[:, X.shape[0] % 3],
    "the count choosing a row of a table": lambda X, g, t: X @ t[X.shape[0] % 3],
    "the count choosing a value": lambda X, g, t: X @ [2 * t[0], 2 * t[1], 2 * t[2]][X.shape[0] % 3],
    "the count inside a custom reduction": lambda X, g, t: (
        X * lax.reduce(t, np.float32(0), lambda a, b: a + b * X.shape[0], (0, 1))
    ),
    "the count inside a linear solver": lambda X, g, t: (
        X @ jax.scipy.sparse.linalg.cg(lambda v: v * (2.0 + X.shape[0]), jnp.ones(3))[0]
    ),
    "reshape in Fortran's order": lambda X, g, t: X.reshape((3, X.shape[0]), order="F").T,
    "reshape with permuted dimensions": lambda X, g, t: lax.reshape(X, X.shape, dimensions=(1, 0)),
    "windows as long as the rows": lambda X, g, t: (
        X + jax.vmap(lambda s: lax.dynamic_slice(jnp.asarray(LONG), (s,), (X.shape[0],)))(jnp.arange(3)).T
    ),
}


def through_a_reference(X, g, t):
    total = jax.new_ref(jnp.zeros(3))
    total[...] = X.sum(0)
    return X - total[...]


def through_a_reference_in_a_loop(X, g, t):
    total = jax.new_ref(jnp.zeros(()))

    def step(i, carry):
        total[...] = total[...] + X[:, 0].sum()
        return carry

    lax.fori_loop(0, 2, step, 0.0)
    return X + total[...]


SEEN = {}


def through_callbacks(X, g, t):
    io_callback(lambda x: SEEN.update(total=np.asarray(x).sum(0)), None, X, ordered=True)
    return X - io_callback(seen, jax.ShapeDtypeStruct((3,), jnp.float32), ordered=True)


def seen():
    return SEEN["total"].astype(np.float32)


# Rows meet in a state, which is no operand of the operation that reads it.
SIDE_EFFECTS = {
    "through a reference": through_a_reference,
    "through a reference in a loop": through_a_reference_in_a_loop,
    "through callbacks": through_callbacks,
}


@pytest.mark.parametrize("name", SIDE_EFFECTS)
def test_side_effects_are_refused(name):
    assert prove(SIDE_EFFECTS[name]).mixing(0) is not None


@pytest.mark.parametrize("name", SIDE_EFFECTS)
def test_side_effects_really_mix(name):
    assert not keeps_rows_in_numbers(SIDE_EFFECTS[name])


@pytest.mark.parametrize("name", APART)
def test_rows_that_stand_alone_are_proved_to(name):
    assert prove(APART[name]).mixing(0) is None
    assert keeps_rows_in_numbers(APART[name])


@pytest.mark.parametrize("name", TOGETHER)
def test_rows_that_mix_are_refused(name):
    function, words = TOGETHER[name]
    reason = prove(function).mixing(0)
    assert isinstance(reason, str)
    assert words in reason


@pytest.mark.parametrize("name", sorted(TOGETHER.keys() - {"a literal output"}))
def test_what_is_refused_really_mixes(name):
    assert not keeps_rows_in_numbers(TOGETHER[name][0])


def test_derivatives_that_add_up_keep_rows_apart():
    def function(X, g, t):
        return jax.grad(lambda x: (jnp.sin(x) * jnp.tanh(x)).sum())(X)

    assert prove(function).mixing(0) is None


@pytest.mark.parametrize("name", GIVEN_UP)
def test_what_is_not_known_is_refused(name):
    function, words = GIVEN_UP[name]
    assert words in prove(function).mixing(0)
    assert keeps_rows_in_numbers(function)


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_uses_of_the_row_count_are_refused(name):
    assert prove(HIDDEN[name]).mixing(0) is not None


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_uses_of_the_row_count_really_mix(name):
    assert not keeps_rows_in_numbers(HIDDEN[name])


def test_outputs_are_judged_one_by_one():
    proof = prove(lambda X, g, t: (X @ t[0], X - X.sum(0), X[::-1], t.sum(), X.sum(0)))
    assert proof.mixing(0) is None
    assert "reduce_sum" in proof.mixing(1)
    assert "rev" in proof.mixing(2)
    assert proof.mixing(3) is None
    assert "reduce_sum" in proof.mixing(4)


def test_an_unused_constant_spoils_nothing():
    proof = prove(lambda X, g, t: (X + 1, X[:, 0] * np.arange(X.shape[0]), X / X.shape[0]))
    assert proof.mixing(0) is None
    assert "a constant" in proof.mixing(1)
    assert "as a value" in proof.mixing(2)


def test_what_feeds_a_mixing_value_is_not_blamed_for_it():
    def both(X, g, t):
        scores = X @ t.T
        return jax.nn.softmax(scores, axis=1), jax.nn.softmax(scores, axis=0)

    proof = prove(both)
    assert proof.mixing(0) is None
    assert "reduce_sum" in proof.mixing(1)


def test_another_rank_at_another_count_is_refused():
    assert prove(lambda X, g, t: X if X.shape[0] == N_ROWS[0] else X[:, 0]).mixing(0) is not None


def test_another_operation_at_another_count_is_refused():
    reason = prove(lambda X, g, t: jnp.sin(X) if X.shape[0] == N_ROWS[0] else jnp.cos(X)).mixing(0)
    assert reason == "the kernel does something else for another number of rows"


def test_a_table_of_any_length_is_no_row_axis():
    # Tables as long as one of the row counts are no rows, because their length is the same in both traces.
    table = jnp.ones((N_ROWS[0], N_FEATURES))
    assert prove(lambda X, g, t: X @ table.T @ table).mixing(0) is None
    assert prove(lambda X, g, t: X - table.mean(0)).mixing(0) is None


@pytest.mark.parametrize(
    ("function", "width"),
    [
        (lambda X, g, t: X[:, 0] + 1, 1),
        (lambda X, g, t: X + 1, 3),
        (lambda X, g, t: (X @ jnp.ones((3, 17))).sum(1), 17),
        (lambda X, g, t: jnp.einsum("ij,ik->ijk", X, X).sum((1, 2)), 9),
        (lambda X, g, t: jax.jit(lambda x: jnp.tile(x, (1, 5)).sum(1))(X), 15),
        (lambda X, g, t: lax.fori_loop(0, 2, lambda i, x: x + jnp.tile(x[:, :1], (1, 8)).sum(1)[:, None], X), 8),
    ],
    ids=["one", "features", "layer", "outer", "inside jit", "inside a loop"],
)
def test_width_is_the_most_numbers_held_for_a_row(function, width):
    assert prove(function).width == width


STEPS = {
    "scale": lambda x, g, t: 1.3 * x,
    "tanh": lambda x, g, t: jnp.tanh(x),
    "groups": lambda x, g, t: x + t[g],
    "product": lambda x, g, t: x @ t[:3] / 3,
    "softmax": lambda x, g, t: jax.nn.softmax(x, axis=1),
    "flip features": lambda x, g, t: x[:, ::-1],
    "sort features": lambda x, g, t: jnp.sort(x, axis=1),
    "loop": lambda x, g, t: lax.fori_loop(0, 2, lambda i, c: c + x * t[i], x),
    "reshape": lambda x, g, t: x.reshape(x.shape[0], 3, 1).transpose(1, 2, 0)[:, 0].T,
    "concatenate": lambda x, g, t: jnp.concatenate([x[:, 1:], x[:, :1]], axis=1),
    "centre": lambda x, g, t: x - x.sum(0),
    "reverse": lambda x, g, t: x[::-1],
    "number": lambda x, g, t: x + jnp.arange(x.shape[0])[:, None],
    "count": lambda x, g, t: x + x.shape[0],
    "transpose": lambda x, g, t: x.T.reshape(x.shape),
}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4))
def test_whatever_is_accepted_keeps_rows_apart(names):
    def chain(x, g, t):
        for name in names:
            x = STEPS[name](x, g, t)
        return x

    mixes = {"centre", "reverse", "number", "count", "transpose"}
    accepted = prove(chain).mixing(0) is None
    assert accepted == mixes.isdisjoint(names)
    if accepted:
        assert keeps_rows_in_numbers(chain)
