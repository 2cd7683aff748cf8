"""The sampler of nutpie behind the protocol."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from skaimz.inference.diagnostics import warn_of_stop
from skaimz.inference.extras import Engine, in_doubles, library, shapes_of
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.runtime import Purpose, compiled, shared

__all__ = ["Nutpie"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12
# Seconds between two reports of progress.
GLANCE = 0.25
# Arguments of `nutpie.sample` that are left to the user.
OPTIONS = frozenset(
    "check_turning cores early_window_switch_freq initial_step low_rank_modified_mass_matrix "
    "mass_matrix_eigval_cutoff mass_matrix_gamma mass_matrix_switch_freq max_energy_error maxdepth mindepth "
    "step_size_adapt_method step_size_jitter target_accept use_grad_based_mass_matrix window_switch_freq".split()
)
# nutpie's statistics of a step, by ArviZ's names.
STATISTICS = {
    "diverging": "diverging",
    "n_steps": "n_steps",
    "tree_depth": "depth",
    "acceptance_rate": "mean_tree_accept",
    "energy": "energy",
    "lp": "logp",
    "step_size": "step_size",
}


@dataclass(repr=False)
class Nutpie(Engine):
    """The No-U-Turn sampler of the library nutpie, which ``pip install 'skaimz[nutpie]'`` brings.

    Its steps and trees are computed outside of JAX, which computes the log density and its gradient. The mass matrix is
    adapted to draws and gradients, so that ``num_warmup`` can be short.

    Parameters
    ----------
    num_warmup : int, default=400
        Adaptation steps of each chain.
    num_samples : int, default=1000
        Draws of each chain after adaptation.
    num_chains : int, default=4
        Number of chains, of which as many run at a time as there are cores.
    options : dict, optional
        Arguments of ``nutpie.sample``, as in ``{"target_accept": 0.95, "low_rank_modified_mass_matrix": True}``.

    Notes
    -----
    Chains move in units of the posterior's curvature and start near its mode. If the curvature does not describe the
    posterior, they move in units of the prior's spread and start near the prior's median. nutpie keeps no state:
    ``sample_posterior`` starts chains where those of the fit ended, and adapts them again. Equal kernels share
    programs.

    Examples
    --------
    >>> from skaimz.inference import Nutpie
    >>> Nutpie(options={"target_accept": 0.95}, num_chains=2)
    Nutpie(options={'target_accept': 0.95}, num_chains=2)
    """

    num_warmup: int = 400
    num_samples: int = 1000
    num_chains: int = 4

    def check(self) -> None:
        """Check that settings can be used.

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        ImportError
            If nutpie is not installed.
        """
        self._check_engine(("num_warmup", "num_samples", "num_chains"), OPTIONS)
        library("nutpie", "nutpie", "Nutpie")

    def sample(self, posterior: Posterior, run: Run) -> Draws:
        """Draw from a posterior.

        Parameters
        ----------
        posterior : Posterior
        run : Run

        Returns
        -------
        Draws
        """
        num_samples = run.num_samples or self.num_samples
        begin, seed = posterior.begin, run.seed
        if run.state:
            seed = int(np.random.SeedSequence((run.seed, Purpose.FRESH_ENGINE_SEED)).generate_state(1)[0])

            def begin(number: int) -> np.ndarray:
                return run.state[0][number % len(run.state[0])]

        counts: list[list[int]] = []
        trace = self._run(_model(posterior, begin, counts), counts, seed, num_samples, run)
        positions = trace.posterior["position"].values
        statistics = {name: trace.sample_stats[theirs].values for name, theirs in STATISTICS.items()}
        # A chain that was stopped has NaN for its missing draws. Chains far behind the others waited for a core.
        n_drawn = np.isfinite(positions).all(axis=2).sum(axis=1)
        kept = (n_drawn > 0) & (2 * n_drawn >= n_drawn.max(initial=0))
        if not kept.any():
            raise RuntimeError(f"The fit stopped before a chain had a draw: {run.watch.stopped}. Allow more time.")
        n_draws = int(n_drawn[kept].min())
        warn_of_stop(n_draws, num_samples, run.watch.stopped)
        positions = positions[kept, :n_draws]
        statistics = {name: value[kept, :n_draws] for name, value in statistics.items()}
        return Draws(positions, statistics, (positions[:, -1],))

    def _run(self, model: Any, counts: list[list[int]], seed: int, num_samples: int, run: Run) -> Any:
        """Run chains in threads of nutpie, and report their progress."""
        sampler = library("nutpie", "nutpie", "Nutpie").sample(
            model,
            draws=num_samples,
            tune=self.num_warmup,
            chains=self.num_chains,
            seed=seed,
            progress_bar=False,
            save_warmup=False,
            blocking=False,
            **(self.options or {}),
        )
        try:
            with run.watch.phase("nutpie", (self.num_warmup + num_samples) * self.num_chains) as phase:
                while True:
                    trace = None
                    with contextlib.suppress(TimeoutError):
                        trace = sampler.wait(timeout=GLANCE)
                    phase.advance(sum(count for (count,) in counts) - phase.done)
                    if trace is None and run.watch.stopped:
                        trace = sampler.abort()
                    if trace is not None:
                        return trace
        except BaseException:
            sampler.cancel()
            raise


def _model(posterior: Posterior, begin: Callable[[int], np.ndarray], counts: list[list[int]]) -> Any:
    """Return a posterior as a model for nutpie, which counts the steps of each chain."""
    library("nutpie", "nutpie", "Nutpie")
    from nutpie.compiled_pyfunc import from_pyfunc

    program, data = _program(posterior.log_density, shapes_of(posterior.data)), posterior.data
    position = posterior.begin(0)
    doubles = in_doubles(position)
    # Chains that ask for a program at once would each compile it.
    program.lower(position, data).compile()

    def value_and_gradient(position: np.ndarray) -> tuple[float, np.ndarray]:
        with jax.enable_x64(doubles):  # the setting belongs to a thread
            value, gradient = program(position, data)
            return float(value), np.asarray(gradient, np.float64)

    def counted(*_: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        count = [0]
        counts.append(count)

        def expand(position: np.ndarray) -> dict[str, np.ndarray]:
            count[0] += 1
            return {"position": position}

        return expand

    return from_pyfunc(
        ndim=posterior.size,
        make_logp_fn=lambda: value_and_gradient,
        make_expand_fn=counted,
        expanded_dtypes=[np.dtype(np.float64)],
        expanded_shapes=[(posterior.size,)],
        expanded_names=["position"],
        # nutpie gives each chain a seed of its own, and no number.
        make_initial_point_fn=lambda number: np.asarray(begin(number), np.float64),
    )


@shared(maxsize=PROGRAMS_KEPT)
def _program(log_density: Callable, shapes: tuple) -> Any:
    """Make the program for one shape of data, so that a bound on the cache is a bound on compiled code."""
    return compiled(jax.value_and_grad(log_density))
