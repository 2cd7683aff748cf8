"""Scores of rankings by effect, on rows whose treatment is known and was assigned at random."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import is_classifier

from skaimz.estimators import Columns, check_weight, last_step
from skaimz.kernels import as_numbers
from skaimz.metrics._scorers import Scorer
from skaimz.rows import loaded

__all__ = [
    "AreaUnderUpliftCurve",
    "QiniScore",
    "area_under_uplift_curve",
    "qini_curve",
    "qini_score",
    "uplift_curve",
]

# Effects count as equal if they differ by less than this number of rounding errors of the predictions.
ROUNDING = 32


def uplift_curve(
    y: ArrayLike, effect: ArrayLike, treatment: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gain from treating a growing share of the rows, in the order of their predicted effects.

    Rows are targeted if their predicted effect reaches a threshold. Of the targeted rows, ``n_t`` are treated and have
    the mean outcome ``m_t``, and ``n_c`` are untreated and have the mean outcome ``m_c``. The gain from treating all
    targeted rows and no others, divided by the number ``n`` of all rows, is estimated as ``(m_t - m_c) * (n_t + n_c) /
    n``.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Outcomes: any numbers.
    effect : array-like of shape (n_rows,)
        Predicted effects, or other numbers that rank the rows. Rows with equal effects are targeted in the same step.
    treatment : array-like of shape (n_rows,)
        1 for treated and 0 for untreated rows. The treatment must have been assigned independently of everything that
        the outcome depends on, as in an experiment.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows. A row with weight 2 counts as two rows.

    Returns
    -------
    share : array of shape (n_steps + 1,)
        Targeted share of the rows, from 0 to 1. The curve starts at the origin. It has no points where only treated or
        only untreated rows are targeted, because these allow no estimate.
    gain : array of shape (n_steps + 1,)
        Gain divided by the number of all rows, in the unit of y. The last one is the average treatment effect.

    Raises
    ------
    ValueError
        If arguments differ in length, are not one-dimensional, or hold anything but finite numbers; if the treatment
        has values other than 0 and 1; or if there are no treated or no untreated rows.

    See Also
    --------
    area_under_uplift_curve : Summary of the curve by one number.
    qini_curve : Gain of the treated rows only.

    References
    ----------
    P. Gutierrez and J.-Y. Gérardy (2017), Causal inference and uplift modelling: a review of the literature,
    Proceedings of Machine Learning Research 67.

    Examples
    --------
    >>> from skaimz import metrics
    >>> share, gain = metrics.uplift_curve(
    ...     y=[5, 1, 3, 2, 1, 2], effect=[3.0, 3.0, 2.0, 2.0, 1.0, 1.0], treatment=[1, 0, 1, 0, 1, 0]
    ... )
    >>> share.round(2).tolist()
    [0.0, 0.33, 0.67, 1.0]
    >>> gain.round(2).tolist()
    [0.0, 1.33, 1.67, 1.33]
    """
    share, _, lift = _steps(y, effect, treatment, sample_weight)
    return share, lift * share


def qini_curve(
    y: ArrayLike, effect: ArrayLike, treatment: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gain of the treated rows in a growing share of the rows, in the order of their predicted effects.

    Rows are targeted if their predicted effect reaches a threshold. Of the targeted rows, ``n_t`` are treated and their
    outcomes have the sum ``Y_t``, and ``n_c`` are untreated and their outcomes have the sum ``Y_c``. The gain of the
    treated rows from their treatment, divided by the number ``n`` of all rows, is estimated as
    ``(Y_t - Y_c * n_t / n_c) / n``.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Outcomes: any numbers.
    effect : array-like of shape (n_rows,)
        Predicted effects, or other numbers that rank the rows. Rows with equal effects are targeted in the same step.
    treatment : array-like of shape (n_rows,)
        1 for treated and 0 for untreated rows, assigned as :func:`uplift_curve` requires.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows. A row with weight 2 counts as two rows.

    Returns
    -------
    share : array of shape (n_steps + 1,)
        Targeted share of the rows, as :func:`uplift_curve` returns it.
    gain : array of shape (n_steps + 1,)
        Gain divided by the number of all rows, in the unit of y. The last one is the product of the average treatment
        effect and the share of treated rows.

    Raises
    ------
    ValueError
        As :func:`uplift_curve`.

    See Also
    --------
    qini_score : Summary of the curve by one number.

    References
    ----------
    N. J. Radcliffe (2007), Using control groups to target on predicted lift: building and assessing uplift models,
    Direct Marketing Analytics Journal 3.

    Examples
    --------
    >>> from skaimz import metrics
    >>> share, gain = metrics.qini_curve(
    ...     y=[5, 1, 3, 2, 1, 2], effect=[3.0, 3.0, 2.0, 2.0, 1.0, 1.0], treatment=[1, 0, 1, 0, 1, 0]
    ... )
    >>> gain.round(2).tolist()
    [0.0, 0.67, 0.83, 0.67]
    """
    share, share_treated, lift = _steps(y, effect, treatment, sample_weight)
    return share, lift * share_treated


def area_under_uplift_curve(
    y: ArrayLike, effect: ArrayLike, treatment: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Return the area between the uplift curve and the straight line that a random order gives.

    Parameters
    ----------
    y, effect, treatment, sample_weight
        As in :func:`uplift_curve`.

    Returns
    -------
    float
        Gain beyond that of a random order, averaged over the targeted share, in the unit of y. The area is 0 if all
        effects are equal, and negative for a ranking that is worse than random. It is not divided by the area of a
        perfect ranking, which is unknown.

    Raises
    ------
    ValueError
        As :func:`uplift_curve`.

    See Also
    --------
    AreaUnderUpliftCurve : The same as a scorer.

    References
    ----------
    P. Gutierrez and J.-Y. Gérardy (2017), Causal inference and uplift modelling: a review of the literature,
    Proceedings of Machine Learning Research 67.

    Examples
    --------
    >>> from skaimz import metrics
    >>> y, treatment = [5, 1, 3, 2, 1, 2], [1, 0, 1, 0, 1, 0]
    >>> round(metrics.area_under_uplift_curve(y, [3.0, 3.0, 2.0, 2.0, 1.0, 1.0], treatment), 3)
    0.556
    >>> metrics.area_under_uplift_curve(y, [1.0] * 6, treatment)
    0.0
    """
    return _area(*uplift_curve(y, effect, treatment, sample_weight=sample_weight))


def qini_score(
    y: ArrayLike, effect: ArrayLike, treatment: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Return the area between the qini curve and the straight line that a random order gives.

    Parameters
    ----------
    y, effect, treatment, sample_weight
        As in :func:`qini_curve`.

    Returns
    -------
    float
        Gain of the treated rows beyond that in a random order, averaged over the targeted share, in the unit of y. The
        area is 0 if all effects are equal, and negative for a ranking that is worse than random. It is not divided by
        the area of a perfect ranking, which is unknown.

    Raises
    ------
    ValueError
        As :func:`uplift_curve`.

    See Also
    --------
    QiniScore : The same as a scorer.

    References
    ----------
    N. J. Radcliffe (2007), Using control groups to target on predicted lift: building and assessing uplift models,
    Direct Marketing Analytics Journal 3.

    Examples
    --------
    >>> from skaimz import metrics
    >>> y, treatment = [5, 1, 3, 2, 1, 2], [1, 0, 1, 0, 1, 0]
    >>> round(metrics.qini_score(y, [3.0, 3.0, 2.0, 2.0, 1.0, 1.0], treatment), 3)
    0.278
    """
    return _area(*qini_curve(y, effect, treatment, sample_weight=sample_weight))


class _RankingScorer(Scorer):
    """Base class of the scorers that rank rows by the effect that an estimator predicts."""

    _of_ranking: Callable[..., float]

    def __init__(self, treatment: str | int, *, control: object = 0, treated: object = 1):
        self.treatment = treatment
        self.control = control
        self.treated = treated

    def _score(self, estimator: Any, X: Any, y: Any, sample_weight: Any, arrays: dict[str, Any]) -> float:
        X, y = loaded(X), loaded(y)
        X = X if hasattr(X, "iloc") else np.asarray(X, dtype=None if hasattr(X, "shape") else object)
        if X.ndim != 2:
            raise ValueError(f"X must have the shape (n_rows, n_features), got {X.shape}.")
        columns = Columns(X, None, None, {})
        _, place = columns.home(self.treatment, "`treatment`")
        treatment = self._assigned(columns.values(self.treatment))
        predicted = []
        for value in (self.control, self.treated):
            model, rows = last_step(estimator, _with_value(X, place, value))
            predicted.append(self._expected(model, rows, arrays))
        return self._of_ranking(_numbers(y, model), _effect(*predicted), treatment, sample_weight=sample_weight)

    def _assigned(self, values: np.ndarray) -> np.ndarray:
        """Return which rows were treated."""
        if self.control == self.treated:
            raise ValueError(f"`control` and `treated` must differ, but both are {self.control!r}.")
        treated, control = (pd.Series(values).isin([value]).to_numpy() for value in (self.treated, self.control))
        others = pd.unique(values[~(treated | control)])
        if len(others):
            raise ValueError(
                f"Column {self.treatment!r} must hold {self.control!r} and {self.treated!r} alone, got "
                f"{others[0]!r} as well: set `control` and `treated`, and leave out rows of other values."
            )
        return treated

    def _expected(self, model: Any, X: Any, arrays: dict[str, Any]) -> np.ndarray:
        """Return the expected outcome of every row, which is the probability of the second label if there are two."""
        method = "predict_proba" if is_classifier(model) else "predict"
        found = getattr(model, method)(X, **arrays)
        shape = np.shape(found)
        if method == "predict_proba" and (isinstance(found, list) or shape[1:] != (2,)):
            raise ValueError(f"`{type(self).__name__}` needs one outcome of two classes, but has {model.classes_}.")
        if method == "predict" and len(shape) != 1:
            raise ValueError(f"`{type(self).__name__}` needs one outcome for each row, but predictions have {shape}.")
        return np.asarray(found)[:, 1] if method == "predict_proba" else np.asarray(found)


class QiniScore(_RankingScorer):
    """Area between the qini curve of rows that are ranked by their expected effect and that of a random order.

    The effect of a row is the difference between its expected outcomes with and without the treatment. Expected
    outcomes are those that ``predict`` returns (for two labels, the probability of the second label) if the column of
    the treatment is set to ``treated`` or ``control`` in all rows. The treatment of the rows in X must have been
    assigned at random, as in an experiment.

    Parameters
    ----------
    treatment : str or int
        Name or position of the column of X with the treatment, where X is the input of the estimator or Pipeline.
    control, treated : object, default=0 and 1
        Values of that column in untreated and treated rows. No row may have another value.

    See Also
    --------
    qini_score : Definition and unit.

    Notes
    -----
    Effects that differ by no more than the rounding error of the predictions count as equal. A model without
    interactions with the treatment therefore has the score 0. Every fold of a cross-validation needs treated and
    untreated rows. Stratify small folds by treatment.

    References
    ----------
    N. J. Radcliffe (2007), Using control groups to target on predicted lift: building and assessing uplift models,
    Direct Marketing Analytics Journal 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.normal(size=400), rng.integers(2, size=400)])
    >>> y = X[:, 0] * X[:, 1] + rng.normal(size=400)  # the effect is X[:, 0]
    >>> model = make_pipeline(PolynomialFeatures(interaction_only=True), NumPyroImpactRegressor(random_state=0))
    >>> 0.1 < metrics.QiniScore(treatment=1)(model.fit(X, y), X, y) < 0.2  # on average 0.141, half of all treated
    True
    """

    _of_ranking = staticmethod(qini_score)


class AreaUnderUpliftCurve(_RankingScorer):
    """Area between the uplift curve of rows that are ranked by their expected effect and that of a random order.

    The effect of a row is the difference between its expected outcomes with and without the treatment. Expected
    outcomes are those that ``predict`` returns (for two labels, the probability of the second label) if the column of
    the treatment is set to ``treated`` or ``control`` in all rows. The treatment of the rows in X must have been
    assigned at random, as in an experiment.

    Parameters
    ----------
    treatment : str or int
        Name or position of the column of X with the treatment, where X is the input of the estimator or Pipeline.
    control, treated : object, default=0 and 1
        Values of that column in untreated and treated rows. No row may have another value.

    See Also
    --------
    area_under_uplift_curve : Definition and unit.

    Notes
    -----
    As for :class:`QiniScore`.

    References
    ----------
    P. Gutierrez and J.-Y. Gérardy (2017), Causal inference and uplift modelling: a review of the literature,
    Proceedings of Machine Learning Research 67.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.normal(size=400), rng.integers(2, size=400)])
    >>> y = X[:, 0] * X[:, 1] + rng.normal(size=400)  # the effect is X[:, 0]
    >>> model = make_pipeline(PolynomialFeatures(interaction_only=True), NumPyroImpactRegressor(random_state=0))
    >>> 0.2 < metrics.AreaUnderUpliftCurve(treatment=1)(model.fit(X, y), X, y) < 0.4  # on average 0.282
    True
    """

    _of_ranking = staticmethod(area_under_uplift_curve)


def _steps(y: Any, effect: Any, treatment: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three numbers of each step: the targeted share, the share of rows that are targeted and treated, the lift.

    The lift is the difference between the mean outcomes of treated and untreated targeted rows.
    """
    y, effect, treated, weight = _checked(y, effect, treatment, sample_weight)
    order = np.argsort(-effect, kind="stable")
    last_of_step = np.append(np.diff(effect[order]) != 0, True)
    arms = (treated, ~treated)
    counts, sums = (np.cumsum([(values * arm)[order] for arm in arms], axis=1) for values in (weight, weight * y))
    shares = counts / counts[:, -1].sum()
    has_estimate = last_of_step & (counts > 0).all(axis=0)
    means = sums[:, has_estimate] / counts[:, has_estimate]
    treated_share, untreated_share = shares[:, has_estimate]
    steps = (treated_share + untreated_share, treated_share, means[0] - means[1])
    share, share_treated, lift = (np.concatenate([[0.0], values]) for values in steps)
    return share, share_treated, lift


def _area(share: np.ndarray, gain: np.ndarray) -> float:
    return float(np.trapezoid(gain, share) - gain[-1] / 2)


def _checked(y: Any, effect: Any, treatment: Any, sample_weight: Any) -> tuple[np.ndarray, ...]:
    """Return outcomes, effects, whether rows were treated, and weights of the rows with a positive weight."""
    y = _vector("y", y)
    effect, treated = _vector("effect", effect, len(y)), _vector("treatment", treatment, len(y))
    others = treated[(treated != 0) & (treated != 1)]
    if len(others):
        raise ValueError(f"`treatment` must be 1 for treated and 0 for untreated rows, got {others[0]:g} as well.")
    weight = check_weight(sample_weight, y, np.float64)
    counted = weight > 0
    y, effect, treated, weight = y[counted], effect[counted], treated[counted] == 1, weight[counted]
    for name, arm in (("treated", treated), ("untreated", ~treated)):
        if not arm.any():
            raise ValueError(
                f"`treatment` marks none of the {len(y)} rows as {name}: a curve compares treated and untreated rows, "
                "and needs some of both."
            )
    return y, effect, treated, weight


def _vector(name: str, values: Any, n_rows: int | None = None) -> np.ndarray:
    """Return a vector of finite numbers, or raise ValueError."""
    array = as_numbers(f"`{name}`", values).astype(np.float64)
    if array.ndim != 1 or n_rows not in (None, len(array)):
        wanted = "n_rows" if n_rows is None else n_rows
        raise ValueError(f"`{name}` must have the shape ({wanted},), a number for each row of y, got {array.shape}.")
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise ValueError(f"`{name}` is {array[wrong[0]]:g} in row {wrong[0]}: leave out such rows, or fill them in.")
    return array


def _with_value(X: Any, place: int | None, value: Any) -> Any:
    """Return a copy of X in which a column has the same value in all rows."""
    if not hasattr(X, "iloc"):
        changed = np.array(X)
        changed[:, place] = value
        return changed
    changed = X.copy()
    changed.isetitem(place, pd.Series([value] * len(X), X.index, dtype=X.dtypes.iloc[place]))
    return changed


def _numbers(y: Any, model: Any) -> Any:
    """Return outcomes as numbers. A label is replaced by whether it is the second of two."""
    if not is_classifier(model):
        return y
    # A classifier that was given posterior draws and was not fitted knows no labels.
    labels, known = np.asarray(y), getattr(model, "classes_", np.array([0, 1]))
    unknown = labels[~np.isin(labels, known)]
    if len(unknown):
        raise ValueError(f"y holds labels that were not there in `fit`: {unknown[0]!r}. Known are {known.tolist()}.")
    return labels == known[1]


def _effect(control: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Return differences of predictions, and replace differences that differ only by rounding by one number."""
    effect = treated - control
    width = ROUNDING * np.finfo(np.result_type(effect, np.float32)).eps * np.mean(np.abs([control, treated]))
    if not width > 0:
        return effect
    order = np.argsort(effect)
    ordered = effect[order].astype(np.float64)
    # Effects are rounded down to bins. Bins are counted from the first effect after a gap, so that the bound of a bin
    # does not separate effects that differ only by rounding.
    is_after_gap = np.append(True, np.diff(ordered) > width)
    start = ordered[is_after_gap][np.cumsum(is_after_gap) - 1]
    rounded = np.empty_like(ordered)
    rounded[order] = start + np.floor((ordered - start) / width) * width
    return rounded
