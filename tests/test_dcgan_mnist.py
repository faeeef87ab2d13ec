"""The method: networks, losses, the step, and what the command line makes of them."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import dcgan_mnist
from common import cli, latent_space, runs
from dcgan_mnist import Config

SMALL = Config(generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16, precision="float32")


def make(config=SMALL, channels=1, classes=0):
    keras.utils.set_random_seed(0)
    networks = dcgan_mnist.build(config, channels, classes)
    return networks, tf.function(dcgan_mnist.make_train_step(**networks, config=config, classes=classes))


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


def test_size_that_does_not_halve_to_the_start_is_refused_with_the_nearest():
    with pytest.raises(cli.UserError, match=r"--image_size 30: .* 28"):
        dcgan_mnist.start_size(30)


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
    networks, step = make()
    networks["generator_optimizer"].learning_rate = 0.0
    pixels, labels = batch()
    losses = [step(pixels, labels, tf.constant(0, tf.int64)) for _ in range(60)]
    assert float(losses[0]["discriminator_loss"]) > 1.0
    assert float(losses[-1]["discriminator_loss"]) < 0.2


def test_average_follows_the_generator():
    config = Config(generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16, average_decay=0.5)
    networks, step = make(config)
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


def test_without_classes_the_labels_of_the_data_have_no_say():
    """Unconditional training on labelled data: an image's label must not mask its logit."""
    _, step = make()
    _, other_step = make()
    pixels, labels = batch()
    losses = step(pixels, labels, tf.constant(0, tf.int64))
    other_losses = other_step(pixels, np.zeros_like(labels), tf.constant(0, tf.int64))
    assert float(losses["discriminator_loss"]) == float(other_losses["discriminator_loss"])
    assert float(losses["discriminator_loss"]) != pytest.approx(2 * np.log(2), abs=1e-4)


def test_conditional_networks_see_the_class():
    _, step = make(classes=10)
    pixels, labels = batch()
    first = step(pixels, labels, tf.constant(0, tf.int64))
    _, step = make(classes=10)
    second = step(pixels, (labels + 1) % 10, tf.constant(0, tf.int64))
    assert float(first["discriminator_loss"]) != float(second["discriminator_loss"])
    logits = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert dcgan_mnist.of_class(tf.constant(logits), [2, 0]).numpy().tolist() == [2, 3]


def test_spherical_walk_keeps_the_norm_and_even_steps():
    start, end = np.array([[2.0, 0, 0], [0, 1, 0]]), np.array([[0, 2.0, 0], [0, 0, 1]])
    walk = latent_space.spherical_walk(start, end, 4)
    assert walk.shape == (4, 2, 3)
    np.testing.assert_allclose(walk[0], start)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=-1), [[2, 1]] * 4, rtol=1e-6)
    np.testing.assert_allclose(walk[2, 0], [2**0.5, 2**0.5, 0], rtol=1e-6)


def test_run_leaves_what_it_promises_and_can_be_sampled(tiny_flags):
    dcgan_mnist.main([*tiny_flags, "--name", "a", "--conditional"])
    folder = Path("outputs/dcgan_mnist/a")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("config.json", "metrics.csv", "curves.png", "samples", "samples.gif", "final.png", "checkpoints"),
        *("generator.keras", "discriminator.keras"),
    }
    assert Path("outputs/dcgan_mnist/latest/config.json").samefile(folder / "config.json")
    assert json.loads((folder / "config.json").read_text())["data"]["class_names"] == list("0123456789")
    model = keras.models.load_model(folder / "generator.keras")
    assert model(np.zeros((1, 18), np.float32)).shape == (1, 16, 16, 1)

    dcgan_mnist.main(["--sample", "7", "--label", "3", "--interpolate"])
    with np.load(folder / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (7, 16, 16, 1)
        assert file["images"].dtype == np.uint8
        assert file["labels"].tolist() == [3] * 7
        first = file["images"]
    assert (folder / "generated/walk.gif").exists()
    assert (folder / "generated/walk.png").exists()
    dcgan_mnist.main(["--sample", "7", "--label", "3", "--seed", "1"])
    with np.load(folder / "generated/samples.npz") as file:
        assert not np.array_equal(file["images"], first)
    dcgan_mnist.main(["--sample", "7", "--label", "3"])
    with np.load(folder / "generated/samples.npz") as file:
        assert np.array_equal(file["images"], first)


def test_own_pictures_in_colour(tiny_flags, tiny_folder):
    folder = tiny_folder(count=20)
    dcgan_mnist.main([*tiny_flags, "--data", str(folder), "--image_size", "32", "--name", "own"])
    dcgan_mnist.main(["--sample", "4"])
    with np.load(Path("outputs/dcgan_mnist/own/generated/samples.npz")) as file:
        assert file["images"].shape == (4, 32, 32, 3)


class FakeRun:
    """A run in which nothing happens but what it is told, with noise as its data."""

    def __init__(self, discriminator_loss):
        self.metrics = {"discriminator_loss": discriminator_loss}
        self.data = dcgan_mnist.datasets.Images(*batch(), (), "noise")
        self.told = []

    def warn(self, kind, text):
        self.told.append(kind)


def test_trouble_is_told():
    run = FakeRun(0.001)
    runs.Run.look_for_trouble(run, np.full((9, 28, 28, 1), 7, np.uint8))
    assert run.told == ["discriminator wins", "alike"]
    run = FakeRun(1.0)
    runs.Run.look_for_trouble(run, batch()[0])
    assert run.told == []


def test_classes_that_differ_do_not_hide_that_each_is_all_alike():
    labels = np.repeat(np.arange(10), 10)
    random = np.random.default_rng(0)
    of_classes = random.integers(0, 256, (10, 8, 8, 1)).astype(np.uint8)
    real = np.clip(of_classes[labels] // 2 + random.integers(0, 128, (100, 8, 8, 1)), 0, 255).astype(np.uint8)
    run = FakeRun(1.0)
    run.data = dcgan_mnist.datasets.Images(real, labels.astype(np.int32), tuple("0123456789"), "noise")
    runs.Run.look_for_trouble(run, real, labels)
    assert run.told == []
    runs.Run.look_for_trouble(run, of_classes[labels], labels)
    assert run.told == ["alike"]


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_checkpoint(tiny_flags, capsys, monkeypatch):
    original = dcgan_mnist.make_train_step

    def breaks_at_step_26(**arguments):
        step_of = original(**arguments)

        def train_step(pixels, labels, step):
            losses = step_of(pixels, labels, step)
            return {name: tf.where(step == 25, np.nan, loss) for name, loss in losses.items()}

        return train_step

    monkeypatch.setattr(dcgan_mnist, "make_train_step", breaks_at_step_26)
    with pytest.raises(SystemExit) as leaving:
        dcgan_mnist.main([*tiny_flags, "--name", "nan"])
    assert leaving.value.code == 2
    message = capsys.readouterr().err
    assert "generator_loss is not finite at step 26" in message
    assert message.count("\n") == 1
    kept = sorted(path.name for path in Path("outputs/dcgan_mnist/nan/checkpoints").iterdir())
    assert kept == ["step_00000010.npz", "step_00000020.npz"]


def test_losses_and_grids_for_tensorboard(tiny_flags):
    dcgan_mnist.main([*tiny_flags, "--tensorboard", "--name", "board"])
    (path,) = Path("outputs/dcgan_mnist/board/tensorboard").iterdir()
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    assert sorted(found) == ["discriminator_loss", "generator_loss", "samples"]
    metrics = np.genfromtxt("outputs/dcgan_mnist/board/metrics.csv", delimiter=",", names=True)
    assert found["generator_loss"][50] == pytest.approx(float(metrics["generator_loss"]))
    assert sorted(found["samples"]) == [0, 20, 40, 60, 80, 93]
