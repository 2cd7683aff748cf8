"""Judgements of a fit on losses and chains made up for the purpose."""

import warnings

import numpy as np
import pytest
from arviz_stats.base import array_stats

from skaimz.exceptions import (
    DivergenceWarning,
    EffectiveSampleSizeWarning,
    FitWarning,
    NonFiniteLossWarning,
    RHatWarning,
    StuckChainWarning,
    UnsettledGuideWarning,
)
from skaimz.inference.diagnostics import check_chains as checked
from skaimz.inference.diagnostics import check_losses, warn_of_chains


def verdict(check, *args):
    """Return what a check says, and the classes and messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = check(*args)
    return found, {warning.category: str(warning.message) for warning in caught}


def check_chains(draws, diverging):
    found = checked(draws, diverging)
    warn_of_chains(found)
    return found


def autoregressive(correlation, shape, seed=0):
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=shape)
    for i in range(1, shape[1]):
        draws[:, i] = correlation * draws[:, i - 1] + np.sqrt(1 - correlation**2) * draws[:, i]
    return draws


def calm(draws):
    return np.zeros(draws.shape[:2], bool)


# Losses


@pytest.mark.parametrize(("move", "settled"), [(0.0, True), (0.49, True), (0.51, False), (None, True)])
@pytest.mark.parametrize("level", [-1e9, 0.0, 1e9])
def test_a_guide_is_settled_by_its_moves_in_its_own_units(move, settled, level):
    found, warned = verdict(check_losses, np.full(1000, level), move)
    assert found["guide_is_settled"] is settled
    assert found["loss_is_finite"] is True
    assert list(warned) == ([] if settled else [UnsettledGuideWarning])


def test_unsettled_guides_are_told_with_the_move_and_a_remedy():
    message = r"still moved by 1\.2 of its standard deviations in the last quarter of 1000 steps.*`num_steps`"
    with pytest.warns(UnsettledGuideWarning, match=message):
        check_losses(np.zeros(1000), 1.25)


def test_infinite_losses_are_counted():
    losses = np.zeros(1000)
    losses[[7, 9, 500]] = np.nan, np.inf, -np.inf
    with pytest.warns(NonFiniteLossWarning, match="not finite at 3 of 1000 steps, first at step 7"):
        found = check_losses(losses, 0.0)
    assert found["loss_is_finite"] is False
    assert found["guide_is_settled"] is False


def test_final_loss_is_the_mean_of_the_last_tenth():
    assert check_losses(np.arange(50.0)[::-1], None)["loss_final"] == 2.0
    assert check_losses(np.array([5.0, 4.0, 3.0]), None)["loss_final"] == 3.0


# Chains


def test_independent_draws_are_no_reason_to_warn():
    draws = autoregressive(0.0, (4, 500, 3))
    found, warned = verdict(check_chains, {"a": draws}, calm(draws))
    assert warned == {}
    assert found["num_divergences"] == 0
    assert found["r_hat"]["a"] == pytest.approx(1.0, abs=0.01)
    assert found["ess"]["a"] == pytest.approx(2000, rel=0.25)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("chains", [1, 2, 4])
def test_effective_sizes_agree_with_arviz(chains, correlation):
    draws = autoregressive(correlation, (chains, 2000), seed=chains)
    found, _ = verdict(check_chains, {"a": draws}, calm(draws))
    ess = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")
    assert found["ess"]["a"] == pytest.approx(float(ess), rel=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("chains", [2, 4])
def test_r_hats_agree_with_arviz(chains, correlation):
    draws = autoregressive(correlation, (chains, 600), seed=chains)
    found, _ = verdict(check_chains, {"a": draws}, calm(draws))
    r_hat = array_stats.rhat(draws, chain_axis=0, draw_axis=1, method="rank")
    assert found["r_hat"]["a"] == pytest.approx(float(r_hat), rel=1e-6)


def test_halves_of_one_chain_that_drifts_disagree():
    draws = autoregressive(0.0, (1, 600)) + np.linspace(0, 2, 600)
    found, warned = verdict(check_chains, {"a": draws}, calm(draws))
    assert found["r_hat"]["a"] > 1.1
    assert RHatWarning in warned


def test_a_site_is_as_bad_as_its_worst_element():
    draws = autoregressive(0.0, (4, 500, 2, 3))
    draws[:, :, 1, 2] = autoregressive(0.8, (4, 500), seed=5)
    draws[0, :, 0, 1] += 0.5
    found, _ = verdict(check_chains, {"a": draws}, calm(draws))
    alone = [verdict(check_chains, {"a": draws[:, :, i, j]}, calm(draws))[0] for i in range(2) for j in range(3)]
    assert found["r_hat"]["a"] == pytest.approx(max(one["r_hat"]["a"] for one in alone))
    assert found["ess"]["a"] == pytest.approx(min(one["ess"]["a"] for one in alone))
    assert found["r_hat"]["a"] > 1.01
    assert found["ess"]["a"] < 700


def test_chains_apart_are_named_and_others_are_not():
    apart = autoregressive(0.0, (4, 500), seed=1)
    apart[0] += 3.0
    draws = {"good": autoregressive(0.0, (4, 500)), "bad": apart, "worse": 3 * (apart + np.eye(4)[:, :1] * 9)}
    found, warned = verdict(check_chains, draws, calm(apart))
    message = warned[RHatWarning]
    assert "split r-hat exceeds 1.01 for ['bad', 'worse']" in message
    assert f"worst {found['r_hat']['worse']:.3f} for 'worse'" in message
    assert "`num_warmup`" in message


@pytest.mark.parametrize(("r_hat", "warns"), [(1.0095, False), (1.0105, True)])
def test_r_hat_is_judged_at_one_percent(r_hat, warns):
    draws = autoregressive(0.0, (2, 2000), seed=3)
    low, high = 0.0, 1.0
    for _ in range(60):
        shift = (low + high) / 2
        found = array_stats.rhat(draws + np.array([[0.0], [shift]]), chain_axis=0, draw_axis=1, method="rank")
        low, high = (shift, high) if found < r_hat else (low, shift)
    shifted = draws + np.array([[0.0], [low]])
    found, warned = verdict(check_chains, {"a": shifted}, calm(shifted))
    assert found["r_hat"]["a"] == pytest.approx(r_hat, abs=1e-6)
    assert (RHatWarning in warned) is warns


@pytest.mark.parametrize("chains", [2, 4])
def test_a_hundred_effective_draws_a_chain_are_enough(chains):
    few, enough = autoregressive(0.9, (chains, 500)), autoregressive(0.3, (chains, 500), seed=1)
    found, warned = verdict(check_chains, {"few": few, "enough": enough}, calm(few))
    message = warned[EffectiveSampleSizeWarning]
    assert f"Fewer than {100 * chains} effective draws for ['few']" in message
    assert f"least {found['ess']['few']:.0f} for 'few'" in message
    assert found["ess"]["few"] < 100 * chains < found["ess"]["enough"]


def test_divergences_are_counted():
    draws = autoregressive(0.0, (4, 500))
    diverging = calm(draws)
    diverging[1, 3:10] = True
    found, warned = verdict(check_chains, {"a": draws}, diverging)
    assert found["num_divergences"] == 7
    assert list(warned) == [DivergenceWarning]
    assert "7 steps diverged" in warned[DivergenceWarning]
    assert "`target_accept_prob`" in warned[DivergenceWarning]


def test_every_trouble_has_a_warning_of_its_own():
    draws = autoregressive(0.95, (4, 200))
    draws[0] += 5.0
    _, warned = verdict(check_chains, {"a": draws}, ~calm(draws))
    assert set(warned) == {RHatWarning, EffectiveSampleSizeWarning, DivergenceWarning}
    assert all(issubclass(category, FitWarning) for category in warned)


def test_a_constant_site_is_not_judged():
    draws = {"a": np.full((4, 500, 2), 3.0), "b": autoregressive(0.0, (4, 500))}
    found, warned = verdict(check_chains, draws, calm(draws["b"]))
    assert found["r_hat"]["a"] is None
    assert found["ess"]["a"] is None
    assert warned == {}


def test_constant_elements_do_not_hide_the_others():
    # As in the Cholesky factor of a correlation matrix.
    moving = autoregressive(0.5, (4, 500))
    factor = np.zeros((4, 500, 2, 2))
    factor[..., 0, 0] = 1.0
    factor[..., 1, 0] = moving
    found, _ = verdict(check_chains, {"a": factor}, calm(moving))
    alone, _ = verdict(check_chains, {"a": moving}, calm(moving))
    assert found == alone


def test_chains_stuck_apart_are_told():
    draws = np.repeat(np.arange(4.0)[:, None], 500, axis=1)
    found, warned = verdict(check_chains, {"a": draws}, calm(draws))
    assert found["r_hat"]["a"] > 1e3
    assert found["stuck_chains"] == [0, 1, 2, 3]
    assert "Chains [0, 1, 2, 3] of 4 never moved" in warned[StuckChainWarning]
    assert RHatWarning in warned


def test_one_chain_that_is_stuck_is_named():
    draws = {"a": autoregressive(0.0, (3, 500)), "b": autoregressive(0.0, (3, 500, 2), seed=1)}
    for draw in draws.values():
        draw[1] = draw[1, 0]
    _, warned = verdict(check_chains, draws, calm(draws["a"]))
    assert "Chains [1] of 3 never moved" in warned[StuckChainWarning]


def test_draws_that_are_not_finite_have_no_numbers():
    draws = autoregressive(0.0, (4, 500))
    draws[0, 0] = np.nan
    found, warned = verdict(check_chains, {"a": draws}, calm(draws))
    assert found["r_hat"] == {"a": None}
    assert found["ess"] == {"a": None}
    assert "infinite or not numbers" in warned[StuckChainWarning]


@pytest.mark.parametrize(("size", "known"), [(3, False), (4, True)])
def test_fewer_than_four_draws_have_no_numbers(size, known):
    draws = autoregressive(0.0, (4, size))
    found, _ = verdict(check_chains, {"a": draws}, calm(draws))
    assert (found["r_hat"]["a"] is not None) is known
    assert (found["ess"]["a"] is not None) is known
