"""How well rows are ranked by their effect, on rows whose treatment was assigned at random and is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.utils.validation import _check_sample_weight

from skaimz.estimators._columns import Columns
from skaimz.metrics._scorers import Scorer, last_step
from skaimz.rows import loaded

__all__ = [
    "AreaUnderUpliftCurve",
    "QiniScore",
    "area_under_uplift_curve",
    "qini_curve",
    "qini_score",
    "uplift_curve",
]

# Effects that differ by less, relative to the outcomes they are differences of, differ by rounding only.
ROUNDING = 32


def uplift_curve(y: Any, effect: Any, treatment: Any, *, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return what treating a growing share of the rows gains, those with the largest predicted effect first.

    Among the targeted rows, those whose effect reaches a threshold, let ``n_t`` be treated with the mean outcome
    ``m_t``, and ``n_c`` untreated with the mean outcome ``m_c``. The gain from treating all of them, and no others, is
    estimated as ``(m_t - m_c) * (n_t + n_c) / n`` for each of all ``n`` rows.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Outcomes: any numbers.
    effect : array-like of shape (n_rows,)
        Predicted effects, or other numbers that rank the rows. Rows of equal effect are targeted in one step.
    treatment : array-like of shape (n_rows,)
        1 for treated and 0 for untreated rows. The curve is that of an experiment: the assignment must not depend on
        what the outcome depends on.
    sample_weight : array-like of shape (n_rows,), optional
        A row of weight 2 counts as two rows.

    Returns
    -------
    share : array of shape (n_steps + 1,)
        Targeted share of the rows, from 0 to 1. A curve starts at the origin, and has no point where only treated or
        only untreated rows are targeted, from which nothing can be told.
    gain : array of shape (n_steps + 1,)
        In the unit of y, for each row of all. The last one is the average treatment effect.

    Raises
    ------
    ValueError
        If an argument is of another length or shape, not numeric or not finite, or if the treatment has other values,
        or no treated or no untreated rows.

    See Also
    --------
    area_under_uplift_curve : The curve in one number.
    qini_curve : The gain among the treated alone.

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


def qini_curve(y: Any, effect: Any, treatment: Any, *, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return what the treatment gained among a growing share of the rows, the largest predicted effect first.

    Among the targeted rows, those whose effect reaches a threshold, let ``Y_t`` be the sum of the ``n_t`` treated rows'
    outcomes, and ``Y_c`` that of the ``n_c`` untreated rows'. What the treated ones gained by their treatment is
    estimated as ``(Y_t - Y_c * n_t / n_c) / n`` for each of all ``n`` rows, the others included.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Outcomes: any numbers.
    effect : array-like of shape (n_rows,)
        Predicted effects, or other numbers that rank the rows. Rows of equal effect are targeted in one step.
    treatment : array-like of shape (n_rows,)
        1 for treated and 0 for untreated rows, assigned as :func:`uplift_curve` says.
    sample_weight : array-like of shape (n_rows,), optional
        A row of weight 2 counts as two rows.

    Returns
    -------
    share : array of shape (n_steps + 1,)
        Targeted share of the rows, as :func:`uplift_curve` returns it.
    gain : array of shape (n_steps + 1,)
        In the unit of y, for each row of all. The last one is the average treatment effect times the share of the
        treated.

    Raises
    ------
    ValueError
        As :func:`uplift_curve`.

    See Also
    --------
    qini_score : The curve in one number.

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


def area_under_uplift_curve(y: Any, effect: Any, treatment: Any, *, sample_weight: Any = None) -> float:
    """Return the area between the uplift curve and the straight line of rows in random order.

    Parameters
    ----------
    y, effect, treatment, sample_weight
        As in :func:`uplift_curve`.

    Returns
    -------
    float
        In the unit of y, for each row of all: the gain over random order, averaged over the share of rows that is
        targeted. It is 0 where all effects are equal, negative for a ranking that is worse than none, and not divided
        by the area of a perfect ranking, which is not known.

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


def qini_score(y: Any, effect: Any, treatment: Any, *, sample_weight: Any = None) -> float:
    """Return the area between the qini curve and the straight line of rows in random order.

    Parameters
    ----------
    y, effect, treatment, sample_weight
        As in :func:`qini_curve`.

    Returns
    -------
    float
        In the unit of y, for each row of all: the gain among the treated over that in random order, averaged over the
        share of rows that is targeted. It is 0 where all effects are equal, negative for a ranking that is worse than
        none, and not divided by the area of a perfect ranking, which is not known.

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
    """Base of the scorers that rank rows by the effect that an estimator expects."""

    _of_ranking: Callable[..., float]

    def __init__(self, treatment: Any, *, control: Any = 0, treated: Any = 1):
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
        """Return the expected outcome of every row; of two labels the probability of the second."""
        method = "predict_proba" if is_classifier(model) else "predict"
        found = getattr(model, method)(X, **arrays)
        shape = np.shape(found)
        if method == "predict_proba" and (isinstance(found, list) or shape[1:] != (2,)):
            raise ValueError(f"`{type(self).__name__}` needs one outcome of two classes, but has {model.classes_}.")
        if method == "predict" and len(shape) != 1:
            raise ValueError(f"`{type(self).__name__}` needs one outcome for each row, but predictions have {shape}.")
        return np.asarray(found)[:, 1] if method == "predict_proba" else np.asarray(found)


class QiniScore(_RankingScorer):
    """Area under the qini curve of the rows ranked by their expected effect, beyond that of a random order.

    A row's effect is its expected outcome with the treatment less that without: ``predict`` (of two labels, the
    probability of the second) of X with one value in the treatment's column, and with the other. The assignment that X
    holds must be that of an experiment.

    Parameters
    ----------
    treatment : str or int
        Column of X, as the estimator or Pipeline gets it, by name or position.
    control, treated : object, default=0 and 1
        The column's values for untreated and treated rows; other rows are refused.

    See Also
    --------
    qini_score : Definition and unit.

    Notes
    -----
    Effects that differ by no more than the rounding errors of the predictions are taken for equal, so that a model
    without any interaction scores 0. Every fold needs treated and untreated rows: stratify small ones by treatment.

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
    """Area under the uplift curve of the rows ranked by their expected effect, beyond that of a random order.

    A row's effect is its expected outcome with the treatment less that without: ``predict`` (of two labels, the
    probability of the second) of X with one value in the treatment's column, and with the other. The assignment that X
    holds must be that of an experiment.

    Parameters
    ----------
    treatment : str or int
        Column of X, as the estimator or Pipeline gets it, by name or position.
    control, treated : object, default=0 and 1
        The column's values for untreated and treated rows; other rows are refused.

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
    """Return of each step the targeted share of all rows, the share that is treated too, and the means' difference."""
    y, effect, treated, weight = _checked(y, effect, treatment, sample_weight)
    order = np.argsort(-effect, kind="stable")
    last_of_step = np.append(np.diff(effect[order]) != 0, True)
    arms = (treated, ~treated)
    counts, sums = (np.cumsum([(values * arm)[order] for arm in arms], axis=1) for values in (weight, weight * y))
    shares = counts / counts[:, -1].sum()
    told = last_of_step & (counts > 0).all(axis=0)
    means = sums[:, told] / counts[:, told]
    found = (shares[:, told].sum(axis=0), shares[0, told], means[0] - means[1])
    share, share_treated, lift = (np.concatenate([[0.0], each]) for each in found)
    return share, share_treated, lift


def _area(share: np.ndarray, gain: np.ndarray) -> float:
    return float(np.trapezoid(gain, share) - gain[-1] / 2)


def _checked(y: Any, effect: Any, treatment: Any, sample_weight: Any) -> tuple[np.ndarray, ...]:
    """Return outcomes, effects, which rows were treated, and weights; without rows of no weight."""
    y = _vector("y", y)
    effect, treated = _vector("effect", effect, len(y)), _vector("treatment", treatment, len(y))
    others = treated[(treated != 0) & (treated != 1)]
    if len(others):
        raise ValueError(f"`treatment` must be 1 for treated and 0 for untreated rows, got {others[0]:g} as well.")
    weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
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
    """Return one finite number for each row, or refuse what is none."""
    array = np.asarray(values)
    if array.ndim != 1 or n_rows not in (None, len(array)):
        wanted = "n_rows" if n_rows is None else n_rows
        raise ValueError(f"`{name}` must have the shape ({wanted},), a number for each row of y, got {array.shape}.")
    try:
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must hold numbers, got {array[0]!r}.") from None
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise ValueError(f"`{name}` is {array[wrong[0]]:g} in row {wrong[0]}: leave out such rows, or fill them in.")
    return array


def _with_value(X: Any, place: int | None, value: Any) -> Any:
    """Return X with one value in a column, of the column's type."""
    if not hasattr(X, "iloc"):
        changed = np.array(X)
        changed[:, place] = value
        return changed
    changed = X.copy()
    changed.isetitem(place, pd.Series([value] * len(X), X.index, dtype=X.dtypes.iloc[place]))
    return changed


def _numbers(y: Any, model: Any) -> Any:
    """Return outcomes as numbers: of two labels, whether it is the second."""
    if not is_classifier(model):
        return y
    # A classifier with draws from elsewhere and without a fit knows no labels.
    labels, known = np.asarray(y), getattr(model, "classes_", np.array([0, 1]))
    unknown = labels[~np.isin(labels, known)]
    if len(unknown):
        raise ValueError(f"y holds labels that were not there in `fit`: {unknown[0]!r}. Known are {known.tolist()}.")
    return labels == known[1]


def _effect(control: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Return differences of predictions, equal where they differ by rounding only."""
    effect = treated - control
    width = ROUNDING * np.finfo(np.result_type(effect, np.float32)).eps * np.mean(np.abs([control, treated]))
    if not width > 0:
        return effect
    order = np.argsort(effect)
    ordered = effect[order].astype(np.float64)
    # Where effects lie close they are put into bins, which start at the first one after a gap: so that a bin's bound
    # does not cut through effects that are equal but for rounding.
    starts = np.append(True, np.diff(ordered) > width)
    start = ordered[starts][np.cumsum(starts) - 1]
    found = np.empty_like(ordered)
    found[order] = start + np.floor((ordered - start) / width) * width
    return found
