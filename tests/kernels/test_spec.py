"""Descriptions of kernels from abstract traces, and kernels that are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.infer.reparam import LocScaleReparam

from skaimz.kernels import Inputs, check_signature, kernel_parameters, trace_kernel
from skaimz.kernels.default import LinearClassification

N = 12
X = np.zeros((N, 3), np.float32)
GROUP = np.zeros(N, np.int32)


def describe(kernel, rows=None, whole=None, static=(), names=("X", "y")):
    return trace_kernel(kernel, Inputs(rows or {"X": X}, whole or {}, static), *names)[0].spec


def coefficients(size=3):
    return numpyro.sample("b", dist.Normal(0.0, 1.0).expand([size]).to_event(1))


def linear(X, y=None):
    b = coefficients()
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ b, 1.0), obs=y)


def grouped(X, g, y=None):
    with numpyro.plate("groups", 5):
        a = numpyro.sample("a", dist.HalfNormal(1.0))
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1), infer={"event_dims": ["feature"]})
    s = numpyro.param("s", jnp.ones(3), constraint=constraints.positive)
    with numpyro.plate("outer", 2, dim=-2), numpyro.plate("rows", X.shape[0], dim=-1):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        u = numpyro.sample("u", dist.Beta(1.0, 1.0))
        mu = numpyro.deterministic("mu", a[g] + (X * s * w[g]).sum(-1) + z.sum(0) + u)
        numpyro.factor("penalty", -(mu**2))
        numpyro.sample("y", dist.Poisson(jnp.exp(mu)), obs=y)


@pytest.fixture(scope="module")
def spec():
    return describe(grouped, {"X": X, "g": GROUP})


class TestSites:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a", ("latent", "HalfNormal", (5,), None, 0, ("groups",), "positive")),
            ("w", ("latent", "Normal", (5, 3), None, 1, ("groups", "feature"), None)),
            ("s", ("param", None, (3,), None, 0, ("s_dim_0",), None)),
            ("z", ("latent", "Normal", (2, None), 1, 0, ("outer", "rows"), None)),
            ("u", ("latent", "Beta", (None,), 0, 0, ("rows",), "unit_interval")),
            ("mu", ("deterministic", None, (None,), 0, 0, ("rows",), None)),
            ("penalty", ("observed", "Unit", (None, 0), 0, 1, ("rows", "penalty_dim_1"), None)),
            ("y", ("output", "Poisson", (None,), 0, 0, ("rows",), "nonnegative_integer")),
        ],
    )
    def test_every_field(self, spec, name, expected):
        site = spec[name]
        found = (site.kind, site.distribution, site.shape, site.row_axis, site.event_dim, site.dims, site.support)
        assert found == expected
        assert site.name == name
        assert site.mixing is None

    def test_order_types_and_names(self, spec):
        assert [site.name for site in spec.sites] == ["a", "w", "s", "z", "u", "mu", "penalty", "y"]
        assert [site.dtype for site in spec.sites] == ["float32"] * 7 + ["int32"]
        assert (spec.input, spec.output, spec.output_parameter) == ("X", "y", "y")
        with pytest.raises(KeyError, match="nothing"):
            spec["nothing"]

    def test_latents(self, spec):
        assert [site.name for site in spec.latents] == ["a", "w", "z", "u"]
        assert [site.name for site in spec.local_latents] == ["z", "u"]
        assert spec.return_sites == ("y", "mu")

    def test_event_shapes(self, spec):
        assert spec["z"].event_shape == (2,)
        assert spec["w"].shape == (5, 3)
        assert spec["y"].event_shape == ()

    def test_rows_stand_alone_but_local_latents_forbid_padding(self, spec):
        assert spec.rows_mix is None
        assert spec.fit_mixing is None
        assert not spec.can_be_padded
        assert describe(linear).can_be_padded

    def test_rows_that_are_batched(self, spec):
        assert [site.name for site in spec.sites if site.rows_are_batched] == ["z", "u", "mu", "penalty", "y"]

    @pytest.mark.parametrize(
        ("distribution", "name", "support"),
        [
            (lambda: dist.Normal(0.0, 1.0), "Normal", None),
            (lambda: dist.Gamma(1.0, 1.0), "Gamma", "positive"),
            (lambda: dist.Exponential(1.0), "Exponential", "positive"),
            (lambda: dist.Beta(1.0, 1.0), "Beta", "unit_interval"),
            (lambda: dist.LogNormal(0.0, 1.0), "LogNormal", "positive"),
            (lambda: dist.Cauchy(0.0, 1.0).mask(True), "Cauchy", None),
            (lambda: dist.HalfNormal(1.0).expand([1]), "HalfNormal", "positive"),
        ],
        ids=["normal", "gamma", "exponential", "beta", "lognormal", "masked", "expanded"],
    )
    def test_distributions_and_supports(self, distribution, name, support):
        def kernel(X, y=None):
            v = numpyro.sample("v", distribution())
            numpyro.sample("y", dist.Normal(X[:, 0] + v.sum(), 1.0), obs=y)

        site = describe(kernel)["v"]
        assert (site.distribution, site.support) == (name, support)

    def test_distributions_of_events_are_named_by_their_base(self):
        assert describe(linear)["b"].distribution == "Normal"

    @pytest.mark.parametrize(
        ("distribution", "dtype", "support", "name"),
        [
            (lambda mu: dist.Bernoulli(logits=mu), "int32", "boolean", "BernoulliLogits"),
            (lambda mu: dist.NegativeBinomial2(jnp.exp(mu), 2.0), "int32", "nonnegative_integer", "NegativeBinomial2"),
            (lambda mu: dist.StudentT(3.0, mu, 1.0), "float32", None, "StudentT"),
            (lambda mu: dist.Gamma(jnp.exp(mu), 1.0), "float32", "positive", "Gamma"),
            (lambda mu: dist.Categorical(logits=jnp.stack([mu, -mu], -1)), "int32", None, "CategoricalLogits"),
        ],
        ids=["bernoulli", "negative binomial", "student", "gamma", "categorical"],
    )
    def test_outputs_of_every_kind(self, distribution, dtype, support, name):
        def kernel(X, y=None):
            numpyro.sample("y", distribution(X @ coefficients()), obs=y)

        spec = describe(kernel)
        assert (spec["y"].dtype, spec["y"].support, spec["y"].distribution) == (dtype, support, name)
        assert spec["y"].shape == (None,)
        assert spec["y"].mixing is None

    def test_an_output_of_several_columns(self):
        def kernel(X, y=None):
            with numpyro.plate("rows", X.shape[0]):
                numpyro.sample("y", dist.Normal(X[:, :2], 1.0).to_event(1), obs=y)

        site = describe(kernel)["y"]
        assert (site.shape, site.dims, site.event_dim, site.rows_are_batched) == (
            (None, 2),
            ("rows", "y_dim_1"),
            1,
            True,
        )
        assert site.event_shape == (2,)
        assert site.mixing is None

    def test_plates_do_not_name_the_features_of_a_deterministic_site(self):
        def kernel(X, y=None):
            numpyro.deterministic("outside", 2 * X)
            linear(X, y)

        assert describe(kernel)["outside"].dims == ("rows", "outside_dim_1")

    @pytest.mark.parametrize("name", ["inside", "weights"])
    def test_nor_those_of_one_inside_a_plate(self, name):
        def kernel(X, y=None):
            with numpyro.plate("individuals", X.shape[0]):
                numpyro.deterministic("inside", 2 * X)
                numpyro.param("weights", jnp.ones(3))
                numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

        assert "individuals" not in describe(kernel)[name].dims[-1:]

    def test_a_reparametrised_site_becomes_deterministic(self):
        spec = describe(handlers.reparam(linear, config={"b": LocScaleReparam(0)}))
        assert [(site.name, site.kind) for site in spec.sites] == [
            ("b_decentered", "latent"),
            ("b", "deterministic"),
            ("y", "output"),
        ]
        assert spec.rows_mix is None


class TestOutput:
    def test_a_site_named_otherwise_is_found_among_local_latents(self):
        def kernel(features, target=None):
            before = numpyro.sample("before", dist.Normal().expand([features.shape[0]]))
            outcome = numpyro.sample("outcome", dist.Normal(features[:, 0] + before, 1.0), obs=target)
            numpyro.sample("after", dist.Normal(0 * outcome, 1.0))

        spec = describe(kernel, {"features": X}, names=("features", "target"))
        assert (spec.input, spec.output, spec.output_parameter) == ("features", "outcome", "target")
        assert [site.kind for site in spec.sites] == ["latent", "output", "latent"]

    def test_a_second_observed_site_is_no_output(self):
        def kernel(X, extra, y=None):
            scale = numpyro.sample("scale", dist.HalfNormal())
            numpyro.sample("proxy", dist.Normal(X[:, 0], scale), obs=extra)
            numpyro.sample("y", dist.Normal(X[:, 0], scale), obs=y)

        spec = describe(kernel, {"X": X, "extra": X[:, 0]})
        assert (spec["proxy"].kind, spec["y"].kind) == ("observed", "output")

    def test_an_output_never_observed_is_refused(self):
        def kernel(X, y=None):
            numpyro.sample("y", dist.Normal(X @ coefficients(), 1.0))

        with pytest.raises(ValueError, match="never observes") as error:
            describe(kernel)
        assert str(error.value) == (
            "Kernel never observes its output: no sample site takes the argument 'y' as `obs`. "
            "Write `numpyro.sample('y', ..., obs=y)`."
        )

    def test_no_site_with_rows_is_refused(self):
        def kernel(X, target=None):
            coefficients()

        with pytest.raises(ValueError, match="no sample site takes the argument 'target' as `obs`"):
            describe(kernel, names=("X", "target"))

    @pytest.mark.parametrize(
        ("site", "shape"),
        [
            (lambda X, y: numpyro.sample("z", dist.Normal(jnp.zeros(7), 1.0), obs=None if y is None else y[:7]), "(7)"),
            (
                lambda X, y: numpyro.sample(
                    "z", dist.Normal(jnp.diff(X[:, 0]), 1.0), obs=None if y is None else jnp.diff(y)
                ),
                "(n_rows - 1)",
            ),
        ],
        ids=["some rows", "differences"],
    )
    def test_an_output_without_a_value_for_each_row_is_refused(self, site, shape):
        def kernel(X, y=None):
            site(X, y)

        with pytest.raises(ValueError, match="observes the argument 'y', but without an outcome") as error:
            describe(kernel)
        assert f"Site 'z' observes the argument 'y', but without an outcome it has the shape {shape}" in str(
            error.value
        )
        assert "`with numpyro.plate('rows', X.shape[0])`" in str(error.value)

    @pytest.mark.parametrize(
        ("site", "shape"),
        [
            (lambda y: numpyro.sample("z", dist.Normal(0.0, 1.0), obs=y), (None,)),
            (lambda y: numpyro.sample("z", dist.Normal(jnp.zeros(1), 1.0), obs=y), (None,)),
            (lambda y: numpyro.sample("z", dist.Normal(jnp.zeros(4), 1.0), obs=y), (None, 4)),
            (lambda y: numpyro.sample("z", dist.Dirichlet(jnp.ones(3)), obs=y), (None, 3)),
            (
                lambda y: numpyro.sample(
                    "z", dist.Categorical(jnp.ones(3) / 3), obs=None if y is None else jax.nn.one_hot(y, 3).argmax(-1)
                ),
                (None,),
            ),
        ],
        ids=["scalar", "one entry", "columns", "simplex", "classes"],
    )
    def test_an_output_may_have_one_distribution_for_all_rows(self, site, shape):
        spec = describe(lambda X, y=None: site(y))
        assert (spec.output, spec["z"].shape, spec.fit_mixing) == ("z", shape, None)

    def test_an_output_may_be_picked_from_the_outcomes(self):
        def kernel(X, places, y=None):
            with numpyro.plate("rows", X.shape[0]):
                numpyro.sample("z", dist.Normal(0.0, 1.0), obs=None if y is None else y[places])

        assert describe(kernel, {"X": X, "places": np.arange(len(X))}).output == "z"


class TestRows:
    def test_an_observed_site_with_one_row_fewer_mixes_the_fit(self):
        def kernel(X, y=None):
            mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
            with numpyro.plate("rows", X.shape[0]):
                numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
            with numpyro.plate("gaps", X.shape[0] - 2):
                numpyro.sample("gap", dist.Normal(mu, 1.0), obs=X[2:, 0] - X[:-2, 0])

        spec = describe(kernel)
        assert spec.rows_mix is None
        assert spec.fit_mixing.startswith("site 'gap'")
        assert spec.unweighted == "gap"
        assert spec.least_rows == 4

    @pytest.mark.parametrize(
        ("mu", "words"),
        [
            (lambda X, b: (X - X.mean(0)) @ b, "number of rows"),
            (lambda X, b: X @ b + X.sum(), "reduce_sum"),
            (lambda X, b: jnp.cumsum(X @ b), "cumsum"),
            (lambda X, b: X @ b + jnp.arange(X.shape[0]), "iota"),
        ],
        ids=["centred", "sum", "cumsum", "row number"],
    )
    def test_mixing_is_named(self, mu, words):
        def kernel(X, y=None):
            numpyro.sample("y", dist.Normal(mu(X, coefficients()), 1.0), obs=y)

        spec = describe(kernel)
        assert words in spec["y"].mixing
        assert spec.rows_mix == f"{spec['y'].mixing} (site 'y')"
        assert spec.fit_mixing == f"site 'y': {spec['y'].mixing}"
        assert not spec.can_be_padded
        assert spec["b"].mixing is None

    def test_a_global_prior_from_the_data_mixes_the_fit_but_not_the_prediction(self):
        def kernel(X, y=None):
            b = numpyro.sample("b", dist.Normal(X.sum(0), 1.0).to_event(1))
            numpyro.sample("y", dist.Normal(X @ b, 1.0), obs=y)

        spec = describe(kernel)
        assert spec.rows_mix is None
        assert spec.fit_mixing == "site 'b': the operation 'reduce_sum' may mix rows"
        assert not spec.can_be_padded

    def test_a_local_latent_that_mixes_mixes_the_prediction(self):
        def kernel(X, y=None):
            u = numpyro.sample("u", dist.Normal(jnp.cumsum(X[:, 0]), 1.0))
            numpyro.sample("y", dist.Normal(u, 1.0), obs=y)

        spec = describe(kernel)
        assert spec["y"].mixing is None
        assert "cumsum" in spec.rows_mix

    def test_a_factor_over_all_rows_mixes_the_fit_alone(self):
        def kernel(X, y=None):
            mu = X @ coefficients()
            numpyro.factor("penalty", -((mu**2).sum() ** 2))
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

        spec = describe(kernel)
        assert spec.rows_mix is None
        assert spec.fit_mixing == "site 'penalty': the operation 'reduce_sum' may mix rows"

    def test_rows_on_an_event_axis_mix_the_fit(self):
        def kernel(X, y=None):
            numpyro.sample("y", dist.Normal(X @ coefficients(), 1.0).to_event(1), obs=y)

        spec = describe(kernel)
        assert spec["y"].event_dim == 1
        assert not spec["y"].rows_are_batched
        assert spec.fit_mixing is not None
        assert not spec.can_be_padded

    def test_a_latent_on_an_event_axis_mixes_the_fit(self):
        def kernel(X, y=None):
            u = numpyro.sample("u", dist.Normal(X[:, 0], 1.0).mask(False).to_event(1))
            numpyro.sample("y", dist.Normal(u, 1.0), obs=y)

        assert describe(kernel).fit_mixing is not None

    def test_a_masked_output_stands_alone(self):
        def kernel(X, keep, y=None):
            mu = X @ coefficients()
            with handlers.mask(mask=keep):
                numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

        spec = describe(kernel, {"X": X, "keep": np.ones(N, bool)})
        assert spec.rows_mix is None
        assert spec.can_be_padded

    def test_a_deterministic_site_does_not_mix_the_fit(self):
        def kernel(X, y=None):
            numpyro.deterministic("centre", X.sum(0))
            linear(X, y)

        spec = describe(kernel)
        assert "reduce_sum" in spec["centre"].mixing
        assert spec.fit_mixing is None
        assert spec.can_be_padded

    @pytest.mark.parametrize("value", [lambda X: X - X.sum(0), lambda X: X.sum(0)], ids=["rows", "no rows"])
    def test_a_deterministic_site_that_mixes_says_so_itself(self, value):
        def kernel(X, y=None):
            numpyro.deterministic("centred", value(X))
            linear(X, y)

        spec = describe(kernel)
        assert "reduce_sum" in spec["centred"].mixing
        assert spec["y"].mixing is None
        assert spec.rows_mix is None
        assert spec.fit_mixing is None

    @pytest.mark.parametrize(
        "scale",
        [lambda X: 1 / X.shape[0], lambda X: jnp.exp(X[:, 0]) / jnp.exp(X[:, 0]).sum()],
        ids=["one in n", "normalised weights"],
    )
    def test_a_scale_that_depends_on_the_rows_mixes_the_fit(self, scale):
        def kernel(X, y=None):
            b = coefficients()
            with handlers.scale(scale=scale(X)):
                numpyro.sample("y", dist.Normal(X @ b, 1.0), obs=y)

        spec = describe(kernel)
        assert spec.fit_mixing is not None
        assert not spec.can_be_padded

    @pytest.mark.parametrize("of", ["covariance_matrix", "precision_matrix", "scale_tril"])
    @pytest.mark.parametrize("known", [True, False], ids=["known", "learned"])
    def test_rows_of_a_multivariate_output_stand_alone(self, of, known):
        def kernel(X, y=None):
            b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3, 2]).to_event(2))
            triangle = jnp.eye(2) if known else numpyro.sample("triangle", dist.LKJCholesky(2))
            matrix = triangle if of == "scale_tril" else triangle @ triangle.T
            with numpyro.plate("rows", X.shape[0]):
                numpyro.sample("y", dist.MultivariateNormal(X @ b, **{of: matrix}), obs=y)

        spec = describe(kernel)
        assert (spec["y"].shape, spec["y"].event_dim, spec["y"].rows_are_batched) == ((None, 2), 1, True)
        assert spec.rows_mix is None
        assert spec.fit_mixing is None
        assert spec.can_be_padded

    def test_a_covariance_of_its_own_for_each_row(self):
        def kernel(X, y=None):
            covariance = jnp.exp(X[:, 0])[:, None, None] * jnp.eye(2)
            numpyro.sample("y", dist.MultivariateNormal(X[:, :2], covariance), obs=y)

        assert describe(kernel).can_be_padded

    def test_a_covariance_from_all_rows_mixes(self):
        def kernel(X, y=None):
            numpyro.sample("y", dist.MultivariateNormal(X, X.T @ X + jnp.eye(3)), obs=y)

        spec = describe(kernel)
        assert "dot_general" in spec.rows_mix
        assert "dot_general" in spec.fit_mixing

    def test_a_factor_with_an_outcome_alone_mixes_the_fit(self):
        def kernel(X, y=None):
            mu = X @ coefficients()
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
            if y is not None:
                numpyro.factor("penalty", -(mu.sum() ** 2))

        assert describe(kernel).fit_mixing is not None

    def test_a_site_may_be_there_for_predictions_alone(self):
        def kernel(X, y=None):
            mu = X @ coefficients()
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
            if y is None:
                numpyro.deterministic("mu", mu)

        assert describe(kernel)["mu"].mixing is None

    def test_a_scalar_observed_for_every_row_forbids_padding(self):
        def kernel(X, y=None):
            mu = X @ coefficients()
            numpyro.sample("pseudo", dist.Normal(mu, 1.0), obs=0.0)
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

        assert not describe(kernel).can_be_padded

    @pytest.mark.parametrize("name", ["z", "y"])
    def test_a_mask_hides_no_mixing_of_draws(self, name):
        def kernel(X, y=None):
            x = X[:, 0]
            z = numpyro.sample("z", dist.Normal(x - x.sum(), 1.0).mask(False) if name == "z" else dist.Normal())
            distribution = dist.Normal(z - x.sum(), 1.0).mask(False) if name == "y" else dist.Normal(z, 1.0)
            numpyro.sample("y", distribution, obs=y)

        assert describe(kernel).rows_mix is not None

    def test_mixing_where_nothing_is_observed_mixes_the_prediction(self):
        def kernel(X, y=None):
            mu = X @ coefficients()
            numpyro.sample("y", dist.Normal(mu - mu.sum() if y is None else mu, 1.0), obs=y)

        assert describe(kernel).rows_mix is not None

    @pytest.mark.xfail(strict=True, reason="a documented limit: both traces are of more than a thousand rows")
    def test_mixing_of_few_rows_alone_is_seen(self):
        def kernel(X, y=None):
            mu = X @ coefficients()
            numpyro.sample("y", dist.Normal(mu - mu.sum() if len(X) < 100 else mu, 1.0), obs=y)

        assert describe(kernel).rows_mix is not None

    def test_a_scan_over_rows(self):
        def kernel(X, y=None):
            phi = numpyro.sample("phi", dist.Uniform(-1.0, 1.0))

            def step(last, row):
                x, seen = row
                value = numpyro.sample("y", dist.Normal(phi * last + x[0], 1.0), obs=seen)
                return value, value

            scan(step, 0.0, (X, y))

        spec = describe(kernel)
        assert spec.rows_mix == "a scan runs along the rows (site 'y')"
        assert (spec.output, spec["y"].shape, spec["y"].kind) == ("y", (None,), "output")
        assert not spec.can_be_padded

    def test_a_gaussian_process(self):
        def kernel(X, y=None):
            scale = numpyro.sample("scale", dist.HalfNormal())
            distance = ((X[:, None] - X[None]) ** 2).sum(-1)
            covariance = scale * jnp.exp(-distance) + 0.1 * jnp.eye(X.shape[0])
            numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), covariance), obs=y)

        spec = describe(kernel)
        assert spec.rows_mix is not None
        assert spec.fit_mixing is not None
        assert (spec["y"].shape, spec["y"].event_dim, spec["y"].distribution) == ((None,), 1, "MultivariateNormal")
        assert spec.width > 1000  # an array of rows by rows, divided by the number of rows

    def test_a_kernel_that_subsamples(self):
        def kernel(X, y=None):
            b = coefficients()
            with numpyro.plate("rows", X.shape[0], subsample_size=4) as chosen:
                numpyro.sample("y", dist.Normal(X[chosen] @ b, 1.0), obs=None if y is None else y[chosen])

        spec = describe(kernel)
        assert spec.subsamples
        assert spec.can_be_padded  # if plates hold all rows
        assert not describe(linear).subsamples

    def test_a_kernel_that_subsamples_only_while_fitting(self):
        def kernel(X, y=None):
            b = coefficients()
            with numpyro.plate("rows", X.shape[0], subsample_size=None if y is None else 4) as chosen:
                numpyro.sample("y", dist.Normal(X[chosen] @ b, 1.0), obs=None if y is None else y[chosen])

        assert describe(kernel).subsamples

    def test_rows_by_fours(self):
        def kernel(X, y=None):
            mu = (X @ coefficients()).reshape(-1, 4)
            numpyro.sample("y", dist.Normal((mu - mu.max(1, keepdims=True)).reshape(-1), 1.0), obs=y)

        spec = describe(kernel)
        assert "grows with the rows but is not the rows" in spec.rows_mix
        assert spec["y"].shape == (None,)

    def test_errors_say_at_which_number_of_rows(self):
        def kernel(X, y=None):
            numpyro.sample("y", dist.Normal(X.reshape(-1, 5, 3)[:, 0, 0], 1.0), obs=y)

        with pytest.raises(TypeError) as error:
            describe(kernel)
        assert f"The kernel was being traced with {N} abstract rows." in error.value.__notes__

    @pytest.mark.parametrize("hidden", [5, 64])
    def test_width_counts_the_widest_value_of_a_row(self, hidden):
        def kernel(X, y=None):
            w = numpyro.sample("w", dist.Normal().expand([3, hidden]).to_event(2))
            numpyro.sample("y", dist.Normal(jnp.tanh(X @ w).sum(1), 1.0), obs=y)

        assert describe(kernel).width == hidden


class TestArguments:
    def test_whole_arrays_and_static_arguments(self):
        def kernel(X, table, mode, y=None):
            mu = X[:, 0] + table.sum() if mode == "add" else X[:, 0]
            if mode == "extra":
                numpyro.sample("extra", dist.Normal())
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

        inputs = Inputs({"X": X}, {"table": np.ones((1009, 2), np.float32)}, (("mode", "add"),))
        traced, numbers = trace_kernel(kernel, inputs, "X", "y")
        assert numbers == {}
        assert traced.constants == {"mode": "add"}
        # A table as long as one of the row counts is no rows, because its length does not change.
        assert traced.spec.rows_mix is None
        assert describe(kernel, whole=inputs.whole, static=(("mode", "extra"),))["extra"].kind == "latent"

    def test_row_arrays_are_rows(self):
        def kernel(X, offset, y=None):
            numpyro.sample("y", dist.Normal(X[:, 0] + offset - offset.sum(), 1.0), obs=y)

        assert "reduce_sum" in describe(kernel, {"X": X, "offset": X[:, 0]}).rows_mix

    def test_the_traced_kernel_runs(self):
        def kernel(X, table, power, scale=1.0, y=None):
            numpyro.sample("y", dist.Normal(X[:, 0] ** power + table.sum(), scale), obs=y)

        inputs = Inputs({"X": np.full((4, 1), 3.0, np.float32)}, {"table": np.ones(5, np.float32)}, (("power", 2),))
        traced, numbers = trace_kernel(functools.partial(kernel, scale=2.0), inputs, "X", "y")
        with handlers.seed(rng_seed=0), handlers.trace() as trace:
            traced.model(numbers, inputs.rows, inputs.whole)
        np.testing.assert_allclose(trace["y"]["fn"].loc, 14.0)
        assert trace["y"]["fn"].scale == 2.0

    def test_numbers_of_the_built_in_classifier(self):
        rows = {"X": np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)}
        kernel = LinearClassification.of(rows, None, 3)
        traced, numbers = trace_kernel(kernel, Inputs(rows, {}), "X", "y")
        assert numbers.keys() == {"x_mean", "x_scale"}
        assert traced.spec["beta"].shape == (3, 3)
        assert traced.spec.can_be_padded


CALLS = []


def counting(X, y=None):
    CALLS.append(X.shape)
    linear(X, y)


def enormous(X, y=None):
    # Allocates four terabytes and calls Python. Neither may happen while tracing.
    jax.debug.callback(CALLS.append, X.sum())
    numpyro.sample("y", dist.Normal(X[:, 0] + jnp.ones((10**6, 10**6)).sum(), 1.0), obs=y)


class TestRowCounts:
    @pytest.mark.parametrize("holds", [lambda n: n < 100, lambda n: n == 1, lambda n: n > 1])
    def test_sites_that_depend_on_the_number_of_rows_are_refused(self, holds):
        def kernel(X, y=None):
            shift = numpyro.sample("extra", dist.Normal(0.0, 1.0)) if holds(X.shape[0]) else 0.0
            numpyro.sample("y", dist.Normal(X[:, 0] + shift, 1.0), obs=y)

        with pytest.raises(ValueError, match=r"Site 'extra' is in the kernel on \d+ rows, and is not on"):
            describe(kernel)

    def test_a_latent_site_of_the_fit_alone(self):
        def kernel(X, y=None):
            scale = 1.0 if y is None else numpyro.sample("scale", dist.HalfNormal())
            numpyro.sample("y", dist.Normal(X[:, 0], scale), obs=y)

        spec = describe(kernel)
        assert [site.name for site in spec.latents] == ["scale"]
        assert [site.name for site in spec.sites] == ["y"]

    def test_a_site_of_the_prediction_alone_is_drawn_with_it(self):
        def kernel(X, y=None):
            b = coefficients()
            shift = numpyro.sample("shift", dist.Normal(5.0, 1.0)) if y is None else 0.0
            with numpyro.plate("rows", X.shape[0]):
                numpyro.sample("y", dist.Normal(X @ b + shift, 1.0), obs=y)
                if y is None:
                    numpyro.sample("z", dist.Normal(0.0, 1.0))

        spec = describe(kernel)
        assert [(site.name, site.kind) for site in spec.sites] == [
            ("b", "latent"), ("shift", "companion"), ("y", "output"), ("z", "companion")
        ]  # fmt: skip
        assert [site.name for site in spec.latents] == ["b"]


class TestTracing:
    @pytest.fixture(autouse=True)
    def no_calls(self):
        CALLS.clear()

    def test_nothing_is_computed(self):
        assert describe(enormous)["y"].mixing is None
        jax.effects_barrier()
        assert CALLS == []

    def test_the_kernel_is_called_with_abstract_rows_alone(self):
        def kernel(X, y=None):
            assert isinstance(X, jax.core.Tracer)
            linear(X, y)

        assert describe(kernel).output == "y"

    def test_a_second_trace_is_remembered(self):
        first = describe(counting)
        calls = len(CALLS)
        assert calls > 0
        assert describe(counting) is first
        assert len(CALLS) == calls

    @pytest.mark.parametrize("n_rows", [1, 2, 500, 5000])
    def test_another_number_of_rows_is_the_same_trace(self, n_rows):
        first = describe(counting)
        calls = len(CALLS)
        assert describe(counting, {"X": np.ones((n_rows, 3), np.float32)}) is first
        assert len(CALLS) == calls

    def test_other_columns_or_types_are_another_trace(self):
        def kernel(X, y=None):
            numpyro.sample("y", dist.Normal(X @ coefficients(X.shape[1]), 1.0), obs=y)

        assert describe(kernel)["b"].shape == (3,)
        assert describe(kernel, {"X": X[:, :2]})["b"].shape == (2,)
        assert describe(kernel, {"X": X.astype(np.int32)}) is not describe(kernel)

    def test_equal_closures_share_a_trace(self):
        def make(scale):
            def kernel(X, y=None):
                numpyro.sample("y", dist.Normal(X[:, 0], scale), obs=y)

            return kernel

        assert describe(make(1.0)) is describe(make(1.0))
        assert describe(make(1.0)) is not describe(make(2.0))

    def test_hyperparameters_share_a_trace(self):
        def kernel(X, scale, y=None):
            numpyro.sample("y", dist.Normal(X[:, 0], scale), obs=y)

        inputs = Inputs({"X": X}, {})
        one, one_numbers = trace_kernel(functools.partial(kernel, scale=1.0), inputs, "X", "y")
        other, other_numbers = trace_kernel(functools.partial(kernel, scale=2.0), inputs, "X", "y")
        assert one.spec is other.spec
        assert one == other
        assert (one_numbers, other_numbers) == ({"scale": 1.0}, {"scale": 2.0})

    def test_double_precision_is_local(self):
        rows = {"X": X.astype(np.float64)}
        with jax.enable_x64(True):
            double = describe(linear, rows)
        single = describe(linear)
        assert {site.dtype for site in double.sites} == {"float64"}
        assert {site.dtype for site in single.sites} == {"float32"}
        with jax.enable_x64(True):
            assert describe(linear, rows) is double
        assert describe(linear) is single

    @pytest.mark.parametrize("where", ["closure", "partial", "attribute"])
    def test_arrays_with_an_entry_for_each_row_are_named(self, where):
        offset = np.ones(len(X), np.float32)

        def closure(X, y=None):
            numpyro.sample("y", dist.Normal(X[:, 0] + jnp.asarray(offset), 1.0), obs=y)

        def with_offset(X, y=None, *, shift):
            numpyro.sample("y", dist.Normal(X[:, 0] + shift, 1.0), obs=y)

        class Holding:
            def __init__(self):
                self.held = offset

            def __call__(self, X, y=None):
                with_offset(X, y, shift=self.held)

        kernel, name = {
            "closure": (closure, "offset"),
            "partial": (functools.partial(with_offset, shift=offset), "shift"),
            "attribute": (Holding(), "held"),
        }[where]
        with pytest.raises(ValueError, match=f"runs on {len(X)} rows and on no other number: it uses .*'{name}'"):
            describe(kernel)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("chain", "Site name 'chain' is the name of a dimension of draws: rename the site."),
            ("draw", "Site name 'draw' is the name of a dimension of draws: rename the site."),
        ],
    )
    @pytest.mark.parametrize("site", [numpyro.deterministic, numpyro.param, None], ids=["fixed", "param", "sample"])
    def test_names_that_a_tree_cannot_hold(self, name, message, site):
        def kernel(X, y=None):
            site(name, jnp.ones(2)) if site else numpyro.sample(name, dist.Normal())
            linear(X, y)

        with pytest.raises(ValueError, match="rename the site") as error:
            describe(kernel)
        assert str(error.value) == message

    def test_rows_on_two_axes(self):
        def kernel(X, y=None):
            numpyro.deterministic("gram", X @ X.T)
            linear(X, y)

        with pytest.raises(ValueError, match="rows on more than one axis") as error:
            describe(kernel)
        assert str(error.value) == "Site 'gram' has the rows on more than one axis."


class Callable:
    def __call__(self, X, y=None, z=1):
        pass


class TestSignature:
    @pytest.mark.parametrize(
        "kernel",
        [
            linear,
            functools.partial(lambda X, scale, y=None: None, scale=1.0),
            handlers.scale(linear, 2.0),
            handlers.mask(handlers.scale(functools.partial(linear), 2.0), mask=True),
            lambda X, y=None, **more: None,
            lambda *, X, y=None: None,
            lambda X, y: None,
            lambda X=None, y=None: None,
            Callable(),
            jax.jit(linear),
        ],
        ids=["function", "partial", "handler", "nested", "more", "keywords", "none", "both", "object", "jit"],
    )
    def test_accepted(self, kernel):
        check_signature(kernel, "X", "y", reserved=("X", "y", "sample_weight"))
        assert {"X", "y"} <= kernel_parameters(kernel).keys()

    def test_parameters_behind_an_object_are_without_self(self):
        assert list(kernel_parameters(Callable())) == ["X", "y", "z"]

    @pytest.mark.parametrize("kernel", ["linear", 1, None, Callable])
    def test_what_is_no_kernel(self, kernel):
        with pytest.raises(TypeError) as error:
            check_signature(kernel, "X", "y")
        assert str(error.value) == f"`kernel` must be a callable NumPyro model or None, got {kernel!r}."

    @pytest.mark.parametrize(
        ("kernel", "message"),
        [
            (
                lambda X: None,
                "Kernel must accept 'X' and 'y' as argument(s). Modify the kernel signature or set `param_input` and "
                "`param_output` accordingly.",
            ),
            (
                lambda Z, y=None: None,
                "Kernel must accept 'X' and 'y' as argument(s). Modify the kernel signature or set `param_input` and "
                "`param_output` accordingly.",
            ),
            (
                lambda X, *rest, y=None: None,
                "Kernel must not take `*rest`: its arguments are passed by name.",
            ),
            (
                lambda X, /, y=None: None,
                "Kernel argument 'X' must not be positional-only: it is passed by name.",
            ),
            (
                lambda X=0, y=None: None,
                "Kernel argument 'X' must have no default or the default None: rows are always passed.",
            ),
            (
                lambda X, y=0: None,
                "Kernel argument 'y' must have no default or the default None: predictions pass None.",
            ),
            (
                lambda X, y=None, sample_weight=None: None,
                "Kernel argument 'sample_weight' has the name of a setting of the estimators' methods: rename it, or "
                "set it by `functools.partial(kernel, sample_weight=...)`.",
            ),
        ],
        ids=["no y", "no X", "star", "positional", "X has another", "y has another", "reserved"],
    )
    def test_refused(self, kernel, message):
        with pytest.raises(ValueError, match=r"^Kernel ") as error:
            check_signature(kernel, "X", "y", reserved=("sample_weight", "X", "y"))
        assert str(error.value) == message

    def test_a_reserved_name_may_have_its_value(self):
        kernel = functools.partial(lambda X, y=None, *, method: None, method="exact")
        check_signature(kernel, "X", "y", reserved=("method",))

    def test_other_names_may_be_asked_for(self):
        check_signature(lambda features, target=None: None, "features", "target")
        with pytest.raises(ValueError, match="Kernel must accept 'features' and 'target'"):
            check_signature(linear, "features", "target")
