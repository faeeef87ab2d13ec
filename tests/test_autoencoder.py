"""autoencoder.py: networks, noise, bits and losses against closed forms, and what its command line produces."""

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import autoencoder
from autoencoder import Config
from benchmarks import codes_autoencoder
from blocks.contrastive import nt_xent
from common import datasets, files, saved_runs
from evaluation import compression

SMALL = Config(width=2, code_size=6, batch_size=16, image_size=8, precision="float32")
START = tf.constant(0.0, tf.float64)  # the progress
TINY_FLAGS = [
    *("--data", "digits", "--image_size", "8", "--width", "2", "--code_size", "6", "--batch_size", "25"),
    *("--epochs", "1", "--sample_every", "20", "--checkpoint_every", "20", "--precision", "float32"),
]


def make(**changes):
    """Return the networks and the training step, not compiled, of a small configuration."""
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    networks = autoencoder.build(config, 1)
    return networks, autoencoder.make_train_step(**networks, config=config)


def batch():
    return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)


@pytest.mark.parametrize("network", ["conv", "dense"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_decoder_output_has_the_shape_of_the_encoder_input(network, size, channels):
    config = dataclasses.replace(SMALL, network=network, image_size=size)
    networks = autoencoder.build(config, channels)
    codes = networks["encoder"](tf.ones((2, size, size, channels)))
    assert codes.shape == (2, 6)
    images = networks["decoder"](codes)
    assert images.shape == (2, size, size, channels)
    assert 0 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 1


@pytest.mark.parametrize(
    ("network", "encoder_parameters", "decoder_parameters"), [("conv", 418_352, 419_889), ("dense", 680_960, 681_744)]
)
def test_parameter_counts_of_the_default_networks(network, encoder_parameters, decoder_parameters):
    networks = autoencoder.build(Config(network=network), 1)
    for name, count in (("encoder", encoder_parameters), ("decoder", decoder_parameters)):
        assert sum(np.prod(variable.shape) for variable in networks[name].trainable_variables) == count


def test_codes_are_standardised_over_the_batch():
    networks, _ = make()
    codes = networks["encoder"](batch() / np.float32(255), training=True).numpy()
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(codes.std(axis=0), 1, atol=0.05)


IMAGES = tf.constant(np.random.default_rng(1).random((50, 20, 20, 1)), tf.float32)


def noise_of(**changes):
    config = dataclasses.replace(SMALL, kind="denoising", **changes)
    return autoencoder.encoder_input(IMAGES, config, 0).numpy() - IMAGES.numpy()


def test_gaussian_noise_has_its_standard_deviation():
    noise = noise_of(noise="gaussian", noise_level=0.5)
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.02)


def test_masking_sets_its_fraction_of_the_pixels_to_zero():
    images = IMAGES.numpy() + noise_of(noise="masking", noise_level=0.3)
    assert (images == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(images[images > 0], IMAGES.numpy()[images > 0])


def test_salt_and_pepper_are_equally_frequent():
    images = IMAGES.numpy() + noise_of(noise="salt_and_pepper", noise_level=0.4)
    assert (images == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (images == 1).mean() == pytest.approx(0.2, abs=0.02)


def test_noise_depends_only_on_seed_and_step():
    first, again = (autoencoder.add_noise(IMAGES, SMALL, 3).numpy() for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, autoencoder.add_noise(IMAGES, SMALL, 4))
    assert not np.array_equal(first, autoencoder.add_noise(IMAGES, dataclasses.replace(SMALL, seed=1), 3))


def test_decoder_sees_noisy_codes_or_bits():
    codes = tf.zeros((4000, 6))
    real = autoencoder.bottleneck(codes, dataclasses.replace(SMALL, code_noise=0.2), 0).numpy()
    assert real.std() == pytest.approx(0.2, rel=0.02)
    bits = autoencoder.bottleneck(codes, dataclasses.replace(SMALL, code="binary"), 0).numpy()
    np.testing.assert_allclose(np.unique(bits), [-1, 1], rtol=1e-5)


def test_reconstruction_loss_against_its_closed_form():
    images, outputs = np.zeros((2, 3, 3, 1), np.float32), np.full((2, 3, 3, 1), 0.5, np.float32)
    outputs[1] = 1.0
    assert float(autoencoder.reconstruction_loss(images, outputs)) == pytest.approx((9 * 0.25 + 9) / 2)


def test_contrast_concerns_the_first_half_of_the_code():
    codes, others = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    loss = float(autoencoder.contrastive_loss(codes, others))
    assert loss == float(nt_xent(codes[:, :4], others[:, :4], autoencoder.TEMPERATURE))
    others[:, 4:] = 0
    assert loss == float(autoencoder.contrastive_loss(codes, others))


def test_two_devices_equal_one_in_what_they_contrast(assert_two_devices_equal_one):
    random = np.random.default_rng(0)
    batches = [(random.integers(0, 256, (16, 8, 8, 1), np.uint8),) for _ in range(3)]

    def find(train, strategy):
        config = autoencoder.Config(
            width=2, code_size=6, batch_size=16, image_size=8, precision="float32", kind="denoising", strategy=strategy
        )
        networks, losses = train(autoencoder, config, 1, batches=batches)
        return [*losses.values(), *networks["encoder"].variables, *networks["decoder"].variables]

    assert_two_devices_equal_one(find)


VARIANTS = [
    {},
    {"contrast": 0.0},
    {"network": "dense"},
    {"code": "binary"},
    {"kind": "denoising"},
    {"kind": "denoising", "noise": "masking"},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_variable_is_trained(changes):
    networks, step = make(**changes)
    before = [[v.numpy() for v in networks[name].trainable_variables] for name in ("encoder", "decoder")]
    assert np.isfinite(float(step(batch(), tf.constant(3), START)["reconstruction_loss"]))
    for name, values in zip(("encoder", "decoder"), before, strict=True):
        for variable, value in zip(networks[name].trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path


@pytest.mark.parametrize("network", ["conv", "dense"])
def test_codes_and_images_are_in_float32_in_mixed_precision(network):
    keras.config.set_dtype_policy("mixed_bfloat16")
    networks, step = make(network=network, precision="mixed_bfloat16")
    assert networks["encoder"].output.dtype == networks["decoder"].output.dtype == "float32"
    assert np.isfinite(float(step(batch(), tf.constant(0), START)["reconstruction_loss"]))


@pytest.mark.parametrize("network", ["conv", "dense"])
def test_one_batch_can_be_overfitted(network):
    _, step = make(network=network, width=8, code_size=16, code_noise=0.0, contrast=0.0)
    step = tf.function(step)
    losses = [float(step(batch(), tf.constant(0), START)["reconstruction_loss"]) for _ in range(100)]
    assert losses[-1] < losses[0] / 3


def test_code_distances_against_their_definitions():
    random = np.random.default_rng(0)
    codes, code = random.standard_normal((40, 13)), random.standard_normal(13)
    binary = dataclasses.replace(SMALL, code="binary")
    found = autoencoder.code_distances(np.packbits(codes > 0, axis=-1), code, binary)
    assert np.array_equal(found, ((codes > 0) != (code > 0)).sum(axis=-1))
    found = autoencoder.code_distances(codes, code, SMALL)
    np.testing.assert_allclose(found**2, ((codes - code) ** 2).sum(axis=-1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of two finished runs: `real` of real codes, denoising, and `binary`."""
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
    for path, image in zip(paths, datasets.load("digits", 8, "test").images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    Image.new("RGB", (40, 30), "white").save(paths[-1])
    return paths


def test_the_benchmark_of_codes_has_a_row_for_each_run(finished, refusal_of):
    run = str(finished / "binary")
    codes_autoencoder.main(["--runs", run, "--queries", "3"])
    rows = json.loads(Path("outputs/benchmarks/codes_autoencoder.json").read_text())["rows"]
    assert [row["codes"] for row in rows] == ["6 bits of autoencoder.py --contrast 0", "6 bits of PCA", "pixels"]
    assert "has codes of real numbers" in refusal_of(codes_autoencoder, "--runs", finished / "real")


def test_files_of_a_finished_run(finished):
    for name in ("config.json", "metrics.csv", "final.png", "encoder.keras", "decoder.keras", "codes.npz"):
        assert (finished / "real" / name).stat().st_size > 0
    with np.load(finished / "real/codes.npz", allow_pickle=False) as file:
        assert file["codes"].shape == (1500, 6)
        assert file["names"][7] == "scikit-learn's small digits (train) 00007"
        assert (file["errors"] > 0).all()
    with np.load(finished / "binary/codes.npz", allow_pickle=False) as file:
        assert (file["codes"].dtype, file["codes"].shape) == (np.uint8, (1500, 1))


@pytest.mark.parametrize("name", ["real", "binary"])
def test_uses_of_a_finished_run(finished, own_pictures, name, capsys):
    folder = finished / name
    flags = ["--sample", "5", "--interpolate", "--nearest", own_pictures[0]]
    autoencoder.main([*flags, "--reconstruct", *own_pictures, "--run", str(folder)])
    printed = capsys.readouterr().out
    with np.load(folder / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (5, 8, 8, 1)
        assert file.files == ["images"]
    for file in ("grid.png", "walk.gif", "walk.png", "nearest.png", "reconstructions.png"):
        assert (folder / "generated" / file).stat().st_size > 0
    rows = json.loads((folder / "generated/reconstructions.json").read_text())
    assert rows[0]["file"].endswith("white.webp")  # the largest error first
    assert rows[0]["odd"]
    assert sorted(row["file"] for row in rows) == sorted(own_pictures)
    assert "among 1,500 codes, found in" in printed


@pytest.mark.parametrize("name", ["real", "binary"])
def test_evaluation_of_a_finished_run(finished, name):
    folder = finished / name
    autoencoder.main(["--evaluate", "--run", str(folder)])
    result = json.loads((folder / "generated/evaluation.json").read_text())
    images = datasets.load("digits", 8, "test").images / np.float32(255)
    encoder, decoder = (keras.models.load_model(folder / f"{it}.keras") for it in ("encoder", "decoder"))
    codes = encoder(images).numpy()
    outputs = decoder(np.where(codes > 0, 1.0, -1.0) if name == "binary" else codes).numpy()
    expected = ((outputs - images) ** 2).sum(axis=(1, 2, 3)).mean()
    assert result["squared_error"]["this run"] == pytest.approx(expected, rel=1e-4)
    assert ("denoised_psnr" in result) == (name == "real")
    if name == "real":  # noise of 0.5: a mean squared error of a quarter
        assert result["denoised_psnr"]["noisy"] == pytest.approx(-10 * np.log10(0.25), abs=0.1)
    accuracy = result["linear_accuracy"]
    assert accuracy["pixels"] > 0.9
    assert accuracy["pixels"] > accuracy["PCA"] > 0.5
    assert accuracy["this run"] > 0.15
    sizes = [row["bits"] for row in result["code"]]
    if name == "binary":
        known = np.unpackbits(saved_runs.SavedRun(folder).arrays("codes.npz")["codes"], axis=-1, count=6)
        assert sizes == [pytest.approx(compression.coded_bits(known.astype(int), (codes > 0).astype(int)))]
    else:
        assert sizes == sorted(sizes)


def test_figures_are_printed_even_if_no_file_can_be_written(finished, own_pictures, capsys, tmp_path):
    (tmp_path / "file").touch()
    flags = ["--nearest", own_pictures[0], "--reconstruct", *own_pictures, "--evaluate", "--to", str(tmp_path / "file")]
    with pytest.raises(SystemExit) as leaving:
        autoencoder.main([*flags, "--run", str(finished / "real")])
    assert leaving.value.code == 2
    captured = capsys.readouterr()
    for figures in ("squared error   larger", "codes, found in", "classification, fraction", "compression, mean bits"):
        assert figures in captured.out
    names = "reconstructions.json, reconstructions.png, nearest.png, evaluation.json"
    assert f"cannot write {names} in {tmp_path}/file: file exists; name another folder with --to" in captured.err


def test_noise_removed_from_noisy_pictures_does_not_make_them_odd(finished, own_pictures, capsys):
    folder = finished / "real"
    autoencoder.main(["--reconstruct", *own_pictures, "--as_they_are", "--run", str(folder)])
    assert "ODD" not in capsys.readouterr().out
    rows = json.loads((folder / "generated/reconstructions.json").read_text())
    assert len(rows) == 3
    assert not any(row["odd"] or "training_pictures_with_less" in row for row in rows)


def test_training_on_a_single_picture(tiny_folder):
    folder = tiny_folder(count=1, classes=())
    autoencoder.main([*TINY_FLAGS, "--data", str(folder), "--batch_size", "1", "--contrast", "0"])
    autoencoder.main(["--sample", "3"])


@pytest.mark.parametrize("name", ["real", "binary"])
def test_a_training_picture_is_nearest_to_itself(finished, tmp_path, capsys, name):
    data = datasets.load("digits", 8)
    Image.fromarray(data.images[42, ..., 0]).save(tmp_path / "known.png")
    autoencoder.main(["--nearest", str(tmp_path / "known.png"), "--run", str(finished / name)])
    first = capsys.readouterr().out.split("ms:\n")[1].splitlines()[0].split()
    assert float(first[0]) == pytest.approx(0, abs=1e-4)
    if name == "real":  # several pictures have the same six bits
        assert "00042" in first


def test_training_on_a_folder_and_resuming_are_exact(tiny_folder, capsys, refusal_of):
    folder = tiny_folder(count=20)
    flags = [*TINY_FLAGS, "--data", str(folder), "--batch_size", "10"]
    flags += ["--kind", "denoising", "--noise", "salt_and_pepper"]
    autoencoder.main([*flags, "--epochs", "4", "--checkpoint_every", "6", "--name", "killed"])
    results = [Path("outputs/autoencoder/killed") / file for file in ("checkpoints/step_00000016.npz", "codes.npz")]
    straight = [files.read_npz(path) for path in results]
    results[0].unlink()  # the checkpoint before is that of step 12
    keras.utils.clear_session()
    autoencoder.main(["--resume", "latest"])
    for path, before in zip(results, straight, strict=True):
        resumed = files.read_npz(path)
        assert before.keys() == resumed.keys()
        for name in before:
            assert name == "seconds" or np.array_equal(before[name], resumed[name]), name
    assert resumed["names"][0] == "left/000.png"

    autoencoder.main(["--nearest", str(folder / "right/003.png"), "--reconstruct", str(folder / "left/000.png")])
    assert "right/003.png (right)" in capsys.readouterr().out
    assert "has no test pictures" in refusal_of(autoencoder, "--evaluate")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image_size", "30"], "--image_size 30: must be a multiple of 4 for --network conv"),
        (["--kind", "denoisy"], "--kind"),
        (["--noise_level", "3"], "--noise_level 3.0: must lie between 0.01 and 2"),
        (["--noise_level", "0", "--kind", "denoising"], "--noise_level 0.0: must lie between 0.01 and 2"),
        (["--noise_level", "1.5", "--kind", "denoising", "--noise", "masking"], "1.5: needs --noise gaussian"),
        (["--noise_level", "0.3"], "--noise_level 0.3: needs --kind denoising"),
        (["--noise", "masking"], "--noise masking: needs --kind denoising"),
        (["--as_they_are"], "--as_they_are: needs --reconstruct"),
        (["--jit", "on"], "--contrast 10.0: cannot be combined with --jit on; add --contrast 0"),
        (["--reconstruct"], "--reconstruct: name at least one file"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(autoencoder, *TINY_FLAGS, *flags)
    assert not Path("outputs").exists()


@pytest.mark.parametrize("noise_level", [0.0, 0.3, 2.0])
def test_saved_noise_level_of_a_plain_run_is_irrelevant(finished, tmp_path, noise_level):
    description = json.loads((finished / "binary/config.json").read_text())
    description["settings"]["noise_level"] = noise_level
    (tmp_path / "config.json").write_text(json.dumps(description))
    config = saved_runs.configure(Config, ["--sample", "3", "--run", str(tmp_path)], "")
    assert config.noise_level == noise_level


def test_unreadable_pictures(finished, own_pictures, refusal_of, tmp_path):
    run = ["--run", finished / "real"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path, reason in (
        (tmp_path / "nowhere.png", "(no such file)"),
        (tmp_path, "(a folder; "),
        (tmp_path / "broken.png", "(not a picture)"),
        ("x" * 300, "(file name too long)"),
    ):
        assert reason in refusal_of(autoencoder, "--reconstruct", own_pictures[0], path, *run)
    assert "(not a picture)" in refusal_of(autoencoder, "--nearest", tmp_path / "broken.png", *run)


def test_missing_or_damaged_codes(finished, own_pictures, refusal_of, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished / "real", folder)
    (folder / "codes.npz").write_bytes(b"half")
    for flags in (["--nearest", own_pictures[0]], ["--sample", "3"]):
        assert "codes.npz is damaged" in refusal_of(autoencoder, *flags, "--run", folder)
    (folder / "codes.npz").unlink()
    assert "is written when training ends" in refusal_of(autoencoder, "--sample", "3", "--run", folder)


def test_codes_that_a_full_disk_refuses_are_written_by_resume(finished, refusal_of, monkeypatch, tmp_path):
    folder = shutil.copytree(finished / "real", tmp_path / "real")
    before, to_disk = files.read_npz(folder / "codes.npz"), files._to_disk

    def refuse(file):
        if ".codes.npz." in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        to_disk(file)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_to_disk", refuse)
        assert "codes.npz: no space left on device" in refusal_of(autoencoder, "--resume", folder)
    assert list(folder.glob("*codes*")) == []
    autoencoder.main(["--resume", str(folder)])
    codes = files.read_npz(folder / "codes.npz")
    assert all(np.array_equal(array, codes[name]) for name, array in before.items())


def test_precision_of_the_nearest_by_class():
    positions, labels = np.arange(40.0), np.repeat([0, 1], 20)

    def distances_to(query):
        return np.abs(positions - query)

    found = codes_autoencoder.precision(distances_to, [5.0, 19.4, 30.0], labels, np.array([0, 0, 1]), 3, "codes")
    assert found["by_class"] == [0.75, 1.0, None]  # of the ten nearest to 19.4, 15 to 24, half are of class 0
    assert found["precision"] == pytest.approx((1.0 + 0.5 + 1.0) / 3)
