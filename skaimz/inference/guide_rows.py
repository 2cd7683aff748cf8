"""The rows that a guide is fitted to: which it refuses, and the units that it gets from them."""

import dataclasses

import jax

from skaimz.exceptions import LocalGuideWarning, warn_user
from skaimz.inference.data import RowBlocks, Units, bucket, in_double
from skaimz.inference.explore import explore, some_rows
from skaimz.inference.guides import CORRELATED, is_autoguide, kind_of, needs_data
from skaimz.inference.prior import refuse_outside, start_of
from skaimz.inference.problem import Problem
from skaimz.inference.settings import SVI

__all__ = ["check_guide_of_windows", "check_minibatches", "check_stream", "refuse_rows", "units_of"]

# Where nothing is known of the curvature, a guide starts with this share of the prior's spread.
FIRST_SPREAD = 0.1
# Rows of a block whose outcomes are looked at together after a step that was not finite.
CHECKED_ROWS = 2**14


def units_of(problem: Problem, settings: SVI, scale: float = 1.0) -> Units | None:
    """Return the units of a guide given by name; None for a guide object, whose numbers are its author's.

    A fit in minibatches looks at some of the rows, weighted to stand for all; they are the same rows whether all are in
    memory or not.
    """
    guide, spec, batch_size = settings.guide, problem.traced.spec, settings.batch_size
    by_row = any(site.row_axis is not None for site in spec.latents)
    in_minibatches = batch_size is not None or problem.traced.subsampling
    if not isinstance(guide, type) or not spec.latents or (in_minibatches and by_row):
        return None
    problem = dataclasses.replace(problem, traced=problem.traced.with_all_rows())
    explored = problem.of(some_rows(problem, least=batch_size, scale=scale)) if batch_size else problem.padded()
    try:
        if spec.has_networks:
            # The curvature is that of a network with random weights.
            with jax.enable_x64(True):
                start = start_of(explored)
            return Units(start.target.unpack(start.middle), start.scale)
        exploration = explore(explored, only_mode=False)
    except ValueError:
        if batch_size is not None:
            refuse_rows(problem)  # by their numbers
        raise
    units = exploration.units(dense=issubclass(guide, CORRELATED))
    if not exploration.knows_curvature:
        # The prior's spread is far wider than a posterior's.
        units = units._replace(root=FIRST_SPREAD * units.root)
    return units


def refuse_rows(problem: Problem) -> None:
    """Refuse rows whose outcomes no latent site allows, as the cause of steps that were not finite."""
    problem = problem.of(problem.data._replace(units=None))
    traced, n_rows = problem.traced, problem.n_rows
    if traced.spec.can_be_padded:
        blocks = RowBlocks(traced, problem.data, n_rows, min(bucket(n_rows), CHECKED_ROWS))
        refuse_outside(traced, blocks, problem.seed)
    else:
        refuse_outside(traced, [in_double(problem.padded().data)], problem.seed)


def check_minibatches(problem: Problem, settings: SVI) -> None:
    """Refuse minibatches of rows that depend on one another, and warn of guides with parameters for each row."""
    spec, n_rows = problem.traced.spec, problem.n_rows
    if settings.batch_size > n_rows:  # type: ignore[operator]
        raise ValueError(f"SVI: `batch_size`={settings.batch_size} exceeds the number of rows, {n_rows}.")
    if spec.minibatch_mixing is not None:
        raise ValueError(
            "SVI: `batch_size` needs a kernel whose log density is a sum over rows, but "
            f"{spec.minibatch_mixing}. Set `batch_size=None`."
        )
    local = [site.name for site in spec.local_latents]
    if local and is_autoguide(settings.guide):
        warn_user(
            f"Latent sites {local} have an entry for each row, and the guide has parameters for each entry: with "
            "`batch_size` they are fitted to whatever rows share a place in the batch. Write a guide function that "
            "computes them from the data, or set `batch_size=None`.",
            LocalGuideWarning,
        )


def check_stream(problem: Problem, settings: SVI) -> None:
    """Refuse fits that cannot read their rows in windows."""
    if problem.n_rows >= 2**32:
        raise ValueError(
            f"A fit takes fewer than 2**32 rows, got {problem.n_rows}: give `partial_fit` some of them at a time."
        )
    sites = problem.traced.spec.every_site
    by_row = [site.name for site in sites if site.kind in ("latent", "param") and site.row_axis is not None]
    if by_row:
        raise ValueError(
            f"Sites {by_row} have an entry for each row, which needs all rows at once, but these are read a part at a "
            "time. Load them into memory, or sum the sites out in the kernel."
        )
    check_guide_of_windows(settings)


def check_guide_of_windows(settings: SVI) -> None:
    """Refuse guides whose draws need all rows."""
    if is_autoguide(settings.guide) and needs_data(settings.guide):
        raise ValueError(
            f"The guide {kind_of(settings.guide).__name__} looks at all rows when it is drawn from, but these are read "
            "a part at a time. Load them into memory, or use another guide, such as 'auto_multivariate_normal'."
        )
