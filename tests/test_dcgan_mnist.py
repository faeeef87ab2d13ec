"""The method, networks, losses and step, and the whole script through its command line."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import dcgan_mnist
from dcgan_mnist import Config
from evaluation import collapse

SMALL = Config(
    generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16, image_size=16, precision="float32"
)
TINY_FLAGS = [
    *("--generator_width", "4", "--discriminator_width", "4", "--latent_dim", "8", "--batch_size", "16"),
    *("--image_size", "16", "--epochs", "1", "--sample_every", "4", "--precision", "float32"),
]
RUNS = Path("outputs/dcgan_mnist")


def make(config=SMALL, channels=1, classes=0):
    """Return networks and their step, which runs eagerly: most tests take one step, and a graph takes longer."""
    keras.utils.set_random_seed(0)
    networks = dcgan_mnist.build(config, channels, classes)
    return networks, dcgan_mnist.make_train_step(**networks, config=config, classes=classes)


def batch(config=SMALL, channels=1, classes=10):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (config.batch_size, config.image_size, config.image_size, channels), np.uint8)
    return pixels, generator.integers(0, classes, config.batch_size, np.int32)


def test_parameter_counts_of_the_default_networks():
    networks = dcgan_mnist.build(Config(), 1, 0)
    # Dense 32*49*64 + BN 2*64, 3*3*64*64 + BN 2*64, 4*4*64*32 + BN 2*32, 4*4*32*1 + 1; without moving statistics.
    assert sum(np.prod(v.shape) for v in networks["generator"].trainable_variables) == 170_817
    # 4*4*1*24 + 24, 4*4*24*48 + BN 2*48, 4*4*48*96 + BN 2*96, 16*96 + 1
    assert sum(np.prod(v.shape) for v in networks["discriminator"].trainable_variables) == 94_393


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (48, 3), (64, 1), (96, 3)])
def test_networks_fit_each_other_at_every_size(size, channels):
    config = Config(generator_width=2, discriminator_width=2, latent_dim=8, image_size=size)
    networks = dcgan_mnist.build(config, channels, 0)
    images = networks["generator"](tf.zeros((2, 8)))
    assert images.shape == (2, size, size, channels)
    assert float(tf.reduce_max(tf.abs(images))) <= 1
    assert networks["discriminator"](images).shape == (2, 1)


def test_size_that_does_not_halve_to_the_start_is_refused_with_the_nearest(refusal_of):
    line = refusal_of(dcgan_mnist, "--data", "digits", "--image_size", "30")
    assert "--image_size 30" in line
    assert "28" in line


def test_losses_against_closed_forms():
    real, fake = np.array([0.3, -2.0], np.float32), np.array([1.5, -0.7], np.float32)

    def probability(logits):
        return 1 / (1 + np.exp(-logits))

    expected = np.mean(-np.log(probability(real)) - np.log(1 - probability(fake)))
    assert float(dcgan_mnist.discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-6)
    assert float(dcgan_mnist.generator_loss(fake)) == pytest.approx(np.mean(-np.log(probability(fake))), rel=1e-6)
    assert np.isfinite(dcgan_mnist.generator_loss(np.array([-1e4], np.float32)))


def test_every_variable_moves_and_each_optimizer_knows_its_own_network():
    networks, step = make()
    models = [networks[name] for name in ("generator", "discriminator", "averaged_generator")]
    before = [[v.numpy() for v in model.trainable_variables] for model in models]
    step(*batch(), tf.Variable(0, dtype=tf.int64))
    for model, values in zip(models, before, strict=True):
        for variable, value in zip(model.trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path
    assert len(networks["generator_optimizer"].variables) == 2 + 2 * len(models[0].trainable_variables)
    assert len(networks["discriminator_optimizer"].variables) == 2 + 2 * len(models[1].trainable_variables)


def test_each_loss_trains_its_own_network_only():
    """The step's gradients are those of each loss alone: the discriminator's does not leak into the generator."""
    networks, step = make()
    twin, _ = make()
    pixels, labels = batch()
    generator, discriminator = twin["generator"], twin["discriminator"]
    latents = dcgan_mnist.devices.normal((16, 8), SMALL.seed, 0)
    with tf.GradientTape() as tape:
        loss = dcgan_mnist.generator_loss(discriminator(generator(latents, training=True), training=True)[:, 0])
    gradients = tape.gradient(loss, generator.trainable_variables)
    twin["generator_optimizer"].apply(gradients, generator.trainable_variables)
    losses = step(pixels, labels, tf.constant(0, tf.int64))
    assert float(losses["generator_loss"]) == pytest.approx(float(loss), rel=1e-4)
    for mine, its in zip(networks["generator"].trainable_variables, generator.trainable_variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), its.numpy(), atol=2e-4)


def test_discriminator_overfits_one_batch():
    networks, step = make(dataclasses.replace(SMALL, learning_rate=8e-3, gradient_penalty=0.0))
    step = tf.function(step)
    networks["generator_optimizer"].learning_rate = 0.0
    pixels, labels = batch()
    losses = [step(pixels, labels, tf.constant(0, tf.int64)) for _ in range(60)]
    assert float(losses[0]["discriminator_loss"]) > 1.0
    assert float(losses[-1]["discriminator_loss"]) < 0.2


def test_average_follows_the_generator():
    networks, step = make(dataclasses.replace(SMALL, average_decay=0.5))
    kernel, average = (networks[name].trainable_variables[0] for name in ("generator", "averaged_generator"))
    old = average.numpy()
    step(*batch(), tf.constant(1000, tf.int64))
    np.testing.assert_allclose(average.numpy(), 0.5 * old + 0.5 * kernel.numpy(), rtol=1e-5)


def test_latents_depend_on_seed_and_step_alone():
    draw = dcgan_mnist.devices.normal
    assert np.array_equal(draw((4, 3), 1, 7), draw((4, 3), 1, 7))
    assert not np.array_equal(draw((4, 3), 1, 7), draw((4, 3), 1, 8))
    assert not np.array_equal(draw((4, 3), 1, 7), draw((4, 3), 2, 7))
    numbers = draw((20_000, 3), 0, 0).numpy()
    assert numbers.mean() == pytest.approx(0, abs=0.02)
    assert numbers.std() == pytest.approx(1, abs=0.02)


def test_unconditional_training_ignores_labels():
    """An image's label must not mask its logit."""
    _, step = make()
    _, other_step = make()
    pixels, labels = batch()
    losses = step(pixels, labels, tf.constant(0, tf.int64))
    other_losses = other_step(pixels, np.zeros_like(labels), tf.constant(0, tf.int64))
    assert float(losses["discriminator_loss"]) == float(other_losses["discriminator_loss"])
    assert float(losses["discriminator_loss"]) != pytest.approx(2 * np.log(2), abs=1e-4)


def test_conditional_networks_depend_on_the_class():
    _, step = make(classes=10)
    pixels, labels = batch()
    first = step(pixels, labels, tf.constant(0, tf.int64))
    _, step = make(classes=10)
    second = step(pixels, (labels + 1) % 10, tf.constant(0, tf.int64))
    assert float(first["discriminator_loss"]) != float(second["discriminator_loss"])
    logits = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert dcgan_mnist.own_class_logit(tf.constant(logits), [2, 0]).numpy().tolist() == [2, 3]


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    """A conditional run of one epoch, 5 steps, on pictures in colour of two classes, and the folder of the pictures."""
    outputs = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        (outputs / "pictures" / name).mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(outputs / "pictures" / name / f"{number}.png")
    flags = ["--data", str(outputs / "pictures"), "--conditional", "--output_dir", str(outputs), "--name", "a"]
    dcgan_mnist.main([*TINY_FLAGS, *flags])
    return outputs


@pytest.fixture
def trained(_trained):
    """The folder of that run; the test's own copy."""
    shutil.copytree(_trained / "dcgan_mnist", RUNS, symlinks=True)
    return RUNS / "a"


def test_a_run_leaves_its_files_and_can_be_sampled(trained):
    names = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    assert names == {  # after 50 steps also metrics.csv and curves.png
        *("config.json", "samples", "samples.gif", "final.png", "checkpoints"),
        *("generator.keras", "discriminator.keras"),
    }
    assert (RUNS / "latest/config.json").samefile(trained / "config.json")
    assert json.loads((trained / "config.json").read_text())["data"]["class_names"] == ["left", "right"]
    model = keras.models.load_model(trained / "generator.keras")
    assert model(np.zeros((1, 10), np.float32)).shape == (1, 16, 16, 3)

    dcgan_mnist.main(["--sample", "7", "--label", "right", "--interpolate"])
    with np.load(trained / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (7, 16, 16, 3)
        assert file["images"].dtype == np.uint8
        assert file["labels"].tolist() == [1] * 7
        first = file["images"]
    assert (trained / "generated/walk.gif").exists()
    assert (trained / "generated/walk.png").exists()
    for seed, is_same in (("1", False), ("0", True)):
        dcgan_mnist.main(["--sample", "7", "--label", "right", "--seed", seed])
        with np.load(trained / "generated/samples.npz") as file:
            assert np.array_equal(file["images"], first) == is_same


def test_one_epoch_and_one_resumed_equal_two(_trained, trained):
    """The state of both networks, the average and both optimizers continues; test_resume.py tests the rest."""
    flags = ["--data", str(_trained / "pictures"), "--conditional", "--epochs", "2", "--name", "straight"]
    dcgan_mnist.main([*TINY_FLAGS, *flags])
    dcgan_mnist.main(["--resume", str(trained), "--epochs", "2"])
    one, two = (np.load(RUNS / name / "checkpoints/step_00000010.npz") for name in ("straight", "a"))
    assert one.files == two.files
    assert len({name.split("/")[0] for name in one.files}) > 5
    for name in set(one.files) - {"seconds"}:
        np.testing.assert_array_equal(one[name], two[name])


def test_signs_of_failure():
    real = batch()[0]
    same = np.full((9, 16, 16, 1), 7, np.uint8)
    found = collapse.signs_of_failure(same, real, {"discriminator_loss": 0.001})
    assert list(found) == ["discriminator wins", "alike"]
    assert collapse.signs_of_failure(real, real, {"discriminator_loss": 1.0}) == {}
    assert collapse.signs_of_failure(same, real, {}) == {}  # before the first row of metrics


def test_different_classes_do_not_hide_that_the_images_of_each_are_alike():
    labels = np.repeat(np.arange(10), 10)
    random = np.random.default_rng(0)
    of_classes = random.integers(0, 256, (10, 8, 8, 1)).astype(np.uint8)
    real = np.clip(of_classes[labels] // 2 + random.integers(0, 128, (100, 8, 8, 1)), 0, 255).astype(np.uint8)
    metrics = {"discriminator_loss": 1.0}
    assert collapse.signs_of_failure(real, real, metrics, (labels, labels)) == {}
    found = collapse.signs_of_failure(of_classes[labels], real, metrics, (labels, labels))
    assert list(found) == ["alike"]
    assert collapse.signs_of_failure(of_classes[labels], real, metrics) == {}
