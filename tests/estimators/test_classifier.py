import numpy as np
import pytest
import zoo
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from skaimz import NumPyroImpactClassifier
from skaimz.inference import SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 2))
SETTINGS = SVI(num_steps=2000, num_samples=400)


@pytest.fixture(scope="module")
def binary():
    y = np.where(rng.logistic(size=120) < X @ [2.0, -1.0], "yes", "no")
    return NumPyroImpactClassifier(zoo.logistic, inference=SETTINGS, random_state=0).fit(X, y), y


def test_bernoulli(binary):
    model, y = binary
    assert model.classes_.tolist() == ["no", "yes"]
    proba = model.predict_proba(X)
    expected = (1 / (1 + np.exp(-X @ model.posterior_["coef"][0].T))).mean(axis=1)
    np.testing.assert_allclose(proba, np.column_stack([1 - expected, expected]), rtol=1e-10)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(proba))
    np.testing.assert_array_equal(model.predict(X), np.where(expected > 0.5, "yes", "no"))
    assert model.score(X, y) == accuracy_score(y, model.predict(X))
    weight = np.arange(120.0)
    assert model.score(X, y, weight) == pytest.approx(accuracy_score(y, model.predict(X), sample_weight=weight))


def test_sampled_labels_have_the_predicted_frequencies(binary):
    model, _ = binary
    labels = model.sample_y(X, 400)
    assert labels.shape == (120, 400)
    assert set(np.unique(labels)) == {"no", "yes"}
    error = (labels == "yes").mean(axis=1) - model.predict_proba(X)[:, 1]
    assert abs(error).max() < 5 * 0.5 / np.sqrt(400)


def test_categorical_with_number_of_classes():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    model = NumPyroImpactClassifier(zoo.softmax, inference=SETTINGS, random_state=0).fit(X, names[y])
    assert model.arguments_["static"] == {"n_classes": 3}
    assert model.predict_proba(X).shape == (150, 3)
    assert model.score(X, names[y]) > 0.95


def test_ordered():
    level = X @ [1.5, 0.0] + rng.logistic(size=120)
    y = np.digitize(level, [-1.0, 1.0]) + 10
    model = NumPyroImpactClassifier(zoo.ordered, inference=SETTINGS, random_state=0).fit(X, y)
    assert model.classes_.tolist() == [10, 11, 12]
    draws = {name: draw[0] for name, draw in model.posterior_.items()}
    below = [draws["first"], draws["first"] + draws["gap"]]
    cumulative = [1 / (1 + np.exp(X @ draws["coef"].T - c)) for c in below]
    expected = np.stack([cumulative[0], cumulative[1] - cumulative[0], 1 - cumulative[1]], axis=-1).mean(axis=1)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6, atol=1e-9)


def test_default_kernel_agrees_with_logistic_regression():
    X, y = load_iris(return_X_y=True)
    X, y = X[y > 0], y[y > 0]
    model = NumPyroImpactClassifier(random_state=0).fit(X, y)
    other = LogisticRegression(C=10.0, max_iter=5000).fit(X, y)
    assert np.corrcoef(model.predict_proba(X)[:, 1], other.predict_proba(X)[:, 1])[0, 1] > 0.97
    assert model.score(X, y) >= 0.95
    assert model.classes_.tolist() == [1, 2]


def test_boolean_labels_and_float32():
    y = X[:, 0] > 0
    model = NumPyroImpactClassifier(inference=SETTINGS, random_state=0).fit(X.astype(np.float32), y)
    assert model.predict(X.astype(np.float32)).dtype == bool
    assert model.predict_proba(X.astype(np.float32)).dtype == np.float32
    assert model.score(X.astype(np.float32), y) > 0.95
