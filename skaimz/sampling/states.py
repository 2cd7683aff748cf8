"""Discrete latent sites of rows that cannot be summed out."""

from skaimz.exceptions import StateWarning, warn_user
from skaimz.sampling.job import Job
from skaimz.sampling.quantities import LogDensity, LogPredictive, Quantity

__all__ = ["warn_of_drawn_states"]


def warn_of_drawn_states(job: Job, quantity: Quantity) -> None:
    """Warn of discrete sites of rows whose states are drawn, although a quantity is meant to have none."""
    if not quantity.sums_states or not job.spec.by_state:
        return
    summed = {site.name for site in job.spec.summed} | job.settings.keys()
    of_draws = set() if isinstance(quantity, LogDensity | LogPredictive) else job.local.keys()
    drawn = [
        site.name
        for site in job.spec.discrete
        if site.row_axis is not None and site.name not in summed and site.name not in of_draws
    ]
    if drawn:
        warn_user(
            f"The discrete sites {drawn} are drawn instead of summed out, because the rows depend on one another, or "
            "a row has too many states, infinitely many, or an unknown number of them: results depend on the states "
            "that are drawn, and have a Monte Carlo error.",
            StateWarning,
        )
