"""The method: networks, losses, penalty and augmentation against closed forms, and what users can make of them."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import gan_cifar10
from common import cli, stored
from gan_cifar10 import Config

SMALL = Config(
    image_size=16, generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16, precision="float32"
)
TINY_FLAGS = [
    *("--image_size", "16", "--generator_width", "4", "--discriminator_width", "4", "--latent_dim", "8"),
    *("--batch_size", "16", "--epochs", "1", "--sample_every", "20", "--checkpoint_every", "2"),
    *("--precision", "float32"),
]
STATE_AND_RANDOMNESS = ["--conditional", "--flip", "--augment", "--normalization", "spectral"]


def make(classes=0, **changes):
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    networks = gan_cifar10.build(config, 3, classes)
    return networks, tf.function(gan_cifar10.make_train_step(**networks, config=config, classes=classes))


def batch(classes=4):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (16, 16, 16, 3), np.uint8), random.integers(0, classes, 16, np.int32)


def parameters(network):
    return sum(np.prod(variable.shape) for variable in network.trainable_variables)


def test_parameter_counts_of_the_default_networks():
    networks = gan_cifar10.build(Config(), 3, 0)
    # Dense 64*16*128 + BN 2*128, 4*4*128*128 + BN 2*128, 4*4*128*64 + BN 2*64, 4*4*64*3 + 3
    assert parameters(networks["generator"]) == 131_072 + 256 + 262_144 + 256 + 131_072 + 128 + 3_075
    # 4*4*3*32 + 32, 4*4*32*64 + 64 + BN 2*64, 4*4*64*128 + 128 + BN 2*128, 16*128 + 1
    assert parameters(networks["discriminator"]) == 1_568 + 32_832 + 128 + 131_200 + 256 + 2_049


@pytest.mark.parametrize("architecture", ["dcgan", "resnet"])
@pytest.mark.parametrize("size", [32, 48, 64, 96, 128])
def test_networks_fit_each_other_at_every_size(architecture, size):
    config = dataclasses.replace(SMALL, architecture=architecture, image_size=size)
    networks = gan_cifar10.build(config, 3, 5)
    images = networks["generator"](tf.ones((2, 13)))
    assert images.shape == (2, size, size, 3)
    assert float(tf.reduce_max(tf.abs(images))) <= 1
    assert networks["discriminator"](images).shape == (2, 6)


def test_a_class_adds_its_logit_to_that_of_all():
    logits = np.array([[1, 20, 300, 4000], [5, 60, 700, 8000]], np.float32)
    assert gan_cifar10.of_class(logits, [2, 0]).numpy().tolist() == [4001, 65]
    assert gan_cifar10.of_class(logits[:, :1], [2, 0]).numpy().tolist() == [1, 5]


def test_classification_loss_against_its_closed_form():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], np.float32)
    expected = np.mean([np.log(np.exp([1, 2, 0.5]).sum()) - 2, np.log(np.exp([0, 0, 3]).sum()) - 0])
    assert float(gan_cifar10.classification_loss(logits, [1, 0])) == pytest.approx(expected, rel=1e-5)


def test_a_class_adds_to_scale_and_offset_of_what_was_normalized():
    x, one_hot = keras.Input((2, 2, 3)), keras.Input((2,))
    layer = keras.Model([x, one_hot], gan_cifar10.batch_normalization(x, one_hot))
    images = np.random.default_rng(0).standard_normal((8, 2, 2, 3)).astype(np.float32) * 3 + 5
    classes = np.eye(2, dtype=np.float32)[[0, 1] * 4]
    normalized = (images - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + 1e-3)
    # It begins as if without classes.
    np.testing.assert_allclose(layer([images, classes], training=True), normalized, atol=1e-4)
    scale, offset = (variable for variable in layer.trainable_variables if variable.shape == (2, 3))
    scale.assign([[1, 0, 0], [0, 0, 2]])
    offset.assign([[0, 0, 0], [7, 8, 9]])
    expected = np.where(classes[:, :1, None, None] == 1, normalized * [2, 1, 1], normalized * [1, 1, 3] + [7, 8, 9])
    np.testing.assert_allclose(layer([images, classes], training=True), expected, atol=1e-4)


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


def test_gradient_penalty_of_a_score_whose_gradient_is_known():
    images = tf.constant(np.random.default_rng(0).standard_normal((5, 4, 4, 3)), tf.float32)
    penalty = gan_cifar10.gradient_penalty(lambda x: tf.reduce_sum(x**2, axis=(1, 2, 3)), images)  # gradient 2x
    assert float(penalty) == pytest.approx(np.mean(0.5 * np.sum((2 * images.numpy()) ** 2, axis=(1, 2, 3))), rel=1e-5)


def test_gradient_penalty_comes_every_sixteenth_step_and_shrinks_the_gradient():
    networks, step = make(gradient_penalty=10.0, normalization="none", learning_rate=5e-4)
    values = [float(step(*batch(), tf.constant(number, tf.int64))["gradient_penalty"]) for number in (0, 1, 15, 16)]
    assert [value > 0 for value in values] == [True, False, False, True]
    twin, without = make(normalization="none", learning_rate=5e-4)
    for number in range(1, 16):
        without(*batch(), tf.constant(number, tf.int64))
    images = tf.constant(batch()[0], tf.float32) / 127.5 - 1

    def slope(networks):
        return float(gan_cifar10.gradient_penalty(lambda x: networks["discriminator"](x)[:, 0], images))

    for number in [16] * 30:  # the penalty at each
        step(*batch(), tf.constant(number, tf.int64))
        without(*batch(), tf.constant(number, tf.int64))
    assert slope(networks) < 0.5 * slope(twin)


def test_spectral_normalization_bounds_every_kernel():
    networks, step = make(normalization="spectral", loss="hinge")
    for number in range(30):
        step(*batch(), tf.constant(number, tf.int64))
    kernels = [v.numpy() for v in networks["discriminator"].trainable_variables if v.path.endswith("kernel")]
    for kernel in kernels:
        assert np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2) == pytest.approx(1, abs=0.1)


def test_spectral_normalization_in_mixed_precision_keeps_weights_and_logits_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    networks, step = make(classes=4, normalization="spectral", gradient_penalty=10.0, precision="mixed_bfloat16")
    labels = np.arange(16, dtype=np.int32) % 4
    losses = step(batch()[0], labels, tf.constant(0, tf.int64))
    assert {value.dtype for value in losses.values()} == {tf.float32}
    assert networks["discriminator"].output.dtype == "float32"
    kernels = [v.numpy() for v in networks["discriminator"].trainable_variables if v.path.endswith("kernel")]
    rounded = [np.mean(it == tf.cast(tf.cast(it, tf.bfloat16), tf.float32)) for it in kernels]
    assert max(rounded) < 0.1


def test_mirrored_images():
    images = tf.constant(batch()[0], tf.float32)
    chance = tf.constant([0.2, 0.8] * 8, shape=(16, 1, 1, 1))
    mirrored = gan_cifar10.mirror(images, chance).numpy()
    np.testing.assert_array_equal(mirrored[0], images[0, :, ::-1])
    np.testing.assert_array_equal(mirrored[1], images[1])


# No change of colour is brightness 0.5, saturation 0.5, contrast 0.5; no shift is the middle of the range.
SAME_COLOR = np.full((1, 3, 1, 1, 1), 0.5, np.float32)


def test_augmentation_shifts_and_cuts():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    # Shifts are 0 to 4, of which 2 is none: the first number moves rows, the second columns. The square is cut from
    # the corner, so that it covers 4 rows and columns.
    moved = gan_cifar10.augment(tf.constant(image), SAME_COLOR, np.array([[0.99, 0.5, 0.0, 0.0]], np.float32)).numpy()
    np.testing.assert_allclose(moved[0, 4:14], image[0, 6:16], atol=1e-6)
    np.testing.assert_array_equal(moved[0, 14:], 0)
    np.testing.assert_array_equal(moved[0, :4, :4], 0)
    assert (moved[0, :4, 4:] != 0).all()
    moved = gan_cifar10.augment(tf.constant(image), SAME_COLOR, np.array([[0.5, 0.0, 0.99, 0.99]], np.float32)).numpy()
    np.testing.assert_allclose(moved[0, :11, 2:], image[0, :11, :-2], atol=1e-6)


def test_augmentation_recolours():
    image = np.random.default_rng(0).uniform(-0.4, 0.4, (1, 16, 16, 3)).astype(np.float32)
    corner = np.array([[0.5, 0.5, 0.0, 0.0]], np.float32)

    def colored(*color):
        color = np.reshape(color, (1, 3, 1, 1, 1)).astype(np.float32)
        return gan_cifar10.augment(tf.constant(image), color, corner).numpy()[0, 8:]

    plain = image[0, 8:]
    np.testing.assert_allclose(colored(0.75, 0.5, 0.5), plain + 0.25, atol=1e-6)
    np.testing.assert_allclose(colored(0.5, 0.0, 0.5).std(axis=-1), 0, atol=1e-6)  # grey
    np.testing.assert_allclose(colored(0.5, 0.5, 1.0), image.mean() + 1.5 * (plain - image.mean()), atol=1e-5)


def test_gradients_pass_through_the_augmentation():
    images = tf.constant(batch()[0], tf.float32) / 127.5 - 1
    random = np.random.default_rng(0)
    color, place = random.random((16, 3, 1, 1, 1), np.float32), random.random((16, 4), np.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(gan_cifar10.augment(images, color, place) ** 2)
    gradient = tape.gradient(total, images)
    assert (np.abs(gradient).sum(axis=(1, 2, 3)) > 0).all()


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
    labels = np.arange(16, dtype=np.int32) % 4
    losses = step(batch()[0], labels, tf.constant(0, tf.int64))
    assert all(np.isfinite(float(value)) for value in losses.values())
    for model, values in zip(models, before, strict=True):
        for variable, value in zip(model.trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path


@pytest.mark.parametrize("normalization", ["batch", "spectral", "none"])
def test_discriminator_overfits_one_batch(normalization, monkeypatch):
    networks, step = make(normalization=normalization, loss="hinge")
    monkeypatch.setattr(networks["generator_optimizer"], "apply", lambda *_: None)
    losses = [float(step(*batch(), tf.constant(0, tf.int64))["discriminator_loss"]) for _ in range(80)]
    assert losses[-1] < 0.7 * losses[0]


def test_conditional_run_can_be_sampled_by_name(tiny_folder):
    folder = tiny_folder(count=16, classes=("cats", "dogs", "frogs"))
    gan_cifar10.main([*TINY_FLAGS, "--data", str(folder), "--conditional", "--name", "a"])
    run = Path("outputs/gan_cifar10/a")
    for name in ("config.json", "samples.gif", "final.png", "generator.keras", "discriminator.keras"):
        assert (run / name).stat().st_size > 0
    gan_cifar10.main(["--sample", "7", "--interpolate"])
    with np.load(run / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (7, 16, 16, 3)
        assert file["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (run / "generated/walk.gif").exists()
    gan_cifar10.main(["--sample", "5", "--label", "frogs"])
    with np.load(run / "generated/samples.npz") as file:
        assert file["labels"].tolist() == [2] * 5


def test_samples_of_several_classes_have_a_row_for_each(tmp_path):
    run = object.__new__(stored.StoredRun)
    run.folder, run.class_names = tmp_path, ("dark", "light", "white")
    labels = np.array([0, 2, 0, 2, 0])
    images = np.full((5, 8, 8, 3), 50, np.uint8)
    images[labels == 2] = 250
    run.save_samples(images, labels)
    sheet = np.asarray(Image.open(tmp_path / "generated/grid.png"))
    pixels = sheet[:, -116:]  # two columns of 56 pixels and their borders
    assert pixels.shape[0] == 2 + 2 * 58
    assert set(np.unique(pixels[:58])) == {32, 50}
    assert set(np.unique(pixels[60:])) == {32, 250}


def test_two_epochs_and_two_resumed_equal_four(tiny_folder):
    folder = tiny_folder(count=40)
    flags = [*TINY_FLAGS, "--data", str(folder), *STATE_AND_RANDOMNESS, "--schedule", "constant"]
    for name, epochs in (("straight", 4), ("resumed", 2)):
        gan_cifar10.main([*flags, "--epochs", str(epochs), "--name", name])
    keras.utils.clear_session()
    gan_cifar10.main(["--resume", "latest", "--epochs", "4"])
    straight, resumed = (
        np.load(f"outputs/gan_cifar10/{name}/checkpoints/step_00000020.npz") for name in ("straight", "resumed")
    )
    assert straight.files == resumed.files
    for name in straight.files:
        assert name == "seconds" or np.array_equal(straight[name], resumed[name]), name


def test_restraint_against_closed_forms():
    guessing, half = 2 * np.log(2), dataclasses.replace(SMALL, balance=0.5)
    for loss, factor in ((guessing, 1.0), (guessing / 2, 1.0), (guessing / 4, 0.25), (guessing / 20, 0.01)):
        assert float(gan_cifar10.restraint(half, loss)) == pytest.approx(factor)
    assert float(gan_cifar10.restraint(dataclasses.replace(half, loss="hinge"), 0.5)) == pytest.approx(0.25)
    assert gan_cifar10.restraint(dataclasses.replace(half, balance=0.0), 0.0) == 1.0


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_discriminator_that_wins_takes_smaller_steps(balance):
    networks, step = make(balance=balance)
    recent_loss, seen = 2 * np.log(2), []
    for number in range(60):
        recent_loss = 0.98 * recent_loss + 0.02 * float(step(*batch(), tf.constant(number))["discriminator_loss"])
        seen.append(float(networks["discriminator_optimizer"].learning_rate) / SMALL.learning_rate)
    assert float(networks["recent_loss"]) == pytest.approx(recent_loss, rel=1e-4)
    assert seen[-1] == pytest.approx(min(1.0, recent_loss / (2 * np.log(2))) ** 2 if balance else 1.0, rel=1e-4)
    assert (seen[-1] < 0.95) == bool(balance)


def test_two_devices_equal_one_in_what_restrains_the_discriminator(assert_two_devices_equal_one):
    assert_two_devices_equal_one("""
import gan_cifar10
config = gan_cifar10.Config(image_size=16, generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16,
                            precision="float32", dropout=0.0, balance=1.0, augment=True, strategy=strategy)
random = np.random.default_rng(0)
batches = [(random.integers(0, 256, (16, 16, 16, 3), np.uint8), np.zeros(16, np.int32)) for _ in range(3)]
networks, losses = train(gan_cifar10, config, 3, 0, batches=batches, classes=0)
found = [networks["recent_loss"], networks["discriminator_optimizer"].learning_rate, *losses.values()]
""")


def test_learning_rate():
    config = dataclasses.replace(SMALL, learning_rate=0.1)
    rates = [gan_cifar10.learning_rate(config, 0, progress) for progress in (0.0, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.0])
    rates = [gan_cifar10.learning_rate(config, step, 0.5) for step in (15_000, 30_000, 150_000)]
    assert rates == pytest.approx([0.1, 0.05, 0.01])
    assert gan_cifar10.learning_rate(dataclasses.replace(config, schedule="constant"), 150_000, 1.0) == 0.1


def test_learning_rate_falls_while_it_trains(tiny_folder, monkeypatch):
    rates = []
    original = gan_cifar10.learning_rate
    monkeypatch.setattr(gan_cifar10, "learning_rate", lambda *arguments: rates.append(original(*arguments)) or 0.0)
    gan_cifar10.main([*TINY_FLAGS, "--data", str(tiny_folder(count=40)), "--epochs", "4", "--name", "falling"])
    falling = [Config().learning_rate * min(1.0, 2 * (1 - step / 20)) for step in range(20)]
    assert rates == pytest.approx(falling)
    before, after = (np.load(path) for path in sorted(Path("outputs/gan_cifar10/falling/checkpoints").glob("*.npz")))
    for kernel in ("generator/000", "discriminator/000"):  # both optimizers took the 0 that the function returned
        assert np.array_equal(before[kernel], after[kernel])


def test_few_pictures_are_warned_of(tiny_folder, capsys):
    gan_cifar10.main([*TINY_FLAGS, "--data", str(tiny_folder(count=20)), "--name", "few"])
    assert "40 pictures are few" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image_size", "30"], "--image_size 30: must be 4, 5, 6 or 7 times"),
        (["--image_size", "8"], "--image_size 8: must be"),
        (["--label", "frog"], "--label: chooses what --sample"),
        (["--normalization", "layer"], "--normalization"),
        (["--gradient_penalty", "-1"], "must lie between 0 and 1000"),
        (["--gradient_penalty", "1"], "take --normalization spectral or none"),
        (["--data", "cifar"], "there is no such folder"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(gan_cifar10, *TINY_FLAGS, "--data", "patches", *flags)
    assert not Path("outputs").exists()


def test_classes_are_asked_for_where_there_are_none(tiny_folder, refusal_of):
    folder = tiny_folder(count=20, classes=())
    assert "has no classes" in refusal_of(gan_cifar10, *TINY_FLAGS, "--data", folder, "--conditional")


def test_sizes_that_fit():
    assert gan_cifar10.start_size(32) == (4, 3)
    assert gan_cifar10.start_size(96) == (6, 4)
    with pytest.raises(cli.UserError):
        gan_cifar10.start_size(100)
