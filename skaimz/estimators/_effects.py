"""Effects of scenarios: what a user asks for, brought into the sampling core's terms."""

import functools
import itertools
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import xarray as xr

from skaimz import effects, sampling
from skaimz.effects import EffectTree, Target, contrasts_of, row_contrasts
from skaimz.estimators._arguments import PRIOR_DRAWS
from skaimz.estimators._blocks import averaged
from skaimz.estimators._columns import Columns
from skaimz.estimators._draws import index_of
from skaimz.estimators._scenarios import (
    Asked,
    Rows,
    changed,
    check_names,
    continuous_input,
    grouping,
    named_scenarios,
    weights_of,
)
from skaimz.kernels import KernelSpec

__all__ = ["EffectsMixin"]

QUANTITIES = {"mean": sampling.ExpectedOutcomes, "outcome": sampling.Values}
# Distributions of labels that stand for nothing to calculate with.
LABEL_DISTRIBUTIONS = {
    distribution.__name__
    for distribution in sampling.CLASS_DISTRIBUTIONS
    if not distribution.__name__.startswith("Bernoulli")
}
NOTHING = Asked(None, None, True, False, None, None)


class EffectsMixin:
    """Contrasts between scenarios, and slopes."""

    param_input: str
    kernel_spec_: KernelSpec
    _read: Callable[..., tuple[Any, dict[str, Any]]]
    _read_for_prior: Callable[..., tuple[Any, dict[str, Any]]]
    _columns_of: Callable[[Any], Columns]
    _prepare: Callable[..., sampling.Job]
    _prepare_prior: Callable[..., sampling.Job]
    _precision: Callable[[Any], AbstractContextManager]
    _seed_of_call: Callable[[Any], int]
    __sklearn_is_fitted__: Callable[[], bool]

    @averaged
    def estimate_effect(
        self,
        X: Any = None,
        *,
        scenarios: Mapping[str, Any],
        baseline: Any = None,
        contrast: Any = "difference",
        of: str = "mean",
        where: Any = None,
        by: Any = None,
        average: bool = True,
        pairs: bool = False,
        in_sample: bool = False,
        sample_weight: Any = None,
        random_state: Any = None,
        **arrays: Any,
    ) -> EffectTree:
        """Estimate what scenarios change, with the posterior's uncertainty.

        For each posterior draw the expected outcome of every row is computed under each scenario and under the
        baseline, averaged over rows, and contrasted. All scenarios run in one pass over the rows, and share posterior
        draws and random numbers row by row; no draws of rows are kept unless ``average=False`` asks for them.

        This answers what the *model* expects under other inputs or interventions. Whether that is a causal effect
        rests on the model and the data's design (no unmeasured confounding, overlap): nothing here identifies causes
        from data alone. A row's noise is not inferred from its observed outcome either, so an effect on a row is that
        on its expected outcome, not a counterfactual of the unit itself.

        Latent sites with an entry for each row are drawn anew for new rows. The spread of an average then contains the
        noise of one such draw for each row, which falls with the square root of the number of rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to average over; left out where ``baseline`` and ``scenarios`` are trees of draws.
        scenarios : dict of str to dict, or of str to DataTree
            Named scenarios. Each is a mapping with one or more of:

            - ``"columns"``: columns of X by name or position, each with its new value;
            - ``"arguments"``: the kernel's arguments by name (X itself among them), each with its new value;
            - ``"intervention"``: sample sites to set by the do-operator;
            - ``"condition"``: sites to fix. Sites before them keep their distributions: nothing is inferred from the
              values, so that this does not condition on them in the sense of probability.

            A new value of a column or an argument is a scalar, an array with an entry for each row, or a function of
            the current values. Or predictive draws that were made before, from :meth:`sample_posterior_predictive`.
        baseline : dict or DataTree, optional
            What scenarios are compared with, in the same form; the rows as they are where None.
        contrast : {"difference", "ratio", "lift"} or callable, default="difference"
            How averages are compared, draw by draw; lift is the change in percent of the baseline. Ratio and lift are
            meant for baselines that are positive. A function takes the scenario's array and the baseline's and returns
            one of their shape.
        of : {"mean", "outcome"}, default="mean"
            Whether expected outcomes are averaged, or drawn ones. Expected outcomes of labels are probabilities.
        where : dict or array of bool of shape (n_rows,), optional
            Rows to average over: those where columns of X, or arguments, have the given values, or those marked.
            ``{"treated": 1}`` gives the effect on the treated (ATT), ``{"treated": 0}`` that on the untreated (ATC).
        by : str, int, list of them, or dict of str to array, optional
            Columns of X or arguments, or named arrays, by whose values rows are grouped, with an average for each.
        average : bool, default=True
            False gives each row's own effect; draws of rows are then held in memory.
        pairs : bool, default=False
            Compare each two of the baseline and the scenarios, rather than scenarios with the baseline.
        in_sample : bool, default=False
            Whether these are the rows of the fit: latent sites with an entry for each row then have their posterior
            draws.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the averages. It may come with X where that is an iterable of mappings.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call; the estimator's own where None.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        EffectTree
            A DataTree with a group for each comparison, holding draws of ``effect``, ``scenario`` and ``baseline`` with
            the dimensions ``chain`` and ``draw`` and those of the groups and the output. Its ``summary()`` is a
            DataFrame. An estimator without a fit uses 1000 draws from the prior, and the tree's attribute
            ``posterior`` says so.

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used, or names what is not there.

        Warns
        -----
        RatioWarning
            If a ratio or lift is to averages that are not positive.
        UnreachedOutputWarning
            If an intervention, or another change of a scenario, cannot change the output.
        HeldLatentWarning
            If a latent site depends on an intervention, and keeps posterior draws that were made without it.
        FixedSiteWarning
            If ``"condition"`` fixes a site that depends on latent sites of the rows, which the output depends on, too.
        PairingWarning
            If trees of draws do not belong together.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = np.column_stack([rng.normal(size=200), rng.integers(2, size=200)])
        >>> y = X @ [1.0, 2.0] + rng.normal(scale=0.1, size=200)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> off, on = {"columns": {1: 0}}, {"columns": {1: 1}}
        >>> treated = model.estimate_effect(X, baseline=off, scenarios={"treatment": on}, where={1: 1})
        >>> round(float(treated["treatment"]["effect"].mean()), 1)
        2.0
        """
        name, function = effects.resolve_contrast(contrast)
        if not isinstance(scenarios, Mapping) or not scenarios:
            raise ValueError(f"`scenarios` must be a mapping with at least one named scenario, got {scenarios!r}.")
        check_names(scenarios, "A scenario's name")
        asked = Asked(where, by, average, in_sample, sample_weight, random_state)
        if isinstance(baseline, xr.DataTree) or any(isinstance(each, xr.DataTree) for each in scenarios.values()):
            if X is not None or arrays or pairs or any(map(operator.is_not, asked, NOTHING)):
                raise ValueError(
                    "Trees of draws are compared as they are, draw by draw and row by row: leave out X, and all "
                    "arguments but `baseline`, `scenarios` and `contrast`."
                )
            # Without a fit the trees alone tell which site is the output.
            known = getattr(self, "kernel_spec_", None)
            output = known.output if known else getattr(baseline, "attrs", {}).get("output")
            return effects.effects_of_draws(baseline, scenarios, output, function, name)
        if X is None:
            raise ValueError("`estimate_effect` needs rows: pass X.")
        if of not in QUANTITIES:
            raise ValueError(f"`of` must be one of {sorted(QUANTITIES)}, got {of!r}.")
        asked = asked._replace(random_state=self._seed_of_call(random_state))
        named = named_scenarios(scenarios, baseline)
        first, *others = named
        compared = [(key, key, first) for key in others]
        if pairs:
            compared = [(f"{late} - {early}", late, early) for early, late in itertools.combinations(named, 2)]
        attrs = {"contrast": name, "of": of}
        return self._compare(X, arrays, named, compared, QUANTITIES[of], None, function, attrs, asked)

    @averaged
    def estimate_slope(
        self,
        X: Any,
        along: Any,
        *,
        elasticity: bool = False,
        where: Any = None,
        by: Any = None,
        average: bool = True,
        in_sample: bool = False,
        sample_weight: Any = None,
        random_state: Any = None,
        **arrays: Any,
    ) -> EffectTree:
        """Estimate how the expected outcome changes with a continuous input.

        The derivative is taken by automatic differentiation for each row and posterior draw, and averaged over rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to average over.
        along : str, int or list of them
            Column of X, by name or position, or argument of the kernel; several give a group each.
        elasticity : bool, default=False
            Give the relative change of the expected outcome for a relative change of the input, ``slope * input /
            expected outcome``, rather than its change for a unit's change.
        where, by, average, in_sample, sample_weight, random_state
            As in :meth:`estimate_effect`.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        EffectTree
            With a group for each input, holding draws of ``effect``.

        Raises
        ------
        ValueError
            If an input is not continuous, the expected outcome changes with it in steps alone, or through draws that
            have no derivative, or rows of the kernel do not stand alone.

        Warns
        -----
        UnreachedOutputWarning
            If the expected outcome does not depend on an input.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = X @ [1.0, 2.0] + rng.normal(scale=0.3, size=200)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> round(float(model.estimate_slope(X, 1)["1"]["effect"].mean()), 1)
        2.0
        """
        asked = Asked(where, by, average, in_sample, sample_weight, self._seed_of_call(random_state))
        inputs = list(along) if isinstance(along, list | tuple) else [along]
        if not inputs:
            raise ValueError("`along` must name at least one input.")
        check_names(map(str, inputs), "The name of an input in `along`")
        groups: dict[str, xr.Dataset] = {}
        attrs: dict[Any, Any] = {}
        for name in inputs:
            tree = self._compare(
                X,
                arrays,
                {"slope": {}},
                [(str(name), "slope", None)],
                functools.partial(sampling.Slope, elasticity=elasticity),
                name,
                None,
                {"contrast": "elasticity" if elasticity else "slope", "of": "mean"},
                asked,
            )
            groups[str(name)] = tree[str(name)].to_dataset()
            unreached = attrs.get("unreached", []) + tree.attrs.get("unreached", [])
            attrs = tree.attrs | ({"unreached": unreached} if "unreached" in tree.attrs else {})
        return EffectTree.of(groups, attrs)

    def _compare(
        self,
        X: Any,
        arrays: Mapping[str, Any],
        named: Mapping[str, Mapping[str, Any]],
        compared: Sequence[tuple[str, str, str | None]],
        make: Callable[..., sampling.PerDraw],
        along: Any,
        contrast: Any,
        attrs: dict[str, Any],
        asked: Asked,
    ) -> EffectTree:
        fitted = self.__sklearn_is_fitted__()
        index = index_of(X)

        def read(given: Any, beside: Collection[str] = ()) -> Rows:
            check = self._read if fitted else self._read_for_prior
            found = check(given, arrays, beside=beside)
            columns = self._columns_of(given)
            return Rows(*found, given if hasattr(given, "iloc") else columns.X, columns)

        rows = read(X, ["sample_weight"])
        weight = rows.arrays.pop("sample_weight", None)
        if asked.average and asked.sample_weight is None and weight is not None:
            asked = asked._replace(sample_weight=weight[:])
        weights = weights_of(asked, rows)
        with self._precision(rows.X.dtype):
            jobs = {}
            for name, changes in named.items():
                here = changed(rows, changes, self.param_input, read, getattr(self, "arguments_", {}).get("whole", ()))
                settings = {key: changes.get(key) for key in ("intervention", "condition")}
                settings["random_state"] = asked.random_state
                if fitted:
                    jobs[name] = self._prepare(here.X, here.arrays, in_sample=asked.in_sample, **settings)
                else:
                    jobs[name] = self._prepare_prior(here.X, here.arrays, PRIOR_DRAWS, **settings)
            job = next(iter(jobs.values()))
            if make is sampling.Values and job.spec[job.spec.output].distribution in LABEL_DISTRIBUTIONS:
                raise ValueError("Drawn class labels have no average: leave out `of`, for their probabilities.")
            place = None if along is None else continuous_input(job, along, rows)
            lost = [] if place is None else sampling.without_derivative(job, place)
            if lost:
                raise ValueError(
                    f"A slope along {along!r} would leave out what it does through {lost}: these are drawn, and a draw "
                    "of a class, a count or the part of a mixture has no derivative. Use `estimate_effect` with a "
                    f"small step of {along!r}, or write the kernel with the expectation over {lost} in closed form."
                )
            names = (job.spec.output,)
            quantity = make(names) if place is None else make(names, place)
            attrs = attrs | {"posterior": "posterior" if fitted else "prior", "seed": job.seed}
            labels = getattr(self, "classes_", None)
            comparisons = effects.Comparisons(jobs, compared, quantity, contrast, labels)
            if asked.average:
                target = Target.of(weights, grouping(asked.by, rows))
                tree = contrasts_of(comparisons, target, attrs)
            elif asked.by is not None or asked.sample_weight is not None:
                raise ValueError(
                    "`by` and `sample_weight` are of averages over rows: leave them out with `average=False`."
                )
            else:
                tree = row_contrasts(comparisons, weights > 0, index, attrs)
            if place is not None and not tree[compared[0][0]]["effect"].any() and sampling.differs_along(job, place):
                raise ValueError(
                    "`along` needs an input that the expected outcome follows smoothly, but it changes with "
                    f"{along!r} in steps alone, as with whole numbers and comparisons, and has the slope zero between "
                    "them. Use `estimate_effect`."
                )
            unreached = [
                name
                for name, scenario, other in compared
                if effects.is_nothing(tree[name].to_dataset())
                and (other is None or sampling.changes_nothing(jobs[scenario], jobs[other], weights > 0))
            ]
            if job.part is None:
                effects.warn_of_unreached(unreached)
            else:
                # Rows of other blocks may tell otherwise.
                tree.attrs["unreached"] = unreached
            return tree
