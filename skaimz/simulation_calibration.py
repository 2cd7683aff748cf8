"""Whether a kernel's inference finds what the kernel itself made: simulation-based calibration."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from skaimz.checks import rank_of_first, uniformity
from skaimz.estimators import ImpactEstimator, Model, TrainingData, check_count, fit_kernel, read
from skaimz.exceptions import FitWarning
from skaimz.runtime import Purpose, generator_of

__all__ = ["CalibrationResult", "simulation_based_calibration"]

CHECKS = ("r_hat", "ess", "divergences", "guide", "importance")
LOG_LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True, repr=False)
class CalibrationResult:
    """Ranks of true values among posterior draws.

    Attributes
    ----------
    ranks : dict of str to array of int of shape (n_replications,)
        For each scalar quantity the number of posterior draws, 0 to ``n_draws``, below the true value.
    n_draws : int
        Posterior draws that the true value is ranked among.
    bad_fits : dict of str to int
        In how many replications each check of the fit was bad; see ``diagnose``.
    """

    ranks: dict[str, np.ndarray]
    n_draws: int
    bad_fits: dict[str, int]

    @property
    def n_replications(self) -> int:
        """Number of simulated outcomes."""
        return len(next(iter(self.ranks.values())))

    def p_values(self, bins: int | None = None) -> pd.Series:
        """Test for each quantity whether its ranks are uniform.

        Parameters
        ----------
        bins : int, optional
            Number of bins of Pearson's chi-square test, at most ``n_draws + 1``. Where None, so many that each expects
            ten replications, but between 2 and 20.

        Returns
        -------
        pandas.Series
            p-values by quantity. Of many quantities a few are small by chance.

        Raises
        ------
        ValueError
            If ``bins`` cannot be used.
        """
        bins = min(max(2, self.n_replications // 10), 20, self.n_draws + 1) if bins is None else bins
        if not 2 <= check_count("bins", bins) <= self.n_draws + 1:
            raise ValueError(f"`bins` must lie between 2 and the number of ranks, {self.n_draws + 1}, got {bins}.")
        found = {name: uniformity(ranks, self.n_draws, bins) for name, ranks in self.ranks.items()}
        return pd.Series(found, name="p_value", dtype=float)

    def summary(self, bins: int | None = None) -> pd.DataFrame:
        """Describe the ranks of each quantity.

        Parameters
        ----------
        bins : int, optional
            As in :meth:`p_values`.

        Returns
        -------
        pandas.DataFrame
            With a row for each quantity: ``mean`` rank over ``n_draws`` (1/2 if calibrated; more where posteriors lie
            too low), ``spread``, the standard deviation of the ranks over that of uniform ones (1 if calibrated; more
            where posteriors are too narrow, less where they are too wide), and ``p_value``.
        """
        uniform = np.sqrt(((self.n_draws + 1) ** 2 - 1) / 12)
        table = pd.DataFrame(
            {
                "mean": {name: ranks.mean() / self.n_draws for name, ranks in self.ranks.items()},
                "spread": {name: ranks.std() / uniform for name, ranks in self.ranks.items()},
                "p_value": self.p_values(bins),
            }
        )
        return table.rename_axis("quantity")

    def __repr__(self) -> str:
        bad = ", ".join(f"{check} in {count}" for check, count in self.bad_fits.items() if count)
        head = f"Ranks among {self.n_draws} draws in {self.n_replications} replications"
        return f"{head}{f'; bad fits: {bad}' if bad else ''}\n{self.summary().round(3).to_string()}"


def simulation_based_calibration(
    estimator: Any,
    X: Any,
    *,
    num_replications: int = 100,
    num_draws: int = 99,
    n_jobs: int | None = None,
    random_state: Any = None,
    progress: bool | None = None,
    **arrays: Any,
) -> CalibrationResult:
    """Check an inference against outcomes that its own kernel made.

    Latent sites and outcomes are drawn together from the kernel's prior. The estimator is fitted to each of the drawn
    outcomes, and each latent's true value is ranked among the posterior draws. Where the inference is exact, all ranks
    are equally probable, whatever the kernel: ranks that pile up at both ends tell of posteriors that are too narrow,
    in the middle of such that are too wide, at one end of such that lie beside the truth.

    Parameters
    ----------
    estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
        With the kernel and the inference to check; left as it is. It need not be fitted, unless its kernel is the
        default one: that has no prior before it is scaled to data, so the fitted ``kernel_``, with the scales of the
        fit, is the kernel of all replications.
    X : array-like of shape (n_rows, n_features)
        Rows to draw outcomes for.
    num_replications : int, default=100
        Outcomes to draw, each of which is fitted.
    num_draws : int, default=99
        Posterior draws to rank each true value among, taken at equal distances from all draws of a fit. They should be
        nearly independent, which for MCMC asks for many more draws than these: correlated ones look as if posteriors
        were too narrow.
    n_jobs : int, optional
        Replications that joblib runs side by side, as everywhere in scikit-learn. It changes no rank.
    random_state : int, RandomState, JAX key or None, default=None
        Seed of the prior draws and the fits; that of the estimator where None.
    progress : bool, optional
        Show a progress bar of the replications that have been started; where None, if the estimator's ``verbose`` is
        positive.
    **arrays : array or scalar
        The kernel's further arguments.

    Returns
    -------
    CalibrationResult
        With the ranks of every element of every latent site, named as in ``"coef[0]"``, and of ``"log_likelihood"``,
        the joint log density of the outcome, which finds inferences that ignore a part of the data.

    Raises
    ------
    TypeError
        If the estimator is not one of this package.
    ValueError
        If there is nothing to fit or to rank, a prior cannot be drawn from, or a fit leaves too few draws.

    Notes
    -----
    Ties, as of discrete latent sites, are broken at random. Warnings of single fits are not shown: ``bad_fits`` counts
    them. The chi-square tests of ``p_values`` assume nothing but independent replications.

    References
    ----------
    S. Talts, M. Betancourt, D. Simpson, A. Vehtari and A. Gelman (2018), Validating Bayesian inference algorithms with
    simulation-based calibration, arXiv:1804.06788.

    M. Modrák, A. H. Moon, S. Kim, P. Bürkner, N. Huurre, K. Faltejsková, A. Gelman and A. Vehtari (2023),
    Simulation-based calibration checking for Bayesian computation: the choice of test quantities shapes sensitivity,
    Bayesian Analysis.

    Examples
    --------
    >>> import numpy as np
    >>> import numpyro
    >>> import numpyro.distributions as dist
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.simulation_calibration import simulation_based_calibration
    >>> from skaimz.inference import SVI
    >>> def kernel(X, y=None):
    ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    ...     with numpyro.plate("rows", X.shape[0]):
    ...         numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)
    >>> settings = SVI(num_steps=500, num_samples=99)  # one normal latent site: the guide can be exact
    >>> model = NumPyroImpactRegressor(kernel, inference=settings, random_state=0)
    >>> X = np.linspace(-1.0, 1.0, 8)[:, None]
    >>> result = simulation_based_calibration(model, X, num_replications=40)
    >>> bool(result.p_values()["slope"] > 0.01)
    True
    """
    model = _model_of(estimator)
    shown = estimator.verbose > 0 if progress is None else progress
    model.set_params(verbose=0)
    num_replications = check_count("num_replications", num_replications)
    num_draws = check_count("num_draws", num_draws)
    fitted, unfitted = Model.of(estimator), Model.of(model)
    arrays = {**fitted.outcome.extra_arguments(model.kernel), **arrays}
    spec = read(unfitted, X, arrays, prior=True).spec
    names = [site.name for site in spec.prior_sites if site not in spec.summed]
    if not names:
        raise ValueError("The kernel has no latent sites, so that there is nothing to infer.")
    seeds = np.random.SeedSequence(unfitted.seed_of(random_state)).generate_state(1 + num_replications).tolist()
    drawn = model.sample_prior_predictive_on_batch(
        X, num_samples=num_replications, return_datatree=False, random_state=seeds[0], **arrays
    )
    output = spec[spec.output]
    outcomes = np.moveaxis(drawn[spec.output][0], 1 + (output.row_axis or 0), 1)
    classes: Any = None
    if is_classifier(model):
        codes = np.arange(output.n_classes or 2)
        classes = [codes] * output.event_shape[0] if output.event_shape else codes
    truths = [{name: drawn[name][0, number] for name in names} for number in range(num_replications)]
    design = _Design(model, X, arrays, classes, num_draws)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        found = Parallel(n_jobs=n_jobs)(
            delayed(_replicate)(design, y, truth, seed)
            for y, truth, seed in tqdm(
                zip(outcomes, truths, seeds[1:], strict=True), total=num_replications, disable=not shown
            )
        )
    ranks = {name: np.stack([one[name] for one, _ in found]) for name in found[0][0]}
    bad = {check: sum(check in bad for _, bad in found) for check in CHECKS}
    return CalibrationResult(_by_scalar(ranks), num_draws, bad)


def _model_of(estimator: Any) -> Any:
    """Return an unfitted copy of an estimator, with a kernel whose prior does not depend on the outcomes."""
    if not isinstance(estimator, ImpactEstimator):
        raise TypeError(
            f"`estimator` must be a NumPyroImpactRegressor or a NumPyroImpactClassifier, got {estimator!r}."
        )
    if estimator.posterior is not None:
        raise ValueError("Calibration fits anew, and cannot where draws are given as `posterior`.")
    model = clone(estimator)
    if estimator.kernel is None:
        if not hasattr(estimator, "kernel_"):
            raise ValueError("The default kernel is scaled to its training data: call `fit` before its calibration.")
        model.set_params(kernel=estimator.kernel_)
    return model


@dataclass(frozen=True)
class _Design:
    """What all replications share: an unfitted estimator, the rows, and how many draws are ranked."""

    model: Any
    X: Any
    arrays: Mapping[str, Any]
    classes: Any
    num_draws: int


def _replicate(
    design: _Design, y: np.ndarray, truth: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, np.ndarray], set[str]]:
    """Fit one simulated outcome; return the ranks of the truth by site, and the checks of the fit that were bad."""
    X, arrays, num_draws = design.X, design.arrays, design.num_draws
    model = clone(design.model).set_params(random_state=seed)
    if design.classes is None:
        model.fit(X, y, **arrays)
    else:  # labels that are drawn need not have all classes
        fit_kernel(model, TrainingData(X, y, None, dict(arrays)), classes=design.classes)
    verdicts = model.diagnose(X, checks=CHECKS, **arrays)["verdict"]
    together = {}
    for name, value in truth.items():
        draws = model.posterior_[name]
        draws = draws.reshape(-1, *draws.shape[2:])
        if len(draws) < num_draws:
            raise ValueError(
                f"A fit leaves {len(draws)} posterior draws, fewer than `num_draws`={num_draws}: raise the inference's "
                "`num_samples`."
            )
        chosen = np.linspace(0, len(draws) - 1, num_draws).round().astype(int)
        together[name] = np.concatenate([value[None], draws[chosen]])
    # The truth is one more draw, so that one program gives the densities of all.
    model.set_posterior_sample(together)
    density = model.log_likelihood_on_batch(X, y, return_datatree=False, **arrays)
    (density,) = density.values()
    together[LOG_LIKELIHOOD] = density.reshape(1 + num_draws, -1).sum(axis=1)
    missing = [name for name, values in together.items() if np.isnan(values).any()]
    if missing:
        raise ValueError(
            f"Posterior draws, or their log density, hold NaN in {missing}, which has no rank. Check the kernel for "
            "overflow on outcomes that are drawn from its prior."
        )
    rng = generator_of(seed, Purpose.BROKEN_TIES)
    ranks = {name: rank_of_first(values, rng) for name, values in together.items()}
    return ranks, {check for check, verdict in verdicts.items() if verdict == "bad"}


def _by_scalar(ranks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give each element of each site a name."""
    found = {}
    for name, array in ranks.items():
        for place in np.ndindex(array.shape[1:]):
            found[f"{name}[{', '.join(map(str, place))}]" if place else name] = array[(slice(None), *place)]
    return found
