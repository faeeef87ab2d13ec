"""The method: networks, losses, penalty and augmentation against closed forms, and the script's command line."""

import contextlib
import dataclasses
import functools
import io
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import gan_cifar10
from blocks import augmentation, classes, gradient_penalties
from blocks.gap_aware import gap_aware_factor
from common import generated
from gan_cifar10 import Config

SMALL = Config(
    image_size=16, generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16, precision="float32"
)
TINY_FLAGS = [
    *("--image_size", "16", "--generator_width", "4", "--discriminator_width", "4", "--latent_dim", "8"),
    *("--batch_size", "16", "--epochs", "4", "--sample_every", "20", "--checkpoint_every", "7"),
    *("--precision", "float32"),
]
STATE_AND_RANDOMNESS = ["--conditional", "--flip", "--augment", "--normalization", "spectral"]
STEPS = 12  # of the run below: 4 epochs of 3 batches
GUESSING = 2 * np.log(2)
START = tf.constant(0.0, tf.float64)  # no part of the training is over


def make(classes=0, **changes):
    """Return networks and their step, which runs eagerly: for few steps that is faster than building a graph."""
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    networks = gan_cifar10.build(config, 3, classes)
    return networks, gan_cifar10.make_train_step(**networks, config=config, classes=classes)


def batch(classes=4):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (16, 16, 16, 3), np.uint8), random.integers(0, classes, 16, np.int32)


def parameters(network):
    return sum(np.prod(variable.shape) for variable in network.trainable_variables)


def kernels(network):
    return [variable.numpy() for variable in network.trainable_variables if variable.path.endswith("kernel")]


# The networks


def test_parameter_counts_of_the_default_networks():
    # Dense 64*16*128 + BN 2*128, 4*4*128*128 + BN 2*128, 4*4*128*64 + BN 2*64, 4*4*64*3 + 3
    generator = gan_cifar10.build_generator(Config(), 3, 0)
    assert parameters(generator) == 131_072 + 256 + 262_144 + 256 + 131_072 + 128 + 3_075
    # 4*4*3*32 + 32, 4*4*32*64 + 64 + BN 2*64, 4*4*64*128 + 128 + BN 2*128, 16*128 + 1
    discriminator = gan_cifar10.build_discriminator(Config(), 3, 0)
    assert parameters(discriminator) == 1_568 + 32_832 + 128 + 131_200 + 256 + 2_049


@pytest.mark.parametrize("architecture", ["dcgan", "resnet"])
@pytest.mark.parametrize("size", [32, 48, 64, 96, 128])
def test_networks_fit_each_other_at_every_size(architecture, size):
    config = dataclasses.replace(SMALL, architecture=architecture, image_size=size)
    images = gan_cifar10.build_generator(config, 3, 5)(tf.ones((2, 13)))
    assert images.shape == (2, size, size, 3)
    assert float(tf.reduce_max(tf.abs(images))) <= 1
    assert gan_cifar10.build_discriminator(config, 3, 5)(images).shape == (2, 6)


def test_class_scales_and_shifts_normalised_features():
    x, one_hot = keras.Input((2, 2, 3)), keras.Input((2,))
    layer = keras.Model([x, one_hot], gan_cifar10.batch_normalization(x, one_hot))
    images = np.random.default_rng(0).standard_normal((8, 2, 2, 3)).astype(np.float32) * 3 + 5
    labels = np.eye(2, dtype=np.float32)[[0, 1] * 4]
    normalized = (images - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + 1e-3)
    # At the start the classes make no difference.
    np.testing.assert_allclose(layer([images, labels], training=True), normalized, atol=1e-4)
    scale, offset = (variable for variable in layer.trainable_variables if variable.shape == (2, 3))
    scale.assign([[1, 0, 0], [0, 0, 2]])
    offset.assign([[0, 0, 0], [7, 8, 9]])
    expected = np.where(labels[:, :1, None, None] == 1, normalized * [2, 1, 1], normalized * [1, 1, 3] + [7, 8, 9])
    np.testing.assert_allclose(layer([images, labels], training=True), expected, atol=1e-4)


def test_projection_adds_the_logit_of_the_class_to_the_shared_one():
    logits = np.array([[1, 20, 300, 4000], [5, 60, 700, 8000]], np.float32)
    assert classes.projection_logit(logits, [2, 0]).numpy().tolist() == [4001, 65]
    assert classes.projection_logit(logits[:, :1], [2, 0]).numpy().tolist() == [1, 5]


# Losses, penalty and learning rates


def test_losses_against_closed_forms():
    real, fake = np.array([0.3, -2.0, 1.1], np.float32), np.array([1.5, -0.7, -3.0], np.float32)

    def probability(logits):
        return 1 / (1 + np.exp(-logits.astype(np.float64)))

    expected = {
        ("generator", "non_saturating"): np.mean(-np.log(probability(fake))),
        ("generator", "hinge"): -fake.mean(),
        ("discriminator", "non_saturating"): np.mean(-np.log(probability(real)) - np.log(1 - probability(fake))),
        ("discriminator", "hinge"): np.mean([0.7 + 2.5, 3.0 + 0.3, 0.0 + 0.0]),
    }
    for (network, loss), value in expected.items():
        arguments = (fake,) if network == "generator" else (real, fake)
        assert float(getattr(gan_cifar10, f"{network}_loss")(loss, *arguments)) == pytest.approx(value, rel=1e-5)


def test_classification_loss_against_its_closed_form():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], np.float32)
    expected = np.mean([np.log(np.exp([1, 2, 0.5]).sum()) - 2, np.log(np.exp([0, 0, 3]).sum()) - 0])
    assert float(classes.classification_loss(logits, [1, 0])) == pytest.approx(expected, rel=1e-5)


def test_r1_penalty_of_a_score_whose_gradient_is_known():
    images = tf.constant(np.random.default_rng(0).standard_normal((5, 4, 4, 3)), tf.float32)
    penalty = gradient_penalties.r1_penalty(lambda x: tf.reduce_sum(x**2, axis=(1, 2, 3)), images)  # gradient 2x
    assert float(penalty) == pytest.approx(np.mean(0.5 * np.sum((2 * images.numpy()) ** 2, axis=(1, 2, 3))), rel=1e-5)


def test_gradient_penalty_comes_every_sixteenth_step_and_shrinks_the_gradient():
    networks, step = make(gradient_penalty=10.0, normalization="none", learning_rate=5e-4)
    step = tf.function(step)
    images = tf.constant(batch()[0], tf.float32) / 127.5 - 1

    def slope():
        return float(gradient_penalties.r1_penalty(lambda x: networks["discriminator"](x)[:, 0], images))

    def train(numbers):
        return [float(step(*batch(), tf.constant(number), START)["gradient_penalty"]) for number in numbers]

    assert [value > 0 for value in train((0, 1, 15, 16))] == [True, False, False, True]
    train([1] * 20)  # without the penalty
    before = slope()
    train([16] * 20)
    assert slope() < 0.5 * before


def test_gap_aware_factor_against_closed_forms():
    for loss, factor in ((GUESSING, 1.0), (GUESSING / 2, 1.0), (GUESSING / 4, 0.25), (GUESSING / 20, 0.01)):
        assert float(gap_aware_factor(loss, GUESSING, balance=0.5)) == pytest.approx(factor)
    assert float(gap_aware_factor(0.5, gan_cifar10.IDEAL_LOSS["hinge"], balance=0.5)) == pytest.approx(0.25)
    assert gap_aware_factor(0.0, GUESSING, balance=0.0) == 1.0


def test_learning_rate():
    config = dataclasses.replace(SMALL, learning_rate=0.1)
    rates = [gan_cifar10.learning_rate(config, 0, np.float64(progress)) for progress in (0.0, 0.5, 0.75, 1.0)]
    assert np.allclose(rates, [0.1, 0.1, 0.05, 0.0])
    rates = [gan_cifar10.learning_rate(config, step, np.float64(0.5)) for step in (15_000, 30_000, 150_000)]
    assert np.allclose(rates, [0.1, 0.05, 0.01])
    assert gan_cifar10.learning_rate(dataclasses.replace(config, schedule="constant"), 150_000, 1.0) == 0.1


# Augmentation


def test_mirrored_images():
    images = tf.constant(batch()[0], tf.float32)
    chance = tf.constant([0.2, 0.8] * 8, shape=(16, 1, 1, 1))
    mirrored = augmentation.mirror(images, chance).numpy()
    np.testing.assert_array_equal(mirrored[0], images[0, :, ::-1])
    np.testing.assert_array_equal(mirrored[1], images[1])


def test_translation_moves_by_up_to_an_eighth():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)

    def moved(vertical, horizontal):
        return augmentation.translate(tf.constant(image), tf.constant([[vertical, horizontal]], tf.float32)).numpy()[0]

    np.testing.assert_array_equal(moved(0.5, 0.5), image[0])
    np.testing.assert_array_equal(moved(0.99, 0.5)[:14], image[0, 2:])
    np.testing.assert_array_equal(moved(0.99, 0.5)[14:], 0)
    np.testing.assert_array_equal(moved(0.5, 0.0)[:, 2:], image[0, :, :-2])


def test_cutout_removes_a_square_of_half_the_size():
    image = np.random.default_rng(0).uniform(0.1, 1, (1, 16, 16, 3)).astype(np.float32)

    def removed(row, column):
        return augmentation.cut_out(tf.constant(image), tf.constant([[row, column]], tf.float32)).numpy()[0] == 0

    expected = np.zeros((16, 16, 3), bool)
    expected[4:12, 4:12] = True
    np.testing.assert_array_equal(removed(0.5, 0.5), expected)
    assert removed(0.0, 0.25).sum() == 4 * 8 * 3  # half of it lies above the image
    assert removed(0.0, 0.25)[:4, :8].all()


def test_colour_changes():
    image = np.random.default_rng(0).uniform(-0.4, 0.4, (1, 16, 16, 3)).astype(np.float32)

    def changed(*numbers):
        brightness, saturation, contrast = np.reshape(numbers, (3, 1, 1, 1, 1)).astype(np.float32)
        return augmentation.change_color(tf.constant(image), brightness, saturation, contrast).numpy()

    np.testing.assert_allclose(changed(0.75, 0.5, 0.5), image + 0.25, atol=1e-6)
    np.testing.assert_allclose(changed(0.5, 0.0, 0.5).std(axis=-1), 0, atol=1e-6)  # grey
    np.testing.assert_allclose(changed(0.5, 0.5, 1.0), image.mean() + 1.5 * (image - image.mean()), atol=1e-5)


def test_augmentation_is_all_three_and_gradients_pass_through_it():
    images = tf.constant(batch()[0], tf.float32) / 127.5 - 1
    random = np.random.default_rng(0)
    color, place = random.random((16, 3, 1, 1, 1), np.float32), random.random((16, 4), np.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        augmented = augmentation.augment(images, color, place)
        total = tf.reduce_sum(augmented**2)
    expected = augmentation.change_color(images, color[:, 0], color[:, 1], color[:, 2])
    expected = augmentation.cut_out(augmentation.translate(expected, place[:, :2]), place[:, 2:])
    np.testing.assert_array_equal(augmented, expected)
    assert (np.abs(tape.gradient(total, images)).sum(axis=(1, 2, 3)) > 0).all()


# The training step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architecture": "resnet", "loss": "hinge", "normalization": "spectral"},
        {"augment": True, "flip": True, "gradient_penalty": 10.0, "normalization": "none"},
    ],
    ids=["default", "resnet", "small data"],
)
def test_every_variable_moves(changes):
    networks, step = make(classes=4, **changes)
    models = [networks[name] for name in ("generator", "discriminator", "averaged_generator")]
    before = [[v.numpy() for v in model.trainable_variables] for model in models]
    losses = step(batch()[0], np.arange(16, dtype=np.int32) % 4, tf.constant(0), START)
    assert all(np.isfinite(float(value)) for value in losses.values())
    for model, values in zip(models, before, strict=True):
        for variable, value in zip(model.trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path


def test_spectral_normalization_in_mixed_precision_keeps_weights_and_logits_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    networks, step = make(classes=4, normalization="spectral", gradient_penalty=10.0, precision="mixed_bfloat16")
    losses = step(batch()[0], np.arange(16, dtype=np.int32) % 4, tf.constant(0), START)
    assert {value.dtype for value in losses.values()} == {tf.float32}
    assert networks["discriminator"].output.dtype == "float32"
    for kernel in kernels(networks["discriminator"]):
        rounded = tf.cast(tf.cast(kernel, tf.bfloat16), tf.float32)
        assert np.mean(kernel == rounded) < 0.1


@functools.cache
def overfitted(normalization):
    """Train only the discriminator on one batch: return the networks, the losses and its learning rates."""
    networks, step = make(normalization=normalization, loss="hinge", balance=1.0, learning_rate=2e-3)
    networks["generator_optimizer"].apply = lambda *_: None
    step, losses, rates = tf.function(step), [], []
    for _ in range(60):
        losses.append(float(step(*batch(), tf.constant(0), START)["discriminator_loss"]))
        rates.append(float(networks["discriminator_optimizer"].learning_rate))
    return networks, losses, rates


@pytest.mark.parametrize("normalization", ["batch", "spectral", "none"])
def test_discriminator_overfits_one_batch(normalization):
    _, losses, _ = overfitted(normalization)
    assert losses[-1] < 0.7 * losses[0]


def test_discriminator_that_wins_learns_more_slowly():
    networks, losses, rates = overfitted("batch")
    recent_loss = 2.0
    for loss, rate in zip(losses, rates, strict=True):
        recent_loss = 0.98 * recent_loss + 0.02 * loss
        assert rate == pytest.approx(2e-3 * min(1.0, recent_loss / 2.0) ** 2, rel=1e-4)
    assert float(networks["recent_loss"]) == pytest.approx(recent_loss, rel=1e-4)
    assert rates[-1] < 0.9 * rates[0]


def test_spectral_normalization_bounds_every_kernel():
    networks, _, _ = overfitted("spectral")
    for kernel in kernels(networks["discriminator"]):
        assert np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2) == pytest.approx(1, abs=0.1)


def test_two_devices_equal_one(assert_two_devices_equal_one):
    random = np.random.default_rng(0)
    batches = [(random.integers(0, 256, (16, 16, 16, 3), np.uint8), np.zeros(16, np.int32)) for _ in range(3)]

    def find(train, strategy):
        sizes = {"image_size": 16, "generator_width": 4, "discriminator_width": 4, "latent_dim": 8, "batch_size": 16}
        switches = {"dropout": 0.5, "balance": 1.0, "augment": True}
        config = gan_cifar10.Config(**sizes, **switches, precision="float32", strategy=strategy)
        networks, losses = train(gan_cifar10, config, 3, 0, batches=batches, classes=0)
        return [networks["recent_loss"], networks["discriminator_optimizer"].learning_rate, *losses.values()]

    assert_two_devices_equal_one(find)


# The whole script


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    """A finished run with all that has a state or is random, and what it printed."""
    folder, random = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    for name in ("cats", "dogs", "frogs"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(17):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        data = ["--data", str(folder / "pictures"), "--output_dir", str(folder), "--name", "a"]
        gan_cifar10.main([*TINY_FLAGS, *STATE_AND_RANDOMNESS, *data])
    return folder / "gan_cifar10", printed.getvalue()


@pytest.fixture
def trained(_trained):
    """The folder of that run: the test's own copy."""
    shutil.copytree(_trained[0], "outputs/gan_cifar10", symlinks=True)
    return Path("outputs/gan_cifar10/a")


def test_learning_rate_falls_during_training(trained):
    for step in (7, 12):
        with np.load(trained / f"checkpoints/step_{step:08d}.npz") as checkpoint:
            rate = checkpoint["generator_optimizer/001"]
        assert rate == pytest.approx(Config().learning_rate * min(1.0, 2 * (1 - (step - 1) / STEPS)))


def test_few_pictures_are_reported(_trained):
    assert "51 pictures are few" in _trained[1]


def test_conditional_run_can_be_sampled_by_name(trained):
    for name in ("config.json", "samples.gif", "final.png", "generator.keras", "discriminator.keras"):
        assert (trained / name).stat().st_size > 0
    gan_cifar10.main(["--sample", "7"])
    with np.load(trained / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (7, 16, 16, 3)
        assert file["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    gan_cifar10.main(["--sample", "5", "--label", "frogs"])
    with np.load(trained / "generated/samples.npz") as file:
        assert file["labels"].tolist() == [2] * 5


def test_run_that_is_killed_and_resumed_equals_one_that_is_not(trained):
    last = trained / f"checkpoints/step_{STEPS:08d}.npz"
    with np.load(last) as file:
        straight = dict(file)
    last.unlink()  # the one before is that of step 7, in the middle of an epoch
    keras.utils.clear_session()
    gan_cifar10.main(["--resume", "latest"])
    with np.load(last) as file:
        resumed = dict(file)
    assert straight.keys() == resumed.keys()
    for name in straight:
        assert name == "seconds" or np.array_equal(straight[name], resumed[name]), name


def test_samples_of_several_classes_have_a_row_for_each(tmp_path):
    labels = np.array([0, 2, 0, 2, 0])
    images = np.full((5, 8, 8, 3), 50, np.uint8)
    images[labels == 2] = 250
    generated.save_grid(tmp_path / "grid.png", images, labels, ("dark", "light", "white"))
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    pixels = sheet[:, -116:]  # two columns of 56 pixels and their borders
    assert pixels.shape[0] == 2 + 2 * 58
    assert set(np.unique(pixels[:58])) == {32, 50}
    assert set(np.unique(pixels[60:])) == {32, 250}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image_size", "30"], "--image_size 30 is not 4 to 7 times a power of two from 4 on; the nearest is 28"),
        (["--image_size", "8"], "the nearest is 16"),
        (["--label", "frog"], "--label frog: needs --sample or --interpolate"),
        (["--normalization", "layer"], "--normalization"),
        (["--gradient_penalty", "-1"], "must lie between 0 and 1000"),
        (["--gradient_penalty", "1"], "cannot be combined with --normalization batch"),
        (["--data", "cifar"], "there is no such folder"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(gan_cifar10, *TINY_FLAGS, "--data", "patches", *flags)
    assert not Path("outputs").exists()


def test_conditional_training_needs_classes(tiny_folder, refusal_of):
    folder = tiny_folder(count=20, classes=())
    assert "has no classes" in refusal_of(gan_cifar10, *TINY_FLAGS, "--data", folder, "--conditional")
