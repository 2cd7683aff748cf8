"""A table of what a kernel consists of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skaimz.estimators._model import Model
from skaimz.inference import FitResult
from skaimz.kernels import kernel_parameters

__all__ = ["description_of"]

COLUMNS = ["kind", "distribution", "shape", "dims", "draws", "rows stand alone", "grows with"]


def description_of(model: Model) -> pd.DataFrame:
    """Return a row for every argument and site of a kernel, one for how its posterior was made, and for rows kept."""
    spec, draws = model.spec, model.draws or {}
    assert spec is not None
    assert model.kernel is not None
    records: list[dict[str, Any]] = []
    for name in kernel_parameters(model.kernel):
        role = {spec.input: "input", spec.output_parameter: "outcome"}.get(name, "argument")
        by_row = name in model.arguments["rows"] or name == spec.output_parameter
        records.append({"name": name, "kind": role, "dims": "rows, ..." if by_row else ""})
    for site in spec.every_site:
        record = {
            "name": site.name,
            "kind": site.kind + " (in fits only)" * (site in spec.only_fitted),
            "distribution": site.distribution or "",
            "shape": _bracketed(site.written_shape),
            "dims": ", ".join(site.dims),
            "rows stand alone": site.mixing is None,
            "grows with": ", ".join([*["rows"] * site.follows_rows, *filter(None, site.levels)]),
        }
        if site.name in draws:
            record["draws"] = f"{draws[site.name].shape[0]} x {draws[site.name].shape[1]}"
        records.append(record)
    records.append({"name": "inference", "kind": "inference", "distribution": _origin_of(model.result)})
    if model.past is not None:
        shape = np.shape(model.past[spec.input])
        records.append({"name": "rows of the fit", "kind": "kept for predictions", "shape": _bracketed(shape)})
    return pd.DataFrame.from_records(records, index="name").reindex(columns=COLUMNS).fillna("")


def _origin_of(result: FitResult | None) -> str:
    """Return how posterior draws were made, in a few words."""
    if result is None:
        return "injected"
    diagnostics = result.diagnostics
    origin = diagnostics.get("rung", result.method)
    if diagnostics.get("k_hat") is not None:
        origin += f", k-hat {diagnostics['k_hat']:.2f}"
    r_hats = [value for value in diagnostics.get("r_hat", {}).values() if value is not None]
    return origin + (f", r-hat {max(r_hats):.3f}" if r_hats else "")


def _bracketed(shape: Sequence[Any]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
