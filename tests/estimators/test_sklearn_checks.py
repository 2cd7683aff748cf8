"""scikit-learn's own checks, all of them, over both estimators, three kinds of inference and two kinds of kernel.

Chains take longest to compile, so each estimator has them with one kind of kernel alone: the default, or one's own. Any
two of estimator, inference and kernel still meet.
"""

import pytest
from sklearn.base import clone
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, estimator_checks_generator
from zoo import linear, softmax

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI, Auto

# Fits of a few steps warn that they have not settled: that is what they should do. Every line is covered elsewhere,
# and Python runs faster where none is counted.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.no_cover,
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]


INFERENCES = {
    "auto": "auto",
    "short-auto": Auto(num_samples=100, num_chains=1),
    "svi": SVI(num_steps=500, num_samples=100),
    "mcmc": MCMC(num_warmup=100, num_samples=100, num_chains=1, sampler_options={"max_tree_depth": 6}),
}


def regressor(inference="svi", kernel=None):
    return NumPyroImpactRegressor(kernel, inference=INFERENCES[inference], random_state=0)


def classifier(inference="svi", kernel=None):
    return NumPyroImpactClassifier(kernel, inference=INFERENCES[inference], random_state=0)


# Classes of scikit-learn that wrap an estimator, with ours inside.
def wrapped(regressor, classifier, regressor_grid, classifier_grid):
    return {
        "search-regressor": GridSearchCV(regressor, regressor_grid, cv=2, error_score="raise"),
        "search-classifier": GridSearchCV(classifier, classifier_grid, cv=2, error_score="raise"),
        "pipeline-regressor": make_pipeline(StandardScaler(), regressor),
        "pipeline-classifier": make_pipeline(StandardScaler(), classifier),
        "bagging-regressor": BaggingRegressor(regressor, n_estimators=2, random_state=0),
        "stacking-regressor": StackingRegressor([("inside", regressor)], LinearRegression(), cv=2),
        "voting-classifier": VotingClassifier([("inside", classifier)], voting="soft"),
    }


RATES = {"inference__learning_rate": [0.02, 0.05]}
WRAPPERS = wrapped(regressor(), classifier(), RATES, RATES)
THEIRS = wrapped(Ridge(), LogisticRegression(), {"alpha": [0.1, 1.0]}, {"C": [0.1, 1.0]})
# What wraps an estimator follows it, while the programs that they share are there.
ESTIMATORS = {
    "regressor-auto": regressor("auto"),
    "classifier-auto": classifier("auto"),
    "regressor-own-kernel-auto": regressor("short-auto", linear),
    "classifier-own-kernel-auto": classifier("short-auto", softmax),
    "regressor-svi": regressor(),
    **{name: wrapper for name, wrapper in WRAPPERS.items() if name.endswith("regressor")},
    "classifier-svi": classifier(),
    **{name: wrapper for name, wrapper in WRAPPERS.items() if name.endswith("classifier")},
    "regressor-own-kernel-svi": regressor(kernel=linear),
    "classifier-own-kernel-svi": classifier(kernel=softmax),
    "regressor-mcmc": regressor("mcmc"),
    "classifier-own-kernel-mcmc": classifier("mcmc", softmax),
}


def checks(estimators):
    for name, estimator in estimators.items():
        generated = estimator_checks_generator(estimator, mark="xfail", legacy=True)
        for number, case in enumerate(generated):
            values = getattr(case, "values", case)
            identity = f"{name}-{number}-{values[1].func.__name__}"
            yield pytest.param(*values, marks=getattr(case, "marks", ()), id=identity)


@pytest.mark.parametrize(("estimator", "check"), list(checks(ESTIMATORS)))
def test_sklearn_check(estimator, check, request):
    name = request.node.callspec.id.rsplit("-", 2)[0]
    if name in THEIRS:
        try:
            check(clone(THEIRS[name]))
        except Exception:
            pytest.skip("what scikit-learn's wrapper does not meet with scikit-learn's own estimator inside")
    check(estimator)


@pytest.mark.parametrize("estimator", [regressor(), classifier()], ids=["regressor", "classifier"])
def test_column_names(estimator):
    """They are looked at before the kernel and the inference are."""
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "estimator", [NumPyroImpactRegressor(), NumPyroImpactClassifier()], ids=["regressor", "classifier"]
)
def test_no_tag_excuses(estimator):
    tags = estimator.__sklearn_tags__()
    assert not tags.non_deterministic
    assert not tags._skip_test
    assert not (tags.regressor_tags or tags.classifier_tags).poor_score
