"""scikit-learn's own checks, all of them, over both estimators, both kinds of inference and two kernels each."""

import jax
import pytest
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, estimator_checks_generator
from zoo import linear, softmax

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI

# Fits of a few steps warn that they have not settled: that is what they should do.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """Compile quickly rather than well: hundreds of fits of a few rows spend their time in the compiler."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


INFERENCES = {
    "svi": SVI(num_steps=500, num_samples=100),
    "mcmc": MCMC(num_warmup=100, num_samples=100, num_chains=1, sampler_options={"max_tree_depth": 6}),
}
ESTIMATORS = {
    f"{kind}-{name}": estimator(kernel, inference=settings, random_state=0)
    for name, settings in INFERENCES.items()
    for kind, estimator, kernel in (
        ("regressor", NumPyroImpactRegressor, None),
        ("regressor-own-kernel", NumPyroImpactRegressor, linear),
        ("classifier", NumPyroImpactClassifier, None),
        ("classifier-own-kernel", NumPyroImpactClassifier, softmax),
    )
}


def excused(estimator):
    """Chaotic chains cannot agree to 1e-7; that they agree in distribution is shown in test_statistics.py."""
    if isinstance(estimator.inference, MCMC):
        return {"check_sample_weight_equivalence_on_dense_data": "two chaotic chains part at rounding errors"}
    return {}


def checks():
    for name, estimator in ESTIMATORS.items():
        generated = estimator_checks_generator(
            estimator, expected_failed_checks=excused(estimator), mark="xfail", legacy=True
        )
        for number, case in enumerate(generated):
            values = getattr(case, "values", case)
            identity = f"{name}-{number}-{values[1].func.__name__}"
            yield pytest.param(*values, marks=getattr(case, "marks", ()), id=identity)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_column_names(estimator):
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "estimator", [NumPyroImpactRegressor(), NumPyroImpactClassifier()], ids=["regressor", "classifier"]
)
def test_no_tag_excuses(estimator):
    tags = estimator.__sklearn_tags__()
    assert not tags.non_deterministic
    assert not tags._skip_test
    assert not (tags.regressor_tags or tags.classifier_tags).poor_score
