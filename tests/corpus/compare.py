"""Comparison of a fitted estimator with NumPyro's own runs of the same model on the same data."""

import functools
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from corpus.case import Case
from corpus.numpyro_runs import (
    Reference,
    conditional_means,
    hidden_sites,
    log_likelihood,
    means_given,
    outcomes,
    parameter_names,
    reference,
    totals,
)
from numpyro import handlers
from numpyro.diagnostics import effective_sample_size
from numpyro.infer.autoguide import AutoGuide

import skaimz

__all__ = ["Finding", "examine"]

# Standard errors that two estimates of the same number stay within.
WITHIN = 5.0
# Relative difference of numbers that are computed twice from the same draws, in single and double precision.
SAME = 1e-4
# How near an optimiser comes to its optimum, relative to a number of the size of 1 or larger.
OPTIMUM = 1e-3
# Draws whose log likelihoods are compared.
COMPARED_DRAWS = 40
PACKAGE = Path(skaimz.__file__).parent


@dataclass(frozen=True)
class Finding:
    """What was measured.

    Attributes
    ----------
    verdict : {"works", "refused", "fails", "differs"}
        Refused is what an error of skaimz's own says; any other error is a failure.
    why : str
        The error's message, or the first difference.
    compared : tuple of str
        What was compared.
    warned : tuple of str
        Classes of skaimz's warnings.
    """

    verdict: str
    why: str = ""
    compared: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    def agrees_with(self, case: Case) -> bool:
        """Whether this is what the case states."""
        return self.verdict == ("works" if case.refused is None else "refused")


@dataclass(frozen=True)
class _Fitted:
    """A fitted estimator with the data of its case, for NumPyro and for skaimz."""

    case: Case
    model: Any
    X: Any
    y: Any
    further: Mapping[str, Any]

    def arguments(self, y: Any) -> dict[str, Any]:
        """Return the kernel's arguments as the case gives them."""
        return _arguments(self.case, self.X, y, self.further)

    @property
    def kernel(self) -> Any:
        """The kernel that NumPyro predicts with."""
        return self.case.kernel_of_all_rows or self.case.kernel

    @property
    def spec(self) -> Any:
        return self.model.kernel_spec_

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The values of the kernel's own parameters and states."""
        one_draw = {name: jnp.asarray(draw[0]) for name, draw in self.draws(local=True).items()}
        own = parameter_names(self.case.kernel, one_draw, self.arguments(self.y))
        return {name: value for name, value in self.model.fit_result_.params.items() if name in own}

    def draws(self, *, local: bool) -> dict[str, np.ndarray]:
        """Return all draws on one axis, those of sites with an entry for each row only where asked for."""
        left_out = set() if local else {site.name for site in self.spec.local_latents}
        flat = {name: draw.reshape(-1, *draw.shape[2:]) for name, draw in self.model.posterior_.items()}
        return {name: draw for name, draw in flat.items() if name not in left_out}

    def by_row(self, drawn: np.ndarray) -> np.ndarray:
        """Return draws of the output with the rows on the second axis, which one draw for all rows lacks in NumPyro."""
        output = self.spec[self.spec.output]
        if drawn.ndim == len(output.shape):
            return np.repeat(drawn[:, None], len(self.X), axis=1)
        return np.moveaxis(drawn, 1 + output.row_axis, 1)

    def encodes_rows(self) -> bool:
        """Whether the guide of the case is a function that draws latent sites of rows from their inputs alone."""
        guide = getattr(self.case.inference(), "guide", None)
        if guide is None or isinstance(guide, AutoGuide) or not self.spec.local_latents:
            return False
        try:
            handlers.seed(handlers.substitute(guide, data=self.model.fit_result_.params), 0)(**self.arguments(None))
        except Exception:
            return False  # it needs the outcome
        return True

    def with_states(self, draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return draws with those of discrete sites that the case adds."""
        case = self.case
        return draws if case.states is None else {**draws, **case.states(draws, self.arguments(None))}


def examine(case: Case) -> Finding:
    """Fit a case by NumPyro and by skaimz, and compare."""
    with jax.enable_x64(True):
        X, y, further = case.data()
    single = case.settings.get("dtype") == "float32" or np.asarray(X).dtype == np.float32
    with jax.enable_x64(not single), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            by_numpyro = reference(case.kernel, case.inference, _arguments(case, X, y, further))
        except Exception as error:
            return Finding("fails", f"NumPyro: {_message(error)}")
        done: list[str] = []
        try:
            model = case.model().fit(X, y, **further)
            fitted = _Fitted(case, model, X, y, {**further, **case.at_prediction})
            if by_numpyro is None:
                return Finding("fails", "There is no reference for this kind of inference.")
            for quantity, difference in _differences(fitted, by_numpyro):
                if difference:
                    return Finding("differs", f"{quantity}: {difference}", tuple(done), _warned(caught))
                done.append(quantity)
        except Exception as error:
            verdict = "refused" if _raised_by_skaimz(error) else "fails"
            return Finding(verdict, _message(error), tuple(done), _warned(caught))
    return Finding("works", "", tuple(done), _warned(caught))


def _arguments(case: Case, X: Any, y: Any, further: Mapping[str, Any]) -> dict[str, Any]:
    param_input, param_output = case.names
    return {param_input: X, param_output: y, **further}


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def _raised_by_skaimz(error: Exception) -> bool:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return isinstance(error, ValueError | TypeError | ImportError) and Path(last.filename).is_relative_to(PACKAGE)


def _warned(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    ours = (each.category for each in caught if each.category.__module__.startswith("skaimz"))
    return tuple(dict.fromkeys(category.__name__ for category in ours))


def _differences(fitted: _Fitted, by_numpyro: Reference) -> Iterator[tuple[str, str]]:
    """Yield the name of each quantity with a description of how it differs, which is empty where it does not."""
    yield "sites", _of_sites(fitted, by_numpyro)
    yield "posterior means", _of_means(fitted, by_numpyro)
    if by_numpyro.losses:
        yield "loss", _of_losses(fitted, by_numpyro)
    yield "log likelihood", _of_log_likelihood(fitted)
    yield "predictions", _of_predictions(fitted)
    if fitted.spec.local_latents:
        yield "predictions in sample", _of_predictions_in_sample(fitted)


def _of_sites(fitted: _Fitted, by_numpyro: Reference) -> str:
    """NumPyro's draws have deterministic sites as well."""
    own, theirs = set(fitted.model.posterior_), set(by_numpyro.runs[0])
    deterministic = {site.name for site in fitted.spec.sites if site.kind == "deterministic"}
    missing = (theirs & {site.name for site in fitted.spec.latents}) - own
    unknown = theirs - own - deterministic - {site.name for site in fitted.spec.sites}
    return f"draws of {sorted(missing | unknown)} are missing" if missing | unknown else ""


def _of_means(fitted: _Fitted, by_numpyro: Reference) -> str:
    differences, between = [], _between_runs(by_numpyro.runs, fitted.case.local)
    least = OPTIMUM if by_numpyro.losses else 1e-6
    for name, draws in fitted.model.posterior_.items():
        if name in fitted.case.local or name not in by_numpyro.runs[0]:
            continue
        own, theirs = draws, [run[name] for run in by_numpyro.runs]
        if draws.shape[2:] != theirs[0].shape[2:]:
            return f"draws of {name!r} have the shape {draws.shape[2:]} for {theirs[0].shape[2:]}"
        if np.issubdtype(own.dtype, np.floating) and min(each.min() for each in (own, *theirs)) > 0:
            # Some have no mean.
            own, theirs = np.log(own), list(map(np.log, theirs))
        mean, error = _mean(own)
        others, errors = zip(*map(_mean, theirs), strict=True)
        number = len(others)
        # The spread of runs has the Monte Carlo error of each already.
        spread = np.var(others, axis=0, ddof=1) if number > 1 else 0.0
        spread = np.maximum(spread, between * np.mean([each.var(axis=(0, 1)) for each in theirs], axis=0))
        total = np.sqrt(error**2 + np.mean(np.square(errors), axis=0) / number + spread * (1 + 1 / number))
        off = np.abs(mean - np.mean(others, axis=0)) / (total + least * np.maximum(np.abs(mean), 1.0) / WITHIN)
        if off.size and not off.max() <= WITHIN:
            place = tuple(map(int, np.unravel_index(np.argmax(off), off.shape)))
            differences.append(
                f"{name}{list(place) if place else ''} {mean[place]:.4g} for {np.mean(others, axis=0)[place]:.4g} "
                f"({off[place]:.1f} standard errors)"
            )
    return "; ".join(differences)


def _between_runs(runs: list[dict[str, np.ndarray]], left_out: Collection[str]) -> float:
    """Return the variance of means between runs of an optimiser, relative to that of draws, averaged over sites.

    The variance of a few numbers alone is often too small by chance.
    """
    ratios = []
    for name in runs[0].keys() - set(left_out) if len(runs) > 1 else ():
        means = np.var([run[name].mean(axis=(0, 1)) for run in runs], axis=0, ddof=1)
        draws = np.mean([run[name].var(axis=(0, 1)) for run in runs], axis=0)
        ratios.append((means / np.where(draws > 0, draws, np.inf)).ravel())
    return float(np.mean(np.concatenate(ratios))) if ratios else 0.0


def _mean(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of draws of shape (n_chains, n_draws, ...), and its standard error."""
    draws = np.asarray(draws, np.float64)
    size = draws.shape[0] * draws.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ess = np.minimum(np.nan_to_num(np.asarray(effective_sample_size(draws)), nan=size), size)
    return draws.mean(axis=(0, 1)), draws.std(axis=(0, 1)) / np.sqrt(np.maximum(ess, 1.0))


def _of_losses(fitted: _Fitted, by_numpyro: Reference) -> str:
    """Compare the last tenth of the losses."""
    tails = [losses[-max(len(losses) // 10, 1) :] for losses in (fitted.model.fit_result_.losses, *by_numpyro.losses)]
    mean, *others = (tail.mean() for tail in tails)
    noise = np.mean([tail.var() / len(tail) for tail in tails])
    error = np.sqrt(2 * noise + np.var(others, ddof=1) * (1 + 1 / len(others)))
    off = abs(mean - np.mean(others))
    return "" if off <= WITHIN * error + 1e-3 * abs(mean) else f"{mean:.6g} for {np.mean(others):.6g}"


def _of_log_likelihood(fitted: _Fitted) -> str:
    spec, observed = fitted.spec, fitted.arguments(fitted.y)
    own = fitted.model.log_likelihood(fitted.X, fitted.y, **fitted.further)["log_likelihood"][spec.output].to_numpy()
    own = own.reshape(-1, *own.shape[2:])
    # States of discrete sites are summed out.
    states = {site.name for site in spec.discrete if site.states is not None}
    draws = {name: draw for name, draw in fitted.draws(local=True).items() if name not in states}
    some = np.linspace(0, len(own) - 1, min(COMPARED_DRAWS, len(own))).astype(int)
    own, draws = (own[some] if draws else own[:1]), {name: jnp.asarray(draw[some]) for name, draw in draws.items()}
    first = {name: draw[0] for name, draw in draws.items()}
    hidden = hidden_sites(fitted.kernel, {**fitted.params, **first}, observed)
    if any(not distribution.is_discrete for distribution in hidden.values()):
        return f"draws of {sorted(hidden)} are missing"
    if hidden:
        theirs = totals(fitted.kernel, draws, fitted.params, observed, spec.scores)
        own = own.reshape(len(own), -1).sum(axis=1)
    else:
        by_site = log_likelihood(fitted.kernel, draws, fitted.params, observed)
        factors = [site for site in spec.factors if site != spec.output]
        theirs = sum((by_site[site] for site in factors), by_site[spec.output])
    if own.shape != theirs.shape:
        return f"it has the shape {own.shape[1:]} for {theirs.shape[1:]}"
    off = np.abs(own - theirs) / np.maximum(np.abs(theirs), 1.0)
    return "" if off.max() <= SAME else f"relative difference {off.max():.2g}"


def _of_predictions(fitted: _Fitted) -> str:
    """Compare predictions: of new rows, whose own latent sites are drawn anew, if these do not depend on other rows."""
    spec, new = fitted.spec, fitted.arguments(None)
    if spec.needs_past and spec.outcomes_depend:
        return _of_rows_that_follow(fitted)
    # Rows that depend on one another are those of the fit. NumPyro has no predictions of others.
    known = {"in_sample": True} if spec.needs_past else {}
    encodes = fitted.encodes_rows()
    draws, params = fitted.with_states(fitted.draws(local=bool(known) or encodes)), fitted.params
    drawn = fitted.by_row(outcomes(fitted.kernel, draws, params, new, spec.output))
    if hasattr(fitted.model, "predict_proba"):
        probabilities = fitted.model.predict_proba(fitted.X, **known, **fitted.further)
        # scikit-learn's form of several outputs is a list.
        own = np.stack(probabilities, axis=1) if isinstance(probabilities, list) else probabilities
        n_classes = own.shape[-1]
        drawn = drawn[..., None] == np.arange(n_classes)
    else:
        own = np.asarray(fitted.model.predict(fitted.X, **known, **fitted.further), np.float64)
        n_classes = None
    difference = _of_averages(own, drawn)
    if difference or encodes or fitted.case.states is not None:
        return difference
    exact = conditional_means(fitted.kernel, {**draws, **_repeated(params, len(drawn))}, new, spec.output, n_classes)
    return "" if exact is None else _of_exact(own, fitted.by_row(exact).mean(axis=0), drawn)


def _of_rows_that_follow(fitted: _Fitted) -> str:
    """Compare predictions of rows that follow those of the fit, and whose outcomes depend on these."""
    spec, of_fit = fitted.spec, fitted.arguments(None)
    output, rows = spec[spec.output], fitted.model.arguments_["rows"]
    both = {name: np.concatenate([value, value]) if name in rows else value for name, value in of_fit.items()}
    own = np.asarray(fitted.model.predict(fitted.X, **fitted.further), np.float64)
    draws, n_rows = fitted.draws(local=True), len(fitted.X)
    if output.is_scanned:
        kernel = handlers.condition(fitted.kernel, data={output.name: jnp.asarray(fitted.y)})
        return _of_averages(own, outcomes(kernel, draws, fitted.params, both, output.name)[:, n_rows:])
    values = {**draws, **_repeated(fitted.params, len(next(iter(draws.values()))))}
    exact = means_given(fitted.kernel, values, both, output.name, fitted.y)
    return _of_exact(own, exact.mean(axis=0), exact)


def _of_exact(own: np.ndarray, exact: np.ndarray, drawn: np.ndarray) -> str:
    off = np.abs(own - exact) / np.maximum(np.abs(exact), 0.1 * np.abs(drawn).mean())
    return "" if off.max() <= SAME else f"relative difference {off.max():.2g} of means"


def _repeated(params: Mapping[str, Any], count: int) -> dict[str, Any]:
    return jax.tree.map(lambda value: jnp.broadcast_to(value, (count, *np.shape(value))), dict(params))


def _of_predictions_in_sample(fitted: _Fitted) -> str:
    spec, new = fitted.spec, fitted.arguments(None)
    tree = fitted.model.sample_posterior_predictive(fitted.X, return_sites=spec.output, **fitted.further)
    own = tree["posterior_predictive"][spec.output].to_numpy()
    draws = fitted.with_states(fitted.draws(local=True))
    drawn = outcomes(fitted.kernel, draws, fitted.params, new, spec.output)
    return _of_averages(own.mean(axis=(0, 1)), drawn)


def _of_averages(own: np.ndarray, drawn: np.ndarray) -> str:
    """Compare averages with those of as many independent outcomes."""
    theirs = drawn.mean(axis=0, dtype=np.float64)
    if own.shape != theirs.shape:
        return f"they have the shape {own.shape} for {theirs.shape}"
    # A rare outcome that no draw has is no proof that there is none.
    counts = not np.issubdtype(drawn.dtype, np.floating) or np.array_equal(drawn, np.round(drawn))
    least = 1 / len(drawn) if counts else 1e-6 * (1 + np.abs(theirs))
    error = np.sqrt(2 / len(drawn)) * drawn.std(axis=0, dtype=np.float64) + least
    off = np.abs(own - theirs) / error
    if off.max() <= WITHIN:
        return ""
    place = tuple(map(int, np.unravel_index(np.argmax(off), off.shape)))
    return f"{own[place]:.4g} for {theirs[place]:.4g} at {list(place)} ({off[place]:.1f} standard errors)"
