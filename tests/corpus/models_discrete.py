"""Discrete latent sites of NumPyro's examples: annotation, capture and recapture, hidden Markov models, mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from corpus.case import Case
from corpus.settings import nuts, svi
from jax.scipy.special import expit, logit
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.contrib.funsor import config_enumerate
from numpyro.distributions import constraints
from numpyro.infer import TraceEnum_ELBO, init_to_value
from numpyro.infer.reparam import LocScaleReparam
from numpyro.ops.indexing import Vindex

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]

N_CLASSES, N_ANNOTATORS = 3, 4


# Items that several annotators label: the input says who, the outcome is what they say.
def annotations():
    rng = np.random.default_rng(0)
    truth = rng.choice(N_CLASSES, p=[0.5, 0.3, 0.2], size=30)
    confusion = 0.8 * np.eye(N_CLASSES) + 0.2 / N_CLASSES
    annotators = np.tile(np.array([0, 0, 1, 2, 3]), (30, 1))
    labels = np.array([[rng.choice(N_CLASSES, p=confusion[t]) for _ in range(5)] for t in truth])
    return annotators, labels, {}


def with_counts():
    annotators, labels, _ = annotations()
    return annotators, labels, {"n_labels": N_CLASSES, "n_annotators": N_ANNOTATORS}


def prior_of_categories(n_labels):
    return numpyro.sample("pi", dist.Dirichlet(jnp.ones(n_labels)))


def multinomial(annotators, annotations=None, n_labels=3, n_annotators=4):
    with numpyro.plate("class", n_labels):
        zeta = numpyro.sample("zeta", dist.Dirichlet(jnp.ones(n_labels) + 5 * jnp.eye(n_labels)))
    pi = prior_of_categories(n_labels)
    with numpyro.plate("item", annotators.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
        with numpyro.plate("position", annotators.shape[1]):
            numpyro.sample("y", dist.Categorical(zeta[c]), obs=annotations)


def dawid_skene(annotators, annotations=None, n_labels=3, n_annotators=4):
    with numpyro.plate("annotator", n_annotators, dim=-2), numpyro.plate("class", n_labels):
        beta = numpyro.sample("beta", dist.Dirichlet(jnp.ones(n_labels) + 5 * jnp.eye(n_labels)))
    pi = prior_of_categories(n_labels)
    with numpyro.plate("item", annotators.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
        with numpyro.plate("position", annotators.shape[1]):
            numpyro.sample("y", dist.Categorical(Vindex(beta)[annotators, c, :]), obs=annotations)


def dawid_skene_counting(annotators, annotations=None):
    """The numbers of annotators and labels are read from the data."""
    n_annotators = int(np.max(annotators)) + 1
    n_labels = N_CLASSES if annotations is None else int(np.max(annotations)) + 1
    dawid_skene(annotators, annotations, n_labels, n_annotators)


def mace(annotators, annotations=None, n_labels=3, n_annotators=4):
    with numpyro.plate("annotator", n_annotators):
        epsilon = numpyro.sample("epsilon", dist.Dirichlet(jnp.full(n_labels, 10.0)))
        theta = numpyro.sample("theta", dist.Beta(0.5, 0.5))
    with numpyro.plate("item", annotators.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(logits=jnp.zeros(n_labels)), infer={"enumerate": "parallel"})
        with numpyro.plate("position", annotators.shape[1]):
            guesses = numpyro.sample("s", dist.Bernoulli(1 - theta[annotators]), infer={"enumerate": "parallel"})
            probs = jnp.where(guesses[..., None] == 0, jax.nn.one_hot(c, n_labels), epsilon[annotators])
            numpyro.sample("y", dist.Categorical(probs), obs=annotations)


def padded(logits):
    return jnp.pad(logits, [(0, 0)] * (jnp.ndim(logits) - 1) + [(0, 1)])


def hierarchical_dawid_skene(annotators, annotations=None, n_labels=3, n_annotators=4):
    with numpyro.plate("class", n_labels):
        zeta = numpyro.sample("zeta", dist.Normal(3 * jnp.eye(n_labels)[:, :-1], 1).to_event(1))
        omega = numpyro.sample("omega", dist.HalfNormal(1).expand([n_labels - 1]).to_event(1))
    non_centred = handlers.reparam(config={"beta": LocScaleReparam(0)})
    with numpyro.plate("annotator", n_annotators, dim=-2), numpyro.plate("class", n_labels), non_centred:
        beta = numpyro.sample("beta", dist.Normal(zeta, omega).to_event(1))
    pi = prior_of_categories(n_labels)
    with numpyro.plate("item", annotators.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
        with numpyro.plate("position", annotators.shape[1]):
            logits = Vindex(padded(beta))[annotators, c, :]
            numpyro.sample("y", dist.Categorical(logits=logits), obs=annotations)


def item_difficulty(annotators, annotations=None, n_labels=3, n_annotators=4):
    with numpyro.plate("class", n_labels):
        eta = numpyro.sample("eta", dist.Normal(3 * jnp.eye(n_labels)[:, :-1], 1).to_event(1))
        chi = numpyro.sample("chi", dist.HalfNormal(1).expand([n_labels - 1]).to_event(1))
    pi = prior_of_categories(n_labels)
    with numpyro.plate("item", annotators.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
        with handlers.reparam(config={"theta": LocScaleReparam(0)}):
            theta = numpyro.sample("theta", dist.Normal(eta[c], chi[c]).to_event(1))
        with numpyro.plate("position", annotators.shape[1]):
            numpyro.sample("y", dist.Categorical(logits=padded(theta)), obs=annotations)


def logistic_random_effects(annotators, annotations=None, n_labels=3, n_annotators=4):
    with numpyro.plate("class", n_labels):
        zeta = numpyro.sample("zeta", dist.Normal(3 * jnp.eye(n_labels)[:, :-1], 1).to_event(1))
        omega = numpyro.sample("omega", dist.HalfNormal(1).expand([n_labels - 1]).to_event(1))
        chi = numpyro.sample("chi", dist.HalfNormal(1).expand([n_labels - 1]).to_event(1))
    non_centred = handlers.reparam(config={"beta": LocScaleReparam(0)})
    with numpyro.plate("annotator", n_annotators, dim=-2), numpyro.plate("class", n_labels), non_centred:
        beta = numpyro.sample("beta", dist.Normal(zeta, omega).to_event(1))
    pi = prior_of_categories(n_labels)
    with numpyro.plate("item", annotators.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
        with handlers.reparam(config={"theta": LocScaleReparam(0)}):
            theta = numpyro.sample("theta", dist.Normal(0, chi[c]).to_event(1))
        with numpyro.plate("position", annotators.shape[1]):
            logits = Vindex(padded(beta))[annotators, c, :] - padded(theta)
            numpyro.sample("y", dist.Categorical(logits=logits), obs=annotations)


ANNOTATION = [
    Case(
        name=f"annotation, {kernel.__name__.replace('_', ' ')}",
        source="examples/annotation.py",
        construct=construct,
        kernel=kernel,
        data=data,
        inference=nuts(kernel),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "annotators", "param_output": "annotations"},
    )
    for kernel, data, construct in (
        (multinomial, with_counts, "an enumerated class of each row, several labels a row"),
        (dawid_skene, with_counts, "`Vindex` by integers of the input and an enumerated site"),
        (dawid_skene_counting, annotations, "numbers of labels and annotators read from the data"),
        (mace, with_counts, "two enumerated sites, one within the other's plate"),
        (hierarchical_dawid_skene, with_counts, "enumeration with `LocScaleReparam`"),
        (item_difficulty, with_counts, "an enumerated site that decides a latent site of the row"),
        (logistic_random_effects, with_counts, "enumeration with two levels of random effects"),
    )
]


# Animals that are caught, marked and caught again: their sex is the input, their history the outcome.
def animals():
    rng = np.random.default_rng(1)
    sex = rng.integers(2, size=40)
    alive, history = np.ones(40, bool), np.zeros((40, 5), int)
    history[:, 0] = rng.random(40) < 0.7
    marked = history[:, 0].astype(bool)
    for t in range(1, 5):
        alive &= ~marked | (rng.random(40) < np.where(sex == 1, 0.8, 0.6))
        history[:, t] = np.where(marked, alive & (rng.random(40) < 0.7), rng.random(40) < 0.3)
        marked |= history[:, t].astype(bool)
    return sex, history, {"n_times": 5}


def histories(sex, history, n_times, survival, seen):
    """Scan over times; `survival` may sample sites of each time."""
    n_animals = sex.shape[0]

    def step(carry, y):
        marked, z = carry
        phi = survival()
        with numpyro.plate("animals", n_animals, dim=-1), handlers.mask(mask=marked):
            alive = marked * phi * z + (1 - marked)
            z = numpyro.sample("z", dist.Bernoulli(dist.util.clamp_probs(alive)), infer={"enumerate": "parallel"})
            y = numpyro.sample("y", dist.Bernoulli(dist.util.clamp_probs(seen * z)), obs=y)
        return (marked | y.astype(bool), z), None

    z = jnp.ones(n_animals, dtype=int)
    if history is None:
        scan(step, (jnp.ones(n_animals, bool), z), None, length=n_times - 1)
    else:
        scan(step, (history[:, 0].astype(bool), z), jnp.swapaxes(history[:, 1:], 0, 1))


def constant_survival(sex, history=None, n_times=5):
    phi = numpyro.sample("phi", dist.Uniform(0.0, 1.0))
    seen = numpyro.sample("seen", dist.Uniform(0.0, 1.0))
    histories(sex, history, n_times, lambda: phi, seen)


def survival_by_time(sex, history=None, n_times=5):
    """A normal site, because NumPyro 0.22 does not enumerate next to bounded sites of a scan."""
    seen = numpyro.sample("seen", dist.Uniform(0.0, 1.0))
    histories(sex, history, n_times, lambda: expit(numpyro.sample("phi", dist.Normal(0.0, 1.5))), seen)


def survival_of_random_time(sex, history=None, n_times=5):
    mean = logit(numpyro.sample("mean", dist.Uniform(0.0, 1.0)))
    sigma = numpyro.sample("sigma", dist.Uniform(0.0, 10.0))
    seen = numpyro.sample("seen", dist.Uniform(0.0, 1.0))

    def survival():
        with handlers.reparam(config={"phi": LocScaleReparam(0)}):
            return expit(numpyro.sample("phi", dist.Normal(mean, sigma)))

    histories(sex, history, n_times, survival, seen)


def survival_by_sex(sex, history=None, n_times=5):
    male = numpyro.sample("male", dist.Uniform(0.0, 1.0))
    female = numpyro.sample("female", dist.Uniform(0.0, 1.0))
    phi = sex * male + (1.0 - sex) * female
    seen = numpyro.sample("seen", dist.Uniform(0.0, 1.0))
    histories(sex, history, n_times, lambda: phi, seen)


def survival_by_sex_and_time(sex, history=None, n_times=5):
    difference = sex * numpyro.sample("difference", dist.Normal(0.0, 2.0))
    seen = numpyro.sample("seen", dist.Uniform(0.0, 1.0))
    histories(sex, history, n_times, lambda: expit(difference + numpyro.sample("gamma", dist.Normal(0.0, 2.0))), seen)


NOT_IN_THE_FIRST_STEP = {
    "phi_decentered": "NumPyro's scan does not reparametrise its first step, and has a site of another name there"
}
CAPTURE = [
    Case(
        name=f"capture and recapture, {kernel.__name__.replace('_', ' ')}",
        source="examples/capture_recapture.py",
        construct=construct,
        kernel=kernel,
        data=animals,
        inference=nuts(kernel),
        settings={"param_input": "sex", "param_output": "history"},
        local=NOT_IN_THE_FIRST_STEP if kernel is survival_of_random_time else {},
    )
    for kernel, construct in (
        (constant_survival, "`scan` with an enumerated site and a mask"),
        (survival_by_time, "a latent site of each time within `scan`"),
        (survival_of_random_time, "`LocScaleReparam` within `scan`"),
        (survival_by_sex, "a parameter for each group of rows"),
        (survival_by_sex_and_time, "effects of rows and of times"),
    )
]


# Sequences of chords: the lengths are the input, the tones the outcome.
def chords():
    rng = np.random.default_rng(2)
    lengths = rng.integers(4, 7, size=12)
    tones = np.zeros((12, 6, 3), int)
    for row in range(12):
        state = 0
        for t in range(6):
            state = rng.choice(2, p=[[0.8, 0.2], [0.3, 0.7]][state])
            tones[row, t] = rng.random(3) < [[0.9, 0.2, 0.1], [0.1, 0.3, 0.8]][state]
    tones *= np.arange(6)[None, :, None] < lengths[:, None, None]
    return lengths, tones, {"hidden": 2, "n_tones": 3, "n_times": 6}


def transitions(name, hidden):
    return numpyro.sample(name, dist.Dirichlet(4.0 * jnp.eye(hidden) + 1.0).to_event(1))


def emissions(*shape):
    """Beta priors that tell the states apart."""
    low = jnp.linspace(1.0, 6.0, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return numpyro.sample("probs_y", dist.Beta(7.0 - low, low).expand(shape).to_event(len(shape)))


def over_time(step, start, tones, n_times):
    xs = None if tones is None else jnp.swapaxes(tones, 0, 1)
    scan(step, start, xs, length=n_times)


def simple_hmm(lengths, tones=None, hidden=2, n_tones=3, n_times=6):
    n_rows = lengths.shape[0]
    probs_x, probs_y = transitions("probs_x", hidden), emissions(hidden, n_tones)

    def step(carry, y):
        x, t = carry
        with numpyro.plate("sequences", n_rows, dim=-2), handlers.mask(mask=(t < lengths)[..., None]):
            x = numpyro.sample("x", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
            with numpyro.plate("tones", n_tones, dim=-1):
                numpyro.sample("y", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=y)
        return (x, t + 1), None

    over_time(step, (jnp.zeros((n_rows, 1), dtype=int), 0), tones, n_times)


def autoregressive_hmm(lengths, tones=None, hidden=2, n_tones=3, n_times=6):
    n_rows = lengths.shape[0]
    probs_x, probs_y = transitions("probs_x", hidden), emissions(hidden, 2, n_tones)

    def step(carry, y):
        x, before, t = carry
        with numpyro.plate("sequences", n_rows, dim=-2), handlers.mask(mask=(t < lengths)[..., None]):
            x = numpyro.sample("x", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
            with numpyro.plate("tones", n_tones, dim=-1) as tone:
                y = numpyro.sample("y", dist.Bernoulli(probs_y[x, before, tone]), obs=y)
        return (x, y, t + 1), None

    start = (jnp.zeros((n_rows, 1), dtype=int), jnp.zeros((n_rows, n_tones), dtype=int), 0)
    over_time(step, start, tones, n_times)


def factorial_hmm(lengths, tones=None, hidden=2, n_tones=3, n_times=6):
    n_rows = lengths.shape[0]
    probs_w, probs_x = transitions("probs_w", hidden), transitions("probs_x", hidden)
    probs_y = emissions(hidden, hidden, n_tones)

    def step(carry, y):
        w, x, t = carry
        with numpyro.plate("sequences", n_rows, dim=-2), handlers.mask(mask=(t < lengths)[..., None]):
            w = numpyro.sample("w", dist.Categorical(probs_w[w]), infer={"enumerate": "parallel"})
            x = numpyro.sample("x", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
            with numpyro.plate("tones", n_tones, dim=-1) as tone:
                numpyro.sample("y", dist.Bernoulli(probs_y[w, x, tone]), obs=y)
        return (w, x, t + 1), None

    start = jnp.zeros((n_rows, 1), dtype=int)
    over_time(step, (start, start, 0), tones, n_times)


def bayesian_network_in_time(lengths, tones=None, hidden=2, n_tones=3, n_times=6):
    n_rows = lengths.shape[0]
    probs_w = transitions("probs_w", hidden)
    probs_x = numpyro.sample("probs_x", dist.Dirichlet(4.0 * jnp.eye(hidden) + 1.0).expand_by([hidden]).to_event(2))
    probs_y = emissions(hidden, hidden, n_tones)

    def step(carry, y):
        w, x, t = carry
        with numpyro.plate("sequences", n_rows, dim=-2), handlers.mask(mask=(t < lengths)[..., None]):
            w = numpyro.sample("w", dist.Categorical(probs_w[w]), infer={"enumerate": "parallel"})
            x = numpyro.sample("x", dist.Categorical(Vindex(probs_x)[w, x]), infer={"enumerate": "parallel"})
            with numpyro.plate("tones", n_tones, dim=-1) as tone:
                numpyro.sample("y", dist.Bernoulli(probs_y[w, x, tone]), obs=y)
        return (w, x, t + 1), None

    start = jnp.zeros((n_rows, 1), dtype=int)
    over_time(step, (start, start, 0), tones, n_times)


def second_order_hmm(lengths, tones=None, hidden=2, n_tones=3, n_times=6):
    n_rows = lengths.shape[0]
    prior = jnp.broadcast_to(4.0 * jnp.eye(hidden) + 1.0, (hidden, hidden, hidden))
    probs_x = numpyro.sample("probs_x", dist.Dirichlet(prior).to_event(2))
    probs_y = emissions(hidden, n_tones)

    def step(carry, y):
        x_before, x, t = carry
        with numpyro.plate("sequences", n_rows, dim=-2), handlers.mask(mask=(t < lengths)[..., None]):
            probs = Vindex(probs_x)[x_before, x]
            x_before, x = x, numpyro.sample("x", dist.Categorical(probs), infer={"enumerate": "parallel"})
            with numpyro.plate("tones", n_tones, dim=-1):
                numpyro.sample("y", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=y)
        return (x_before, x, t + 1), None

    start = jnp.zeros((n_rows, 1), dtype=int)
    scan(step, (start, start, 0), None if tones is None else jnp.swapaxes(tones, 0, 1), length=n_times, history=2)


def looped_hmm(lengths, tones=None, hidden=2, n_tones=3, n_times=6):
    """A Python loop over times, as in the example before it had scan."""
    probs_x, probs_y = transitions("probs_x", hidden), emissions(hidden, n_tones)
    x = 0
    with numpyro.plate("sequences", lengths.shape[0], dim=-2):
        for t in range(n_times):
            with handlers.mask(mask=(t < lengths)[..., None]):
                x = numpyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                with numpyro.plate("tones", n_tones, dim=-1):
                    y = None if tones is None else tones[:, t]
                    numpyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=y)


HMM = [
    Case(
        name=f"HMM, {kernel.__name__.replace('_', ' ').replace('hmm', 'HMM')}",
        source="examples/hmm_enum.py",
        construct=construct,
        kernel=kernel,
        data=chords,
        inference=nuts(kernel, warmup=200, draws=200),
        settings={"param_input": "lengths", "param_output": "tones"},
    )
    for kernel, construct in (
        (simple_hmm, "`scan` enumeration; y of rank 3 and rows of different lengths"),
        (autoregressive_hmm, "`scan` enumeration, an outcome that depends on the one before"),
        (factorial_hmm, "`scan` enumeration of two chains"),
        (bayesian_network_in_time, "`scan` enumeration of two chains that depend on each other"),
        (second_order_hmm, "`scan` enumeration with `history=2`"),
        (looped_hmm, "a loop over times, a site for each"),
    )
]


# A chain of three binary variables, of which the middle one is hidden.
def chain():
    rng = np.random.default_rng(3)
    a = (rng.random(200) < 0.4).astype(int)
    b = (rng.random(200) < np.array([0.1, 0.9])[a]).astype(int)
    return a, (rng.random(200) < np.array([0.15, 0.8])[b]).astype(int), {}


@config_enumerate
def hidden_middle(first, last=None):
    p_a = numpyro.sample("p_a", dist.Beta(1, 1))
    p_b = numpyro.sample("p_b", dist.Beta(jnp.array([1.0, 4.0]), jnp.array([4.0, 1.0])).to_event(1))
    p_c = numpyro.sample("p_c", dist.Beta(jnp.array([1.0, 4.0]), jnp.array([4.0, 1.0])).to_event(1))
    with numpyro.plate("data", first.shape[0]):
        a = numpyro.sample("a", dist.Bernoulli(p_a), obs=first)
        b = numpyro.sample("b", dist.Bernoulli(Vindex(p_b)[a]), infer={"enumerate": "parallel"})
        numpyro.sample("c", dist.Bernoulli(Vindex(p_c)[b]), obs=last)


def guide_of_chain(first, last=None):
    a = numpyro.param("shape_a", jnp.array([1.0, 10.0]), constraint=constraints.positive)
    numpyro.sample("p_a", dist.Beta(a[0], a[1]))
    b = numpyro.param("shape_b", jnp.array([[1.0, 10.0], [10.0, 1.0]]), constraint=constraints.positive)
    numpyro.sample("p_b", dist.Beta(b[:, 0], b[:, 1]).to_event(1))
    c = numpyro.param("shape_c", jnp.array([[1.0, 10.0], [10.0, 1.0]]), constraint=constraints.positive)
    numpyro.sample("p_c", dist.Beta(c[:, 0], c[:, 1]).to_event(1))


# Pairs of angles in a mixture: the input has nothing to say.
def angles():
    rng = np.random.default_rng(4)
    centre = np.array([[-1.5, -0.7], [-1.1, 2.4]])[rng.integers(2, size=60)]
    pairs = (centre + 0.25 * rng.normal(size=(60, 2)) + np.pi) % (2 * np.pi) - np.pi
    # In double precision, NumPyro does not draw from the distribution.
    return np.zeros((60, 1), np.float32), pairs.astype(np.float32), {"n_components": 2}


@config_enumerate
def mixture_of_angles(X, pairs=None, n_components=2):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(n_components)))
    mean = numpyro.sample("mean", dist.Beta(2.0, 2.0).expand([2]).to_event(1))
    count = numpyro.sample("count", dist.Gamma(2.0, 1.0 / n_components).expand([2]).to_event(1))
    with numpyro.plate("mixture", n_components):
        phi = numpyro.sample("phi", dist.VonMises(-jnp.pi / 3, 2.0))
        psi = numpyro.sample("psi", dist.VonMises(jnp.array([-0.7, 2.4]), 2.0))
        phi_conc = numpyro.sample("phi_conc", dist.Beta(mean[0] * count[0] + 1, (1 - mean[0]) * count[0] + 1))
        psi_conc = numpyro.sample("psi_conc", dist.Beta(mean[1] * count[1] + 1, (1 - mean[1]) * count[1] + 1))
        corr = numpyro.sample("corr", dist.Beta(2.0, 10.0))
        skew_phi = numpyro.sample("skew_phi", dist.Uniform(-1.0, 1.0))
        skew_psi = (1 - jnp.abs(skew_phi)) * numpyro.sample("skew_psi", dist.Uniform(-1.0, 1.0))
        skewness = jnp.stack([skew_phi, skew_psi], axis=-1)
    with numpyro.plate("rows", X.shape[0], dim=-1):
        k = numpyro.sample("component", dist.Categorical(weights), infer={"enumerate": "parallel"})
        sine = dist.SineBivariateVonMises(
            phi_loc=phi[k],
            psi_loc=psi[k],
            phi_concentration=70 * phi_conc[k],
            psi_concentration=70 * psi_conc[k],
            weighted_correlation=corr[k],
        )
        numpyro.sample("pairs", dist.SineSkewed(sine, skewness[k]), obs=pairs)


CASES = [
    *ANNOTATION,
    *CAPTURE,
    *HMM,
    Case(
        name="toy mixture with enumeration",
        source="examples/toy_mixture_model_discrete_enumeration.py",
        construct="`TraceEnum_ELBO` with a guide function; a second observed site",
        kernel=hidden_middle,
        data=chain,
        inference=svi(lambda: guide_of_chain, loss=TraceEnum_ELBO(), optim=optax.adam(0.01)),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "first", "param_output": "last"},
    ),
    Case(
        name="mixture of skewed angles",
        source="examples/ssbvm_mixture.py",
        construct="an enumerated mixture of `SineSkewed(SineBivariateVonMises)`",
        kernel=mixture_of_angles,
        data=angles,
        inference=nuts(
            mixture_of_angles,
            warmup=300,
            draws=200,
            max_tree_depth=7,
            init_strategy=init_to_value(values={"phi": jnp.array([-1.5, -1.1]), "psi": jnp.array([-0.7, 2.4])}),
        ),
        settings={"param_output": "pairs"},
    ),
]
