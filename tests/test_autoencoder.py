"""The method: noises, bits, losses and searches against closed forms, and what the command line makes of them."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import autoencoder
from autoencoder import Config
from benchmarks import codes_autoencoder

SMALL = Config(width=2, code_size=6, batch_size=16, image_size=16, precision="float32")
TINY_FLAGS = [
    *("--data", "digits", "--image_size", "16", "--width", "2", "--code_size", "6", "--batch_size", "16"),
    *("--epochs", "1", "--sample_every", "40", "--checkpoint_every", "20", "--precision", "float32"),
]


def make(**changes):
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    networks = autoencoder.build(config, 1)
    return networks, tf.function(autoencoder.make_train_step(**networks, config=config))


def batch():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1), np.uint8)


def parameters(model):
    return sum(np.prod(variable.shape) for variable in model.trainable_variables)


@pytest.mark.parametrize("network", ["conv", "dense"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_networks_fit_each_other(network, size, channels):
    config = dataclasses.replace(SMALL, network=network, image_size=size)
    networks = autoencoder.build(config, channels)
    codes = networks["encoder"](tf.ones((2, size, size, channels)))
    assert codes.shape == (2, 6)
    images = networks["decoder"](codes)
    assert images.shape == (2, size, size, channels)
    assert 0 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 1


def test_codes_are_standardised_over_the_batch():
    networks, _ = make()
    codes = networks["encoder"](batch() / np.float32(255), training=True).numpy()
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(codes.std(axis=0), 1, atol=0.05)


IMAGES = tf.constant(np.random.default_rng(1).random((50, 20, 20, 1)), tf.float32)


def noise_of(**changes):
    config = dataclasses.replace(SMALL, kind="denoising", **changes)
    return autoencoder.corrupt(IMAGES, config, 0).numpy() - IMAGES.numpy()


def test_gaussian_noise_has_its_deviation():
    noise = noise_of(noise="gaussian", noise_level=0.5)
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.02)


def test_masking_sets_its_share_of_pixels_to_zero():
    images = IMAGES.numpy() + noise_of(noise="masking", noise_level=0.3)
    assert (images == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(images[images > 0], IMAGES.numpy()[images > 0])


def test_salt_and_pepper_are_equally_frequent():
    images = IMAGES.numpy() + noise_of(noise="salt_and_pepper", noise_level=0.4)
    assert (images == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (images == 1).mean() == pytest.approx(0.2, abs=0.02)


def test_noise_depends_on_seed_and_step_alone():
    first, again = (autoencoder.corrupt(IMAGES, SMALL, 3).numpy() for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, autoencoder.corrupt(IMAGES, SMALL, 4))
    assert not np.array_equal(first, autoencoder.corrupt(IMAGES, dataclasses.replace(SMALL, seed=1), 3))


def test_bits_pass_the_gradient_straight_through():
    codes = tf.constant([[-0.3, 0.0, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(codes)
        bits = autoencoder.to_bits(codes)
        value = tf.reduce_sum(bits * [[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(bits, [[-1, -1, 1]])
    np.testing.assert_allclose(tape.gradient(value, codes), [[1, 2, 3]])


def test_the_decoder_sees_a_noisy_code_or_bits():
    codes = tf.zeros((4000, 6))
    real = autoencoder.bottleneck(codes, dataclasses.replace(SMALL, code_noise=0.2), 0).numpy()
    assert real.std() == pytest.approx(0.2, rel=0.02)
    bits = autoencoder.bottleneck(codes, dataclasses.replace(SMALL, code="binary"), 0).numpy()
    np.testing.assert_allclose(np.unique(bits), [-1, 1], rtol=1e-5)


def test_loss_against_its_closed_form():
    images, outputs = np.zeros((2, 3, 3, 1), np.float32), np.full((2, 3, 3, 1), 0.5, np.float32)
    outputs[1] = 1.0
    assert float(autoencoder.reconstruction_loss(images, outputs)) == pytest.approx((9 * 0.25 + 9) / 2)
    np.testing.assert_allclose(autoencoder.squared_errors(images, outputs), [9 * 0.25, 9])


def test_distortions_keep_the_middle_and_differ():
    images = np.zeros((200, 21, 21, 1), np.float32)
    images[:, 7:14, 7:14] = 1.0
    distorted = autoencoder.distort(tf.constant(images), SMALL, 0).numpy()
    assert distorted.min() == 0
    assert distorted.max() <= 1 + 1e-5
    rows, columns = np.mgrid[:21, :21] - 10
    mass = distorted.sum(axis=(1, 2, 3))
    for places in (rows, columns):
        middles = (distorted[..., 0] * places).sum(axis=(1, 2)) / mass
        assert np.abs(middles).max() < 21 * 0.1 * 1.28 * 1.5  # shifts, in units of a scaled and slanted image
        assert np.abs(middles).max() > 1.5
        assert np.mean(middles) == pytest.approx(0, abs=0.3)
    assert mass.min() < 49 / 1.2 < 49 < 49 * 1.2 < mass.max()
    assert np.unique(mass.round(3)).size > 190
    again = autoencoder.distort(tf.constant(images), SMALL, 0)
    np.testing.assert_array_equal(distorted, again)
    assert not np.array_equal(distorted, autoencoder.distort(tf.constant(images), SMALL, 1))


def test_an_image_turned_by_known_numbers(monkeypatch):
    # Of angle, slant, two scales and two shifts only the last two: everything moves by a tenth of the side.
    random = np.full((1, 6), 0.5, np.float32)
    random[0, 4:] = [1.0, 0.0]
    monkeypatch.setattr(autoencoder.devices, "uniform", lambda *arguments, **more: tf.constant(random))
    image = np.random.default_rng(0).random((1, 20, 20, 1)).astype(np.float32)
    shifted = autoencoder.distort(tf.constant(image), SMALL, 0).numpy()
    np.testing.assert_allclose(shifted[:, 2:, :-2], image[:, :-2, 2:], atol=1e-5)
    assert not shifted[:, :2].any()
    assert not shifted[:, :, -2:].any()


def test_contrastive_loss_against_its_closed_form():
    random = np.random.default_rng(0)
    codes, others = random.normal(size=(2, 5, 6)).astype(np.float32)
    first, second = (it[:, :3] / np.linalg.norm(it[:, :3], axis=1, keepdims=True) for it in (codes, others))
    powers = np.exp(first @ second.T / autoencoder.TEMPERATURE)
    shares = [np.diag(powers) / powers.sum(axis=axis) for axis in (0, 1)]
    loss = float(autoencoder.contrastive_loss(tf.constant(codes), tf.constant(others)))
    assert loss == pytest.approx(-np.log(shares).mean(), rel=1e-4)
    alone = float(autoencoder.contrastive_loss(tf.ones((8, 1)), tf.ones((8, 1))))
    assert alone == pytest.approx(np.log(8), rel=1e-5)


def test_two_devices_equal_one_in_what_they_contrast(assert_two_devices_equal_one):
    assert_two_devices_equal_one("""
import autoencoder
config = autoencoder.Config(width=2, code_size=6, batch_size=16, image_size=16, precision="float32",
                            kind="denoising", strategy=strategy)
random = np.random.default_rng(0)
batches = [(random.integers(0, 256, (16, 16, 16, 1), np.uint8),) for _ in range(3)]
networks, losses = train(autoencoder, config, 1, batches=batches)
found = [*losses.values(), *networks["encoder"].variables, *networks["decoder"].variables]
""")


VARIANTS = [
    {},
    {"contrast": 0.0},
    {"network": "dense"},
    {"code": "binary"},
    {"kind": "denoising"},
    {"kind": "denoising", "noise": "masking"},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_variable_moves(changes):
    networks, step = make(**changes)
    before = [[v.numpy() for v in networks[name].trainable_variables] for name in ("encoder", "decoder")]
    assert np.isfinite(float(step(batch(), tf.constant(3, tf.int64))["reconstruction_loss"]))
    for name, values in zip(("encoder", "decoder"), before, strict=True):
        for variable, value in zip(networks[name].trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path


@pytest.mark.parametrize("network", ["conv", "dense"])
def test_one_batch_can_be_overfitted(network):
    _, step = make(network=network, width=8, code_size=16, code_noise=0.0)
    losses = [float(step(batch(), tf.constant(0, tf.int64))["reconstruction_loss"]) for _ in range(200)]
    assert losses[-1] < losses[0] / 3


def test_distances_against_counting_and_the_definition():
    random = np.random.default_rng(0)
    codes, code = random.standard_normal((40, 13)), random.standard_normal(13)
    binary = dataclasses.replace(SMALL, code="binary")
    found = autoencoder.code_distances(np.packbits(codes > 0, axis=-1), code, binary)
    assert np.array_equal(found, ((codes > 0) != (code > 0)).sum(axis=-1))
    found = autoencoder.code_distances(codes, code, SMALL)
    np.testing.assert_allclose(found**2, ((codes - code) ** 2).sum(axis=-1))


@pytest.fixture(scope="module")
def _finished(tmp_path_factory):
    """Runs, relative to the folder, of real codes and of bits; trained once for all tests."""
    outputs = tmp_path_factory.mktemp("finished")
    for name, flags in (
        ("real", ["--kind", "denoising"]),
        ("binary", ["--code", "binary", "--network", "dense", "--contrast", "0"]),
    ):
        autoencoder.main([*TINY_FLAGS, *flags, "--output_dir", str(outputs), "--name", name])
    return outputs / "autoencoder"


@pytest.fixture
def own_pictures(tmp_path):
    """The paths of two digits and of a white sheet."""
    paths = [str(tmp_path / name) for name in ("zero.png", "one.png", "white.webp")]
    for path, image in zip(paths, autoencoder.datasets.load("digits", 16, "test").images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    Image.new("RGB", (40, 30), "white").save(paths[-1])
    return paths


def test_run_leaves_what_it_promises(_finished):
    for name in ("config.json", "metrics.csv", "final.png", "encoder.keras", "decoder.keras", "codes.npz"):
        assert (_finished / "real" / name).stat().st_size > 0
    with np.load(_finished / "real/codes.npz", allow_pickle=False) as file:
        assert file["codes"].shape == (1500, 6)
        assert file["names"][7] == "scikit-learn's small digits (train) 00007"
        assert (file["errors"] > 0).all()
    with np.load(_finished / "binary/codes.npz", allow_pickle=False) as file:
        assert (file["codes"].dtype, file["codes"].shape) == (np.uint8, (1500, 1))
    encoder, decoder = (keras.models.load_model(_finished / f"real/{name}.keras") for name in ("encoder", "decoder"))
    assert decoder(encoder(np.zeros((1, 16, 16, 1), np.float32))).shape == (1, 16, 16, 1)


@pytest.mark.parametrize("name", ["real", "binary"])
def test_what_a_run_can_be_used_for(_finished, own_pictures, name, capsys):
    folder = _finished / name
    flags = ["--sample", "5", "--interpolate", "--evaluate", "--nearest", own_pictures[0]]
    autoencoder.main([*flags, "--reconstruct", *own_pictures, "--run", str(folder)])
    printed = capsys.readouterr().out
    with np.load(folder / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (5, 16, 16, 1)
    for file in ("walk.gif", "nearest.png", "reconstructions.png"):
        assert (folder / "generated" / file).stat().st_size > 0
    rows = json.loads((folder / "generated/reconstructions.json").read_text())
    assert rows[0]["file"].endswith("white.webp")  # the largest error first, and odd
    assert rows[0]["odd"]
    assert sorted(row["file"] for row in rows) == sorted(own_pictures)
    assert "among 1,500 codes, found in" in printed
    result = json.loads((folder / "generated/evaluation.json").read_text())
    assert result["test_images"] == 297
    assert f"{result['squared_error']['PCA']:.4g}" in printed
    assert ("denoised_psnr" in result) == (name == "real")
    if name == "real":  # noise of 0.5: a mean squared error of a quarter
        assert result["denoised_psnr"]["noisy"] == pytest.approx(-10 * np.log10(0.25), abs=0.1)
    train, test = (autoencoder.datasets.load("digits", 16, split) for split in ("train", "test"))
    pixels, tested = (part.images.reshape(len(part.images), -1) / 255.0 for part in (train, test))
    components = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)[2][:6]
    rest = tested - pixels.mean(axis=0)
    rest -= rest @ components.T @ components
    assert result["squared_error"]["PCA"] == pytest.approx((rest**2).sum(axis=1).mean(), rel=1e-3)
    accuracy = result["linear_accuracy"]
    assert accuracy["pixels"] > 0.9
    assert accuracy["pixels"] > accuracy["PCA"] > 0.5
    assert accuracy["this run"] > 0.15
    sizes = [row["bits"] for row in result["code"]]
    if name == "binary":
        assert sizes == [pytest.approx(6, abs=0.5)]
    else:
        assert sizes == sorted(sizes)


def test_what_denoising_takes_away_from_noisy_pictures_is_no_oddness(_finished, own_pictures, capsys):
    folder = _finished / "real"
    autoencoder.main(["--reconstruct", *own_pictures, "--as_they_are", "--run", str(folder)])
    assert "ODD" not in capsys.readouterr().out
    rows = json.loads((folder / "generated/reconstructions.json").read_text())
    assert len(rows) == 3
    assert not any(row["odd"] or "training_pictures_with_less" in row for row in rows)


def test_a_single_picture(tiny_folder):
    folder = tiny_folder(count=1, classes=())
    autoencoder.main([*TINY_FLAGS, "--data", str(folder), "--batch_size", "1", "--name", "one"])
    autoencoder.main(["--sample", "3"])


def test_the_nearest_to_a_training_picture_is_itself(_finished, tmp_path, capsys):
    data = autoencoder.datasets.load("digits", 16)
    Image.fromarray(data.images[42, ..., 0]).save(tmp_path / "known.png")
    for name in ("real", "binary"):
        autoencoder.main(["--nearest", str(tmp_path / "known.png"), "--run", str(_finished / name)])
        first = capsys.readouterr().out.split("ms:\n")[1].splitlines()[0].split()
        assert float(first[0]) == pytest.approx(0, abs=1e-4)
        if name == "real":
            assert "00042" in first


def test_a_folder_of_ones_own(tiny_folder, capsys):
    folder = tiny_folder(count=20)
    autoencoder.main([*TINY_FLAGS, "--data", str(folder), "--name", "own"])
    with np.load("outputs/autoencoder/own/codes.npz", allow_pickle=False) as file:
        assert file["names"][0] == "left/000.png"
    autoencoder.main(["--nearest", str(folder / "right/003.png"), "--reconstruct", str(folder / "left/000.png")])
    assert "right/003.png (right)" in capsys.readouterr().out


def test_two_epochs_and_two_resumed_equal_four():
    flags = [*TINY_FLAGS, "--kind", "denoising", "--noise", "salt_and_pepper", "--batch_size", "50"]
    for name, epochs in (("straight", 2), ("resumed", 1)):
        autoencoder.main([*flags, "--epochs", str(epochs), "--name", name])
    keras.utils.clear_session()
    autoencoder.main(["--resume", "latest", "--epochs", "2"])
    for file in ("checkpoints/step_00000060.npz", "codes.npz"):
        straight, resumed = (np.load(f"outputs/autoencoder/{name}/{file}") for name in ("straight", "resumed"))
        assert straight.files == resumed.files
        for name in straight.files:
            assert name == "seconds" or np.array_equal(straight[name], resumed[name]), name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image_size", "30"], "must be a multiple of 4 for --network conv"),
        (["--kind", "denoisy"], "--kind"),
        (["--noise_level", "3"], "must lie between 0 and 2"),
        (["--noise_level", "1.5", "--kind", "denoising", "--noise", "masking"], "is a share of the pixels"),
        (["--as_they_are"], "--as_they_are: "),
        (["--noise_level", "0.3"], "--noise_level 0.3: need --kind denoising"),
        (["--noise_level", "0", "--kind", "denoising"], "--noise_level 0: leaves nothing to clean"),
        (["--jit", "on"], "XLA does not know the distortions of --contrast"),
        (["--reconstruct"], "--reconstruct: name at least one file"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(autoencoder, *TINY_FLAGS, *flags)
    assert not Path("outputs").exists()


def test_pictures_that_cannot_be_read(_finished, own_pictures, refusal_of, tmp_path):
    run = ["--run", _finished / "real"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path, reason in (
        (tmp_path / "nowhere.png", "(no such file)"),
        (tmp_path, "(a folder; give the files in it)"),
        (tmp_path / "broken.png", "(not a picture)"),
        ("x" * 300, "(file name too long)"),
    ):
        assert reason in refusal_of(autoencoder, "--reconstruct", own_pictures[0], path, *run)
        assert reason in refusal_of(autoencoder, "--nearest", path, *run)


def test_codes_that_are_missing_or_damaged(_finished, own_pictures, refusal_of, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(_finished / "real", folder)
    (folder / "codes.npz").write_bytes(b"half")
    for flags in (["--nearest", own_pictures[0]], ["--sample", "3"]):
        assert "codes.npz is damaged" in refusal_of(autoencoder, *flags, "--run", folder)
    (folder / "codes.npz").unlink()
    assert "is written when the training ends" in refusal_of(autoencoder, "--sample", "3", "--run", folder)


def test_own_pictures_have_no_test_images_to_evaluate_on(tiny_folder, refusal_of):
    folder = tiny_folder(count=20)
    autoencoder.main([*TINY_FLAGS, "--data", str(folder), "--name", "own"])
    assert "has no test pictures" in refusal_of(autoencoder, "--evaluate")


def test_precision_of_the_nearest_by_class():
    positions, labels = np.arange(40.0), np.repeat([0, 1], 20)

    def distances_to(query):
        return np.abs(positions - query)

    found = codes_autoencoder.precision(distances_to, [5.0, 19.4, 30.0], labels, np.array([0, 0, 1]), 3, "codes")
    assert found["by_class"] == [0.75, 1.0, None]  # of the ten nearest to 19.4, 15 to 24, half are of class 0
    assert found["precision"] == pytest.approx((1.0 + 0.5 + 1.0) / 3)
