"""Plots of the ranks of simulation-based calibration: their content and their pictures."""

from types import SimpleNamespace

import numpy as np
import pictures
import pytest
from matplotlib import pyplot as plt
from scipy.stats import binom

from skaimz.plotting import RankDisplay

RNG = np.random.default_rng(0)
RANKS = {
    "slope": RNG.integers(100, size=200),
    "scale": RNG.binomial(99, RNG.beta(0.5, 0.5, size=200)),
    "log likelihood": RNG.integers(100, size=200),
}


def drawn(ax):
    """Return (values, edges, baseline) of the band and of the histogram."""
    return [patch.get_data() for patch in ax.patches]


def test_ranks_are_counted():
    axes = RankDisplay.from_ranks(RANKS, 99).axes_
    assert [ax.get_xlabel() for ax in axes] == ["Rank of slope", "Rank of scale", "Rank of log likelihood"]
    for ax, ranks in zip(axes, RANKS.values(), strict=True):
        _, (counts, edges, _) = drawn(ax)
        np.testing.assert_array_equal(counts, np.bincount(ranks // 10, minlength=10))
        np.testing.assert_allclose(edges, np.arange(0, 101, 10) - 0.5)
        assert ax.get_ylabel() == "Replications"
        assert ax.get_ylim()[0] == 0
        assert ax.get_ylim()[1] > counts.max()
    assert axes[1].get_legend() is None


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_band_is_binomial(level):
    ax = RankDisplay.from_ranks(RANKS, 99, level=level).axes_[0]
    (upper, _, lower), _ = drawn(ax)
    assert (lower[0], upper[0]) == binom.interval(level, 200, 0.1)
    assert set(lower) == {lower[0]}
    assert set(upper) == {upper[0]}
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"{100 * level:g} % if uniform", "Ranks"]


@pytest.mark.parametrize(
    ("n_draws", "n_replications", "sizes"),
    [
        (99, 40, [20] * 5),
        (99, 200, [10] * 10),
        (99, 5000, [5] * 20),
        (2, 50, [1] * 3),
        # 101 is a prime, so that one bin has one rank more.
        (100, 200, [10, 10, 10, 10, 10, 11, 10, 10, 10, 10]),
        # 132 ranks have 12 or 11 bins of equal size, but 10 bins would differ in size.
        (131, 240, [11] * 12),
    ],
)
def test_bins(n_draws, n_replications, sizes):
    rng = np.random.default_rng(0)
    ranks = {"slope": rng.integers(n_draws + 1, size=n_replications)}
    (ax,) = RankDisplay.from_ranks(ranks, n_draws).axes_
    (upper, edges, lower), (counts, same, _) = drawn(ax)
    np.testing.assert_allclose(np.diff(edges), sizes)
    np.testing.assert_array_equal(edges, same)
    assert counts.sum() == n_replications
    expected = [binom.interval(0.99, n_replications, size / (n_draws + 1)) for size in sizes]
    np.testing.assert_allclose(np.stack([lower, upper], axis=1), expected)


def test_results_and_quantities():
    result = SimpleNamespace(ranks=RANKS, n_draws=99)
    axes = RankDisplay.from_result(result, ["scale", "slope"]).axes_
    assert [ax.get_xlabel() for ax in axes] == ["Rank of scale", "Rank of slope"]
    (ax,) = RankDisplay.from_result(result, "scale", level=0.8).axes_
    np.testing.assert_array_equal(drawn(ax)[1][0], np.bincount(RANKS["scale"] // 10, minlength=10))
    assert drawn(ax)[0][0][0] == binom.ppf(0.9, 200, 0.1)


def test_axes_are_those_given():
    figure, given = plt.subplots(3, 1)
    display = RankDisplay(RANKS, 99)
    assert display.plot(ax=given) is display
    assert display.axes_.tolist() == given.tolist()
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


def test_pictures_are_as_they_were(tmp_path):
    pictures.check_picture("rank", RankDisplay.from_ranks(RANKS, 99).figure_, tmp_path)


@pytest.mark.parametrize(
    ("ranks", "quantities", "message"),
    [
        (
            RANKS,
            "dose",
            r"`quantities` names \['dose'\], but there are ranks of \['slope', 'scale'",
        ),
        (RANKS, [], "There is nothing to draw"),
        ({"slope": [0, 100]}, None, "The ranks of 'slope' must be integers from 0 to `n_draws`=99"),
        ({"slope": [-1, 5]}, None, "The ranks of 'slope' must be integers from 0 to `n_draws`=99"),
        ({"slope": [0.5, 5.0]}, None, "The ranks of 'slope' must be integers from 0 to `n_draws`=99"),
        ({"slope": []}, None, "The ranks of 'slope' must be integers"),
        ({"slope": np.zeros((2, 2), int)}, None, r"`ranks\['slope'\]` must have the shape \(n,\), got \(2, 2\)"),
        ({str(i): [1] for i in range(13)}, None, "A picture of 13 panels is not legible: choose 12 at most"),
    ],
)
def test_refusals(ranks, quantities, message):
    with pytest.raises(ValueError, match=message):
        RankDisplay.from_ranks(ranks, 99, quantities)
    assert not plt.get_fignums()
