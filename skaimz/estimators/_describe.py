"""What a kernel is taken for, as a table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skaimz.inference import FitResult
from skaimz.kernels import KernelSpec, kernel_parameters

__all__ = ["DescribeMixin"]


class DescribeMixin:
    """Description of the kernel that was fitted."""

    kernel_: Callable
    kernel_spec_: KernelSpec
    arguments_: dict[str, Any]
    posterior_: dict[str, np.ndarray]

    def describe(self) -> pd.DataFrame:
        """Tell what the kernel consists of.

        Returns
        -------
        pandas.DataFrame
            A row for every argument and site of the kernel, with its kind, distribution, shape, dimensions, and the
            number of chains and draws that the posterior holds of it. The last row tells how these draws were made: for
            automatic inference which way answered, and what its check gave.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.describe().loc["alpha", ["kind", "distribution", "draws"]].tolist()
        ['latent', 'Normal', '1 x 1000']
        """
        check_is_fitted(self, "kernel_spec_")
        spec = self.kernel_spec_
        records: list[dict[str, Any]] = []
        for name in kernel_parameters(self.kernel_):
            role = {spec.input: "input", spec.output_parameter: "outcome"}.get(name, "argument")
            by_row = name in self.arguments_["rows"] or name == spec.output_parameter
            records.append({"name": name, "kind": role, "dims": "rows, ..." if by_row else ""})
        for site in spec.sites:
            shape = tuple("n_rows" if size is None else size for size in site.shape)
            record = {
                "name": site.name,
                "kind": site.kind,
                "distribution": site.distribution or "",
                "shape": _bracketed(shape),
            }
            draws = self.posterior_.get(site.name)
            if draws is not None:
                record["draws"] = f"{draws.shape[0]} x {draws.shape[1]}"
            records.append(record | {"dims": ", ".join(site.dims), "rows stand alone": site.mixing is None})
        records.append(
            {"name": "inference", "kind": "inference", "distribution": _told(getattr(self, "fit_result_", None))}
        )
        columns = ["kind", "distribution", "shape", "dims", "draws", "rows stand alone"]
        return pd.DataFrame.from_records(records, index="name").reindex(columns=columns).fillna("")


def _told(result: FitResult | None) -> str:
    """Return how posterior draws were made, in a few words."""
    if result is None:
        return "injected"
    found = result.diagnostics
    told = found.get("rung", result.method)
    if found.get("k_hat") is not None:
        told += f", k-hat {found['k_hat']:.2f}"
    r_hats = [value for value in found.get("r_hat", {}).values() if value is not None]
    return told + (f", r-hat {max(r_hats):.3f}" if r_hats else "")


def _bracketed(shape: Sequence[Any]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
