"""Every distribution of NumPyro as an outcome: an example of each, and what predictions make of it.

Run as a program, it prints the table of the documentation.
"""

import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms
from tqdm import tqdm

from skaimz import NumPyroImpactRegressor
from skaimz.sampling import Limits, limits
from skaimz.sampling.composed import univariate
from skaimz.sampling.forward import has_mean
from skaimz.sampling.univariate import NoCdfError

# Draws of the posterior, of NumPyro's own sampler, and rows whose densities are compared.
N_DRAWS, N_OWN, N_ROWS = 1000, 20_000, 256
ROWS = np.array([[-0.7], [0.4]])
LEVELS = (0.1, 0.5, 0.9)
# Standard errors that what is right stays within.
WITHIN = 6.0

MATRIX = np.array([[2.0, 0.3], [0.3, 1.0]])
HALF = np.array([[1.0, 0.5], [0.5, 1.0]])


def pair(x):
    return jnp.stack([x, 1.0 + 0.0 * x], -1)


def near(x):
    return dist.Normal(x, 1.0)


# By name, from an array with one entry for each row to a distribution of the rows' outcomes.
EXAMPLES: dict[str, Callable[[Any], dist.Distribution]] = {
    "AsymmetricLaplace": lambda x: dist.AsymmetricLaplace(x, 1.0, 1.5),
    "AsymmetricLaplaceQuantile": lambda x: dist.AsymmetricLaplaceQuantile(x, 1.0, 0.3),
    "BernoulliLogits": lambda x: dist.BernoulliLogits(x),
    "BernoulliProbs": lambda x: dist.BernoulliProbs(jax.nn.sigmoid(x)),
    "Beta": lambda x: dist.Beta(jnp.exp(x), 2.0),
    "BetaBinomial": lambda x: dist.BetaBinomial(jnp.exp(x), 2.0, 10),
    "BetaNegativeBinomial": lambda x: dist.BetaNegativeBinomial(2.0, 9.0 + jnp.exp(x), 3.0),
    "BetaProportion": lambda x: dist.BetaProportion(jax.nn.sigmoid(x), 4.0),
    "BinomialLogits": lambda x: dist.BinomialLogits(x, 10),
    "BinomialProbs": lambda x: dist.BinomialProbs(jax.nn.sigmoid(x), 10),
    "CAR": lambda x: dist.CAR(pair(x), 0.5, 1.0, np.array([[0.0, 1.0], [1.0, 0.0]])),
    "CategoricalLogits": lambda x: dist.CategoricalLogits(pair(x)),
    "CategoricalProbs": lambda x: dist.CategoricalProbs(jax.nn.softmax(pair(x), -1)),
    "Cauchy": lambda x: dist.Cauchy(x, 1.0),
    "Chi2": lambda x: dist.Chi2(2.0 + jnp.exp(x)),
    "CirculantNormal": lambda x: dist.CirculantNormal(
        jnp.stack([x, x, x], -1), covariance_row=jnp.array([1.0, 0.2, 0.2])
    ),
    "Dagum": lambda x: dist.Dagum(6.0, 8.0 + jnp.exp(x), 1.0),
    "Delta": lambda x: dist.Delta(x),
    "Dirichlet": lambda x: dist.Dirichlet(jnp.exp(pair(x))),
    "DirichletMultinomial": lambda x: dist.DirichletMultinomial(jnp.exp(pair(x)), 10),
    "DiscreteUniform": lambda x: dist.DiscreteUniform(-2 + 0 * x.astype(int), 3),
    "DoublyTruncatedPowerLaw": lambda x: dist.DoublyTruncatedPowerLaw(x, 1.0, 3.0),
    "EulerMaruyama": lambda x: dist.EulerMaruyama(
        jnp.arange(3.0) * 0.1, lambda state, _: (-state, 0.5 * jnp.ones_like(state)), near(x)
    ),
    "ExpandedDistribution": lambda x: dist.Normal(0.0, 1.0).expand(x.shape),
    "Exponential": lambda x: dist.Exponential(jnp.exp(x)),
    "FoldedDistribution": lambda x: dist.FoldedDistribution(near(x)),
    "Gamma": lambda x: dist.Gamma(2.0, jnp.exp(x)),
    "GammaPoisson": lambda x: dist.GammaPoisson(2.0, jnp.exp(x)),
    "GaussianCopula": lambda x: dist.GaussianCopula(near(pair(x)), correlation_matrix=HALF),
    "GaussianCopulaBeta": lambda x: dist.GaussianCopulaBeta(jnp.exp(pair(x)), 2 * jnp.ones(2), correlation_matrix=HALF),
    "GaussianRandomWalk": lambda x: dist.GaussianRandomWalk(jnp.exp(x), 3),
    "GaussianStateSpace": lambda x: dist.GaussianStateSpace(
        3, 0.5 * np.eye(2), covariance_matrix=(1 + x**2)[:, None, None] * jnp.eye(2)
    ),
    "GeometricLogits": lambda x: dist.GeometricLogits(x),
    "GeometricProbs": lambda x: dist.GeometricProbs(jax.nn.sigmoid(x)),
    "Gompertz": lambda x: dist.Gompertz(jnp.exp(x), 0.7),
    "Gumbel": lambda x: dist.Gumbel(x, 1.0),
    "HalfCauchy": lambda x: dist.HalfCauchy(jnp.exp(x)),
    "HalfNormal": lambda x: dist.HalfNormal(jnp.exp(x)),
    "HurdleGamma": lambda x: dist.HurdleGamma(0.3, jnp.exp(x), 2.0),
    "HurdleLogNormal": lambda x: dist.HurdleLogNormal(0.3, x, 0.5),
    "HurdleLogits": lambda x: dist.HurdleLogits(dist.Poisson(jnp.exp(x)), 0.3),
    "HurdlePoisson": lambda x: dist.HurdlePoisson(0.3, jnp.exp(x)),
    "HurdleProbs": lambda x: dist.HurdleProbs(dist.VonMises(x, 2.0), 0.3),
    "ImproperUniform": lambda x: dist.ImproperUniform(constraints.real, x.shape, ()),
    "Independent": lambda x: near(pair(x)).to_event(1),
    "IntervalCensoredDistribution": lambda x: dist.IntervalCensoredDistribution(near(x), x > 9, x > 9),
    "InverseGamma": lambda x: dist.InverseGamma(9.0, jnp.exp(x)),
    "InverseWishart": lambda x: dist.InverseWishart(14.0 + jnp.exp(x), scale_matrix=MATRIX),
    "InverseWishartCholesky": lambda x: dist.InverseWishartCholesky(14.0 + jnp.exp(x), scale_matrix=MATRIX),
    "Kumaraswamy": lambda x: dist.Kumaraswamy(jnp.exp(x), 2.0),
    "LKJ": lambda x: dist.LKJ(2, jnp.exp(x)),
    "LKJCholesky": lambda x: dist.LKJCholesky(2, jnp.exp(x)),
    "Laplace": lambda x: dist.Laplace(x, 1.0),
    "LeftCensoredDistribution": lambda x: dist.LeftCensoredDistribution(near(x), x > 9),
    "LeftTruncatedDistribution": lambda x: dist.LeftTruncatedDistribution(near(x), low=0.0),
    "LeftTruncatedGamma": lambda x: dist.LeftTruncatedGamma(dist.Gamma(2.0, jnp.exp(x)), low=0.5),
    "Levy": lambda x: dist.Levy(x, 1.0),
    "LogNormal": lambda x: dist.LogNormal(x, 0.5),
    "LogUniform": lambda x: dist.LogUniform(1.0, 9.0 + jnp.exp(x)),
    "Logistic": lambda x: dist.Logistic(x, 1.0),
    "LowRankMultivariateNormal": lambda x: dist.LowRankMultivariateNormal(pair(x), jnp.ones((2, 1)), jnp.ones(2)),
    "LowerTruncatedPowerLaw": lambda x: dist.LowerTruncatedPowerLaw(-9.0 - jnp.exp(x), 1.0),
    "MaskedDistribution": lambda x: near(x).mask(True),
    "MatrixNormal": lambda x: dist.MatrixNormal(jnp.stack([pair(x), pair(x)], -1), np.eye(2), np.eye(2)),
    "MixtureGeneral": lambda x: dist.MixtureGeneral(
        dist.Categorical(probs=jnp.array([0.3, 0.7])), [near(x), dist.Laplace(x + 2.0, 1.0)]
    ),
    "MixtureSameFamily": lambda x: dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.array([0.3, 0.7])), dist.VonMises(jnp.stack([x, x + 2.0], -1), jnp.array([1.0, 2.0]))
    ),
    "MultinomialLogits": lambda x: dist.MultinomialLogits(pair(x), 10),
    "MultinomialProbs": lambda x: dist.MultinomialProbs(jax.nn.softmax(pair(x), -1), 10),
    "MultivariateNormal": lambda x: dist.MultivariateNormal(pair(x), MATRIX),
    "MultivariateStudentT": lambda x: dist.MultivariateStudentT(9.0, pair(x), np.linalg.cholesky(MATRIX)),
    "NegativeBinomial2": lambda x: dist.NegativeBinomial2(jnp.exp(x), 2.0),
    "NegativeBinomialLogits": lambda x: dist.NegativeBinomialLogits(3.0, x),
    "NegativeBinomialProbs": lambda x: dist.NegativeBinomialProbs(3.0, jax.nn.sigmoid(x)),
    "Normal": near,
    "OrderedLogistic": lambda x: dist.OrderedLogistic(x, jnp.array([-1.0, 1.0])),
    "Pareto": lambda x: dist.Pareto(1.0, 9.0 + jnp.exp(x)),
    "Poisson": lambda x: dist.Poisson(jnp.exp(x)),
    "ProjectedNormal": lambda x: dist.ProjectedNormal(pair(x)),
    "RelaxedBernoulliLogits": lambda x: dist.RelaxedBernoulliLogits(0.7, x),
    "RightCensoredDistribution": lambda x: dist.RightCensoredDistribution(near(x), x > 9),
    "RightTruncatedDistribution": lambda x: dist.RightTruncatedDistribution(near(x), high=0.5),
    "RightTruncatedGamma": lambda x: dist.RightTruncatedGamma(dist.Gamma(2.0, jnp.exp(x)), high=1.0),
    "SineBivariateVonMises": lambda x: dist.SineBivariateVonMises(x, x, 2.0, 2.0, correlation=0.5),
    "SineSkewed": lambda x: dist.SineSkewed(dist.VonMises(x[:, None], 2.0).to_event(1), 0.5 + 0.0 * x[:, None]),
    "SoftLaplace": lambda x: dist.SoftLaplace(x, 1.0),
    "StudentT": lambda x: dist.StudentT(9.0, x, 1.0),
    "TransformedDistribution": lambda x: dist.TransformedDistribution(dist.Normal(x, 0.5), transforms.ExpTransform()),
    "TruncatedPolyaGamma": lambda x: dist.TruncatedPolyaGamma(x.shape),
    "TwoSidedTruncatedDistribution": lambda x: dist.TwoSidedTruncatedDistribution(dist.Cauchy(x, 1.0), -1.0, 2.0),
    "TwoSidedTruncatedGamma": lambda x: dist.TwoSidedTruncatedGamma(dist.Gamma(2.0, jnp.exp(x)), low=0.5, high=2.0),
    "Uniform": lambda x: dist.Uniform(0.0, 2.0 + jnp.exp(x)),
    "Unit": lambda x: dist.Unit(0.0 * x),
    "VonMises": lambda x: dist.VonMises(x, 2.0),
    "Weibull": lambda x: dist.Weibull(jnp.exp(x), 2.0),
    "Wishart": lambda x: dist.Wishart(6.0 + jnp.exp(x), scale_matrix=MATRIX),
    "WishartCholesky": lambda x: dist.WishartCholesky(6.0 + jnp.exp(x), scale_matrix=MATRIX),
    "ZeroInflatedLogits": lambda x: dist.ZeroInflatedLogits(dist.Poisson(jnp.exp(x)), 0.3),
    "ZeroInflatedPoisson": lambda x: dist.ZeroInflatedPoisson(0.3, jnp.exp(x)),
    "ZeroInflatedProbs": lambda x: dist.ZeroInflatedProbs(dist.Poisson(jnp.exp(x)), 0.3),
    "ZeroSumNormal": lambda x: dist.ZeroSumNormal(1.0, (3,)).expand(x.shape),
}


WORDS = {"exact": "exact", "draws": "from draws", "infinite": "infinite or none"}
TITLES = {"mean": "`predict`", "std": "`return_std`", "quantiles": "quantiles", "density": "log density"}


class Answer(NamedTuple):
    """What was found for one quantity.

    Attributes
    ----------
    word : {"exact", "draws", "infinite", "refused", "wrong"}
    why : str
        The message of a refusal, or what is wrong.
    """

    word: str
    why: str = ""


def of_numpyro() -> list[str]:
    """Return the names of all classes of distributions in the module, but the base of all."""
    members = inspect.getmembers(dist, inspect.isclass)
    return sorted(
        name for name, each in members if issubclass(each, dist.Distribution) and each is not dist.Distribution
    )


def kernel_of(distribution: Callable[[Any], dist.Distribution]) -> Callable:
    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", distribution(X[:, 0] + level), obs=y)

    return kernel


def model_of(distribution: Callable[[Any], dist.Distribution], n_draws: int) -> NumPyroImpactRegressor:
    draws = {"level": np.zeros(n_draws)}
    return NumPyroImpactRegressor(kernel_of(distribution), posterior=draws, random_state=0, dtype="float64")


def answers(name: str) -> dict[str, Answer]:
    """Compare what an estimator says of an outcome with NumPyro's own sampler."""
    distribution = EXAMPLES[name]
    # Two rows need no tile of a thousand.
    with mock.patch.object(limits, "DEFAULT", Limits(most_tile_rows=8)), jax.enable_x64(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = _own(distribution, ROWS[:, 0], N_OWN)
        except Exception as error:
            why = Answer("refused", f"NumPyro does not draw from it: {type(error).__name__} {error}".strip())
            return dict.fromkeys(TITLES, why)
        exact = "exact" if has_mean(distribution(jnp.asarray(ROWS[:, 0]))) else "draws"
        model = model_of(distribution, N_DRAWS)
        try:
            mean, std = model.predict(ROWS, return_std=True)
        except (ValueError, TypeError, NotImplementedError) as error:
            return dict.fromkeys(TITLES, Answer("refused", str(error).splitlines()[0]))
        return {
            "mean": _mean(mean, own, exact),
            "std": _std(std, own, exact),
            "quantiles": _attempt(
                lambda: _quantiles(model.predict_quantiles(ROWS, LEVELS), own, _cdf_of(distribution))
            ),
            "density": _attempt(lambda: _density(distribution)),
        }


def _own(distribution: Callable, x: np.ndarray, count: int) -> np.ndarray:
    draw = jax.jit(lambda x, keys: jax.vmap(lambda key: distribution(x).sample(key))(keys))
    return np.asarray(draw(x, jax.random.split(jax.random.key(1), count)), np.float64)


def _attempt(step: Callable[[], Answer]) -> Answer:
    try:
        return step()
    except (ValueError, TypeError, NotImplementedError) as error:
        return Answer("refused", str(error).splitlines()[0])


def _error(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean of draws, of the estimator's and of NumPyro's own together."""
    return values.std(axis=0) * np.sqrt(1 / N_DRAWS + 1 / N_OWN)


def _mean(found: np.ndarray, own: np.ndarray, word: str) -> Answer:
    if not np.isfinite(found).all():
        return Answer("infinite")
    if not _has_moments(own):
        return Answer("draws" if word == "draws" else "wrong", "the distribution has no mean")
    fits = np.abs(found - own.mean(axis=0)) <= WITHIN * _error(own) + 1e-9
    return Answer(word) if fits.all() else Answer("wrong", f"{found} for {own.mean(axis=0)}")


def _std(found: np.ndarray, own: np.ndarray, word: str) -> Answer:
    if not np.isfinite(found).all():
        return Answer("infinite")
    if not _has_moments(own):
        return Answer("draws" if word == "draws" else "wrong", "the distribution has no variance")
    square = (own - own.mean(axis=0)) ** 2
    fits = np.abs(found**2 - square.mean(axis=0)) <= WITHIN * _error(square) + 1e-9
    return Answer(word) if fits.all() else Answer("wrong", f"{found} for {own.std(axis=0)}")


def _has_moments(own: np.ndarray) -> bool:
    """Whether no draw is beyond all measure, as are some of Cauchy's distribution."""
    spread = np.subtract(*np.quantile(own, [0.9, 0.1], axis=0))
    return bool((np.abs(own - np.median(own, axis=0)).max(axis=0) <= 100 * spread + 1e-9).all())


def _cdf_of(distribution: Callable) -> str:
    try:
        univariate(distribution(jnp.asarray(ROWS[:, 0])))
    except NoCdfError:
        return "draws"
    return "exact"


def _quantiles(found: np.ndarray, own: np.ndarray, word: str) -> Answer:
    for place, level in enumerate(LEVELS):
        at, slack = found[..., place], 1e-9 * (1 + np.abs(found[..., place]))
        error = WITHIN * np.sqrt(level * (1 - level) * ((word == "draws") / N_DRAWS + 1 / N_OWN))
        below, upto = (own < at - slack).mean(axis=0), (own <= at + slack).mean(axis=0)
        if not ((below <= level + error) & (upto >= level - error)).all():
            return Answer("wrong", f"{at} at {level}")
    return Answer(word)


def _density(distribution: Callable) -> Answer:
    """Compare densities with the sampler: of a density q, the mean of q over p is 1 over draws from p."""
    x = np.full(N_ROWS, 0.4)
    y = _own(distribution, x, 1)[0]
    found = model_of(distribution, 1).log_predictive_density(x[:, None], y)
    with jax.enable_x64():
        y = y.astype(jax.eval_shape(lambda x: distribution(x).sample(jax.random.key(0)), x).dtype)
        other = np.asarray(jax.jit(lambda x, y: distribution(x).log_prob(y))(x - 0.1, y))
        same = np.asarray(jax.jit(lambda x, y: distribution(x).log_prob(y))(x, y))
    if not np.allclose(found, same, rtol=1e-6, atol=1e-6):
        return Answer("wrong", "it is not NumPyro's")
    # A point has no neighbour with the same support.
    ratio = np.exp((same if isinstance(distribution(x), dist.Delta) else other) - found)
    fits = abs(ratio.mean() - 1) <= WITHIN * ratio.std() / np.sqrt(N_ROWS) + 1e-9
    return Answer("exact") if fits else Answer("wrong", f"the mean ratio is {ratio.mean()}")


def table(found: dict[str, dict[str, Answer]]) -> str:
    """Return a table in Markdown, with the reasons of refusals below it."""
    notes: list[str] = []

    def cell(answer: Answer) -> str:
        if answer.word in WORDS:
            return WORDS[answer.word]
        if answer.why not in notes:
            notes.append(answer.why)
        return f"{answer.word} ({notes.index(answer.why) + 1})"

    lines = [f"| distribution | {' | '.join(TITLES.values())} |", "| --- " * (1 + len(TITLES)) + "|"]
    for name, each in found.items():
        lines.append(f"| `{name}` | {' | '.join(cell(each[key]) for key in TITLES)} |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))])


if __name__ == "__main__":
    everything = {name: answers(name) for name in tqdm(of_numpyro())}
    print(table(everything))
    wrong = [name for name, found in everything.items() if any(each.word == "wrong" for each in found.values())]
    sys.exit(f"wrong: {wrong}" if wrong else 0)
