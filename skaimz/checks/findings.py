"""The result of a check, and tables of results."""

import functools
import math
from collections.abc import Sequence
from html import escape
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


# Longer tables are shown as pandas does.
MOST_SHOWN = 60
# pandas cuts texts after 50 characters.
IN_FULL = functools.partial(pd.option_context, "display.max_colwidth", None)
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
    """A table of findings that shows the verdict first, and the advice in full below."""

    @property
    def _constructor(self) -> type["Findings"]:
        return Findings

    def __repr__(self) -> str:
        if not self._is_whole:
            with IN_FULL():
                return super().__repr__()
        numbers = pd.DataFrame(self).drop(columns="advice")
        advice = [f"{name}: {text}" for name, text in self._advice()]
        return "\n\n".join([self._summary(), numbers.to_string(), *(["\n".join(advice)] if advice else [])])

    def _repr_html_(self) -> str | None:
        if not self._is_whole:
            with IN_FULL():
                return super()._repr_html_()
        numbers = pd.DataFrame(self).drop(columns="advice").to_html(border=0)
        advice = "".join(
            f"<li><b>{escape(name)}</b>: {escape(text, quote=False)}</li>" for name, text in self._advice()
        )
        return f"<p><b>{self._summary()}</b></p>{numbers}" + (f"<ul>{advice}</ul>" if advice else "")

    @property
    def _is_whole(self) -> bool:
        """Whether the table has all columns; a part that a user has taken is shown as pandas does."""
        return list(self.columns) == list(Finding._fields[1:]) and len(self) <= MOST_SHOWN

    def _summary(self) -> str:
        """Return the verdict on the whole, in a sentence."""
        counts = self["verdict"].value_counts()
        parts = [f"{counts[verdict]} {verdict}" for verdict in ("bad", "unknown", "good") if verdict in counts]
        return f"{len(self)} {'check' if len(self) == 1 else 'checks'}: {', '.join(parts) or 'none'}."

    def _advice(self) -> list[tuple[str, str]]:
        """Return the advice for each check that has some, with the sites that it is for."""
        sites: dict[tuple[str, str], list[str]] = {}
        for check, site, advice in zip(self.index, self["site"], self["advice"], strict=True):
            if advice:
                sites.setdefault((check, advice), []).append(site)
        return [
            (check + (f" of {', '.join(filter(None, names))}" if any(names) else ""), advice)
            for (check, advice), names in sites.items()
        ]


def as_table(findings: Sequence[Finding]) -> Findings:
    """Return findings as a table, indexed by the names of the checks."""
    return Findings(findings, columns=list(Finding._fields)).set_index("check")
