"""What a person wants to know of a fit, in a few lines."""

from typing import Any

from skaimz.inference.diagnostics import LARGEST_MOVE, LEAST_ESS_PER_CHAIN, WORST_R_HAT
from skaimz.inference.importance import LARGEST_K_HAT

__all__ = ["facts_of"]


def facts_of(result: Any) -> dict[str, str]:
    """Return facts by name, the most important first.

    Parameters
    ----------
    result : FitResult
    """
    known = result.diagnostics
    facts = {"method": str(known.get("rung", result.method))}
    if known.get("k_hat") is not None:
        facts["k-hat"] = f"{known['k_hat']:.2f} (good up to {LARGEST_K_HAT})"
    if known.get("guide_move") is not None:
        facts["last move of the guide"] = f"{known['guide_move']:.2f} standard deviations (good up to {LARGEST_MOVE})"
    bounds = {"r_hat": (max, f"up to {WORST_R_HAT}"), "ess": (min, f"from {LEAST_ESS_PER_CHAIN} a chain")}
    for name, (worst, bound) in bounds.items():
        values = {site: value for site, value in (known.get(name) or {}).items() if value is not None}
        if values:
            site = worst(values, key=lambda site: values[site])
            facts[f"worst {name.replace('_', '-')}"] = f"{values[site]:.5g}, of {site} (good {bound})"
    if known.get("num_divergences") is not None:
        facts["divergences"] = str(known["num_divergences"])
    for rung in known.get("rungs", ()):
        why = f"; left for the next one because: {rung['why']}" if rung["why"] else ""
        facts[f"tried {rung['rung']}"] = f"{rung['seconds']:.2f} s{why}"
    facts["draws"] = ", ".join(f"{site} {draw.shape}" for site, draw in result.draws.items())
    return facts
