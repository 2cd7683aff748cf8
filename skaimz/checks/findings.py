"""What is said of a number that a check looks at."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

__all__ = ["Finding", "Findings", "as_table", "judged", "unknown"]


class Finding(NamedTuple):
    """What one check found at one site.

    Attributes
    ----------
    check : str
    site : str
        Empty where the check is of the whole fit.
    value : float
    threshold : float
        The bound that the value is held against, the nearer one of two; NaN where there is none.
    verdict : {"good", "bad", "unknown"}
    advice : str
        What to do, or why nothing is known; empty where all is good.
    """

    check: str
    site: str
    value: float
    threshold: float
    verdict: str
    advice: str


def judged(
    check: str,
    site: str,
    value: float | None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    below: str = "",
    above: str = "",
    undefined: str = "",
) -> Finding:
    """Hold a value against one bound or two, with the advice for a value below and above; None and NaN are undefined.

    A value on its bound is good.
    """
    bounds = [bound for bound in (low, high) if math.isfinite(bound)]
    if value is None or math.isnan(value):
        return Finding(check, site, math.nan, bounds[0] if len(bounds) == 1 else math.nan, "unknown", undefined)
    nearer = min(bounds, key=lambda bound: abs(value - bound))
    advice = below if value < low else above if value > high else ""
    return Finding(check, site, float(value), nearer, "good" if low <= value <= high else "bad", advice)


def unknown(check: str, site: str, why: str) -> Finding:
    """Return what is said where there is no value."""
    return Finding(check, site, math.nan, math.nan, "unknown", why)


class Findings(pd.DataFrame):
    """A table whose texts are shown whole; pandas cuts them after 50 characters."""

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
    """Return findings as a table with the checks' names as its index."""
    return Findings(findings, columns=list(Finding._fields)).set_index("check")
