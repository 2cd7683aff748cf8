"""Fit every model of the corpus, and print the table of the documentation.

``PYTHONPATH=tests python -m corpus.report`` examines all; with names, or beginnings of names, those alone. Two
processes share them.
"""

import multiprocessing
import sys
import time
from collections.abc import Mapping

import jax
from corpus.case import Case, every_case
from corpus.compare import Finding, examine

__all__ = ["table"]


def table(cases: Mapping[str, Case], findings: Mapping[str, Finding]) -> str:
    """Return a table in Markdown, with the numbers of each verdict below it."""
    lines = ["| model | source | construct | result |", "| --- | --- | --- | --- |"]
    for name, finding in findings.items():
        case = cases[name]
        lines.append(f"| {name} | `{case.source}` | {case.construct} | {_result(case, finding)} |")
    verdicts = [finding.verdict for finding in findings.values()]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return "\n".join([*lines, "", f"{len(verdicts)} models: {counts}."])


def _result(case: Case, finding: Finding) -> str:
    if finding.verdict == "works":
        return "works"
    why = case.refused if finding.verdict == "refused" and case.refused is not None else finding.why
    return f"{finding.verdict}: {why}".replace("|", r"\|")


def _examined(name: str) -> Finding:
    begin = time.perf_counter()
    finding = examine(every_case()[name])
    jax.clear_caches()
    compared, warned, seconds = list(finding.compared), list(finding.warned), time.perf_counter() - begin
    print(f"{name}: {finding.verdict} {finding.why} {compared} {warned} {seconds:.0f} s", file=sys.stderr, flush=True)
    return finding


def main(beginnings: list[str]) -> int:
    """Print the table, and return 1 where a finding is not what its case states."""
    cases = every_case()
    names = [name for name in cases if not beginnings or name.startswith(tuple(beginnings))]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        findings = dict(zip(names, pool.imap(_examined, names), strict=True))
    print(table(cases, findings))
    return int(not all(finding.agrees_with(cases[name]) for name, finding in findings.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
