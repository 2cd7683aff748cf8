"""Effects of scenarios, and slopes: what a user asks for, in the sampling core's terms."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr

from skaimz import effects, sampling
from skaimz.effects import AveragedRows, EffectTree, contrasts_of, row_contrasts
from skaimz.estimators._arguments import PRIOR_DRAWS, check_numbers_of, check_probabilities
from skaimz.estimators._model import Call, Model
from skaimz.estimators._questions import Question, frees_on_error, request_for
from skaimz.estimators._scenarios import (
    Over,
    changed,
    check_names,
    continuous_input,
    grouping,
    named_scenarios,
    weights_of,
    with_continuous_input,
)
from skaimz.kernels import stored_name
from skaimz.rows import dask_door, is_collection

__all__ = ["Effect", "Slope", "answer_with_effects"]

QUANTITIES: dict[str, Any] = {"mean": sampling.ExpectedOutcomes, "outcome": sampling.Values}
# Distributions of labels that stand for no numbers.
LABEL_DISTRIBUTIONS = {
    distribution.__name__
    for distribution in sampling.CLASS_DISTRIBUTIONS
    if not distribution.__name__.startswith("Bernoulli")
}


class _Effects(Question[EffectTree]):
    """Base of the questions that effects answer; without a fit, draws from the prior are used."""

    over: Over

    def uses_prior(self, model: Model) -> bool:
        """Without posterior draws."""
        return not model.has_draws

    @property
    def kind(self) -> tuple[str, Any]:
        """Name of the contrast, and its function where effects are contrasts of averages."""
        raise NotImplementedError


@dataclass(frozen=True)
class Effect(_Effects):
    """Contrasts between scenarios; the fields are those of the public method."""

    scenarios: Mapping[str, Any]
    baseline: Any = None
    contrast: Any = "difference"
    of: Any = "mean"
    pairs: bool = False
    over: Over = field(default_factory=Over)

    def __post_init__(self) -> None:
        if not isinstance(self.scenarios, Mapping) or not self.scenarios:
            raise ValueError(f"`scenarios` must be a mapping with at least one named scenario, got {self.scenarios!r}.")
        check_names(self.scenarios, "A scenario's name")
        effects.resolve_contrast(self.contrast)

    @property
    def is_of_trees(self) -> bool:
        """Whether draws that were made before are compared."""
        return any(isinstance(scenario, xr.DataTree) for scenario in (self.baseline, *self.scenarios.values()))

    @property
    def kind(self) -> tuple[str, Any]:
        """Name and function of the contrast."""
        return effects.resolve_contrast(self.contrast)

    def answer(self, call: Call) -> EffectTree:
        """Return the effects."""
        of, quantity = _quantity(self.of, call.spec.output)
        name, contrast = self.kind
        named = named_scenarios(self.scenarios, self.baseline)
        first, *others = named
        compared: list[tuple[str, str, str | None]] = [(key, key, first) for key in others]
        if self.pairs:
            compared = [(f"{late} - {early}", late, early) for early, late in itertools.combinations(named, 2)]
        comparison = _Comparison(call, named, compared, contrast, self.over)
        spec = call.spec
        if self.of == "outcome" and spec[spec.output].distribution in LABEL_DISTRIBUTIONS:
            raise ValueError("Drawn class labels have no average: leave out `of`, for their probabilities.")
        tree = comparison.tree(quantity, {"contrast": name, "of": of})
        return comparison.with_warnings(tree)


def _quantity(of: Any, output: str) -> tuple[str, sampling.PerDraw]:
    """Return the name of what scenarios are compared in, and the quantity."""
    if isinstance(of, str) and of in QUANTITIES:
        return of, QUANTITIES[of]((output,))
    if isinstance(of, Mapping) and len(of) == 1:
        ((kind, value),) = of.items()
        if kind == "quantile":
            (level,) = check_probabilities("of", [value], closed=False)
            return f"quantile {level:g}", sampling.ConditionalQuantiles((output,), level=level)
        if kind == "above":
            (threshold,) = check_numbers_of("of", [value])
            return f"above {threshold:g}", sampling.Exceedance((output,), threshold=threshold)
    raise ValueError(
        f"`of` must be 'mean', 'outcome', {{'quantile': probability}} or {{'above': threshold}}, got {of!r}."
    )


@dataclass(frozen=True)
class Slope(_Effects):
    """Derivatives of expected outcomes; the fields are those of the public method."""

    along: Any
    elasticity: bool = False
    over: Over = field(default_factory=Over)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("`along` must name at least one input.")
        check_names(map(str, self.inputs), "The name of an input in `along`")

    @property
    def inputs(self) -> list[Any]:
        """The inputs to differentiate by."""
        return list(self.along) if isinstance(self.along, list | tuple) else [self.along]

    @property
    def kind(self) -> tuple[str, Any]:
        """Name of the answer, which is no contrast."""
        return ("elasticity" if self.elasticity else "slope"), None

    def answer(self, call: Call) -> EffectTree:
        """Return the slopes."""
        groups: dict[str, xr.Dataset] = {}
        attrs: dict[Any, Any] = {}
        call = with_continuous_input(call, self.inputs)
        for along in self.inputs:
            tree = self._along(call, along)
            groups[str(along)] = tree[str(along)].to_dataset()
            unreached = attrs.get("unreached", []) + tree.attrs.get("unreached", [])
            attrs = tree.attrs | ({"unreached": unreached} if "unreached" in tree.attrs else {})
        return EffectTree.of(groups, attrs)

    def _along(self, call: Call, along: Any) -> EffectTree:
        comparison = _Comparison(call, {"slope": {}}, [(str(along), "slope", None)], None, self.over)
        job = comparison.jobs["slope"]
        place = continuous_input(job, along, call)
        with call.precision():
            without_derivative = sampling.without_derivative(job, place)
        if without_derivative:
            raise ValueError(
                f"A slope along {along!r} would leave out its effect through {without_derivative}: these are drawn, "
                "and a draw of a class, a count or the part of a mixture has no derivative. Use `estimate_effect` with "
                f"a small step of {along!r}, or write the kernel with the expectation over {without_derivative} in "
                "closed form."
            )
        quantity = sampling.Slope((job.spec.output,), place, elasticity=self.elasticity)
        tree = comparison.tree(quantity, {"contrast": self.kind[0], "of": "mean"})
        with call.precision():
            in_steps = not tree[str(along)]["effect"].any() and sampling.differs_along(job, place)
        if in_steps:
            raise ValueError(
                "`along` needs an input that the expected outcome follows smoothly, but it changes with "
                f"{along!r} only in steps, as with whole numbers and comparisons, and has the slope zero between "
                "them. Use `estimate_effect`."
            )
        return comparison.with_warnings(tree)


class _Comparison:
    """Scenarios as jobs of the sampling core, and the rows over which they are compared.

    Parameters
    ----------
    call : Call
    named : dict of str to dict
        Scenarios by name.
    compared : sequence of (str, str, str or None)
        Names of an effect, of its scenario and of its baseline.
    contrast : callable or None
    over : Over
    """

    def __init__(
        self,
        call: Call,
        named: Mapping[str, Mapping[str, Any]],
        compared: Sequence[tuple[str, str, str | None]],
        contrast: Any,
        over: Over,
    ):
        self.call, self.compared, self.contrast, self.over = call, compared, contrast, over
        self.weights = weights_of(over, call)
        self.jobs: dict[str, sampling.Job] = {}
        for name, changes in named.items():
            scenario = changed(call, changes)
            set_sites: dict[str, Any] = {key: changes.get(key) for key in ("intervention", "condition")}
            with call.precision():
                if call.model.has_draws:
                    self.jobs[name] = scenario.job(in_sample=over.in_sample, **set_sites)
                else:
                    self.jobs[name] = scenario.prior_job(PRIOR_DRAWS, **set_sites)

    def tree(self, quantity: Any, attrs: Mapping[str, Any]) -> EffectTree:
        """Return the effects on a quantity."""
        call, over, jobs = self.call, self.over, self.jobs
        job = next(iter(jobs.values()))
        source = "posterior" if call.model.has_draws else "prior"
        attrs = {**attrs, "posterior": source, "seed": job.seed}
        labels = call.model.outcome.labels
        counts = self.weights > 0
        with call.precision():
            comparisons = effects.Comparisons(jobs, self.compared, quantity, self.contrast, labels)
            if over.average:
                tree = contrasts_of(comparisons, AveragedRows.of(self.weights, grouping(over.by, call)), attrs)
            elif over.by is not None or over.sample_weight is not None:
                raise ValueError(
                    "`by` and `sample_weight` are of averages over rows: leave them out with `average=False`."
                )
            else:
                tree = row_contrasts(comparisons, counts, call.row_labels, attrs)
        return tree

    def with_warnings(self, tree: EffectTree) -> EffectTree:
        """Return effects after warning of those that do not reach the output; in a block of rows, note them instead."""
        with self.call.precision():
            unreached = [
                name
                for name, scenario, other in self.compared
                if effects.is_unchanged(tree[name].to_dataset())
                and (other is None or sampling.changes_nothing(self.jobs[scenario], self.jobs[other], self.weights > 0))
            ]
        if self.call.part is None:
            effects.warn_of_unreached(unreached)
        else:
            # The output may be reached in other blocks.
            tree.attrs["unreached"] = unreached
        return tree


def answer_with_effects(
    model: Model, question: _Effects, X: Any, arrays: Mapping[str, Any], random_state: Any
) -> EffectTree:
    """Return effects, averaged over the blocks of a Dask collection."""
    if isinstance(question, Effect) and question.is_of_trees:
        return _of_trees(model, question, X, arrays, random_state)
    if X is None:
        raise ValueError("`estimate_effect` needs rows: pass X.")
    request = request_for(model, question, arrays, random_state)
    if not is_collection(X):
        with frees_on_error():
            return question.answer(request.read(X))
    if not question.over.average:
        raise ValueError("Effects of each row of a Dask collection would not fit: leave out `average=False`.")
    name, contrast = question.kind
    if isinstance(question, Effect):
        # Blocks keep the averages, and contrasts are taken of the averages over all blocks.
        request = replace(request, question=replace(question, contrast="difference"))
    return dask_door().averages_in_blocks(request, X, name, contrast)


def _of_trees(model: Model, question: Effect, X: Any, arrays: Mapping[str, Any], random_state: Any) -> EffectTree:
    name, contrast = question.kind
    if X is not None or arrays or question.pairs or random_state is not None or not question.over.is_default:
        raise ValueError(
            "Trees of draws are compared as they are, draw by draw and row by row: leave out X, and all arguments but "
            "`baseline`, `scenarios` and `contrast`."
        )
    # Without a fit the trees alone tell which site is the output.
    output = stored_name(model.spec.output) if model.spec else getattr(question.baseline, "attrs", {}).get("output")
    return effects.effects_of_draws(question.baseline, question.scenarios, output, contrast, name)
