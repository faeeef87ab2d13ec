"""How well a linear classifier recognises the classes from features, such as codes or pixels."""

import warnings

import numpy as np

from common import cli


def linear_accuracies(features: dict[str, tuple], labels, test_labels) -> dict[str, float]:
    """Return the `linear_accuracy` of several kinds of features, by name.

    features: by name, a pair of arrays, for the training images and for the test images.
    """
    return {
        name: linear_accuracy(training, labels, test, test_labels)
        for name, (training, test) in cli.progress(features.items(), "linear classifiers", len(features))
    }


def linear_accuracy(features: np.ndarray, labels, test_features: np.ndarray, test_labels) -> float:
    """Train a linear classifier, and return the fraction of the test images that it classifies correctly.

    The classifier is logistic regression on standardised features: a linear probe (Alain and Bengio 2016,
    arXiv:1610.01644).

    features, test_features: (N, size) and (M, size), a row for each image. labels, test_labels: (N,) and (M,).
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
    with warnings.catch_warnings(action="ignore"):  # on pixels it has not converged, but its accuracy no longer rises
        classifier.fit(features, labels)
    return float(classifier.score(test_features, test_labels))
