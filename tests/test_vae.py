"""The method: bounds, distributions and the prior against closed forms, and what the command line makes of them."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

import vae
from common import datasets
from vae import Config

SMALL = Config(
    network="dense", prior="normal", latent_dim=6, batch_size=16, image_size=16, warmup_steps=0, precision="float32"
)
TINY_FLAGS = [
    *("--data", "digits", "--image_size", "16", "--network", "dense", "--latent_dim", "4", "--batch_size", "64"),
    *("--epochs", "1", "--sample_every", "50", "--checkpoint_every", "10", "--precision", "float32"),
]


def make(classes=0, channels=1, **changes):
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    state = vae.build(config, channels, classes)
    return state, tf.function(vae.make_train_step(**state, config=config, classes=classes))


def batch(channels=1):
    return np.random.default_rng(0).integers(0, 256, (16, 16, 16, channels), np.uint8)


def images_of(pixels):
    return datasets.Images(pixels, np.zeros(len(pixels), np.int32), (), "made")


LABELS = np.arange(16, dtype=np.int32) % 3


def count(model):
    return sum(np.prod(variable.shape) for variable in model.trainable_variables)


# Networks


def test_parameter_counts_of_burdas_network():
    networks = vae.build_networks(Config(network="dense", latent_dim=50, prior="normal"), 1, 0)
    assert count(networks.encoder) == 785 * 200 + 201 * 200 + 201 * 100
    assert count(networks.decoder) == 51 * 200 + 201 * 200 + 201 * 784
    assert count(networks.prior) == 0


def test_parameter_counts_of_the_default_networks():
    networks = vae.build_networks(Config(), 1, 0)
    assert count(networks.encoder) == 832 + 9 * 32 * 48 + 48 + 2 * (9 * 48 * 48 + 48) + (2352 + 1) * 256 + 257 * 64
    decoder = 33 * 256 + 257 * 1568 + 2 * (9 * 32 * 32 + 32) + 16 * 32 * 32 + 32 + 9 * 32 * 4 + 4
    assert count(networks.decoder) == decoder
    assert count(networks.prior) == 4 * (17 * 128 + 129 * 128 + 129 * 32)


@pytest.mark.parametrize("network", ["conv", "dense"])
@pytest.mark.parametrize(
    ("likelihood", "size", "channels", "classes"), [("bernoulli", 28, 1, 0), ("gaussian", 16, 3, 4)]
)
def test_networks_fit_each_other(network, likelihood, size, channels, classes):
    config = dataclasses.replace(SMALL, network=network, image_size=size, likelihood=likelihood)
    networks = vae.build_networks(config, channels, classes)
    images, one_hot = tf.zeros((2, size, size, channels)), tf.zeros((2, classes))
    assert networks.encoder([images, one_hot]).shape == (2, 12)
    generator = vae.build_generator(networks, config)
    assert generator.output_shape == (None, size, size, channels)
    generated = generator(tf.random.stateless_normal((2, 6 + classes), (0, 0)))
    assert 0 <= float(tf.reduce_min(generated)) <= float(tf.reduce_max(generated)) <= 1


def test_conv_decoder_puts_each_place_where_it_belongs():
    """The four pixels of a place of the last layer lie together in the image."""
    config = dataclasses.replace(SMALL, network="conv", image_size=8)
    decoder = vae.build_decoder(config, 1, 0)
    last = next(layer for layer in reversed(decoder.layers) if isinstance(layer, keras.layers.Conv2D))
    tail = keras.Model(last.output, decoder.output)
    places = np.zeros((1, 4, 4, 4), np.float32)
    places[0, 1, 2] = [1, 2, 3, 4]
    image = tail(places).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(image[2:4, 4:6], [[1, 2], [3, 4]])
    assert image.sum() == 10


def test_prior_is_a_density_with_an_inverse():
    networks = vae.build_networks(dataclasses.replace(SMALL, latent_dim=5, prior="flow"), 1, 3)
    for index, variable in enumerate(networks.prior.variables):
        variable.assign(tf.random.stateless_normal(variable.shape, (index, 0)) * 0.15)
    latents = tf.random.stateless_normal((4, 5), (0, 1))
    one_hot = tf.one_hot([0, 1, 2, 0], 3)
    with tf.GradientTape() as tape:
        tape.watch(latents)
        normal, log_determinant = networks.prior([latents, one_hot])
    jacobian = tape.batch_jacobian(normal, latents)
    np.testing.assert_allclose(log_determinant, np.linalg.slogdet(jacobian)[1], atol=1e-3)
    assert np.abs(log_determinant).max() > 0.1
    np.testing.assert_allclose(networks.inverse_prior([normal, one_hot]), latents, atol=1e-3)
    other = networks.prior([latents, tf.roll(one_hot, 1, axis=-1)])[0]
    assert not np.allclose(other, normal, atol=1e-2)  # each class has its own density


# Distributions

GREY = np.array([0, 1, 100, 254, 255], np.float32).reshape(1, 1, 5, 1) / 255


def test_bernoulli_against_scipy():
    images = np.array([0, 1, 1, 0], np.float32).reshape(1, 2, 2, 1)
    logits = np.array([-3, 0.5, 20, 2], np.float32).reshape(1, 2, 2, 1)
    expected = stats.bernoulli.logpmf(images, 1 / (1 + np.exp(-logits.astype(np.float64)))).sum()
    assert float(vae.log_likelihood(images, logits, "bernoulli")[0]) == pytest.approx(expected, rel=1e-5)


def test_gaussian_against_scipy():
    mean, log_scale = np.float32(0.3) * np.ones_like(GREY), np.float32(-1.2) * np.ones_like(GREY)
    expected = stats.norm.logpdf(GREY, 0.3, np.exp(-1.2)).sum()
    found = vae.log_likelihood(GREY, np.concatenate([mean, log_scale], -1), "gaussian")
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.4, -2.0), (0.0, -4.5), (1.3, -1.0), (0.5, -9.0)])
def test_discretized_logistic_against_scipy(mean, log_scale):
    """The shares of the 256 grey values are those of their intervals, and add up to 1; the scale has a least value."""
    levels = np.arange(256, dtype=np.float32).reshape(256, 1, 1, 1) / 255
    parameters = np.broadcast_to(np.float32([mean, log_scale]), (256, 1, 1, 2))
    found = np.exp(vae.log_likelihood(levels, parameters, "discretized_logistic").numpy().astype(np.float64))
    assert found.sum() == pytest.approx(1, abs=1e-4)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    expected = np.diff(stats.logistic.cdf(edges, mean, max(np.exp(log_scale), 1 / 256)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized_logistic"])
@pytest.mark.parametrize("compiled", [False, True])
def test_images_outside_the_range_are_refused(likelihood, compiled):
    parameters = tf.zeros((1, 2, 2, 1 if likelihood == "bernoulli" else 2))
    measure = tf.function(vae.log_likelihood) if compiled else vae.log_likelihood
    for wrong in (-1.0, 1.5):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"must lie in \[0, 1\]"):
            measure(tf.fill((1, 2, 2, 1), wrong), parameters, likelihood)
    assert np.isfinite(measure(tf.ones((1, 2, 2, 1)), parameters, likelihood))


def test_kl_divergence_against_closed_form_and_monte_carlo():
    assert float(vae.kl_divergence(tf.zeros((1, 3)), tf.zeros((1, 3)))[0]) == 0
    assert float(vae.kl_divergence(tf.constant([[2.0]]), tf.zeros((1, 1)))[0]) == pytest.approx(2)
    mean, log_scale = np.float32([[0.5, -1.0]]), np.float32([[-0.7, 0.2]])
    noise = tf.random.stateless_normal((200_000, 2), (0, 0))
    log_posterior = vae.log_normal(noise) - log_scale.sum()
    log_prior = vae.log_normal(mean + np.exp(log_scale) * noise)
    expected = float(tf.reduce_mean(log_posterior - log_prior))
    assert float(vae.kl_divergence(mean, log_scale)[0]) == pytest.approx(expected, abs=0.01)


def test_log_normal_against_scipy():
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_allclose(vae.log_normal(x), stats.multivariate_normal(np.zeros(3)).logpdf(x), rtol=1e-5)


# Bounds: a linear decoder with normal noise, whose likelihood is known

SCALE = 0.5
# Two latents with orthogonal weights for four pixels: then the posterior's covariance is diagonal.
WEIGHTS = np.array([[0.4, 0.4, -0.2, -0.2], [0.1, 0.1, 0.2, 0.2]], np.float32)
LINEAR = dataclasses.replace(SMALL, latent_dim=2, image_size=2, likelihood="gaussian", prior="normal")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1), np.uint8)
IMAGES = PIXELS.astype(np.float32) / 255
NO_CLASSES = np.zeros(5, np.int32)


def linear_networks(spoiled=0.0):
    """Networks with the exact posterior, or one whose means are off by so much and whose scales are too large."""
    variance = 1 / (1 + (WEIGHTS**2).sum(axis=1) / SCALE**2)

    def encoder(inputs, training):
        mean = (tf.reshape(inputs[0], (-1, 4)) - 0.5) @ WEIGHTS.T / SCALE**2 * variance + spoiled
        log_scale = tf.zeros_like(mean) + 0.5 * np.log(variance).astype(np.float32) + spoiled
        return tf.concat([mean, log_scale], axis=-1)

    def decoder(latents, training):
        mean = tf.reshape(latents @ WEIGHTS + 0.5, (-1, 2, 2, 1))
        return tf.concat([mean, tf.fill(mean.shape, np.float32(np.log(SCALE)))], axis=-1)

    return vae.Networks(encoder, decoder, *vae.build_prior(LINEAR, 0))


def networks_with(posterior):
    """The same with one posterior, (1, 4), for all images, or with one for each, (images, 4)."""
    return linear_networks()._replace(encoder=lambda inputs, training: tf.broadcast_to(posterior, (len(inputs[0]), 4)))


def true_log_likelihood():
    covariance = WEIGHTS.T @ WEIGHTS + SCALE**2 * np.eye(4)
    return stats.multivariate_normal(np.full(4, 0.5), covariance).logpdf(PIXELS.reshape(-1, 4) / 255)


def measure(networks, samples):
    importance_weighted = vae.make_importance_weighted(networks, LINEAR, 0, samples)
    reconstruction, divergence, bound = importance_weighted(PIXELS, NO_CLASSES, "testing")
    return reconstruction - divergence, bound


def test_with_the_exact_posterior_each_weight_is_the_likelihood():
    elbo, bound = measure(linear_networks(), 3)
    np.testing.assert_allclose(bound, true_log_likelihood(), atol=1e-4)
    np.testing.assert_allclose(elbo, true_log_likelihood(), atol=1e-4)


def test_importance_weighting_finds_the_likelihood_with_a_wrong_posterior():
    elbo, bound = measure(linear_networks(spoiled=0.5), 20_050)  # in many parts, the last a smaller one
    np.testing.assert_allclose(bound, true_log_likelihood(), atol=0.05)
    assert (elbo < true_log_likelihood() - 0.3).all()


def test_bound_rises_with_the_number_of_samples():
    noise = tf.random.stateless_normal((5, 60_000, 2), (0, 0))
    terms = vae.bound_terms(linear_networks(0.5), IMAGES, tf.zeros((5, 0)), noise, LINEAR)
    log_weights = terms[0] - terms[1]
    means = [
        float(tf.reduce_mean(vae.lower_bound(tf.reshape(log_weights, (-1, samples)), "iwae")))
        for samples in (1, 2, 5, 20, 100)
    ]
    assert means == sorted(means)
    assert means[0] == pytest.approx(float(tf.reduce_mean(vae.lower_bound(log_weights, "elbo"))), abs=1e-4)
    assert means[-1] < true_log_likelihood().mean()
    assert means[-1] == pytest.approx(true_log_likelihood().mean(), abs=0.02)


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_gradient_of_the_sample_against_finite_differences(bound):
    posterior = tf.Variable([[0.2, -0.3, -0.4, 0.1]])
    networks = networks_with(posterior)
    noise = tf.random.stateless_normal((5, 3, 2), (0, 0))

    def value():
        terms = vae.bound_terms(networks, IMAGES, tf.zeros((5, 0)), noise, LINEAR)
        return tf.reduce_mean(vae.lower_bound(terms[0] - terms[1], bound))

    with tf.GradientTape() as tape:
        found = value()
    gradient = tape.gradient(found, posterior).numpy()[0]
    start, step = posterior.numpy(), 1e-2
    for index in range(4):
        change = step * np.eye(4, dtype=np.float32)[index]
        values = [float((posterior.assign(start + sign * change), value())[1]) for sign in (1, -1)]
        assert gradient[index] == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-3)


def test_samples_drawn_by_weight_have_the_gradient_of_all():
    """Burda et al. 2016, equation 14: on average over the draws, and each sample in proportion to its weight."""
    posterior = tf.Variable([[0.2, -0.3, -0.4, 0.1]])
    networks = networks_with(posterior)
    noise = tf.random.stateless_normal((5, 4, 2), (0, 0))

    def weigh_and_differentiate(noise, bound):
        with tf.GradientTape() as tape:
            reconstruction, divergence = vae.bound_terms(networks, IMAGES, tf.zeros((5, 0)), noise, LINEAR)
            value = tf.reduce_mean(vae.lower_bound(reconstruction - divergence, bound))
        return reconstruction - divergence, tape.gradient(value, posterior).numpy()

    log_weights, expected = weigh_and_differentiate(noise, "iwae")
    gradients, drawn = [], []
    for start in (np.arange(100, dtype=np.float32) + 0.5) / 100:
        drawn.append(vae.draw_by_weight(noise, log_weights, tf.fill((5, 1), start), 2)[0])
        gradients.append(weigh_and_differentiate(drawn[-1], "elbo")[1])
    assert np.std(gradients, axis=0).max() > 0.05
    np.testing.assert_allclose(np.mean(gradients, axis=0), expected, atol=0.01)
    drawn = np.concatenate(drawn, axis=1)
    shares = [np.mean(np.all(drawn == noise[:, n, None], axis=-1), axis=1) for n in range(4)]
    np.testing.assert_allclose(np.transpose(shares), tf.nn.softmax(log_weights), atol=0.01)


def test_last_sample_is_drawn_where_rounding_leaves_the_distribution_below_one():
    noise = tf.reshape(tf.range(3.0), (1, 3, 1))
    drawn, shares = vae.draw_by_weight(noise, tf.zeros((1, 3)), tf.fill((1, 1), 2.0), 1)  # as if beyond the end
    assert drawn.numpy().ravel().tolist() == [2.0]
    assert shares.numpy().ravel() == pytest.approx([1 / 3])


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_shares_leave_the_encoders_mean_gradient_and_lessen_its_noise(weight):
    copies = 8_000
    images = np.repeat(IMAGES, copies, axis=0)
    noise = tf.random.stateless_normal((len(images), 4, 2), (0, 0))
    start = tf.random.stateless_uniform((len(images), 1), (0, 1))

    def gradients(noise, bound, shares=None):
        """Return the log-weights, and one gradient for each image."""
        each = tf.repeat([[0.5, -0.3, -0.1, 0.2]], len(images), axis=0)
        with tf.GradientTape() as tape:
            tape.watch(each)
            classes = tf.zeros((len(images), 0))
            terms = vae.bound_terms(networks_with(each), images, classes, noise, LINEAR, encoder_shares=shares)
            log_weights = terms[0] - weight * terms[1]
            value = tf.reduce_sum(vae.lower_bound(log_weights, bound))
        return log_weights, np.reshape(tape.gradient(value, each), (5, copies, 4))

    log_weights, expected = gradients(noise, "iwae")
    drawn, shares = vae.draw_by_weight(noise, log_weights, start, 2)
    log_weights_of_drawn, plain = gradients(drawn, "elbo")
    log_weights_with_shares, found = gradients(drawn, "elbo", 1.0 - weight * (1.0 - shares))
    np.testing.assert_allclose(log_weights_with_shares, log_weights_of_drawn, atol=1e-4)
    error = np.hypot(found.std(axis=1), expected.std(axis=1)) / np.sqrt(copies)
    assert (np.abs(found.mean(axis=1) - expected.mean(axis=1)) < 4 * error).all()
    assert found.std() < 0.8 * plain.std()


def test_with_shares_a_perfect_encoder_has_no_gradient_whatever_is_drawn():
    spoiled = tf.Variable(0.0)
    noise = tf.random.stateless_normal((5, 3, 2), (0, 0))
    found = []
    for shares in (None, tf.fill((5, 3), 0.3)):
        with tf.GradientTape() as tape:
            networks = linear_networks(spoiled)
            terms = vae.bound_terms(networks, IMAGES, tf.zeros((5, 0)), noise, LINEAR, encoder_shares=shares)
            value = tf.reduce_mean(terms[0] - terms[1])
        found.append(float(tape.gradient(value, spoiled)))
    assert abs(found[0]) > 0.05
    assert found[1] == pytest.approx(0, abs=1e-5)


# Training


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "flow"},
        {"network": "conv"},
        {"likelihood": "gaussian"},
        {"prior": "flow", "bound": "iwae", "importance_samples": 3, "likelihood": "discretized_logistic"},
        {"bound": "iwae", "importance_samples": 2},
        {"bound": "iwae", "importance_samples": 6, "backward_samples": 2},
    ],
    ids=str,
)
def test_every_variable_moves(changes):
    state, step = make(classes=3, **changes)
    names = ("networks", "averaged_networks")
    before = {name: [variable.numpy() for variable in state[name].trainable_variables] for name in names}
    for number in (3, 4):  # the flow's last layers start at zero: only then do its first ones feel anything
        losses = step(batch(), LABELS, tf.constant(number, tf.int64))
    assert all(np.isfinite(float(value)) for value in losses.values())
    for name in names:
        for variable, value in zip(state[name].trainable_variables, before[name], strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "flow"},
        {"network": "conv"},
        {"bound": "iwae", "importance_samples": 4},
        {"bound": "iwae", "importance_samples": 4, "backward_samples": 1},
    ],
    ids=str,
)
def test_one_batch_can_be_overfitted(changes, monkeypatch):
    monkeypatch.setattr(vae, "RATE_WARMUP", 1)
    _, step = make(binarization="threshold", learning_rate=4e-3, **changes)
    pixels = np.where(batch() > 127, 255, 0).astype(np.uint8)
    losses = [float(step(pixels, LABELS, tf.constant(n, tf.int64))["negative_bound"]) for n in range(120)]
    assert losses[0] > 170  # log 2 for each of the 256 pixels is 177
    assert losses[-1] < 100


@pytest.mark.parametrize("changes", [{}, {"prior": "flow", "network": "conv"}], ids=str)
def test_losses_are_float32_in_mixed_precision(changes):
    keras.config.set_dtype_policy("mixed_bfloat16")
    _, step = make(classes=3, **changes)
    mixed = step(batch(), LABELS, tf.constant(0, tf.int64))
    keras.config.set_dtype_policy("float32")
    _, step = make(classes=3, **changes)
    for name, value in step(batch(), LABELS, tf.constant(0, tf.int64)).items():
        assert mixed[name].dtype == tf.float32
        assert float(mixed[name]) == pytest.approx(float(value), rel=0.02, abs=0.02)


def test_a_run_in_mixed_precision_is_evaluated_in_float32(monkeypatch):
    vae.main([*TINY_FLAGS, "--precision", "mixed_bfloat16"])
    computed, evaluate = [], vae.evaluate

    def evaluate_and_look(config, networks, *arguments):
        computed.append(networks.decoder.compute_dtype)
        evaluate(config, networks, *arguments)

    monkeypatch.setattr(vae, "evaluate", evaluate_and_look)
    vae.main(["--evaluate", "--evaluation_samples", "2"])
    assert computed == ["float32"]


def test_learning_rate_rises_and_falls_and_does_so_again():
    settings = {"learning_rate": 0.1, "decay_steps": 2000, "decay_from": 3000}
    optimizer = make(**settings)[0]["optimizer"]
    rates = []
    for step in (0, 3000, 3250, 3500, 4500, 5500, 9000):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    first = 0.1 / vae.RATE_WARMUP
    halves = (first + 0.1) / 2, 0.1 * (1 + 0.01) / 2
    assert rates == pytest.approx([first, first, halves[0], 0.1, halves[1], 0.001, 0.001], rel=1e-3)


def test_weight_of_the_divergence_grows_to_beta():
    _, step = make(beta=4.0, warmup_steps=99, learning_rate=1e-7)
    for number, weight in ((0, 0.04), (49, 2.0), (500, 4.0)):
        losses = {name: float(value) for name, value in step(batch(), LABELS, tf.constant(number, tf.int64)).items()}
        expected = losses["reconstruction_error"] + weight * losses["kl_divergence"]
        assert losses["negative_bound"] == pytest.approx(expected, rel=1e-5)


def test_analytic_divergence_is_the_mean_of_the_sampled_one():
    networks = linear_networks(0.5)
    noise = tf.random.stateless_normal((5, 50_000, 2), (0, 0))
    sampled, analytic = (
        vae.bound_terms(networks, IMAGES, tf.zeros((5, 0)), noise, LINEAR, analytic)[1] for analytic in (False, True)
    )
    np.testing.assert_allclose(tf.reduce_mean(sampled, axis=1), tf.reduce_mean(analytic, axis=1), atol=0.02)
    assert np.ptp(analytic.numpy(), axis=1).max() == 0


def test_a_step_learns_from_the_drawn_samples_with_their_shares(monkeypatch):
    config = dataclasses.replace(SMALL, bound="iwae", importance_samples=6, backward_samples=2, warmup_steps=0)
    step = vae.make_train_step(**vae.build(config, 1, 0), config=config, classes=0)
    bound_terms, draw_by_weight, drawn, given = vae.bound_terms, vae.draw_by_weight, [], []
    monkeypatch.setattr(vae, "draw_by_weight", lambda *args: drawn.append(draw_by_weight(*args)) or drawn[0])
    monkeypatch.setattr(
        vae, "bound_terms", lambda *args, **more: given.append((args, more)) or bound_terms(*args, **more)
    )
    step(batch(), LABELS, tf.constant(0, tf.int64))
    (_, first), (args, second) = given
    assert first["encoder_shares"] is None
    np.testing.assert_array_equal(args[3], drawn[0][0])
    np.testing.assert_allclose(second["encoder_shares"], drawn[0][1], rtol=1e-5)


def test_two_devices_equal_one(assert_two_devices_equal_one):
    assert_two_devices_equal_one("""
import vae
config = vae.Config(image_size=16, network="dense", latent_dim=4, batch_size=16, precision="float32", bound="iwae",
                    importance_samples=6, backward_samples=3, strategy=strategy)
random = np.random.default_rng(0)
batches = [(random.integers(0, 256, (16, 16, 16, 1), np.uint8), random.integers(0, 2, 16, np.int32)) for _ in range(3)]
state, losses = train(vae, config, 1, 2, batches=batches, classes=2)
found = [*losses.values(), *state["networks"].variables, *state["averaged_networks"].variables]
""")


def test_dynamic_binarization_draws_anew_in_each_step_and_others_do_not():
    def losses(pixels):
        _, step = make(learning_rate=1e-7)
        return [float(step(pixels, LABELS, tf.constant(number, tf.int64))["kl_divergence"]) for number in (0, 1)]

    first, second = losses(batch())
    assert abs(first - second) > 1e-3
    first, second = losses(datasets.binarize(images_of(batch()), at_random=True).images)
    assert first == pytest.approx(second, abs=1e-3)


def test_what_the_networks_see(monkeypatch):
    grey = images_of(batch())
    monkeypatch.setattr(datasets, "load", lambda *arguments: grey)
    assert vae.load(SMALL) is grey  # binarized anew in each step
    assert set(np.unique(vae.load(SMALL, "test").images)) == {0, 255}
    static, threshold = (
        vae.load(dataclasses.replace(SMALL, binarization=how)).images for how in ("static", "threshold")
    )
    np.testing.assert_array_equal(threshold, np.where(batch() >= 128, 255, 0))
    assert 0.1 < (static != threshold).mean() < 0.4
    assert vae.load(dataclasses.replace(SMALL, likelihood="gaussian"), "test") is grey


# The command line


def test_run_leaves_what_it_promises_and_something_can_be_made_with_it(capsys, tmp_path, monkeypatch):
    vae.main([*TINY_FLAGS, "--name", "a"])
    folder = Path("outputs/vae/a")
    for name in ("config.json", "samples.gif", "final.png", "encoder.keras", "generator.keras"):
        assert (folder / name).stat().st_size > 0
    encoder, prior, generator = (
        keras.models.load_model(folder / f"{name}.keras") for name in ("encoder", "prior", "generator")
    )
    no_classes = tf.zeros((2, 0))
    mean = encoder([tf.zeros((2, 16, 16, 1)), no_classes])[:, :4]
    assert generator(prior([mean, no_classes])[0]).shape == (2, 16, 16, 1)
    for name, level in (("a", 60), ("b", 200)):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    capsys.readouterr()
    pair = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    flags = ["--sample", "5", "--interpolate", "--evaluate", "--evaluation_samples", "7", "--between", *pair]
    vae.main(flags)
    printed = capsys.readouterr().out
    generated = folder / "generated"
    with np.load(generated / "samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (5, 16, 16, 1)
    for name in ("walk.gif", "traversals.png", "reconstructions.png", "latents.png", "between.png", "between.gif"):
        assert (generated / name).exists(), name
    result = json.loads((generated / "evaluation.json").read_text())
    assert result["test_images"] == 297
    assert result["binarization"] == "dynamic"
    assert result["elbo"] == pytest.approx(result["reconstruction"] - result["kl_divergence"])
    assert result["importance_weighted_bound"] > result["elbo"]
    assert f"{-result['importance_weighted_bound']:.2f} ± " in printed
    assert "86.76" not in printed  # of MNIST, which these are not
    monkeypatch.setattr(vae.datasets.Images, "is_mnist", True)
    vae.main(["--evaluate", "--evaluation_samples", "2"])
    assert "86.76" in capsys.readouterr().out


def test_classes_can_be_chosen_and_found(capsys, refusal_of, monkeypatch):
    monkeypatch.setattr(vae, "RATE_WARMUP", 1)
    monkeypatch.setattr(vae, "CLASSIFY_SAMPLES", 5)
    vae.main([*TINY_FLAGS, "--conditional", "--epochs", "8", "--latent_dim", "2", "--prior", "normal", "--name", "c"])
    vae.main(["--sample", "6", "--label", "7", "--interpolate"])
    generated = Path("outputs/vae/c/generated")
    assert (np.load(generated / "samples.npz")["labels"] == 7).all()
    assert (generated / "map.png").exists()
    capsys.readouterr()
    vae.main(["--classify"])
    result = json.loads((generated / "classification.json").read_text())
    assert result["accuracy"] > 0.5  # 0.1 is chance
    assert np.sum(result["confusion"]) == 297
    assert np.trace(result["confusion"]) == round(297 * result["accuracy"])
    assert (generated / "confusion.png").exists()
    assert f"{result['accuracy']:.2%}" in capsys.readouterr().out
    vae.main(["--evaluate", "--evaluation_samples", "2"])
    assert json.loads((generated / "evaluation.json").read_text())["given_the_class"]
    assert "of images given their classes" in capsys.readouterr().out
    assert "tell the pictures' class with --label" in refusal_of(vae, "--between", "a.png", "b.png")
    assert "--label x: the run's classes are" in refusal_of(vae, "--sample", 3, "--label", "x")


def test_two_epochs_and_two_resumed_equal_four():
    for name, epochs in (("straight", 4), ("resumed", 2)):
        vae.main([*TINY_FLAGS, "--epochs", str(epochs), "--bound", "iwae", "--importance_samples", "2", "--name", name])
    keras.utils.clear_session()
    vae.main(["--resume", "latest", "--epochs", "4"])
    straight, resumed = (
        np.load(f"outputs/vae/{name}/checkpoints/step_00000092.npz") for name in ("straight", "resumed")
    )
    assert straight.files == resumed.files
    for name in straight.files:
        assert name == "seconds" or np.array_equal(straight[name], resumed[name]), name


def test_a_run_goes_on_with_more_importance_samples():
    vae.main([*TINY_FLAGS, "--epochs", "1", "--name", "a"])
    more = ["--bound", "iwae", "--importance_samples", "3", "--backward_samples", "1", "--decay_from", "23"]
    vae.main(["--resume", "latest", "--epochs", "2", *more])
    settings = json.loads(Path("outputs/vae/a/config.json").read_text())["settings"]
    assert (settings["bound"], settings["importance_samples"], settings["decay_from"]) == ("iwae", 3, 23)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--network", "conv", "--image_size", "30"], "--image_size 30: must be a multiple of 4 for --network conv"),
        (["--latent_dim", "1"], "--latent_dim 1: --prior flow needs at least 2"),
        (["--latent_dim", "0"], "--latent_dim 0: must be at least 1"),
        (["--likelihood", "poisson"], "--likelihood"),
        (["--beta", "-1"], "--beta -1.0: must lie between 0 and 1000"),
        (["--importance_samples", "0"], "--importance_samples 0: must be at least 1"),
        (["--label", "3"], "--label: chooses what --sample, --interpolate or --between draws"),
        (["--bound", "iwae"], "--bound iwae: is the ELBO with one sample"),
        (["--backward_samples", "2"], "--backward_samples 2: takes --bound iwae"),
        (["--evaluation_samples", "100"], "--evaluation_samples 100: says how to --evaluate"),
        (["--sample", "3", "--evaluation_samples", "7"], "there is no run in outputs/vae yet"),
        (["--likelihood", "gaussian", "--binarization", "static"], "--binarization static: is for --likelihood bern"),
        (["--run", "outputs/vae/a"], "--run outputs/vae/a: makes something with a run"),
        (["--evaluate", "--resume", "outputs/vae/a"], "to make something with a run name it by --run"),
        (["--between"], "--between: name at least one file"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(vae, *TINY_FLAGS, *flags)
    assert not Path("outputs").exists()


def test_own_pictures_and_what_cannot_be_done_with_them(tiny_folder, refusal_of):
    folder = tiny_folder(count=20, classes=())
    assert "has no classes" in refusal_of(vae, *TINY_FLAGS, "--data", folder, "--batch_size", 8, "--conditional")
    flags = ["--likelihood", "discretized_logistic", "--prior", "normal", "--latent_dim", "1", "--batch_size", "8"]
    vae.main([*TINY_FLAGS, "--data", str(folder), *flags, "--name", "own"])
    vae.main(["--interpolate", "--between", str(folder / "000.png"), str(folder / "001.png")])
    assert Image.open("outputs/vae/own/generated/between.png").mode == "RGB"
    assert "has no test pictures" in refusal_of(vae, "--evaluate")
    assert "knows no classes" in refusal_of(vae, "--classify")
    assert "--between: takes two picture files, not 1" in refusal_of(vae, "--between", folder / "000.png")
    assert "cannot read nowhere.png (no such file)" in refusal_of(vae, "--between", "nowhere.png", folder / "000.png")
    assert "the run's classes are: none" in refusal_of(vae, "--sample", 3, "--label", "left")
