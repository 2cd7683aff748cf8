"""Settings: what is refused, what names stand for, and ready NumPyro objects as recipes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import numpyro.infer
import optax
import pytest
from numpyro.infer import autoguide
from sklearn.base import clone

from skaimz.inference import MCMC, SVI, Auto, resolve_inference
from skaimz.inference.settings import _Adam
from skaimz.kernels import ByValue


def model(a=None):
    numpyro.sample("u", dist.Normal(0, 1).expand([3]).to_event(1))


def guide(X, y=None):
    numpyro.sample("theta", dist.Normal(numpyro.param("loc", 0.0), 1.0))


GUIDES = {
    "auto_normal": autoguide.AutoNormal,
    "auto_diagonal_normal": autoguide.AutoDiagonalNormal,
    "auto_multivariate_normal": autoguide.AutoMultivariateNormal,
    "auto_lowrank": autoguide.AutoLowRankMultivariateNormal,
    "auto_laplace": autoguide.AutoLaplaceApproximation,
    "auto_delta": autoguide.AutoDelta,
    "auto_iaf": autoguide.AutoIAFNormal,
    "auto_bnaf": autoguide.AutoBNAFNormal,
}
OPTIMISERS = {
    "adam": _Adam,
    "clipped_adam": numpyro.optim.ClippedAdam,
    "adagrad": numpyro.optim.Adagrad,
    "rmsprop": numpyro.optim.RMSProp,
    "sgd": numpyro.optim.SGD,
}
LOSSES = {
    "trace_elbo": numpyro.infer.Trace_ELBO,
    "trace_mean_field_elbo": numpyro.infer.TraceMeanField_ELBO,
    "trace_graph_elbo": numpyro.infer.TraceGraph_ELBO,
}

OPTIONAL = ("batch_size", "num_epochs", "total_rows")
COUNTS = [(SVI, name) for name in ("num_steps", "num_samples", *OPTIONAL)]
COUNTS += [(MCMC, "num_samples"), (MCMC, "num_chains"), (MCMC, "thinning")]
COUNTS += [(Auto, "num_samples"), (Auto, "num_chains")]


def identities(thing):
    """Return what an object holds, by identity, and what its dictionaries hold."""
    return {
        name: (id(value), {k: id(v) for k, v in value.items()} if isinstance(value, dict) else None)
        for name, value in vars(thing).items()
    }


# Refusals


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "10", float("nan")])
@pytest.mark.parametrize(("kind", "name"), COUNTS)
def test_counts_are_positive_integers(kind, name, value):
    message = f"{kind.__name__}: `{name}` must be an integer >= 1, got {value!r}."
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**{name: value}).checked()


@pytest.mark.parametrize(("kind", "name"), [c for c in COUNTS if c[1] not in OPTIONAL])
def test_counts_that_are_needed_cannot_be_none(kind, name):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer >= 1, got None"):
        kind(**{name: None}).checked()


def test_warmup_may_be_zero_but_not_less():
    assert MCMC(num_warmup=0).checked().num_warmup == 0
    with pytest.raises(ValueError, match="MCMC: `num_warmup` must be an integer >= 0, got -1"):
        MCMC(num_warmup=-1).checked()


def test_counts_may_be_numpys_integers():
    assert SVI(num_steps=np.int64(7)).checked().num_steps == 7
    assert MCMC(num_chains=np.int32(2)).checked().num_chains == 2


@pytest.mark.parametrize("rate", [0, -0.1, float("inf"), float("nan"), True, "fast", None, 1j])
def test_learning_rates_are_positive_and_finite(rate):
    message = f"SVI: `learning_rate` must be a positive finite number, got {rate!r}."
    with pytest.raises(ValueError, match=re.escape(message)):
        SVI(learning_rate=rate).checked()


def test_a_learning_rate_becomes_a_float():
    rate = SVI(learning_rate=np.float32(0.5)).checked().learning_rate
    assert type(rate) is float
    assert rate == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SVI(guide="auto_magic"), r"SVI: `guide` must be one of \['auto_bnaf', .*\], got 'auto_magic'"),
        (SVI(optim="lbfgs"), r"SVI: `optim` must be one of \['adagrad', .*\], got 'lbfgs'"),
        (SVI(loss="mse"), r"SVI: `loss` must be one of \['trace_elbo', .*\], got 'mse'"),
        (MCMC(sampler="gibbs"), r"MCMC: `sampler` must be one of \['aies', .*\], got 'gibbs'"),
        (MCMC(chain_method="pmap"), r"MCMC: `chain_method` must be one of \('auto', .*\), got 'pmap'"),
        (Auto(time_budget=0), "Auto: `time_budget` must be a positive number of seconds, got 0"),
        (SVI(time_budget=True), "SVI: `time_budget` must be a positive number of seconds, got True"),
        (MCMC(thinning=11, num_samples=10), "MCMC: `thinning`=11 leaves no draw of `num_samples`=10"),
        (
            MCMC(sampler=numpyro.infer.NUTS(model), sampler_options={"step_size": 1.0}),
            "MCMC: give `sampler_options` with a sampler's name, not with a ready sampler",
        ),
    ],
)
def test_wrong_values_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        settings.checked()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SVI(guide=3), "SVI: `guide` must be a name, an autoguide or a function, got 3"),
        (SVI(guide=autoguide.AutoGuideList(model)), "SVI: an AutoGuideList without parts guides nothing"),
        (SVI(optim=3), "Expected either an instance of numpyro.optim"),
        (SVI(loss=3), "SVI: `loss` must be a name or a NumPyro ELBO, got 3"),
        (SVI(loss=dict), "SVI: `loss` must be a name or a NumPyro ELBO, got {}"),
        (MCMC(sampler=3), r"MCMC: `sampler` must be one of \['aies', .*\] or a sampler of NumPyro's, got 3"),
        (SVI(callback=3), "SVI: `callback` must be a function of one argument, got 3"),
        (MCMC(sampler_options={"warp": 9}), "MCMC: `sampler_options` does not fit 'nuts': .*warp"),
    ],
)
def test_wrong_kinds_are_refused(settings, message):
    with pytest.raises(TypeError, match=message):
        settings.checked()


@pytest.mark.parametrize("inference", ["vi", None, 3, SVI, {"num_steps": 5}])
def test_only_inference_is_inference(inference):
    message = f"`inference` must be 'auto', 'svi', 'mcmc', .*got {re.escape(repr(inference))}"
    with pytest.raises(ValueError, match=message):
        resolve_inference(inference)


def test_a_sampler_alone_is_told_where_it_belongs():
    with pytest.raises(TypeError, match=r"NumPyro's sampler NUTS.*`skaimz\.inference\.MCMC\(NUTS\(kernel\)\)`"):
        resolve_inference(numpyro.infer.NUTS(model))


@pytest.mark.parametrize("settings", [SVI(num_steps=0), MCMC(num_chains=0)])
def test_settings_are_checked_when_they_are_resolved(settings):
    with pytest.raises(ValueError, match="must be an integer >= 1, got 0"):
        resolve_inference(settings)


# What names and objects stand for


@pytest.mark.parametrize("name", GUIDES)
def test_guides_by_name_and_by_class(name):
    assert SVI(guide=name).checked().guide is GUIDES[name]
    assert SVI(guide=GUIDES[name]).checked().guide is GUIDES[name]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_by_name_wait_for_their_rate(name):
    assert SVI(optim=name).checked().optim is OPTIMISERS[name]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_name_class_and_object(name):
    assert type(SVI(loss=name).checked().loss) is LOSSES[name]
    assert type(SVI(loss=LOSSES[name]).checked().loss) is LOSSES[name]
    ready = LOSSES[name](num_particles=3)
    assert SVI(loss=ready).checked().loss is ready


def test_adam_by_name_forgets_steep_steps_sooner():
    def path(optim):
        state, points = optim.init({"a": jnp.array(3.0)}), []
        for gradient in (1e6, 1.0, -2.0, 1.0):
            state = optim.update({"a": jnp.array(gradient)}, state, value=jnp.array(0.0))
            points.append(float(optim.get_params(state)["a"]))
        return points

    found = path(SVI(optim="adam").checked().optim(0.05))
    assert found == path(numpyro.optim.Adam(0.05, b2=0.95))
    assert found != path(numpyro.optim.Adam(0.05))


def test_a_numpyro_optimiser_is_kept():
    optim = numpyro.optim.Adam(0.03)
    assert SVI(optim=optim).checked().optim is optim


def test_an_optax_optimiser_is_wrapped():
    optim = SVI(optim=optax.sgd(0.25)).checked().optim
    state = optim.update({"a": jnp.array(1.0)}, optim.init({"a": jnp.array(3.0)}), value=jnp.array(0.0))
    assert float(optim.get_params(state)["a"]) == 2.75


def test_a_guide_function_is_kept():
    assert SVI(guide=guide).checked().guide is guide


def test_a_guide_object_keeps_its_settings_but_not_its_model():
    ready = autoguide.AutoNormal(model, init_scale=0.3, prefix="mine")
    before = identities(ready)
    recipe = SVI(guide=ready).checked().guide
    assert type(recipe) is autoguide.AutoNormal
    assert (recipe._init_scale, recipe.prefix, recipe.init_loc_fn) == (0.3, "mine", ready.init_loc_fn)
    assert recipe.model is None
    assert identities(ready) == before


@pytest.mark.parametrize(("name", "kind"), [("nuts", numpyro.infer.NUTS), ("hmc", numpyro.infer.HMC)])
def test_samplers_by_name(name, kind):
    sampler = MCMC(sampler=name, sampler_options={"target_accept_prob": 0.95}).checked().sampler
    assert type(sampler) is kind
    assert sampler._target_accept_prob == 0.95


def test_a_sampler_object_keeps_its_settings_but_not_its_model():
    ready = numpyro.infer.NUTS(model, target_accept_prob=0.9, dense_mass=True, max_tree_depth=4)
    before = identities(ready)
    recipe = MCMC(sampler=ready).checked().sampler
    assert type(recipe) is numpyro.infer.NUTS
    assert (recipe._target_accept_prob, recipe._dense_mass, recipe._max_tree_depth) == (
        ready._target_accept_prob,
        ready._dense_mass,
        ready._max_tree_depth,
    )
    assert recipe.model is not model
    assert identities(ready) == before


def test_checking_leaves_the_settings_as_they_are():
    for settings in (SVI(), MCMC(sampler_options={"step_size": 0.5})):
        before = dict(vars(settings))
        assert settings.checked() is not settings
        assert vars(settings) == before


# resolve_inference


def test_names_are_default_settings():
    resolved = resolve_inference("svi")
    assert (resolved.guide, resolved.optim) == (autoguide.AutoNormal, _Adam)
    assert type(resolved.loss) is numpyro.infer.Trace_ELBO
    assert (resolved.num_steps, resolved.learning_rate, resolved.num_samples) == (10_000, 0.05, 1000)
    resolved = resolve_inference("mcmc")
    assert type(resolved.sampler) is numpyro.infer.NUTS
    assert (resolved.num_warmup, resolved.num_samples, resolved.num_chains) == (1000, 1000, 4)


def test_settings_resolve_to_equal_settings():
    resolved = resolve_inference(SVI(num_steps=7, batch_size=3, num_epochs=2, num_samples=5))
    assert (resolved.num_steps, resolved.batch_size, resolved.num_epochs, resolved.num_samples) == (7, 3, 2, 5)


def test_a_numpyro_svi_is_a_recipe():
    optim, loss = numpyro.optim.Adagrad(0.5), numpyro.infer.TraceMeanField_ELBO(num_particles=2)
    ready = numpyro.infer.SVI(model, guide, optim, loss)
    before = identities(ready)
    resolved = resolve_inference(ready)
    assert isinstance(resolved, SVI)
    assert resolved.guide is guide
    assert resolved.optim is optim
    assert resolved.loss is loss
    assert resolved.num_steps == SVI().num_steps
    assert identities(ready) == before


def test_a_numpyro_mcmc_is_a_recipe():
    sampler = numpyro.infer.HMC(model, step_size=0.25, num_steps=7, trajectory_length=None)
    ready = numpyro.infer.MCMC(
        sampler, num_warmup=11, num_samples=30, num_chains=3, thinning=2, chain_method="sequential", progress_bar=False
    )
    before = identities(ready), identities(sampler)
    resolved = resolve_inference(ready)
    assert isinstance(resolved, MCMC)
    assert type(resolved.sampler) is numpyro.infer.HMC
    assert (resolved.sampler._step_size, resolved.sampler._num_steps) == (0.25, 7)
    found = resolved.num_warmup, resolved.num_samples, resolved.num_chains, resolved.thinning, resolved.chain_method
    assert found == (11, 30, 3, 2, "sequential")
    assert (identities(ready), identities(sampler)) == before


def test_a_numpyro_chain_method_that_is_a_function_is_refused():
    ready = numpyro.infer.MCMC(numpyro.infer.NUTS(model), num_warmup=1, num_samples=1, chain_method=jax.vmap)
    with pytest.raises(ValueError, match="`chain_method` must be one of"):
        resolve_inference(ready)


# scikit-learn's protocol

WATCHED = {"callback": print, "time_budget": 60.0, "checkpoint_dir": "folder"}
CHANGED = [
    SVI("auto_delta", "sgd", 0.5, "trace_graph_elbo", 10, 5, 3, 7, 9, {"loc": 1.0}, True, **WATCHED),
    MCMC("hmc", 5, 6, 2, 3, "sequential", {"step_size": 0.5}, {"b": [0.0, 1.0]}, **WATCHED),
    Auto(500, 2, **WATCHED),
]


@pytest.mark.parametrize("settings", CHANGED, ids=["svi", "mcmc", "auto"])
def test_parameters_make_a_round_trip(settings):
    params = settings.get_params()
    assert type(settings)(**params) == settings
    default = type(settings)()
    # Otherwise a parameter that is not passed on would go unnoticed.
    assert all(params[name] != value for name, value in default.get_params().items())
    assert default.set_params(**params) is default
    assert default == settings
    assert settings.get_params(deep=False) == params


@pytest.mark.parametrize("settings", CHANGED, ids=["svi", "mcmc", "auto"])
def test_clones_are_equal_and_apart(settings):
    copy = clone(settings)
    assert copy == settings
    assert copy is not settings
    copy.set_params(num_samples=99)
    assert settings.num_samples != 99


def test_clones_keep_guides_and_samplers():
    copy = clone(SVI(guide=autoguide.AutoNormal(model, init_scale=0.3), optim=optax.sgd(0.25)))
    assert copy.checked().guide._init_scale == 0.3
    copy = clone(MCMC(sampler=numpyro.infer.NUTS(model, target_accept_prob=0.9)))
    assert copy.checked().sampler._target_accept_prob == 0.9


@pytest.mark.parametrize("settings", [SVI(), MCMC()], ids=["svi", "mcmc"])
def test_unknown_parameters_are_refused(settings):
    kind = type(settings).__name__
    with pytest.raises(ValueError, match=rf"Invalid parameter 'depth' for {kind}. Valid parameters are: \[.*num_samp"):
        settings.set_params(depth=3)


def test_settings_show_what_is_not_the_default():
    assert repr(SVI(num_steps=50, learning_rate=0.05)) == "SVI(num_steps=50)"
    assert repr(MCMC()) == "MCMC()"
    assert repr(MCMC(sampler_options={"dense_mass": True})) == "MCMC(sampler_options={'dense_mass': True})"


# Objects with a past


def run_guide(kind):
    ready = kind(model)
    svi = numpyro.infer.SVI(model, ready, numpyro.optim.Adam(0.1), numpyro.infer.Trace_ELBO())
    svi.run(jax.random.key(0), 3, progress_bar=False)
    return ready


def test_a_laplace_guide_that_has_been_run_is_a_recipe_for_programs():
    ready = run_guide(autoguide.AutoLaplaceApproximation)
    before = identities(ready)
    recipe = SVI(guide=ready).checked().guide
    assert recipe.prototype_trace is None
    assert recipe.model is None
    assert identities(ready) == before
    # Two readings of it share one compiled program.
    assert ByValue.of(recipe) == ByValue.of(SVI(guide=ready).checked().guide)


def test_a_sampler_that_has_been_run_equals_a_fresh_one():
    ready = numpyro.infer.NUTS(model, target_accept_prob=0.9)
    run = numpyro.infer.MCMC(ready, num_warmup=2, num_samples=2, progress_bar=False)
    run.run(jax.random.key(0))
    before = identities(ready), identities(run)
    fresh = MCMC(sampler="nuts", sampler_options={"target_accept_prob": 0.9}).checked().sampler
    assert ByValue.of(resolve_inference(run).sampler) == ByValue.of(fresh)
    assert (identities(ready), identities(run)) == before
