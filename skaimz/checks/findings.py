"""The result of a check, and tables of results."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

__all__ = ["Bound", "Finding", "Findings", "as_table", "judge", "unknown"]


class Finding(NamedTuple):
    """Result of one check at one site.

    Attributes
    ----------
    check : str
    site : str
        Empty if the check is about the whole fit.
    value : float
    threshold : float
        The bound that the value is compared with, the nearer one of two; NaN if there is none.
    verdict : {"good", "bad", "unknown"}
    advice : str
        What to do, or why the value is unknown; empty if it is good.
    """

    check: str
    site: str
    value: float
    threshold: float
    verdict: str
    advice: str


class Bound(NamedTuple):
    """A bound on a good value, and the advice for a value beyond it."""

    value: float
    advice: str = ""


LOWEST, HIGHEST = Bound(-math.inf), Bound(math.inf)


def judge(
    check: str,
    site: str,
    value: float | None,
    low: Bound = LOWEST,
    high: Bound = HIGHEST,
    undefined: str = "",
) -> Finding:
    """Compare a value with one bound or two; ``undefined`` explains a value that is None or NaN.

    A value on its bound is good.
    """
    bounds = [bound.value for bound in (low, high) if math.isfinite(bound.value)]
    if value is None or math.isnan(value):
        return Finding(check, site, math.nan, bounds[0] if len(bounds) == 1 else math.nan, "unknown", undefined)
    nearer = min(bounds, key=lambda bound: abs(value - bound))
    exceeded = next((bound for bound, beyond in ((low, value < low.value), (high, value > high.value)) if beyond), None)
    verdict, advice = ("good", "") if exceeded is None else ("bad", exceeded.advice)
    return Finding(check, site, float(value), nearer, verdict, advice)


def unknown(check: str, site: str, why: str) -> Finding:
    """Return the result of a check that has no value."""
    return Finding(check, site, math.nan, math.nan, "unknown", why)


class Findings(pd.DataFrame):
    """A table that shows texts in full length; pandas cuts them after 50 characters."""

    @property
    def _constructor(self) -> type["Findings"]:
        return Findings

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return super().__repr__()

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_colwidth", None):
            return super()._repr_html_()


def as_table(findings: Sequence[Finding]) -> Findings:
    """Return findings as a table, indexed by the names of the checks."""
    return Findings(findings, columns=list(Finding._fields)).set_index("check")
