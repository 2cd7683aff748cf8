"""scikit-learn's own checks, all of them, over both estimators, both kinds of inference and two kernels each."""

import pytest
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, parametrize_with_checks
from zoo import linear, softmax

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI

# Fits of a few steps warn that they have not settled: that is what they should do.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]

INFERENCES = {
    "svi": SVI(num_steps=500, num_samples=100),
    "mcmc": MCMC(num_warmup=100, num_samples=100, num_chains=1, sampler_options={"max_tree_depth": 6}),
}
ESTIMATORS = [
    estimator(kernel, inference=settings, random_state=0)
    for settings in INFERENCES.values()
    for estimator, kernel in (
        (NumPyroImpactRegressor, None),
        (NumPyroImpactRegressor, linear),
        (NumPyroImpactClassifier, None),
        (NumPyroImpactClassifier, softmax),
    )
]


def excused(estimator):
    """Chaotic chains cannot agree to 1e-7; that they agree in distribution is shown in test_weights.py."""
    if isinstance(estimator.inference, MCMC):
        return {"check_sample_weight_equivalence_on_dense_data": "two chaotic chains part at rounding errors"}
    return {}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=excused)
def test_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_column_names(estimator):
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", [NumPyroImpactRegressor(), NumPyroImpactClassifier()], ids=repr)
def test_no_tag_excuses(estimator):
    tags = estimator.__sklearn_tags__()
    assert not tags.non_deterministic
    assert not tags._skip_test
    assert not (tags.regressor_tags or tags.classifier_tags).poor_score
