"""Base classes of settings: scikit-learn's parameters, progress and checkpoints."""

import copy
import dataclasses
import numbers
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import joblib

from skaimz.inference.recipes import OwnModel

__all__ = ["Parameters", "Resumed", "Watched", "check_count", "picklable"]


def picklable(value: Any) -> Any:
    """Return a value, wrapped if plain pickle refuses it. Optimisers, for example, are closures."""
    try:
        pickle.dumps(value)
    except Exception:
        return joblib.wrap_non_picklable_objects(value, keep_wrapper=False)
    return value


class Parameters:
    """scikit-learn's parameter protocol for a dataclass of settings."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: picklable(value) for name, value in self.get_params().items()}

    def __repr__(self) -> str:
        """Show the settings that are not the defaults, as scikit-learn shows parameters."""
        default = type(self)().get_params()
        changed = [name for name, value in self.get_params().items() if repr(value) != repr(default[name])]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Parameters
        ----------
        deep : bool, default=True
            Has no effect: settings contain no settings. scikit-learn passes it.

        Returns
        -------
        dict
        """
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {each.name: getattr(self, each.name) for each in fields if each.init}

    def set_params(self, **params: Any) -> Self:
        """Replace settings by name.

        Parameters
        ----------
        **params : object
            New values.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is not one of the settings.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(
                    f"Invalid parameter {name!r} for {type(self).__name__}. Valid parameters are: "
                    f"{sorted(self.get_params())}."
                )
            setattr(self, name, value)
        return self

    def __sklearn_clone__(self) -> Self:
        # Foreign objects may have a `get_params` that is not scikit-learn's, as NumPyro's optimisers do.
        params = self.get_params()
        clone = type(self)(**{name: copy.deepcopy(value) for name, value in params.items()})
        vars(clone).update({name: value for name, value in vars(self).items() if name not in params})
        return clone


@dataclass(repr=False, kw_only=True)
class Watched(Parameters):
    """Settings of a fit that can be watched and stopped.

    Checked settings also have contents of the ready objects from which they were made: ``own_models`` must be the
    fitted kernel, and ``own_arguments`` are arguments of it.
    """

    callback: Callable[[Any], Any] | None = None
    time_budget: float | None = None
    own_models: tuple[OwnModel, ...] = field(default=(), init=False, compare=False)
    own_arguments: tuple[tuple[str, Any], ...] = field(default=(), init=False, compare=False)

    def _holding(self, models: Iterable[OwnModel], before: "Watched") -> Self:
        """Note models of ready objects, and keep those of the settings before they were checked."""
        self.own_models = (*models, *before.own_models)
        self.own_arguments = before.own_arguments
        return self

    def _check_watched(self) -> None:
        name, budget = type(self).__name__, self.time_budget
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"{name}: `callback` must be a function of one argument, got {self.callback!r}.")
        if budget is not None and (not isinstance(budget, numbers.Real) or isinstance(budget, bool) or not budget > 0):
            raise ValueError(f"{name}: `time_budget` must be a positive number of seconds, got {budget!r}.")


@dataclass(repr=False, kw_only=True)
class Resumed(Watched):
    """Settings of a fit that can go on after it was killed."""

    checkpoint_dir: str | os.PathLike[str] | None = None

    def _check_watched(self) -> None:
        super()._check_watched()
        folder = self.checkpoint_dir
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise TypeError(f"{type(self).__name__}: `checkpoint_dir` must be the path of a folder, got {folder!r}.")


def check_count(settings: Any, *names: str, least: int = 1, optional: bool = False) -> None:
    """Refuse settings that are not integers, or too small."""
    for name in names:
        value = getattr(settings, name)
        if optional and value is None:
            continue
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{type(settings).__name__}: `{name}` must be an integer >= {least}, got {value!r}.")
