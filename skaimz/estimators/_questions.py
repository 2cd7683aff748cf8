"""What public methods ask of a fitted model. A question is data, so that Dask can cut it by rows and send it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from skaimz.estimators._model import Call, Model
from skaimz.estimators._read import read, split
from skaimz.exceptions import let_go
from skaimz.kernels import flattened
from skaimz.rows import computed, dask_door, is_collection
from skaimz.sampling import Part

__all__ = ["Question", "Request", "answer_by_row", "frees_on_error", "in_memory", "request_for"]

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """Base of the questions, which are frozen dataclasses.

    Dask recognises fields with an entry for each row by their names, which are those of the public methods' parameters.
    """

    def answer(self, call: Call) -> Answer:
        """Answer for the rows of a call."""
        raise NotImplementedError

    def uses_prior(self, model: Model) -> bool:
        """Whether the answer uses the prior alone."""
        return False


@dataclass(frozen=True)
class Request(Generic[Answer]):
    """A question, and everything else that its answer needs, except the rows.

    Attributes
    ----------
    model : Model
    question : Question
    arrays : dict
        The kernel's further arguments.
    seed : int
    """

    model: Model
    question: Question[Answer]
    arrays: Mapping[str, Any]
    seed: int

    def read(self, X: Any, part: Part | None = None) -> Call:
        """Check rows, which may be a part of a larger table."""
        prior = self.question.uses_prior(self.model)
        return read(self.model, X, self.arrays, random_state=self.seed, part=part, prior=prior)

    def with_categories_of(self, table: Any) -> "Request[Answer]":
        """Return the request with the categories that a table's columns have, where no fit has learned any.

        Otherwise each block of rows would learn its own categories.
        """
        if self.model.column_args is None or self.model.categories is not None:
            return self
        *_, categories = split(self.model, table, None, self.arrays, learn=False)
        return replace(self, model=replace(self.model, categories=categories))


def request_for(
    model: Model, question: Question[Answer], arrays: Mapping[str, Any], random_state: Any
) -> Request[Answer]:
    """Return a request. A source of random numbers is drawn from once, for all parts of the answer."""
    return Request(model, question, flattened(arrays), model.seed_of(random_state))


def answer_by_row(
    model: Model, question: Question[Answer], X: Any, arrays: Mapping[str, Any], random_state: Any = None
) -> Answer:
    """Answer a question that has an entry for each row. Rows of a Dask collection are answered lazily."""
    request = request_for(model, question, arrays, random_state)
    if is_collection(X):
        return dask_door().rows_in_blocks(request, X)
    with frees_on_error():
        return question.answer(request.read(X))


@contextmanager
def frees_on_error() -> Iterator[None]:
    """Free local variables of this package's functions on an error, so that its traceback keeps no arrays alive."""
    try:
        yield
    except BaseException as error:
        let_go(error)
        raise


def in_memory(value: Any) -> Any:
    """Return a Dask collection computed; mappings may hold several."""
    if isinstance(value, Mapping):
        return {name: in_memory(entry) for name, entry in value.items()}
    return computed(value)
