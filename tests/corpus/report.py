"""Fit every model of the corpus, and print the table of the documentation.

``PYTHONPATH=tests python -m corpus.report`` examines all; with names, or beginnings of names, those alone.
"""

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


def main(beginnings: list[str]) -> int:
    """Print the table, and return 1 where a finding is not what its case states."""
    cases = every_case()
    findings: dict[str, Finding] = {}
    for name, case in cases.items():
        if beginnings and not name.startswith(tuple(beginnings)):
            continue
        begin = time.perf_counter()
        findings[name] = finding = examine(case)
        jax.clear_caches()
        print(
            f"{name}: {finding.verdict} {finding.why} {list(finding.compared)} {list(finding.warned)} "
            f"{time.perf_counter() - begin:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    print(table(cases, findings))
    return int(not all(finding.agrees_with(cases[name]) for name, finding in findings.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
