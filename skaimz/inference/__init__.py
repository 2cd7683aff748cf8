"""How posterior draws come to be: settings, and the compiled fits behind them."""

from skaimz.inference.blackjax import BlackJAX
from skaimz.inference.chunks import Progress
from skaimz.inference.data import Data, bucket, pad_rows
from skaimz.inference.densities import log_densities
from skaimz.inference.facts import facts_of
from skaimz.inference.guides import guide_function
from skaimz.inference.nested import NestedSampling
from skaimz.inference.nutpie import Nutpie
from skaimz.inference.parameters import picklable
from skaimz.inference.protocol import Draws, Posterior, Run, Sampler
from skaimz.inference.resolve import resolve_inference
from skaimz.inference.result import FitResult
from skaimz.inference.run import fit, partial_fit, resume
from skaimz.inference.settings import MCMC, SVI, Auto
from skaimz.inference.states import log_likelihoods, state_probabilities
from skaimz.inference.stein import SteinVI

__all__ = [
    "MCMC",
    "SVI",
    "Auto",
    "BlackJAX",
    "Data",
    "Draws",
    "FitResult",
    "NestedSampling",
    "Nutpie",
    "Posterior",
    "Progress",
    "Run",
    "Sampler",
    "SteinVI",
    "bucket",
    "facts_of",
    "fit",
    "guide_function",
    "log_densities",
    "log_likelihoods",
    "pad_rows",
    "partial_fit",
    "picklable",
    "resolve_inference",
    "resume",
    "state_probabilities",
]
