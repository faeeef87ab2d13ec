"""The cheaper gradient of the importance-weighted bound against closed forms, and the one command of its benchmark."""

import dataclasses
import json
import signal
from pathlib import Path

import keras
import linear_model
import numpy as np
import pytest
import tensorflow as tf

import vae
from benchmarks import reproduce_iwae
from common import runs

CONFIG = vae.Config(
    network="dense",
    prior="normal",
    latent_dim=6,
    batch_size=16,
    image_size=8,
    warmup_steps=0,
    precision="float32",
    bound="iwae",
    importance_samples=6,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
LABELS = np.zeros(16, np.int32)
START = tf.constant(0.0, tf.float64)  # the progress


def make(backward_samples, first_step=0, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    keras.utils.set_random_seed(0)
    state = vae.build(config, 1, classes=0)
    step = reproduce_iwae.make_train_step(
        **state, config=config, backward_samples=backward_samples, first_step=first_step
    )
    return state, step


def gradients(noise, bound, posterior, factors=None, weight=1.0):
    """Return the log weights, (images, samples), and a gradient for each image by its own posterior, (images, 4).

    posterior: the mean and the log scale, (4,), of all images. factors: those of the doubly reparameterised estimator.
    """
    copies = len(noise) // 5
    images = np.repeat(linear_model.IMAGES, copies, axis=0)
    each = tf.repeat([posterior], len(images), axis=0)
    with tf.GradientTape() as tape:
        tape.watch(each)
        networks = linear_model.networks_with(each)
        if factors is None:
            reconstruction, divergence = linear_model.bound_terms(networks, noise, images)
        else:
            no_classes = tf.zeros((len(images), 0))
            reconstruction, divergence = reproduce_iwae.doubly_reparameterized_terms(
                networks, images, no_classes, noise, factors, linear_model.CONFIG
            )
        log_weights = reconstruction - weight * divergence
        value = tf.reduce_sum(vae.lower_bound(log_weights, bound))
    return log_weights, tape.gradient(value, each).numpy()


def test_samples_drawn_by_weight_have_the_gradient_of_all():
    """Burda et al. 2016, equation 14: on average over the draws, and each sample in proportion to its weight."""
    draws = 100
    noise = tf.random.stateless_normal((5, 4, 2), (0, 0))
    log_weights, expected = gradients(noise, "iwae", [0.2, -0.3, -0.4, 0.1])
    starts = np.tile((np.arange(draws, dtype=np.float32) + 0.5) / draws, 5)[:, None]
    repeated = tf.repeat(noise, draws, axis=0), tf.repeat(log_weights, draws, axis=0)
    drawn, _ = reproduce_iwae.draw_by_weight(*repeated, starts, 2)
    _, found = gradients(drawn, "elbo", [0.2, -0.3, -0.4, 0.1])
    found = found.reshape(5, draws, 4)
    assert found.std(axis=1).max() > 0.05
    np.testing.assert_allclose(found.mean(axis=1), expected, atol=0.05)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), expected.mean(axis=0), atol=0.01)
    drawn = np.reshape(drawn, (5, 2 * draws, 2))
    frequencies = [np.mean(np.all(drawn == noise[:, n, None], axis=-1), axis=1) for n in range(4)]
    np.testing.assert_allclose(np.transpose(frequencies), tf.nn.softmax(log_weights), atol=0.01)


def test_last_sample_is_drawn_where_rounding_leaves_the_distribution_function_below_one():
    noise = tf.reshape(tf.range(3.0), (1, 3, 1))
    drawn, weights = reproduce_iwae.draw_by_weight(noise, tf.zeros((1, 3)), tf.fill((1, 1), 2.0), 1)  # beyond the end
    assert drawn.numpy().ravel().tolist() == [2.0]
    assert weights.numpy().ravel() == pytest.approx([1 / 3])


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_doubly_reparameterized_gradient_has_the_same_mean_and_less_noise(weight):
    copies, posterior = 8_000, [0.5, -0.3, -0.1, 0.2]
    noise = tf.random.stateless_normal((5 * copies, 4, 2), (0, 0))
    log_weights, expected = gradients(noise, "iwae", posterior, weight=weight)
    uniform = tf.random.stateless_uniform((5 * copies, 1), (0, 1))
    drawn, weights = reproduce_iwae.draw_by_weight(noise, log_weights, uniform, 2)
    plain_log_weights, plain = gradients(drawn, "elbo", posterior, weight=weight)
    factors = 1.0 - weight * (1.0 - weights)
    new_log_weights, found = gradients(drawn, "elbo", posterior, factors, weight)
    np.testing.assert_allclose(new_log_weights, plain_log_weights, atol=1e-4)
    expected, plain, found = (it.reshape(5, copies, 4) for it in (expected, plain, found))
    error = np.hypot(found.std(axis=1), expected.std(axis=1)) / np.sqrt(copies)
    assert (np.abs(found.mean(axis=1) - expected.mean(axis=1)) < 4 * error).all()
    assert found.std() < 0.8 * plain.std()


def test_an_exact_encoder_has_no_doubly_reparameterized_gradient():
    offset = tf.Variable(0.0)
    noise, no_classes = tf.random.stateless_normal((5, 3, 2), (0, 0)), tf.zeros((5, 0))
    found = []
    for factors in (None, tf.fill((5, 3), 0.3)):
        with tf.GradientTape() as tape:
            networks = linear_model.networks(offset)
            if factors is None:
                terms = linear_model.bound_terms(networks, noise)
            else:
                terms = reproduce_iwae.doubly_reparameterized_terms(
                    networks, linear_model.IMAGES, no_classes, noise, factors, linear_model.CONFIG
                )
            value = tf.reduce_mean(terms[0] - terms[1])
        found.append(float(tape.gradient(value, offset)))
    assert abs(found[0]) > 0.05
    assert found[1] == pytest.approx(0, abs=1e-5)


def test_a_step_uses_the_drawn_samples_with_their_weights(monkeypatch):
    state, step = make(backward_samples=2)
    before = [variable.numpy() for variable in state["averaged_networks"].trainable_variables]
    drawn, used = [], []
    draw, terms = reproduce_iwae.draw_by_weight, reproduce_iwae.doubly_reparameterized_terms
    monkeypatch.setattr(reproduce_iwae, "draw_by_weight", lambda *args: drawn.append(draw(*args)) or drawn[0])
    monkeypatch.setattr(reproduce_iwae, "doubly_reparameterized_terms", lambda *args: used.append(args) or terms(*args))
    losses = step(PIXELS, LABELS, tf.constant(0), START)
    np.testing.assert_array_equal(used[0][3], drawn[0][0])
    np.testing.assert_allclose(used[0][4], drawn[0][1], rtol=1e-5)
    assert np.isfinite([float(value) for value in losses.values()]).all()
    for variable, value in zip(state["averaged_networks"].trainable_variables, before, strict=True):
        assert not np.array_equal(variable.numpy(), value), variable.path


def test_one_batch_can_be_overfitted(monkeypatch):
    monkeypatch.setattr(vae, "RATE_WARMUP", 1)
    _, step = make(backward_samples=1, importance_samples=4, learning_rate=4e-3)
    pixels, step = np.where(PIXELS > 127, 255, 0).astype(np.uint8), tf.function(step)
    losses = [float(step(pixels, LABELS, tf.constant(n), START)["negative_bound"]) for n in range(100)]
    assert losses[0] > 43  # log 2 for each of the 64 pixels is 44.4
    assert losses[-1] < 30


def test_learning_rate_rises_and_falls_and_does_so_again():
    state, train_step = make(backward_samples=1, first_step=3000, learning_rate=0.1)
    for step, progress, rate in (
        (3000, 0.0, 0.1 / vae.RATE_WARMUP),
        (3249, 0.0, 0.05),
        (4000, 0.5, 0.05),
        (5000, 1.0, 0),
    ):
        train_step(PIXELS, LABELS, tf.constant(step), tf.constant(progress, tf.float64))
        assert float(state["optimizer"].learning_rate) == pytest.approx(rate, rel=1e-3)


def test_plan_of_the_whole_training():
    planned = list(reproduce_iwae.plan(steps_per_epoch=234, scale=1.0))
    assert [config.epochs for _, config, _ in planned] == [1000, 1051, 1112, 1190, 1318]
    ends = [0, 234_000, 260_208, 278_460, 308_412]
    assert [schedule for *_, schedule in planned] == [
        (ends[0], ends[1]),
        (ends[1], ends[2]),  # of two stages
        (ends[1], ends[2]),
        (ends[2], ends[3]),
        (ends[3], ends[4]),
    ]
    assert [(config.bound, config.importance_samples) for _, config, _ in planned] == [("elbo", 1), ("iwae", 5)] + [
        ("iwae", 50)
    ] * 3
    short = list(reproduce_iwae.plan(steps_per_epoch=5, scale=0.001))
    assert [config.epochs for _, config, _ in short] == [1, 2, 3, 4, 5]
    assert [schedule for *_, schedule in short] == [(0, 5), (5, 15), (5, 15), (15, 20), (20, 25)]


def test_one_command_continues_where_it_was_interrupted(monkeypatch, capsys):
    stage = reproduce_iwae.Stage(epochs=1, learning_rate=1e-3, row="VAE")
    last = dataclasses.replace(stage, importance_samples=4, backward_samples=2, row="IWAE")
    monkeypatch.setattr(reproduce_iwae, "STAGES", (stage, last))
    monkeypatch.setitem(reproduce_iwae.SETTINGS, "latent_dim", 4)
    train, trained = reproduce_iwae.train, []

    def interrupted_train(stage, *arguments):
        trained.append(stage.row)
        if trained == ["VAE", "IWAE"]:
            raise runs.Interrupted(signal.SIGINT)
        train(stage, *arguments)

    monkeypatch.setattr(reproduce_iwae, "train", interrupted_train)
    command = ["--data", "digits", "--epochs_scale", "0.5", "--evaluation_samples", "3"]
    with pytest.raises(SystemExit) as leaving:
        reproduce_iwae.main(command)
    assert leaving.value.code == 130
    assert "run the same command again to continue" in capsys.readouterr().out
    reproduce_iwae.main(command)
    assert trained == ["VAE", "IWAE", "IWAE"]
    rows = json.loads(Path("outputs/benchmarks/reproduce_iwae_digits_0.5.json").read_text())["rows"]
    assert [(row["row"], row["epochs"], row["importance_samples"]) for row in rows] == [("VAE", 1, 3), ("IWAE", 2, 3)]
    assert rows[0]["elbo"] != rows[1]["elbo"]
    assert "| IWAE | 2 | " in capsys.readouterr().out
    vae.main(["--sample", "2"])  # it is a run of vae.py
    assert Path("outputs/vae/reproduce_iwae_digits_0.5/generated/grid.png").exists()
