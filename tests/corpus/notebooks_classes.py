"""Models of the notebooks ordinal_regression, gmm, model_rendering and tbip: classes, seen and hidden."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts, svi
from jax import nn, random
from numpyro import handlers
from numpyro.distributions import constraints, transforms
from numpyro.infer import TraceEnum_ELBO, init_to_value
from numpyro.infer.autoguide import AutoDelta

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]

N_CLASSES = 3

# ordinal_regression: three priors for the ordered points at which one class follows another.


def ordinal_improper(X, Y=None):
    """A flat prior, to which a site with an observed value adds a normal density."""
    slope = numpyro.sample("b_X_eta", dist.Normal(0.0, 5.0))
    flat = dist.ImproperUniform(constraints.ordered_vector, (), event_shape=(N_CLASSES - 1,))
    cuts = numpyro.sample("c_y", flat)
    numpyro.sample("c_y_norm", dist.Normal(0.0, 1.0).expand([N_CLASSES - 1]).to_event(1), obs=cuts)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("Y", dist.OrderedLogistic(X * slope, cuts), obs=Y)


def ordinal_transformed(X, Y=None):
    slope = numpyro.sample("b_X_eta", dist.Normal(0.0, 5.0))
    free = dist.Normal(0.0, 1.0).expand([N_CLASSES - 1]).to_event(1)
    cuts = numpyro.sample("c_y", dist.TransformedDistribution(free, transforms.OrderedTransform()))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("Y", dist.OrderedLogistic(X * slope, cuts), obs=Y)


def ordinal_simplex(X, Y=None):
    """The prior is one of the shares of classes at the mean of X."""
    slope = numpyro.sample("b_X_eta", dist.Normal(0.0, 5.0))
    shares = dist.Dirichlet(jnp.ones(N_CLASSES))
    cuts = numpyro.sample("c_y", dist.TransformedDistribution(shares, transforms.SimplexToOrderedTransform(0.0)))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("Y", dist.OrderedLogistic((X - X.mean()) * slope, cuts), obs=Y)


# gmm: a mixture, whose components are summed over.


def mixture(index, data=None):
    weights = numpyro.sample("weights", dist.Dirichlet(0.5 * jnp.ones(2)))
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with numpyro.plate("components", 2):
        locs = numpyro.sample("locs", dist.Normal(0.0, 10.0))
    with numpyro.plate("data", len(index)):
        component = numpyro.sample("component", dist.Categorical(weights), infer={"enumerate": "parallel"})
        numpyro.sample("obs", dist.Normal(locs[component], scale), obs=data)


# model_rendering


def rendered(index, data=None):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    sd = numpyro.sample("sd", dist.LogNormal(m, 1.0))
    with numpyro.plate("N", len(index)):
        numpyro.sample("obs", dist.Normal(m, sd), obs=data)


def mace(item, annotations=None, *, positions):
    """Annotators, one for each column of the outcome, know the class of an item or guess."""
    n_annotators, n_positions = int(np.max(positions)) + 1, positions.shape[0]
    with numpyro.plate("annotator", n_annotators):
        epsilon = numpyro.sample("epsilon", dist.Dirichlet(jnp.full(N_CLASSES, 10.0)))
        theta = numpyro.sample("theta", dist.Beta(0.5, 0.5))
    with numpyro.plate("item", item.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(logits=jnp.zeros(N_CLASSES)), infer={"enumerate": "parallel"})
        with numpyro.plate("position", n_positions):
            guessed = dist.Bernoulli(1.0 - theta[positions])
            s = numpyro.sample("s", guessed, infer={"enumerate": "parallel"})
            chance = jnp.where(s[..., None] == 0, nn.one_hot(c, N_CLASSES), epsilon[positions])
            numpyro.sample("y", dist.Categorical(chance), obs=annotations)


class IdealPoints:
    """tbip: which words authors use for a topic depends on where they stand; a guide with a parameter for each latent.

    The kernel is a method of an object, and so is the guide.
    """

    def __init__(self, n_authors, n_documents, n_topics, n_words, batch_size=None):
        self.n_authors, self.n_documents = n_authors, n_documents
        self.n_topics, self.n_words, self.batch_size = n_topics, n_words, batch_size

    def model(self, author, counts=None):
        with numpyro.plate("authors", self.n_authors):
            x = numpyro.sample("x", dist.Normal())
        with numpyro.plate("topics", self.n_topics, dim=-2), numpyro.plate("topic_words", self.n_words, dim=-1):
            beta = numpyro.sample("beta", dist.Gamma(2.0, 2.0))
            eta = numpyro.sample("eta", dist.Normal(0.0, 0.5))
        with numpyro.plate("documents", self.n_documents, subsample_size=self.batch_size, dim=-2) as rows:
            with numpyro.plate("document_topics", self.n_topics, dim=-1):
                theta = numpyro.sample("theta", dist.Gamma(2.0, 2.0))
            stance = jnp.exp(x[jnp.asarray(author)[rows], None, None] * eta)
            rate = jnp.sum(theta[:, :, None] * beta * stance, axis=1)
            with numpyro.plate("words", self.n_words, dim=-1):
                seen = None if counts is None else jnp.asarray(counts)[rows]
                numpyro.sample("counts", dist.Poisson(rate), obs=seen)

    def guide(self, author, counts=None):
        def located(name, shape, number):
            loc = numpyro.param(f"mu_{name}", 0.3 * random.normal(random.PRNGKey(number), shape))
            return loc, numpyro.param(f"sigma_{name}", 0.3 * jnp.ones(shape), constraint=constraints.positive)

        x = located("x", (self.n_authors,), 0)
        eta = located("eta", (self.n_topics, self.n_words), 1)
        beta = located("beta", (self.n_topics, self.n_words), 2)
        loc, scale = located("theta", (self.n_documents, self.n_topics), 3)
        with numpyro.plate("authors", self.n_authors):
            numpyro.sample("x", dist.Normal(*x))
        with numpyro.plate("topics", self.n_topics, dim=-2), numpyro.plate("topic_words", self.n_words, dim=-1):
            numpyro.sample("beta", dist.LogNormal(*beta))
            numpyro.sample("eta", dist.Normal(*eta))
        documents = numpyro.plate("documents", self.n_documents, subsample_size=self.batch_size, dim=-2)
        with documents as rows, numpyro.plate("document_topics", self.n_topics, dim=-1):
            numpyro.sample("theta", dist.LogNormal(loc[rows], scale[rows]))


def grades():
    rng = np.random.default_rng(0)
    Y = rng.integers(0, N_CLASSES, size=60)
    return rng.normal(size=60) + Y, Y


def two_groups(n=80):
    rng = np.random.default_rng(1)
    return np.arange(n), np.where(rng.random(n) < 0.4, 1.0, 8.0) + rng.normal(size=n)


def annotated(n=40):
    """Seven annotations of each item by five annotators, who know the class in between 50 and 90 per cent."""
    rng = np.random.default_rng(2)
    positions = np.array([0, 0, 0, 1, 2, 3, 4])
    c = rng.integers(0, N_CLASSES, size=(n, 1))
    knows = rng.random((n, 7)) < np.array([0.9, 0.8, 0.7, 0.6, 0.5])[positions]
    return np.arange(n), np.where(knows, c, rng.integers(0, N_CLASSES, size=(n, 7))), positions


def speeches(n_documents=30, n_words=8):
    rng = np.random.default_rng(3)
    author = np.repeat(np.arange(5), n_documents // 5)
    stance = np.exp(rng.normal(size=5)[author, None, None] * rng.normal(size=(2, n_words)))
    theta, beta = rng.gamma(2.0, 1.0, size=(n_documents, 2, 1)), rng.gamma(1.0, 1.0, size=(2, n_words))
    return author, rng.poisson(np.sum(theta * beta * stance, axis=1))


def with_positions():
    item, annotations, positions = annotated()
    return item, annotations, {"positions": positions}


# Labels of components are those of the start.
START = {"weights": np.array([0.5, 0.5]), "scale": np.array(1.0), "locs": np.array([1.0, 8.0])}
SPEECHES, SPEECHES_IN_BATCHES = IdealPoints(5, 30, 2, 8), IdealPoints(5, 30, 2, 8, batch_size=10)

CASES = [
    *(
        Case(
            name=f"grades, {name}",
            source="notebooks/source/ordinal_regression.ipynb",
            construct=construct,
            kernel=kernel,
            data=lambda: (*grades(), {}),
            inference=nuts(kernel),
            estimator=NumPyroImpactClassifier,
            settings={"param_output": "Y"},
        )
        for name, kernel, construct in (
            ("improper prior", ordinal_improper, "`ImproperUniform`, and an observed latent value"),
            ("ordered prior", ordinal_transformed, "`OrderedTransform`"),
            ("prior of shares", ordinal_simplex, "`SimplexToOrderedTransform`, rows centred by the kernel"),
        )
    ),
    Case(
        name="mixture, by its mode",
        source="notebooks/source/gmm.ipynb",
        construct="`TraceEnum_ELBO`, `AutoDelta` of a blocked kernel",
        kernel=mixture,
        data=lambda: (*two_groups(), {}),
        inference=svi(
            lambda: AutoDelta(handlers.block(mixture, hide=["component"]), init_loc_fn=init_to_value(values=START)),
            rate=0.05,
            loss=TraceEnum_ELBO(),
        ),
        settings={"param_input": "index", "param_output": "data"},
    ),
    Case(
        name="mixture, by chains",
        source="notebooks/source/gmm.ipynb",
        construct="a component for each row that is summed over",
        kernel=mixture,
        data=lambda: (*two_groups(), {}),
        inference=nuts(mixture, init_strategy=init_to_value(values=START)),
        settings={"param_input": "index", "param_output": "data"},
    ),
    Case(
        name="rendered",
        source="notebooks/source/model_rendering.ipynb",
        construct="an input of which only the length counts",
        kernel=rendered,
        data=lambda: (*two_groups(), {}),
        inference=nuts(rendered),
        settings={"param_input": "index", "param_output": "data"},
    ),
    Case(
        name="annotators who guess",
        source="notebooks/source/model_rendering.ipynb",
        construct="two sites that are summed over, one in each of two plates, `int(np.max(...))`",
        kernel=mace,
        data=with_positions,
        inference=nuts(mace),
        settings={"param_input": "item", "param_output": "annotations"},
    ),
    *(
        Case(
            name=f"ideal points, {name}",
            source="notebooks/source/tbip.ipynb",
            construct=construct,
            kernel=speeches_of.model,
            data=lambda: (*speeches(), {}),
            inference=svi(lambda speeches_of=speeches_of: speeches_of.guide),
            settings={"param_input": "author", "param_output": "counts"},
            kernel_of_all_rows=SPEECHES.model,
            local=dict.fromkeys(("x", "beta", "eta", "theta"), "runs from other seeds find other optima"),
        )
        for name, speeches_of, construct in (
            ("all documents", SPEECHES, "a method as kernel and one as guide, outcomes of rank 2"),
            ("in batches", SPEECHES_IN_BATCHES, "`subsample_size` in the kernel and the guide"),
        )
    ),
]
