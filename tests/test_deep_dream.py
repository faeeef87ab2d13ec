"""DeepDream: gradient ascent against closed forms, tiles without seams, dreams, zooms and folders, and bad input."""

import itertools
import json
import os
import re
import signal
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import small_network
import tensorflow as tf
from keras import layers
from PIL import Image, ImageCms

import deep_dream
from blocks import tiles
from blocks.feature_extraction import FeatureExtractor
from blocks.guides import guide_features
from common import layer_flags, photographs, pictures
from common.errors import UserError
from common.trained_networks import BUNDLED
from deep_dream import Config
from pretrained import train_dream_network

QUICK = ["--steps", "2", "--octaves", "2"]
SIZES = [(29, 43), (40, 60)]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def network_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "small.keras"
    small_network.build().save(path)
    return path


@pytest.fixture(scope="module")
def photograph():
    """A colourful photograph of 40x60 pixels."""
    pixels = np.asarray(Image.fromarray(photographs.bundled().pixels).resize((60, 40)))
    return photographs.Photograph(pixels, None, None, "small")


@pytest.fixture
def picture_path(tmp_path, photograph):
    path = tmp_path / "picture.png"
    Image.fromarray(photograph.pixels).save(path)
    return path


@pytest.fixture(scope="module")
def ascend():
    """A function that makes a gradient ascent step for the small network, once for each choice of settings."""
    model, steps = small_network.build(), {}

    def make(layers="mixed0", channels=(), guide=None, **settings):
        key = (layers, channels, guide is None, *settings.items())
        if key not in steps:
            weights = layer_flags.parse_layers(layers, ["sharp_corners", "mixed0", "mixed1"], "small")
            features = FeatureExtractor(model, list(weights))
            guides = guide_features(guide, features, list(channels)) if guide else []
            config = Config(**settings)
            steps[key] = deep_dream.make_gradient_ascent_step(features, weights, list(channels), guides, config)
        return steps[key]

    return make


@pytest.fixture
def dream(network_path, picture_path):
    """A function that runs the script on the small picture with the small network, and returns the dream's folder."""

    def run(*flags, name="a", image_path=picture_path):
        where = ["--image_path", str(image_path)] if image_path else []
        deep_dream.main(["--model", str(network_path), *QUICK, *where, "--name", name, *map(str, flags)])
        return Path("outputs/deep_dream") / name

    return run


def signed(photograph):
    return pictures.to_signed_array(photograph.pixels)


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


# The method


def test_objective_against_closed_forms():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((1, 4, 5, 3)), random.standard_normal((1, 2, 2, 6))
    first_square, second_square = ((it.clip(0) ** 2).mean() for it in (first, second))
    value = deep_dream.objective([tf.constant(first), tf.constant(second)], [1.0, -0.5], [], [])
    assert float(value) == pytest.approx(np.log(first_square) - 0.5 * np.log(second_square))
    value = deep_dream.objective([tf.constant(first)], [2.0], [0, 2], [])
    assert float(value) == pytest.approx(2.0 * first[..., [0, 2]].mean())
    guide = random.standard_normal((7, 3))
    activation = tf.Variable(first)
    with tf.GradientTape() as tape:
        value = deep_dream.objective([activation], [1.0], [], [tf.constant(guide)])
    products = first.reshape(-1, 3) @ guide.T
    assert float(value) == pytest.approx(products.max(axis=1).mean())
    expected = guide[products.argmax(axis=1)] / len(products)  # the gradient of a maximum: the best feature
    np.testing.assert_allclose(tape.gradient(value, activation).numpy().reshape(-1, 3), expected)
    value = deep_dream.objective([tf.constant(first)], [1.0], [0, 2], [tf.constant(guide[:, [0, 2]])])
    assert float(value) == pytest.approx((first[..., [0, 2]].reshape(-1, 2) @ guide[:, [0, 2]].T).max(axis=1).mean())


def test_a_weight_means_the_same_for_layers_of_any_scale():
    random = np.random.default_rng(0)
    activations = [tf.Variable(random.standard_normal((1, 4, 4, 2))) for _ in range(2)]
    gradients = []
    for scale in (1.0, 100.0):
        with tf.GradientTape() as tape:
            value = deep_dream.objective([activations[0] * scale, activations[1]], [1.0, 1.0], [], [])
        gradients.append(tape.gradient(value, activations))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(("layer", "weight", "step_size"), [("sharp_corners", "", 0.1), ("mixed0", "=-1", 0.015)])
def test_steps_increase_the_objective_also_with_a_negative_weight(layer, weight, step_size, ascend):
    step = ascend(layer + weight, step_size=step_size)
    image, objectives = tf.constant(signed(photographs.bundled())[:64, :80]), []
    for _ in range(15):
        image, value = step(image, (0, 0))
        objectives.append(float(value))
    assert objectives[-1] > objectives[0] + (0.0 if weight else 0.02)  # of logarithms
    assert np.abs(image).max() <= 1


def test_a_guide_and_channels_change_the_ascent(ascend, photograph):
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    guide = photographs.Photograph(noise, None, None, "guide")
    changed = []
    for settings in ({}, {"channels": (1, 3)}, {"guide": guide}):
        image, _ = ascend(**settings)(tf.constant(signed(photograph)), (0, 0))
        changed.append(image.numpy())
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(changed[one], changed[other])


def test_coarse_structures_are_favoured_by_their_frequency():
    def strength(cycles, smoothing, height=48, width=64):
        wave = np.cos(2 * np.pi * cycles * np.arange(width) / width)
        gradient = np.tile(wave[None, :, None], (height, 1, 3)).astype(np.float32)
        result = deep_dream.favor_coarse(tf.constant(gradient), smoothing).numpy()
        factor = result.std() / gradient.std()
        np.testing.assert_allclose(result, factor * gradient, atol=1e-3 * factor)
        return factor

    def expected(cycles, smoothing, width=64):
        frequency = cycles / width
        return frequency**-smoothing / (1 + (deep_dream.NEIGHBORHOOD * frequency) ** -2)

    for cycles in (1, 4, 16, 32):
        for smoothing in (0.0, 0.5, 2.0):
            assert strength(cycles, smoothing) == pytest.approx(expected(cycles, smoothing), rel=1e-3)
    for smoothing in (0.0, 0.7, 2.0):
        assert abs(deep_dream.favor_coarse(tf.ones((33, 45, 3)), smoothing)).numpy().max() < 1e-3


def test_the_gradient_is_normalised_locally_and_zero_stays_zero():
    gradient = np.random.default_rng(0).standard_normal((256, 512, 3)).astype(np.float32)
    gradient[:, 256:] *= 0.1
    normalized = deep_dream.normalize_locally(tf.constant(gradient)).numpy()
    assert normalized[:, :200].std() == pytest.approx(1, rel=0.1)
    assert normalized[:, 320:].std() == pytest.approx(1, rel=0.1)
    assert (deep_dream.normalize_locally(tf.zeros((20, 30, 3))).numpy() == 0).all()


def test_colours_are_muted_and_grey_stays():
    grey = tf.fill((2, 2, 3), 0.7)
    np.testing.assert_allclose(deep_dream.mute_colors(grey), grey)
    red = deep_dream.mute_colors(tf.constant([[[1.0, 0.0, 0.0]]])).numpy()[0, 0]
    assert red.sum() == pytest.approx(1)
    assert red[0] - red[1] == pytest.approx(deep_dream.COLOR_STRENGTH)


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
def test_no_seams_where_tiles_meet(smoothing, ascend, monkeypatch):
    """The ascent jumps no more across the edges of tiles than elsewhere, and is nearly that of a single tile."""
    image = signed(photographs.bundled())[100:228, 100:292]
    whole, _ = ascend(smoothing=smoothing)(tf.constant(image), (5, 9))
    monkeypatch.setattr(tiles, "LONGEST", 100)
    monkeypatch.setattr(tiles, "OVERLAP", 32)
    (rows, _), (columns, wide) = tiles.count_and_size(128), tiles.count_and_size(192)
    assert (rows, columns) == (2, 3)
    tiled, _ = ascend(smoothing=smoothing, seed=1)(tf.constant(image), (5, 9))  # compiled anew
    whole, tiled = whole.numpy() - image, tiled.numpy() - image
    assert np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.95
    jumps = np.abs(np.diff(tiled, axis=1)).mean(axis=(0, 2))
    for edge in (int(wide) - 32 - 9, 2 * (int(wide) - 32) - 9):
        assert jumps[edge - 1] < 1.2 * np.delete(jumps[edge - 13 : edge + 12], 12).max()


def plain_direction(tile):
    """The ascent direction in NumPy, for a network whose only layer is the picture itself, and the objective."""
    rectified = tile.clip(0).astype(np.float64)
    gradient = 2 * rectified / (rectified**2).sum()
    grey = gradient.mean(axis=-1, keepdims=True)
    gradient = grey + deep_dream.COLOR_STRENGTH * (gradient - grey)
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, tile.shape[:2]), indexing="ij"))[..., None]
    high_pass = frequency**2 / (frequency**2 + deep_dream.NEIGHBORHOOD**-2.0)
    scale = high_pass * np.maximum(frequency, 1e-6) ** -Config.smoothing
    gradient = np.fft.ifft2(np.fft.fft2(gradient, axes=(0, 1)) * scale, axes=(0, 1)).real
    energy = (gradient**2).mean(axis=-1, keepdims=True)
    cells = np.array(tile.shape[:2]) // deep_dream.NEIGHBORHOOD
    smooth = tf.image.resize(tf.image.resize(energy, cells, "area"), tile.shape[:2]).numpy()
    return gradient / np.sqrt(smooth + 1e-3 * energy.mean()), np.log((rectified**2).mean())


def test_a_step_equals_its_plain_form(monkeypatch):
    monkeypatch.setattr(tiles, "LONGEST", 160)
    image = signed(photographs.bundled())[100:250, 100:390]
    step = deep_dream.make_gradient_ascent_step(lambda images: [images], {"pictures": 1.0}, [], [], Config())
    found, value = step(tf.constant(image), (3, 5))
    mirrored = np.pad(image, ((3, 13), (5, 12), (0, 0)), "symmetric")
    ascent, objectives = np.zeros_like(mirrored), []
    rise = (np.arange(64) + 0.5) / 64
    rows = [(0, [*np.ones(51), *rise[::-1]]), (51, [*rise, *np.ones(51)])]  # two tiles of 115 rows
    columns = [(0, [*np.ones(81), *rise[::-1]]), (81, [*rise, *np.ones(17), *rise[::-1]]), (162, [*rise, *np.ones(81)])]
    for (top, row_weights), (left, column_weights) in itertools.product(rows, columns):
        place = slice(top, top + 115), slice(left, left + 145)
        direction, objective = plain_direction(mirrored[place])
        ascent[place] += np.outer(row_weights, column_weights)[..., None] * direction
        objectives.append(objective)
    expected = (image + Config.step_size * ascent[3:153, 5:295]).clip(-1, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - image).mean() > 0.005
    assert float(value) == pytest.approx(np.mean(objectives))


def test_octaves_grow_by_their_scale_to_full_size(capsys):
    config = Config(octaves=4, octave_scale=2.0)
    assert deep_dream.octave_sizes(80, 120, config, lambda *_: True) == [(10, 15), (20, 30), (40, 60), (80, 120)]
    assert deep_dream.octave_sizes(80, 120, config, lambda height, _: height > 15) == [(20, 30), (40, 60), (80, 120)]
    assert "skipping the 1 smallest of 4 octaves: too small for the network" in capsys.readouterr().out
    for height, width in ((5, 5), (1, 500)):
        with pytest.raises(UserError, match=f"{width}x{height} pixels are too few for these layers, which need 6x6"):
            deep_dream.octave_sizes(height, width, config, lambda *size: min(size) > 5)


def test_an_octave_without_gradient_does_not_end_the_dream():
    image = np.zeros((40, 60, 3), np.float32)

    def step_at(heights):
        return lambda image, shift: (image + 0.1 * (image.shape[0] in heights), 0.0)

    for heights in ({29}, {40}):
        dreamt = deep_dream.finished_dream(image, step_at(heights), SIZES, 2, [0])
        np.testing.assert_allclose(dreamt, 0.2, rtol=1e-5)
    with pytest.raises(UserError, match="no gradient on this picture"):
        deep_dream.finished_dream(image, step_at(()), SIZES, 2, [0])


def test_the_same_seed_gives_the_same_dream(ascend, photograph):
    image = signed(photograph)
    first, same, other = (deep_dream.finished_dream(image, ascend(), SIZES, 2, [seed]) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


# Dreams, zooms and folders


def test_a_dream_leaves_the_promised_files(dream, tmp_path, photograph, capsys):
    alpha = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    path = tmp_path / "alpha.png"
    Image.fromarray(np.dstack([photograph.pixels, alpha])).save(path, icc_profile=SRGB)
    folder = dream("--layers", "mixed0=1,mixed1=0.5", "--seed", 3, "--max_size", 45, image_path=path)
    assert (folder.parent / "latest").readlink() == Path("a")
    with Image.open(folder / "ascent.gif") as gif:
        assert gif.size == (45, 30)
        assert gif.n_frames >= 3
    with Image.open(folder / "before_after.png") as image:
        assert (image.mode, image.size, image.info["icc_profile"]) == ("RGB", (120, 40), SRGB)
    with Image.open(folder / "dream.png") as image:
        assert image.size == (60, 40)
        assert np.array_equal(np.asarray(image.getchannel("A")), alpha)
        assert image.info["icc_profile"] == SRGB
        assert image.text["layers"] == "mixed0=1,mixed1=0.5"
        assert image.text["seed"] == "3"
    assert 2 < np.abs(pixels_of(folder / "dream.png") - photograph.pixels).mean() < 60
    description = json.loads((folder / "config.json").read_text())
    assert description["settings"]["layers"] == "mixed0=1,mixed1=0.5"
    assert description["data"]["name"].endswith("alpha.png")
    assert re.search(r"octave 2 of 2, 45x30: objective from -?\d+\.\d{3} to ", capsys.readouterr().out)


def test_the_bundled_network_and_photograph_and_a_run_that_calls_the_network_box():
    flags = ["--max_size", "48", "--steps", "1", "--octaves", "1", "--name"]
    deep_dream.main([*flags, "a"])
    description = Path("outputs/deep_dream/a/config.json")
    settings = json.loads(description.read_text())["settings"]
    assert (settings["model"], settings["layers"]) == ("bundled", "block5=2,classes=1")  # whatever "auto" means later
    first = pixels_of("outputs/deep_dream/a/dream.png")
    assert first.shape == (427, 640, 3)
    description.write_text(description.read_text().replace('"bundled"', '"box"'))  # as earlier versions wrote it
    deep_dream.main(["--resume", "latest"])
    assert np.array_equal(pixels_of("outputs/deep_dream/a/dream.png"), first)


def test_a_grey_network_of_one_size(dream, capsys):
    images = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 4, strides=2, padding="same", name="first")(images)
    x = layers.LeakyReLU(name="second")(x)
    keras.Model(images, layers.Dense(1)(layers.Flatten()(x))).save("grey.keras")
    folder = dream("--model", "grey.keras", "--input_range", 0, 1)
    assert "layers: second=1" in capsys.readouterr().out
    assert pixels_of(folder / "dream.png").shape == (40, 60, 3)


def test_a_zoom_resumes_where_it_was_interrupted(dream, contents, picture_path):
    with Image.open(picture_path) as image:
        image.convert("RGBA").save(picture_path, icc_profile=SRGB)
    folder = dream("--layers", "mixed0", "--zoom", 4)
    with Image.open(folder / "zoom.gif") as gif:
        assert gif.n_frames == 4
    with Image.open(folder / "zoom/frame_00003.png") as image:
        assert image.text["zoom"] == "4"
        assert (image.mode, image.info["icc_profile"]) == ("RGB", SRGB)
    straight = contents(folder / "zoom")
    for number in (2, 3):
        (folder / f"zoom/frame_{number:05d}.png").unlink()
    deep_dream.main(["--resume", str(folder), "--layers", "mixed0"])  # the same layers may be named again
    assert contents(folder / "zoom") == straight


def fill_gpu():
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor on device:GPU:0")


@pytest.mark.parametrize(("flags", "steps", "kept"), [((), 2, False), (("--zoom", 3), 5, True)])
@pytest.mark.parametrize(("stop", "status"), [(lambda: os.kill(os.getpid(), signal.SIGTERM), 143), (fill_gpu, 2)])
def test_a_stopped_dream_is_continued_only_if_something_is_kept(
    dream, monkeypatch, capsys, flags, steps, kept, stop, status
):
    make, count = deep_dream.make_gradient_ascent_step, [0]

    def make_interrupted(*arguments):
        step = make(*arguments)

        def interrupted(*of_step):
            count[0] += 1
            if count[0] == steps:
                stop()
            return step(*of_step)

        return interrupted

    monkeypatch.setattr(deep_dream, "make_gradient_ascent_step", make_interrupted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as leaving:
        dream(*flags, name="cut")
    assert leaving.value.code == status
    assert signal.getsignal(signal.SIGTERM) is before
    command = "python deep_dream.py --resume outputs/deep_dream/cut"
    message = f"stopped; continue with: {command}" if kept else "stopped; nothing is kept"
    assert capsys.readouterr().out.splitlines()[-1] == message
    assert Path("outputs/deep_dream/cut").exists() == kept


def test_a_zoom_keeps_contrast_and_colours(ascend, photograph):
    config = Config(zoom=12, steps=8)
    deep_dream.zoom(photograph, signed(photograph), ascend(step_size=0.05), SIZES, config, Path())
    first, last = (pixels_of(f"zoom/frame_{number:05d}.png") for number in (0, 11))
    np.testing.assert_allclose(last.mean(axis=(0, 1)), first.mean(axis=(0, 1)), atol=6)
    np.testing.assert_allclose(last.std(axis=(0, 1)), first.std(axis=(0, 1)), rtol=0.15)
    sharpness = [np.abs(np.diff(frame, axis=1)).mean() for frame in (first, last)]
    assert sharpness[1] > 0.5 * sharpness[0]


def test_a_folder_of_pictures(dream, photograph, capsys):
    Path("pictures").mkdir()
    for name in ("a.jpg", "a.png", "c.png"):  # two names that differ in their ending alone
        Image.fromarray(photograph.pixels).save(f"pictures/{name}")
    Path("pictures/b.png").write_bytes(b"damaged")
    folder = dream("--input_folder", "pictures", "--blend", 0.5, image_path=None)
    assert sorted(path.name for path in (folder / "frames").iterdir()) == ["a.jpg.png", "a.png.png", "c.png"]
    assert "skipped: pictures/b.png: not a picture" in capsys.readouterr().out
    last = (folder / "frames/c.png").read_bytes()
    (folder / "frames/c.png").unlink()
    deep_dream.main(["--resume", str(folder)])
    assert (folder / "frames/c.png").read_bytes() == last


def test_a_folder_with_blended_dreams_and_a_picture_without_gradient(photograph, capsys):
    def step(image, shift):  # as for layers that detect nothing in a black picture
        return image + 0.1 * (np.max(image) > -1), 0.0

    black = np.zeros_like(photograph.pixels)
    for name, pixels in (("0", black), ("1", photograph.pixels), ("2", photograph.pixels[::-1])):
        Image.fromarray(pixels).save(f"{name}.png")
    paths = photographs.find(Path())
    frames = {}
    for blend in (0.0, 0.5):
        config, folder = Config(steps=1, octaves=1, blend=blend), Path(f"blend{blend}")
        folder.mkdir()
        deep_dream.dream_folder(paths, step, lambda *_: True, config, folder)
        assert "skipped: these layers have no gradient on this picture" in capsys.readouterr().out
        frames[blend] = {path.name: pixels_of(path) for path in (folder / "frames").iterdir()}
    assert frames[0.0].keys() == frames[0.5].keys() == {"1.png", "2.png"}
    assert np.array_equal(frames[0.0]["1.png"], frames[0.5]["1.png"])
    mixed = 0.5 * photograph.pixels[::-1] + 0.5 * frames[0.5]["1.png"]
    step_in_pixels = 0.1 * 127.5
    assert np.abs(frames[0.5]["2.png"] - np.minimum(mixed + step_in_pixels, 255)).max() <= 1
    nothing = types.SimpleNamespace(input_folder="x")
    with pytest.raises(UserError, match="--input_folder x: there is no picture in it to dream on"):
        deep_dream.dream_folder([], step, lambda *_: True, nothing, Path())


# Bad input


def test_list_layers(network_path, capsys):
    deep_dream.main(["--model", str(network_path), "--list_layers", "--layers", "mixed0"])
    printed = capsys.readouterr().out
    assert "* mixed0" in printed
    assert "logits" not in printed
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--layers mixd1", "no such layer; the nearest are mixed1, mixed0"),
        ("--layers mixed1 --channels 5", "mixed1 has the channels 0 to 4"),
        ("--layers mixed0,mixed1 --channels 1", "needs a single layer"),
        ("--octaves 0", "--octaves 0: must be at least 1"),
        ("--steps 0", "must be at least 1"),
        ("--octave_scale 1", "must lie between"),
        ("--blend 1", "must lie between"),
        ("--input_folder . --zoom 3", "--input_folder .: cannot be combined with --zoom"),
        ("--input_folder . --image_path x.jpg", "--input_folder .: cannot be combined with --image_path"),
        ("--input_folder nowhere", "nowhere: no such file or directory"),
        ("--image_path nowhere.jpg", "nowhere.jpg: no such file or directory"),
        ("--image_path .", "is a directory"),
        ("--guide nowhere.jpg", "nowhere.jpg: no such file or directory"),
        ("--zoom 3 --blend 0.5", "--blend 0.5: needs --input_folder"),
        ("--zoom_factor 1.5", "--zoom_factor 1.5: needs --zoom"),
        ("--input_range 1 0", "--input_range 1.0 0.0: give two finite numbers"),
        ("--guide=", "--guide '': needs a value"),
        ("--name ../x --max_size 64", "--name ../x: must be a plain"),
    ],
)
def test_bad_settings(flags, words, network_path, refusal_of):
    assert words in refusal_of(deep_dream, "--model", network_path, *flags.split())
    assert not Path("outputs").exists()


def test_a_picture_or_a_guide_that_is_too_small(network_path, picture_path, refusal_of):
    Image.new("RGB", (5, 5)).save("small.png")
    flags = ["--model", network_path, "--layers", "mixed1", "--image_path"]
    assert "5x5 pixels are too few" in refusal_of(deep_dream, *flags, "small.png")
    assert "--guide small.png: too small" in refusal_of(deep_dream, *flags, picture_path, "--guide", "small.png")
    assert not Path("outputs").exists()


def test_a_network_without_feature_maps(refusal_of):
    inputs = keras.Input((28, 28, 1))
    keras.Model(inputs, layers.Dense(1)(layers.Flatten()(inputs))).save("flat.keras")
    for flags in ([], ["--list_layers"]):
        assert "flat.keras has no feature maps" in refusal_of(deep_dream, "--model", "flat.keras", *flags)


def test_layers_without_gradient(refusal_of):
    images = keras.Input((None, None, 3))
    x = keras.ops.round(layers.Conv2D(2, 3, name="before")(images))
    steps = layers.Activation("linear", name="steps")(x)
    dead = layers.ReLU(threshold=1e6, name="dead")(layers.Conv2D(2, 3)(images))
    keras.Model(images, [steps, dead]).save("odd.keras")
    for layer, words in (("steps", "no gradient reaches the picture"), ("dead", "no gradient on this picture")):
        flags = ["--model", "odd.keras", *QUICK, "--max_size", "64", "--layers", layer, "--name", "a"]
        assert words in refusal_of(deep_dream, *flags)
        assert not Path("outputs/deep_dream/a").exists()


def test_branches_that_do_not_fit_together(picture_path, refusal_of, photograph):
    images = keras.Input((None, None, 3))
    small = layers.MaxPooling2D(4)(layers.Conv2D(2, 3, padding="same")(images))
    joined = layers.Concatenate(name="joined")([images, layers.UpSampling2D(4)(small)])
    keras.Model(images, joined).save("branches.keras")
    Image.fromarray(photograph.pixels).resize((61, 41)).save("odd.png")
    flags = ["--model", "branches.keras", "--octaves", "1", "--image_path"]
    assert "layers do not fit together at 61x41 pixels; another --max_size" in refusal_of(deep_dream, *flags, "odd.png")
    line = refusal_of(deep_dream, *flags, picture_path, "--guide", "odd.png")
    assert "layers do not fit together at 61x41 pixels; crop --guide odd.png" in line


def test_another_picture_network_or_guide_than_the_dream_started_with(dream, picture_path, network_path, refusal_of):
    picture = picture_path.read_bytes()
    for name, content in (("network.keras", network_path.read_bytes()), ("guide.png", picture)):
        Path(name).write_bytes(content)
    dream("--model", "network.keras", "--guide", "guide.png")
    Image.new("RGB", (40, 40), "red").save(picture_path)
    assert "was made from another picture" in refusal_of(deep_dream, "--resume", "latest")
    picture_path.write_bytes(picture)
    Image.new("RGB", (40, 40), "red").save("guide.png")
    assert "was made with another guide" in refusal_of(deep_dream, "--resume", "latest")
    with zipfile.ZipFile("network.keras", "a") as archive:
        archive.writestr("more", "anything")
    assert "was made with another network" in refusal_of(deep_dream, "--resume", "latest")


def test_a_zoom_whose_files_moved_is_resumed_with_their_new_paths(dream, picture_path, network_path, refusal_of):
    for name, content in (("network.keras", network_path.read_bytes()), ("guide.png", picture_path.read_bytes())):
        Path(name).write_bytes(content)
    folder = dream("--model", "network.keras", "--guide", "guide.png", "--zoom", 2, "--steps", 1)
    frame = folder / "zoom/frame_00001.png"
    before = pixels_of(frame)
    Path("moved").mkdir()
    given = {"image_path": picture_path, "guide": Path("guide.png"), "model": Path("network.keras")}
    moved = {name: path.rename(Path("moved") / path.name) for name, path in given.items()}
    flags = [word for name, path in moved.items() for word in (f"--{name}", str(path))]
    for words in (flags, []):  # the new paths are remembered
        frame.unlink()
        deep_dream.main(["--resume", str(folder), *words])
        assert np.array_equal(pixels_of(frame), before)
    Image.new("RGB", (40, 40), "red").save("other.png")
    for name, what in (("image_path", "from another picture"), ("guide", "with another guide")):
        line = refusal_of(deep_dream, "--resume", folder, f"--{name}", "other.png")
        assert what in line


def test_the_bundled_network_is_not_overwritten_without_training(refusal_of):
    before = BUNDLED.read_bytes()
    assert "--epochs 0: must be at least 1" in refusal_of(train_dream_network, "--epochs", 0)
    assert BUNDLED.read_bytes() == before
