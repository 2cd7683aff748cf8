"""The estimators, and what other rooms build on: a model, its calls, and questions about rows."""

from skaimz.estimators._arguments import check_count, check_probabilities, check_weight
from skaimz.estimators._base import ImpactEstimator
from skaimz.estimators._classifier import NumPyroImpactClassifier
from skaimz.estimators._columns import Columns
from skaimz.estimators._fitting import fit_kernel
from skaimz.estimators._given import applied, check_order, marked
from skaimz.estimators._model import Call, Model
from skaimz.estimators._parameters import SklearnObject
from skaimz.estimators._pipelines import last_step, unwrapped
from skaimz.estimators._predictions import LogDensities, Scores, among_classes
from skaimz.estimators._predictive_distribution import PredictiveDistribution
from skaimz.estimators._questions import Question, answer_by_row
from skaimz.estimators._read import read
from skaimz.estimators._regressor import NumPyroImpactRegressor
from skaimz.estimators._states import StatePosterior
from skaimz.estimators._training import TrainingData

__all__ = [
    "Call",
    "Columns",
    "ImpactEstimator",
    "LogDensities",
    "Model",
    "NumPyroImpactClassifier",
    "NumPyroImpactRegressor",
    "PredictiveDistribution",
    "Question",
    "Scores",
    "SklearnObject",
    "StatePosterior",
    "TrainingData",
    "among_classes",
    "answer_by_row",
    "applied",
    "check_count",
    "check_order",
    "check_probabilities",
    "check_weight",
    "fit_kernel",
    "last_step",
    "marked",
    "read",
    "unwrapped",
]
