"""Checks of priors and outcomes, on arrays made up for the purpose."""

from types import SimpleNamespace

import arviz_stats
import numpy as np
import pytest
import xarray as xr

from skaimz.checks import outcomes

rng = np.random.default_rng(0)


def found(check, drawn, observed):
    statistic = check.partition("_")[2]
    judge = outcomes.tail if check.startswith("p_") else outcomes.prior_tail
    arrays = (SimpleNamespace(**{statistic: np.asarray(values)}) for values in (observed, drawn))
    return judge(check, "y", *arrays)


def test_ties_count_half():
    drawn = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [2.0, 5.0]])
    np.testing.assert_array_equal(outcomes.upper_tail(drawn, np.array([1.0, 5.0])), [0.5 + 0.125, 0.5])


def test_replications_that_are_not_finite_leave_no_p_value():
    np.testing.assert_array_equal(outcomes.upper_tail(np.array([[1.0, 1.0], [np.inf, 2.0]]), 0.0), [np.nan, 1.0])
    finding = found("p_mean", [1.0, np.nan], 0.0)
    assert finding.verdict == "unknown"
    assert "not finite" in finding.advice


@pytest.mark.parametrize("check", ["p_mean", "p_sd", "p_min", "p_max"])
@pytest.mark.parametrize(
    ("observed", "value", "threshold", "verdict"),
    [
        (500.0, 0.5, 0.025, "good"),
        (25.0, 0.975, 0.975, "good"),
        (24.0, 0.976, 0.975, "bad"),
        (975.0, 0.025, 0.025, "good"),
        (976.0, 0.024, 0.025, "bad"),
    ],
)
def test_p_values_are_judged_at_both_ends(check, observed, value, threshold, verdict):
    finding = found(check, np.arange(1000) + 0.5, observed)
    assert finding.value == pytest.approx(value)
    assert finding.verdict == verdict
    if value != 0.5:
        assert finding.threshold == threshold
    words = {True: ("greater", "more"), False: ("smaller", "less")}[observed > 500]
    assert (verdict == "good" and finding.advice == "") or any(word in finding.advice for word in words)


def test_of_several_outputs_the_worst_is_told():
    drawn = np.stack([np.arange(100.0), np.arange(100.0), np.arange(100.0)], axis=1)
    finding = found("p_mean", drawn, [50.5, 1000.0, 3.5])
    assert finding.value == 0.0
    assert finding.advice.endswith("(element [1])")


def test_outcomes_that_vary_less_than_the_prior_are_as_they_should_be():
    drawn = np.arange(1000) + 0.5
    assert found("prior_sd", drawn, 0.0).verdict == "good"
    assert found("prior_sd", drawn, 991.0).verdict == "bad"
    assert found("prior_mean", drawn, 0.0).verdict == "bad"
    assert found("prior_mean", drawn, 991.0).verdict == "bad"
    assert found("prior_mean", drawn, 990.0).value == pytest.approx(0.01)
    assert found("prior_mean", drawn, 990.0).verdict == "good"
    # One output within the prior's range hides none that is not.
    assert found("prior_sd", np.stack([drawn, drawn], axis=1), [0.0, 991.0]).advice.endswith("(element [1])")


def test_width_of_a_prior():
    mean, sd = np.array([-3.0, 0.0, 3.0]), np.array([4.0, 4.0, 4.0])
    observed, drawn = SimpleNamespace(mean=7.0, sd=np.array(0.5)), SimpleNamespace(mean=mean, sd=sd)
    finding = outcomes.prior_width("prior_width", "y", observed, drawn)
    # Distances 5, 4 and 5 from the centre 0, wherever the outcomes lie.
    assert (finding.value, finding.threshold, finding.verdict) == (10.0, 100.0, "good")
    drawn = SimpleNamespace(mean=mean, sd=100 * sd)
    assert outcomes.prior_width("prior_width", "y", observed, drawn).verdict == "bad"
    constant = SimpleNamespace(mean=7.0, sd=np.array(0.0))
    finding = outcomes.prior_width("prior_width", "y", constant, drawn)
    assert finding.verdict == "unknown"
    assert "all the same" in finding.advice


def test_place_of_a_posterior_in_its_prior():
    prior = np.arange(1000) + 0.5
    finding = outcomes.prior_edge("a", np.array([3.0, 200.0, 900.0]), prior)
    assert (finding.check, finding.site, finding.value) == ("prior_edge", "a", 0.2)
    assert finding.verdict == "good"
    for median, verdict in [(10.0, "good"), (9.0, "bad"), (990.0, "good"), (991.0, "bad")]:
        finding = outcomes.prior_edge("a", np.full(3, median), prior)
        assert finding.verdict == verdict
        assert verdict == "good" or ("lower" if median < 500 else "upper") in finding.advice


def test_place_in_a_prior_is_that_of_its_logarithm():
    prior, posterior = np.abs(rng.normal(size=1000)), np.abs(rng.normal(0.001, 0.0001, size=501))
    plain, logged = (outcomes.prior_edge("a", f(posterior), f(prior)) for f in (np.asarray, np.log))
    assert plain == logged
    assert plain.verdict == "bad"


def test_many_elements_share_the_tails():
    prior = np.stack([np.arange(1000) + 0.5] * 4, axis=1).reshape(1000, 2, 2)
    posterior = np.array([[[500.0, 500.0], [4.0, 500.0]]])
    finding = outcomes.prior_edge("a", posterior, prior)
    assert (finding.value, finding.threshold, finding.verdict) == (0.004, 0.0025, "good")
    posterior[0, 1, 0] = 2.0
    finding = outcomes.prior_edge("a", posterior, prior)
    assert finding.verdict == "bad"
    assert "(element [1, 0])" in finding.advice


def test_elements_that_never_change_are_nowhere_near_an_edge():
    assert outcomes.prior_edge("a", np.ones((10, 1)), np.ones((1000, 1))).value == 0.5


@pytest.mark.parametrize("n_chains", [1, 4])
def test_k_hats_are_those_of_loo(n_chains):
    """On a normal mean with one row far from the others, which no leaving out can be told from the draws."""
    y = np.append(rng.normal(size=20), 30.0)
    theta = {"theta": rng.normal(y.mean(), 1 / np.sqrt(21), size=(n_chains, 800 // n_chains))}
    theta["theta"][:, 1:] += 0.9 * (theta["theta"][:, :-1] - y.mean())  # correlated
    density = -0.5 * (y - theta["theta"][..., None]) ** 2
    tree = xr.DataTree.from_dict({
        "posterior": xr.Dataset({"theta": (("chain", "draw"), theta["theta"])}),
        "log_likelihood": xr.Dataset({"y": (("chain", "draw", "row"), density)}),
    })  # fmt: skip
    with pytest.warns(UserWarning, match="Pareto"):
        expected = arviz_stats.loo(tree, pointwise=True)
    efficiency = outcomes.efficiency(theta)
    assert (efficiency == 1.0) is (n_chains == 1)
    shapes = outcomes.pareto_shapes(density.reshape(800, 21).T, efficiency)
    np.testing.assert_allclose(shapes, expected.pareto_k.to_numpy(), rtol=1e-10)
    finding = outcomes.influence("y", shapes, 800)
    assert finding.value == pytest.approx(float(expected.pareto_k.max()))
    assert finding.threshold == pytest.approx(expected.good_k)
    assert finding.verdict == "bad"
    assert "worst is row 20," in finding.advice
    assert outcomes.influence("y", shapes[:20], 800).verdict == "good"


def test_too_few_draws_have_no_k_hat():
    assert outcomes.influence("y", np.array([0.1]), 10).verdict == "unknown"
    assert outcomes.influence("y", np.array([0.1, np.inf]), 100).verdict == "unknown"
