"""What has grown since the fit: rows that follow those of the fit, and levels of arguments that the fit did not see."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skaimz import sampling
from skaimz.estimators._columns import open_arguments
from skaimz.exceptions import RowsOfFitWarning, warn_user
from skaimz.kernels import Inputs, KernelSpec, Site, mixed_levels, narrowed

__all__ = [
    "check_growth",
    "digests_of_rows",
    "levels_for",
    "past_for",
    "prior_levels",
    "rows_to_keep",
    "warn_of_order",
    "warn_of_rows_of_fit",
]


def rows_to_keep(spec: KernelSpec, inputs: Inputs, y: Any) -> dict[str, np.ndarray] | None:
    """Return the rows of a fit if predictions for new rows depend on them, None otherwise.

    Parameters
    ----------
    spec : KernelSpec
    inputs : Inputs
        Arguments of the kernel.
    y : array or None
        Coded outcomes.
    """
    if not spec.needs_past:
        return None
    rows = {name: np.array(array[:]) for name, array in inputs.rows.items()}
    return rows if y is None else {**rows, spec.output_parameter: np.array(y[:])}


def digests_of_rows(spec: KernelSpec, inputs: Inputs) -> dict[str, str]:
    """Return what rows are recognised by as those of a fit; nothing if nothing about them is remembered.

    Returns
    -------
    dict
        With a ``digest`` of the rows, and the ``unordered`` digest that the same rows have in any order, if no row is
        there twice.
    """
    arrays = _row_bytes(spec, inputs)
    if not arrays:
        return {}
    table = np.concatenate(list(arrays.values()), axis=1)
    rows = np.sort(table.view(f"V{table.shape[1]}").ravel())
    unordered = {"unordered": _digest({"": rows})} if (rows[1:] != rows[:-1]).all() else {}
    return {"digest": _digest(arrays), **unordered}


def _row_bytes(spec: KernelSpec, inputs: Inputs) -> dict[str, np.ndarray]:
    """Return the row-aligned arguments as bytes, an array with an entry for each row."""
    if not (spec.growing_latents or (spec.needs_past and spec[spec.output].is_scanned)):
        return {}
    if not all(isinstance(array, np.ndarray) for array in inputs.rows.values()):
        return {}  # rows that are read in parts
    return {
        name: np.ascontiguousarray(array, np.float64 if array.dtype.kind == "f" else array.dtype)
        .reshape(len(array), -1)
        .view(np.uint8)
        for name, array in sorted(inputs.rows.items())
    }


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, array in arrays.items():
        digest.update(repr((name, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def warn_of_order(call: Any) -> None:
    """Warn if rows that are said to be those of the fit have another order."""
    known = call.model.arguments
    if "unordered" not in known or call.part is not None:
        return
    now = digests_of_rows(call.spec, call.traced.inputs)
    if now.get("unordered") == known["unordered"] and now["digest"] != known["digest"]:
        warn_user(
            "X holds the rows of the fit in another order. `in_sample=True` takes the first row for the first row of "
            "the fit, and so on, so that each gets what is known of another row. Pass the rows as `fit` had them.",
            RowsOfFitWarning,
        )


def warn_of_rows_of_fit(call: Any, draws: Mapping[str, np.ndarray]) -> None:
    """Warn if rows equal those of the fit, about whose own latent sites or outcomes more is known than a call uses."""
    known, result = call.model.arguments.get("digest"), call.model.result
    if known is None or call.part is not None or (result is not None and result.n_rows != call.n_rows):
        return
    if known != digests_of_rows(call.spec, call.traced.inputs).get("digest"):
        return
    own = [site.name for site in call.spec.growing_latents if site.name in draws]
    if own:
        warn_user(
            f"X holds the rows of the fit. They are taken for new rows, so that what is known of {own} in these rows "
            "is left out. Pass `in_sample=True` for the rows of the fit themselves.",
            RowsOfFitWarning,
        )
    elif call.spec.outcomes_depend:
        warn_user(
            "X holds the rows of the fit. They are taken for new rows, which follow those of the fit. Pass the rows to "
            "forecast.",
            RowsOfFitWarning,
        )


def past_for(call: Any, draws: Mapping[str, np.ndarray]) -> sampling.Past | None:
    """Return the rows of the fit if the rows of a call depend on them, None otherwise.

    Parameters
    ----------
    call : Call
    draws : dict of str to array
        Posterior draws.
    """
    spec, rows = call.spec, call.model.past
    own = [site.name for site in spec.growing_latents if site.name in draws]
    if not spec.needs_past or not (own or spec.outcomes_depend):
        return None
    if rows is None and not own and spec[spec.output].is_scanned:
        return None  # nothing is known of rows before: these are the first
    why = f"New rows depend on the rows of the fit, because {spec.rows_mix}"
    if call.traced.kernel.seen:
        raise ValueError(
            f"{why}, and the kernel needs the values of {list(call.traced.kernel.seen)} while it is traced, which "
            "would be those of the fit and of the new rows together. Pass to it what it derives from them."
        )
    if spec.only_rows is not None:
        raise ValueError(f"{why}, and does not run on more. Pass `in_sample=True` for the rows of the fit.")
    needed = {*call.traced.inputs.rows, *[spec.output_parameter] * spec.outcomes_depend}
    if rows is None or not needed <= rows.keys():
        lacking = "they are not known" if rows is None else f"they have no {sorted(needed - rows.keys())}"
        raise ValueError(
            f"{why}, and {lacking}: posterior draws were made elsewhere, or arguments differ from those of the fit. "
            "Call `fit(X, y)` with them, and with the draws as `posterior` if you have them already"
            + (", or pass `in_sample=True` for the rows of the fit." if own else ".")
        )
    if spec.outcomes_depend and (spec.changes_outcome or spec.outcome is not None):
        raise ValueError(
            f"{why}, and {spec.output!r} observes something else than the outcome as it is given to the kernel: its "
            "values in the rows of the fit are not known. Pass y as the kernel observes it."
        )
    floats = {name: narrowed(f"Argument {name!r}", array, call.dtype) for name, array in rows.items()}
    return sampling.Past(floats, len(rows[spec.input]))


def check_growth(job: sampling.Job) -> sampling.Job:
    """Refuse rows and levels that change what is known of those of the fit, and sites that cannot be set in new rows.

    Returns
    -------
    Job
        The job, which knows of deterministic sites that new levels change.
    """
    if job.past is not None:
        _check_past(job)
    levels = dict(job.levels)
    for argument, each in job.levels.items():
        if each.follow:
            levels[argument] = each._replace(mixed=_changed_sites(job, argument))
    return replace(job, levels=levels)


def _changed_sites(job: sampling.Job, argument: str) -> dict[str, str]:
    """Return deterministic sites whose values for known levels depend on the levels that follow."""
    if job.past is not None:
        raise ValueError(
            f"Argument {argument!r} has levels that follow those of the fit, and rows follow those of the fit as well: "
            f"{job.spec.rows_mix}. Write the kernel with one of the two."
        )
    changed = sampling.changed_levels(job, argument)
    drawn = [name for name in changed if job.spec[name].kind != "deterministic"]
    if drawn:
        raise ValueError(
            f"Argument {argument!r} has levels that follow those of the fit, and would change the distribution of "
            f"{drawn} for these: the kernel derives something from all levels together, such as their number or a mean."
        )
    return dict.fromkeys(changed, "its values for the levels of the fit would change")


def _check_past(job: sampling.Job) -> None:
    known = {*job.posterior.draws, *[job.spec.output] * job.spec.outcomes_depend}
    of_rows = [job.spec[name] for name in job.settings if job.spec[name].follows_rows]
    unknown = [site.name for site in of_rows if site.row_axis is None or site.name not in known]
    if unknown:
        raise ValueError(
            f"`intervention` and `condition` cannot set {unknown} for new rows: these depend on the rows of the fit, "
            "where the values of these sites are not known."
        )
    changed = sampling.changed_past(job)
    if changed:
        raise ValueError(
            f"New rows depend on the rows of the fit, because {job.spec.rows_mix}, and would change the distribution "
            f"of {changed} in these: the kernel derives something from all rows together, such as their number, a mean "
            "or a range. Pass it to the kernel as an argument, so that it stays as it was in the fit."
        )


def levels_for(call: Any, draws: Mapping[str, np.ndarray]) -> dict[str, sampling.Levels]:
    """Return the new levels of the arguments of a call, which posterior draws do not have.

    Parameters
    ----------
    call : Call
    draws : dict of str to array of shape (n_draws, ...)
        Posterior draws of latent sites, other than those of rows before the call's.

    Raises
    ------
    ValueError
        If draws have another shape than their site for another reason, or levels may depend on one another.
    """
    spec = call.spec
    sites = [site for site in spec.prior_sites if site.name in draws and not site.follows_rows]
    by_site = {site.name: _grown(site, draws[site.name].shape[1:]) for site in sites}
    for name, several in by_site.items():
        if len(several) > 1:
            first, second, *_ = several
            raise ValueError(
                f"Site {name!r} has axes for the levels of {first!r} and of {second!r}, and this call has new levels "
                "of both. Its draws can be continued along one of them: pass rows with new levels of one argument at "
                "a time, or list all levels of the other in `column_args` with 'categories'."
            )
    grown = {argument: n_known for each in by_site.values() for argument, n_known in each.items()}
    for argument, n_known in grown.items():
        _check_levels(call, argument, n_known, draws)
    return {argument: _numbered(call, argument, n_known) for argument, n_known in grown.items()}


def prior_levels(call: Any) -> dict[str, sampling.Levels]:
    """Return the new levels of a call that draws from the prior, so that results have the known ones alone."""
    static = dict(call.traced.inputs.static)
    return {
        argument: sampling.Levels(static[f"n_{argument}"] - len(labels), labels, {})
        for argument, labels in call.levels.items()
    }


def _grown(site: Site, known: tuple[int, ...]) -> dict[str, int]:
    """Return the arguments of whose levels draws of a site have too few, and the number that they have."""
    if len(known) != len(site.shape):
        return {}
    levels = site.levels or (None,) * len(known)
    other = [axis for axis, here in enumerate(known) if site.shape[axis] not in (None, here)]
    fewer = [axis for axis in other if known[axis] < (site.shape[axis] or 0)]
    # Fewer levels than in the fit are known ones. Other entries cannot be told apart.
    if any(levels[axis] is None for axis in other):
        unknown = "what was not in the fit is not known" if fewer else "it is not known which of them these are"
        raise ValueError(
            f"Site {site.name!r} has draws of the shape {known} each, but the arguments of this call give it the shape "
            f"{site.shape}: {unknown}."
        )
    return {argument: known[axis] for axis in fewer if (argument := levels[axis]) is not None}


def _check_levels(call: Any, argument: str, n_known: int, draws: Mapping[str, np.ndarray]) -> None:
    spec, traced = call.spec, call.traced
    held = [site for site in spec.latents if argument in site.levels]
    lacking = [site.name for site in held if site.name not in draws]
    if lacking:
        raise ValueError(
            f"Argument {argument!r} has new levels, but the posterior has no draws of {lacking} for the known levels."
        )
    with_rows = [
        site.name for site in (*held, spec[spec.output]) if argument in site.levels and site.row_axis is not None
    ]
    if with_rows:
        raise ValueError(
            f"Argument {argument!r} has new levels, but sites {with_rows} have an axis of rows beside that of "
            "the levels, and cannot be continued on both."
        )
    if follows(call, argument):
        if call.part is not None:
            raise ValueError(
                f"Argument {argument!r} has levels that follow those of the fit, and depend on them. Dask collections "
                "are computed block by block, which see different levels: pass `X.compute()`."
            )
        return
    reasons = mixed_levels(traced.kernel, traced.hyperparameters, traced.inputs, call.model.names, argument)
    for name in (spec.output, *(site.name for site in held)):
        if name in reasons:
            raise ValueError(
                f"Argument {argument!r} has levels that were not there in `fit` ({n_known} were), and these may change "
                f"what is known of the others: site {name!r}: {reasons[name]}. List all levels in `column_args` with "
                "'categories', so that the fit knows of them."
            )


def _numbered(call: Any, argument: str, n_known: int) -> sampling.Levels:
    count = dict(call.traced.inputs.static)[f"n_{argument}"]
    labels = call.levels.get(argument)
    if labels is None:
        # The codes that the user passes are the labels.
        codes = np.arange(n_known, count, dtype=np.uint32)
        labels = np.stack([np.zeros_like(codes), codes], axis=1)
    if follows(call, argument):
        return sampling.Levels(n_known, labels, {}, follow=True)
    traced = call.traced
    reasons = mixed_levels(traced.kernel, traced.hyperparameters, traced.inputs, call.model.names, argument)
    return sampling.Levels(n_known, labels, reasons)


def follows(call: Any, argument: str) -> bool:
    """Whether new levels of an argument follow those of the fit in order."""
    return argument in open_arguments(call.model.column_args, "next")
