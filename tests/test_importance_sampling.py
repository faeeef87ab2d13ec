"""Log-likelihood by importance sampling, against a model whose log-likelihood is known, and the classifier by it."""

import json
from pathlib import Path

import linear_model
import numpy as np
import pytest
import tensorflow as tf

from common.datasets import Images
from common.pictures import to_unit
from evaluation import importance_sampling

TEST = Images(linear_model.PIXELS, np.array([0, 1, 1, 0, 1], np.int32), ("dark", "light"), "MNIST (test)")


def terms_of(networks):
    return lambda pixels, labels, noise: linear_model.bound_terms(networks, noise, to_unit(pixels))


def estimate(networks, samples):
    estimator = importance_sampling.make_estimator(terms_of(networks), latent_dim=2, samples=samples)
    reconstruction, divergence, bound = estimator(linear_model.PIXELS, linear_model.NO_CLASSES, "testing")
    return reconstruction - divergence, bound


def test_with_the_exact_posterior_each_weight_is_the_likelihood():
    elbo, bound = estimate(linear_model.networks(), 3)
    np.testing.assert_allclose(bound, linear_model.log_likelihood(), atol=1e-4)
    np.testing.assert_allclose(elbo, linear_model.log_likelihood(), atol=1e-4)


def test_importance_weighting_finds_the_likelihood_with_a_wrong_posterior():
    elbo, bound = estimate(linear_model.networks(offset=0.5), 20_050)  # in many parts, the last of them smaller
    np.testing.assert_allclose(bound, linear_model.log_likelihood(), atol=0.05)
    assert (elbo < linear_model.log_likelihood() - 0.3).all()


def test_at_most_5000_latents_are_decoded_at_once(monkeypatch):
    shapes = []

    def terms(pixels, labels, noise):
        shapes.append(tuple(noise.shape))
        return tf.zeros(noise.shape[:2]), tf.zeros(noise.shape[:2])

    monkeypatch.setattr(tf, "function", lambda function: function)
    pixels = np.zeros((25, 2, 2, 1), np.uint8)
    _, _, bound = importance_sampling.make_estimator(terms, latent_dim=3, samples=1200)(pixels, np.zeros(25), "testing")
    assert set(shapes) == {(10, 500, 3), (10, 200, 3), (5, 500, 3), (5, 200, 3)}
    np.testing.assert_allclose(bound, 0.0, atol=1e-12)


def test_active_units_vary_over_images():
    codes = np.random.default_rng(0).standard_normal((1000, 4)) * [1.0, 0.2, 0.05, 0.0] + [0, 1, 2, 3]
    assert importance_sampling.active_units(codes) == 2


@pytest.mark.parametrize(
    ("changes", "is_comparable"),
    [
        ({}, False),  # not MNIST's size
        ({"mnist": True}, True),
        ({"mnist": True, "binarization": "static"}, False),
        ({"mnist": True, "likelihood": "gaussian"}, False),
        ({"mnist": True, "conditional": True}, False),
    ],
    ids=str,
)
def test_published_figures_stand_only_beside_comparable_ones(monkeypatch, capsys, changes, is_comparable):
    changes = dict(changes)
    monkeypatch.setattr(Images, "has_published_figures", changes.pop("mnist", False))
    setting = {"likelihood": "bernoulli", "binarization": "dynamic", "conditional": False, **changes}
    codes = np.zeros((5, 2), np.float32)
    importance_sampling.evaluate(
        Path("evaluation.json"), TEST, codes, terms_of(linear_model.networks(0.5)), 7, 0, **setting
    )
    printed, result = capsys.readouterr().out, json.loads(Path("evaluation.json").read_text())
    assert ("86.76" in printed) == is_comparable
    assert ("given the classes" in printed) == result["given_the_class"] == setting["conditional"]
    assert result["binarization"] == ("none" if setting["likelihood"] == "gaussian" else setting["binarization"])
    assert result["elbo"] == pytest.approx(result["reconstruction"] - result["kl_divergence"])
    assert result["importance_weighted_bound"] > result["elbo"]
    assert f"{-result['importance_weighted_bound']:.2f} ± {result['standard_error']:.2f}" in printed
    assert (result["test_images"], result["importance_samples"], result["active_units"]) == (5, 7, 0)


def test_bayes_rule_weighs_the_likelihoods_by_the_frequency_of_the_classes(capsys):
    ratios = np.array([0.1, 2.0, 0.5, -0.1, 3.0], np.float32)  # log p(x|light) - log p(x|dark)

    def terms(pixels, labels, noise):
        of_class = tf.where(labels == 1, ratios[: len(labels)], 0.0)
        return tf.broadcast_to(of_class[:, None], noise.shape[:2]), tf.zeros(noise.shape[:2])

    for train_labels in ([0, 1], [0] * 5 + [1], [0] * 30 + [1]):
        importance_sampling.classify(Path("classification.json"), np.array(train_labels), TEST, terms, 2, 1, 0)
        result = json.loads(Path("classification.json").read_text())
        log_odds = np.log(np.mean(train_labels) / (1 - np.mean(train_labels)))
        expected = ratios + log_odds > 0
        assert result["accuracy"] == (expected == TEST.labels).mean()
        assert np.sum(result["confusion"]) == 5
        assert np.trace(result["confusion"]) == round(5 * result["accuracy"])
        assert f"classifies {result['accuracy']:.2%} of MNIST (test) correctly" in capsys.readouterr().out
    assert Path("confusion.png").stat().st_size > 0
