"""Settings of inference, which are validated when a fit begins."""

import dataclasses
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpyro.infer
import numpyro.optim
from numpyro.infer import autoguide
from numpyro.infer.elbo import ELBO
from numpyro.infer.mcmc import MCMCKernel

from skaimz.inference.guides import GUIDES, blank_guide, check_kind, models_of
from skaimz.inference.parameters import Resumed, check_count
from skaimz.inference.recipes import stand_in
from skaimz.inference.samplers import SAMPLERS, check_number_of_chains, check_ready, own_model, with_model

__all__ = ["MCMC", "SVI", "Auto"]


class _Adam(numpyro.optim.Adam):
    """Adam with a short memory, which forgets steep first steps within tens of steps.

    A random start can be a million nats below the optimum. Adam divides by the root of a mean of squared gradients;
    with its customary memory of 1000 steps it would creep for most of a fit.
    """

    def __init__(self, step_size: Any):
        super().__init__(step_size, b2=0.95)


OPTIMISERS: dict[str, Callable] = {
    "adam": _Adam,
    "clipped_adam": numpyro.optim.ClippedAdam,
    "adagrad": numpyro.optim.Adagrad,
    "rmsprop": numpyro.optim.RMSProp,
    "sgd": numpyro.optim.SGD,
}
LOSSES: dict[str, type[ELBO]] = {
    "trace_elbo": numpyro.infer.Trace_ELBO,
    "trace_mean_field_elbo": numpyro.infer.TraceMeanField_ELBO,
    "trace_graph_elbo": numpyro.infer.TraceGraph_ELBO,
}
CHAIN_METHODS = ("auto", "parallel", "vectorized", "sequential")
# Options of a sampler whose numbers are in units of the kernel's own latent sites.
IN_OWN_UNITS = frozenset({"step_size", "inverse_mass_matrix", "init_strategy"})


@dataclass(repr=False)
class Auto(Resumed):
    """The cheapest of several methods that passes its own check.

    First, the posterior's mode and the curvature there give a normal approximation, whose draws are weighted by the
    posterior (Pareto-smoothed importance sampling, Vehtari et al., JMLR 25(72), 2024). Where the weights are too
    uneven, the approximation is improved by variational inference with a full covariance matrix and checked in the
    same way. If that is not enough, Markov chains (NUTS) start from there. If these diverge or disagree, longer chains
    take smaller steps. ``fit_result_.diagnostics["rungs"]`` describes each method that was tried.

    Nothing depends on the units of X, y or the priors. All is computed in double precision, whatever the data's.
    Kernels with ``numpyro.param``, or without latent sites, are fitted by SVI.

    Parameters
    ----------
    num_samples : int, default=1000
        Number of posterior draws; for Markov chains, of each chain.
    num_chains : int, default=4
        Number of Markov chains, if they are needed.
    callback : callable, optional
        Called with a :class:`skaimz.inference.Progress` after each chunk of steps, about four times a second. If it
        returns True, the fit stops and keeps what it has.
    time_budget : float, optional
        Seconds after which a fit by SVI or MCMC stops, and keeps what it has.
    checkpoint_dir : path-like, optional
        A folder for the state of variational fits and chains, as in :class:`SVI` and :class:`MCMC`.

    Examples
    --------
    >>> from skaimz.inference import Auto
    >>> Auto(num_samples=2000)
    Auto(num_samples=2000)
    """

    num_samples: int = 1000
    num_chains: int = 4

    def checked(self) -> "Auto":
        """Return these settings.

        Returns
        -------
        Auto

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        """
        check_count(self, "num_samples", "num_chains")
        self._check_watched()
        return dataclasses.replace(self)


@dataclass(repr=False)
class SVI(Resumed):
    """Stochastic variational inference.

    Parameters
    ----------
    guide : str, type, AutoGuide or callable, default="auto_normal"
        The variational family: a name (``"auto_normal"``, ``"auto_diagonal_normal"``, ``"auto_multivariate_normal"``,
        ``"auto_lowrank"``, ``"auto_laplace"``, ``"auto_delta"``, ``"auto_iaf"``, ``"auto_bnaf"``), a NumPyro
        autoguide class, an autoguide object of the kernel, which is read as a recipe, or a guide function with the
        kernel's arguments. Such a function is drawn from with all rows; where they are read a part at a time, with the
        first minibatch, and after ``partial_fit`` with the last. Autoguides that look at all rows when they are drawn
        from, as ``"auto_laplace"`` does for the curvature, are refused there. Latent sites that a guide function, an
        ``AutoGuideList`` or the blocks around an autoguide's model (``handlers.block``) leave out are drawn from their
        priors given the others, as NumPyro's losses do.
    optim : str or optimiser, default="adam"
        A name (``"adam"``, here with ``b2=0.95``, ``"clipped_adam"``, ``"adagrad"``, ``"rmsprop"``, ``"sgd"``), or a
        NumPyro or optax optimiser, which then has its own learning rate.
    learning_rate : float, default=0.05
        Step size of an optimiser given by name. It falls along half a cosine to a hundredth of this value over a fit,
        so that the guide settles. Changing it compiles nothing.
    loss : str or ELBO, default="trace_elbo"
        ``"trace_elbo"``, ``"trace_mean_field_elbo"``, ``"trace_graph_elbo"``, or a NumPyro loss.
    num_steps : int, default=10000
        Number of optimiser steps; with ``init_params`` it may be 0, for the guide as it is. Changing it
        compiles nothing.
    batch_size : int, optional
        Rows of a minibatch; all rows where None. Each epoch visits the rows in a new random order, and the
        log-likelihood of a batch is scaled to all rows. More than 262,144 rows are cut into blocks of 8192: an epoch
        permutes the blocks, and then the rows within each window of 32 blocks. Rows that are not in memory are read
        in such windows, of which about three are in memory at a time. The fit is the same as with all rows in memory.
    num_epochs : int, optional
        Passes over the rows; if set, it replaces ``num_steps``.
    num_samples : int, default=1000
        Posterior draws to take from the fitted guide.
    total_rows : int, optional
        Number of rows to which ``partial_fit`` scales the log-likelihood of its batches. By default the number of rows
        so far, which is right if every row is passed once.
    init_params : dict, optional
        Parameters of the guide and the kernel to start from, in the kernel's own units, such as ``result.params`` of
        NumPyro's ``SVI.run``. The others start where the guide says. It needs a guide object or function, because the
        parameters of a guide that is named are in units of the posterior.
    early_stopping : bool, default=False
        Stop as soon as the guide has settled; ``num_steps`` is then the most that are taken. The guide is looked at
        after an eighth, a quarter and half of them, with the learning rate falling anew before each look, and has
        settled where its draws moved by less than a tenth of their standard deviation since the look before.
    callback : callable, optional
        Called with a :class:`skaimz.inference.Progress` after each chunk of steps. If it returns True, the fit stops,
        keeps what it has, and warns with ``StoppedFitWarning``.
    time_budget : float, optional
        Seconds after which the fit stops in the same way.
    checkpoint_dir : path-like, optional
        A folder in which the state of the fit is saved, once a second at most. Call ``fit`` again with the same data,
        parameters and integer ``random_state``, in a new process if need be, and it goes on from there to the same
        draws, whether it was killed or stopped. Each fit has its own subfolder, which is deleted when the fit
        is complete, so that the fits of a search can share one folder.

    Examples
    --------
    >>> from skaimz.inference import SVI
    >>> SVI(guide="auto_multivariate_normal", num_steps=500).get_params()["num_steps"]
    500
    """

    guide: Any = "auto_normal"
    optim: Any = "adam"
    learning_rate: float = 0.05
    loss: Any = "trace_elbo"
    num_steps: int = 10_000
    batch_size: int | None = None
    num_epochs: int | None = None
    num_samples: int = 1000
    total_rows: int | None = None
    init_params: Any = None
    early_stopping: bool = False

    def checked(self) -> "SVI":
        """Return these settings with names replaced by what they stand for.

        Returns
        -------
        SVI

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        """
        check_count(self, "num_samples")
        check_count(self, "num_steps", least=1 if self.init_params is None else 0)
        self._check_watched()
        check_count(self, "batch_size", "num_epochs", "total_rows", optional=True)
        if not isinstance(self.early_stopping, bool | np.bool_):
            raise TypeError(f"SVI: `early_stopping` must be True or False, got {self.early_stopping!r}.")
        rate = self.learning_rate
        if not isinstance(rate, numbers.Real) or isinstance(rate, bool) or not 0 < rate < float("inf"):
            raise ValueError(f"SVI: `learning_rate` must be a positive finite number, got {rate!r}.")
        guide = _named(self, "guide", GUIDES)
        check_kind(guide)
        own_models = models_of(guide)
        if isinstance(guide, autoguide.AutoGuide):
            guide = blank_guide(guide)
        init_params = _start_values(self)
        if init_params is not None and isinstance(guide, type):
            raise ValueError(
                f"SVI: `init_params` needs a guide object or function, such as `{guide.__name__}(kernel)`: the "
                f"parameters of the guide {self.guide!r} are in units of the posterior."
            )
        optim = _named(self, "optim", OPTIMISERS)
        if optim is self.optim:
            # NumPyro checks the optimiser and wraps optax's; the model and the guide are not looked at here.
            optim = numpyro.infer.SVI(stand_in, stand_in, optim, numpyro.infer.Trace_ELBO()).optim
        loss = _named(self, "loss", LOSSES)
        loss = loss() if isinstance(loss, type) else loss
        if not isinstance(loss, ELBO):
            raise TypeError(f"SVI: `loss` must be a name or a NumPyro ELBO, got {loss!r}.")
        checked = dataclasses.replace(
            self, guide=guide, optim=optim, loss=loss, learning_rate=float(rate), init_params=init_params
        )
        return checked._holding(own_models, self)


@dataclass(repr=False)
class MCMC(Resumed):
    """Markov chain Monte Carlo.

    Parameters
    ----------
    sampler : str or MCMCKernel, default="nuts"
        ``"nuts"``, ``"hmc"``, ``"sa"``, ``"barker"``, ``"aies"``, ``"ess"``, or a sampler of NumPyro's of the kernel,
        which is read as a recipe: ``HMCGibbs``, ``DiscreteHMCGibbs`` and ``MixedHMC`` sample discrete latent sites, and
        ``HMCECS`` those of a kernel that draws minibatches. A Gibbs update that reads data from its closure reads the
        same data in every fit. A sampler given by name moves in units of the posterior's curvature and starts near its
        mode, or in units of the prior's spread near the prior's median if the curvature does not describe the
        posterior. A ready sampler moves in the units of the kernel, and so does a sampler with a ``step_size``,
        ``inverse_mass_matrix`` or ``init_strategy`` in its options.
    num_warmup : int, default=1000
        Adaptation steps of each chain.
    num_samples : int, default=1000
        Steps of each chain after adaptation.
    num_chains : int, default=4
        Number of chains.
    thinning : int, default=1
        Keep one step in this many; ``num_samples // thinning`` draws remain a chain.
    chain_method : {"auto", "parallel", "vectorized", "sequential"}, default="auto"
        Run a program of one chain on all cores and devices at a time ("parallel"), one program of all chains
        ("vectorized"), or chains one after the other; "parallel" and "sequential" give the same draws. "auto" is
        "parallel" on processors, and one program on each accelerator. Ensembles (``"aies"``, ``"ess"``) are always one.
    sampler_options : dict, optional
        Arguments of the sampler named by ``sampler``, as in ``{"target_accept_prob": 0.95, "dense_mass": True}``.
    init_params : dict, optional
        Values of the latent sites where chains begin, as for NumPyro's ``MCMC.run``: on unconstrained space for
        continuous sites, and with a leading axis for chains if there are several.
    callback : callable, optional
        Called with a :class:`skaimz.inference.Progress` after each chunk of steps. If it returns True, the fit stops,
        keeps what it has, and warns with ``StoppedFitWarning``.
    time_budget : float, optional
        Seconds after which the fit stops in the same way.
    checkpoint_dir : path-like, optional
        A folder in which the states and draws of the chains are saved, once a second at most. Call ``fit`` again with
        the same data, parameters and integer ``random_state``, in a new process if need be, and the chains go on to the
        same draws, whether they were killed or stopped. Each fit has its own subfolder, which is deleted when the
        fit is complete, so that the fits of a search can share one folder.

    Examples
    --------
    >>> from skaimz.inference import MCMC
    >>> MCMC(num_chains=2, sampler_options={"target_accept_prob": 0.95}).num_chains
    2
    """

    sampler: Any = "nuts"
    num_warmup: int = 1000
    num_samples: int = 1000
    num_chains: int = 4
    thinning: int = 1
    chain_method: str = "auto"
    sampler_options: dict[str, Any] | None = None
    init_params: Any = None

    def checked(self) -> "MCMC":
        """Return these settings with the sampler made for a model that does nothing.

        Returns
        -------
        MCMC

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        """
        check_count(self, "num_samples", "num_chains", "thinning")
        self._check_watched()
        check_count(self, "num_warmup", least=0)
        if self.chain_method not in CHAIN_METHODS:
            raise ValueError(f"MCMC: `chain_method` must be one of {CHAIN_METHODS}, got {self.chain_method!r}.")
        if self.thinning > self.num_samples:
            raise ValueError(f"MCMC: `thinning`={self.thinning} leaves no draw of `num_samples`={self.num_samples}.")
        sampler = _named(self, "sampler", SAMPLERS)
        if isinstance(sampler, type):
            try:
                sampler = sampler(stand_in, **(self.sampler_options or {}))
            except TypeError as error:
                raise TypeError(f"MCMC: `sampler_options` does not fit {self.sampler!r}: {error}.") from error
            options = dict(self.sampler_options or {})
        elif not isinstance(sampler, MCMCKernel):
            raise TypeError(
                f"MCMC: `sampler` must be one of {sorted(SAMPLERS)} or a sampler of NumPyro's, got {sampler!r}."
            )
        elif self.sampler_options is not None:
            raise ValueError("MCMC: give `sampler_options` with a sampler's name, not with a ready sampler.")
        else:
            options = None
            check_ready(sampler, self.num_chains)
        check_number_of_chains(sampler, self.num_chains)
        # A sampler that has run holds compiled programs, which are no settings.
        blank = with_model(sampler, stand_in)
        checked = dataclasses.replace(self, sampler=blank, sampler_options=options, init_params=_start_values(self))
        return checked._holding([(f"The sampler {type(sampler).__name__}", own_model(sampler))], self)

    @property
    def moves_in_own_units(self) -> bool:
        """Whether chains of checked settings move in the units of the kernel's latent sites."""
        return self.sampler_options is None or bool(IN_OWN_UNITS & self.sampler_options.keys())


def _named(settings: Any, name: str, table: dict[str, Any]) -> Any:
    value = getattr(settings, name)
    if not isinstance(value, str):
        return value
    if value not in table:
        raise ValueError(f"{type(settings).__name__}: `{name}` must be one of {sorted(table)}, got {value!r}.")
    return table[value]


def _start_values(settings: Any) -> dict[str, Any] | None:
    """Return the checked ``init_params`` of settings, as arrays of the host."""
    values = settings.init_params
    if values is None:
        return None
    if not isinstance(values, Mapping) or not values:
        raise TypeError(
            f"{type(settings).__name__}: `init_params` must be a dictionary of names and arrays, got {values!r}."
        )
    if isinstance(settings, MCMC):
        return {str(name): np.asarray(value) for name, value in values.items()}

    def is_array(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(each, numbers.Real) for each in value)

    # The parameters of a network are nested.
    return {str(name): jax.tree.map(np.asarray, value, is_leaf=is_array) for name, value in values.items()}
