"""The posterior's mode and the curvature there, which give a normal approximation."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
from threadpoolctl import threadpool_limits

from skaimz.inference.prior import Start
from skaimz.inference.target import Target

__all__ = ["MOST_COORDINATES", "Mode", "find_mode", "move_to_mode"]

# The matrix of curvature takes a gradient a column. Beyond this number of coordinates it is not computed.
MOST_COORDINATES = 1000
# L-BFGS starts again until it finds nothing lower: a restart forgets the curvature along the way.
RESTARTS = 5
SEARCH = {"maxiter": 1000, "maxfun": 2000, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-10}
# Most steps from the mode of one target to that of another, and the gradient at which they end, in standard deviations.
MOVING, MOVING_TOLERANCE = 50, 1e-3
# Rounds of computing the curvature, each in coordinates in which that of the last round was one.
ROUNDS = 12
# Length of the differences from which curvature is computed, in those coordinates (standard deviations).
STEP = 1e-4
# Precision to which the curvature must be one, and the length of a Newton step at which the mode is found.
CURVATURE_TOLERANCE = 1e-3
STEP_TOLERANCE = 1e-8
# Searches that begin elsewhere. An end near in log density, and far away in standard deviations, is another mode.
OTHER_STARTS = 3
NEAR_DENSITY = 20.0
FAR_DISTANCE = 8.0
# Largest ratio of the curvatures along two coordinates, in prior units, at which the flatter has digits left.
WIDEST_RANGE = 1e8


class Mode(NamedTuple):
    """A mode of the posterior and coordinates in which the curvature there is one.

    Attributes
    ----------
    middle : array of shape (size,)
    root : array of shape (size, size)
        ``position = middle + root @ v``, where the approximation is a standard normal distribution of ``v``; empty if
        there are too many coordinates for one.
    reason : str
        Why the approximation cannot be used; empty if it can.
    """

    middle: np.ndarray
    root: np.ndarray
    reason: str


def find_mode(start: Start, *, only_mode: bool = True) -> Mode:
    """Climb from the prior's middle to a mode, and find the coordinates in which the curvature there is one.

    Parameters
    ----------
    start : Start
    only_mode : bool, default=True
        Look for other modes, and reject the approximation if there are several.

    Returns
    -------
    Mode

    Notes
    -----
    No step depends on units: searches run in units of the prior's spread, and curvature is computed from differences
    of the gradient in coordinates in which the last round's curvature was one, until it is one.
    """
    target, scale = start.target, start.scale
    # Matrices are small, and several threads cost more than they save.
    with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
        middle, lowest = _climb(target, start.middle, scale)
        if target.size > MOST_COORDINATES:
            return Mode(middle, np.empty((0, 0)), f"more than {MOST_COORDINATES} coordinates")
        climbed = middle
        middle, root, reason = _curvature(target, climbed, scale)
        if reason:
            bent = _curvature_along(target, climbed, scale)
            if bent.max() > WIDEST_RANGE * bent.min():
                scale = scale / np.sqrt(bent)
                middle, lowest = _climb(target, climbed, scale)
                middle, root, reason = _curvature(target, middle, scale)
        if only_mode and not reason:
            lowest = min(lowest, target.value_and_gradient(middle)[0])
            for other in start.others[:OTHER_STARTS]:
                end, value = _climb(target, other, scale, restarts=1)
                distance = np.linalg.norm(np.linalg.solve(root, end - middle))
                if value < lowest + NEAR_DENSITY and distance > FAR_DISTANCE + np.sqrt(target.size):
                    reason = "several modes"
                    break
    return Mode(middle, root, reason)


def move_to_mode(target: Target, near: Mode) -> Mode:
    """Return the approximation around the mode of a target, starting from that of a similar target."""
    middle, root = near.middle, near.root

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = target.value_and_gradient(middle + root @ v)
        return value, root.T @ gradient

    with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
        options = {"maxiter": MOVING, "gtol": MOVING_TOLERANCE, "ftol": 0.0}
        v = scipy.optimize.minimize(objective, np.zeros(target.size), jac=True, method="L-BFGS-B", options=options).x
    return near._replace(middle=middle + root @ v)


def _curvature_along(target: Target, position: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the curvature along each coordinate, in units of ``scale``; at least one, the curvature of the prior."""
    gradient = target.value_and_gradient(position)[1]
    bent = np.ones(target.size)
    for i in range(target.size):
        moved = position.copy()
        moved[i] += STEP * scale[i]
        bent[i] = (target.value_and_gradient(moved)[1][i] - gradient[i]) * scale[i] / STEP
    return np.where(np.isfinite(bent), np.maximum(bent, 1.0), 1.0)


def _climb(target: Target, start: np.ndarray, scale: np.ndarray, restarts: int = RESTARTS) -> tuple[np.ndarray, float]:
    """Minimise minus the log density by L-BFGS, in units of ``scale``."""
    lowest = target.value_and_gradient(start)[0]
    if not np.isfinite(lowest):
        return start, np.inf

    def objective(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = target.value_and_gradient(start + scale * u)
        gradient = gradient * scale
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            # A high value makes the line search step back.
            return lowest + 1e10 * (1 + abs(lowest)), np.zeros_like(u)
        return value, gradient

    u, value = np.zeros_like(start), lowest
    for _ in range(restarts):
        search = scipy.optimize.minimize(
            objective,
            u,
            jac=True,
            method="L-BFGS-B",
            options=SEARCH,
        )
        fallen = value - search.fun
        if fallen > 0:
            u, value = search.x, float(search.fun)
        if not fallen > 1e-3:
            break
    return start + scale * u, value


def _curvature(target: Target, middle: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return a mode, a root of the inverse curvature, and why they cannot be used."""
    size = target.size
    root = np.diag(scale)
    value, gradient = target.value_and_gradient(middle)
    for _ in range(ROUNDS):
        gradient_v = root.T @ gradient
        curvature = np.empty((size, size))
        for i in range(size):
            shifted = target.value_and_gradient(middle + STEP * root[:, i])[1]
            curvature[i] = (root.T @ shifted - gradient_v) / STEP
        curvature = (curvature + curvature.T) / 2
        if not np.isfinite(curvature).all():
            return middle, root, "the curvature at the mode is not finite"
        eigenvalues, vectors = scipy.linalg.eigh(curvature)
        definite = eigenvalues[0] > size * np.finfo(float).eps * eigenvalues[-1]
        # Newton's step, uphill along no direction.
        bent = np.maximum(np.abs(eigenvalues), 1e-12 * np.abs(eigenvalues).max())
        step = -vectors @ ((vectors.T @ gradient_v) / bent)
        settled = np.abs(curvature - np.eye(size)).max() < CURVATURE_TOLERANCE
        for _ in range(30):
            moved = middle + root @ step
            lower, new_gradient = target.value_and_gradient(moved)
            if lower <= value + 1e-9 * abs(value) and np.isfinite(new_gradient).all():
                middle, value, gradient = moved, lower, new_gradient
                break
            step = step / 2
        if definite:
            # This root depends on the curvature alone, not on the order of eigenvectors.
            root = (
                root
                @ scipy.linalg.solve_triangular(
                    scipy.linalg.cholesky(curvature, lower=True), np.eye(size), lower=True
                ).T
            )
        else:
            root = root @ (vectors / np.sqrt(bent))
        if settled and np.linalg.norm(step) < STEP_TOLERANCE:
            return middle, root, ""
        if not np.isfinite(root).all():
            break
    return middle, root, "no mode with a definite curvature was found"
