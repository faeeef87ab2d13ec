"""Gradient ascent against closed forms, tiles without seams, pictures in and out whole, and every bad input."""

import dataclasses
import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from PIL import Image, ImageCms

import deep_dream
from common import cli, networks, photographs, pictures, tiles
from deep_dream import Config

QUICK = ["--steps", "2", "--octaves", "2"]


@pytest.fixture(scope="session")
def network_path(tmp_path_factory):
    """A small network with random weights, batch normalisation and a branch, as a Keras file."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="edges")(images)
    x = layers.BatchNormalization(scale=False, name="normalized")(x)
    x = layers.Activation("swish", name="soft_edges")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    y = layers.Conv2D(8, 3, padding="same", name="corners")(x)
    y = layers.BatchNormalization(name="normalized_corners")(y)
    x = layers.Concatenate(name="mixed0")([x, layers.Activation("relu", name="sharp_corners")(y)])
    x = layers.Conv2D(5, 3, name="mixed1", activation="tanh")(x)
    model = keras.Model(images, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x)))
    random = np.random.default_rng(0)
    for variable in model.variables:  # statistics as after training
        if "moving" in variable.path or "beta" in variable.path or "gamma" in variable.path:
            variable.assign(random.uniform(0.2, 1.5, variable.shape))
    path = tmp_path_factory.mktemp("networks") / "small.keras"
    model.save(path)
    return path


@pytest.fixture
def picture_path(tmp_path):
    """A colourful picture of 40x60 pixels."""
    path = tmp_path / "picture.png"
    Image.fromarray(photographs.bundled().pixels).resize((60, 40)).save(path)
    return path


@pytest.fixture
def dream(network_path, picture_path):
    """A function that runs the script on the small picture with the small network, and returns the dream's folder."""

    def run(*flags, name="a", image_path=picture_path):
        where = ["--image_path", str(image_path)] if image_path else []
        deep_dream.main(["--model", str(network_path), *QUICK, *where, "--name", name, *map(str, flags)])
        return Path("outputs/deep_dream") / name

    return run


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def make_step(network_path, config=None, **changes):
    config = dataclasses.replace(config or Config(layers="mixed0"), **changes)
    network = networks.load(str(network_path), (-1.0, 1.0))
    weights = networks.chosen_layers(config.layers, network)
    features = networks.features(network.model, list(weights))
    guides = deep_dream.guide_features(None, features, network.prepare, [], networks.size_test(features))
    return deep_dream.make_gradient_ascent_step(features, network.prepare, weights, [], guides, config)


# The method


def test_objective_against_closed_forms():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((1, 4, 5, 3)), random.standard_normal((1, 2, 2, 6))
    first_square, second_square = ((it.clip(0) ** 2).mean() for it in (first, second))
    value = deep_dream.objective([tf.constant(first), tf.constant(second)], [1.0, -0.5], [], [None, None])
    assert float(value) == pytest.approx(np.log(first_square) - 0.5 * np.log(second_square))
    value = deep_dream.objective([tf.constant(first)], [2.0], [0, 2], [None])
    assert float(value) == pytest.approx(2.0 * first[..., [0, 2]].mean())
    guide = random.standard_normal((7, 3))
    places = tf.Variable(first)
    with tf.GradientTape() as tape:
        value = deep_dream.objective([places], [1.0], [], [tf.constant(guide)])
    agreement = first.reshape(-1, 3) @ guide.T
    assert float(value) == pytest.approx(agreement.max(axis=1).mean())
    expected = guide[agreement.argmax(axis=1)] / len(agreement)  # of the maximum: the feature that suits best
    np.testing.assert_allclose(tape.gradient(value, places).numpy().reshape(-1, 3), expected)
    value = deep_dream.objective([tf.constant(first)], [1.0], [0, 2], [tf.constant(guide[:, [0, 2]])])
    assert float(value) == pytest.approx((first[..., [0, 2]].reshape(-1, 2) @ guide[:, [0, 2]].T).max(axis=1).mean())


def test_weights_do_not_depend_on_a_layers_scale():
    random = np.random.default_rng(0)
    activations = [tf.Variable(random.standard_normal((1, 4, 4, 2))) for _ in range(2)]
    gradients = []
    for scale in (1.0, 100.0):
        with tf.GradientTape() as tape:
            scaled = [activations[0] * scale, activations[1]]
            value = deep_dream.objective(scaled, [1.0, 1.0], [], [None, None])
        gradients.append(tape.gradient(value, activations))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_coarse_structures_are_favoured_by_their_frequency():
    def strength(cycles, smoothing, height=48, width=64):
        wave = np.cos(2 * np.pi * cycles * np.arange(width) / width)
        gradient = np.tile(wave[None, :, None], (height, 1, 3)).astype(np.float32)
        result = deep_dream.favour_coarse(tf.constant(gradient), smoothing).numpy()
        factor = result.std() / gradient.std()
        np.testing.assert_allclose(result, factor * gradient, atol=1e-3 * factor)
        return factor

    def expected(cycles, smoothing, width=64):
        frequency = cycles / width
        return frequency**-smoothing / (1 + (deep_dream.NEIGHBOURHOOD * frequency) ** -2)

    for cycles in (1, 4, 16, 32):
        for smoothing in (0.0, 0.5, 2.0):
            assert strength(cycles, smoothing) == pytest.approx(expected(cycles, smoothing), rel=1e-3)
    for smoothing in (0.0, 0.7, 2.0):
        assert abs(deep_dream.favour_coarse(tf.ones((33, 45, 3)), smoothing)).numpy().max() < 1e-3


def test_strength_is_evened_out_and_zero_stays_zero():
    gradient = np.random.default_rng(0).standard_normal((256, 512, 3)).astype(np.float32)
    gradient[:, 256:] *= 0.1
    even = deep_dream.even_out(tf.constant(gradient)).numpy()
    assert even[:, :200].std() == pytest.approx(1, rel=0.1)
    assert even[:, 320:].std() == pytest.approx(1, rel=0.1)
    assert (deep_dream.even_out(tf.zeros((20, 30, 3))).numpy() == 0).all()


def test_colours_are_calmed_and_grey_stays():
    grey = tf.fill((2, 2, 3), 0.7)
    np.testing.assert_allclose(deep_dream.calm_colors(grey), grey)
    red = deep_dream.calm_colors(tf.constant([[[1.0, 0.0, 0.0]]])).numpy()[0, 0]
    assert red.sum() == pytest.approx(1)
    assert red[0] - red[1] == pytest.approx(deep_dream.COLOR)


def test_steps_drive_the_activations_up(network_path):
    step = make_step(network_path, layers="sharp_corners", step_size=0.1)
    image = np.asarray(pictures.to_signed(photographs.bundled().pixels))[:64, :80].copy()
    means = [step(image, (0, 0))["sharp_corners"] for _ in range(15)]
    assert means[-1] > 1.01 * means[0]
    assert np.abs(image).max() <= 1


def test_a_negative_weight_drives_them_down(network_path):
    step = make_step(network_path, layers="mixed0=-1")
    image = np.asarray(pictures.to_signed(photographs.bundled().pixels))[:64, :80].copy()
    means = [step(image, (0, 0))["mixed0"] for _ in range(10)]
    assert means[-1] < means[0]


def test_octaves_grow_by_their_scale_to_the_full_size(capsys):
    config = Config(octaves=4, octave_scale=2.0)
    assert deep_dream.octave_sizes(80, 120, config, lambda *_: True) == [(10, 15), (20, 30), (40, 60), (80, 120)]
    assert deep_dream.octave_sizes(80, 120, config, lambda height, _: height > 15) == [(20, 30), (40, 60), (80, 120)]
    assert "left out the 1 smallest of 4 octaves: too small for the network" in capsys.readouterr().out


def test_one_octave_that_shows_nothing_does_not_end_the_dream():
    image = np.zeros((40, 60, 3), np.float32)

    def step_at(heights):
        def step(image, shift):
            image += 0.1 * (image.shape[0] in heights)
            return {"layer": 0.0}

        return step

    for heights in ({20}, {40}):
        dreamt = deep_dream.dreamt_to_the_end(image, step_at(heights), [(20, 30), (40, 60)], 2, [0])
        np.testing.assert_allclose(dreamt, 0.2, rtol=1e-5)
    with pytest.raises(cli.UserError, match="no gradient on this picture"):
        deep_dream.dreamt_to_the_end(image, step_at(()), [(20, 30), (40, 60)], 2, [0])


# Networks


def test_folded_normalisation_changes_nothing_but_rounding(network_path):
    model = networks.load(str(network_path), (-1.0, 1.0)).model
    names = ["soft_edges", "mixed0", "mixed1"]
    images = tf.random.stateless_uniform((2, 21, 34, 3), (0, 0), -1, 1)
    expected = keras.Model(model.inputs, [model.get_layer(name).output for name in names])(images)
    folded = networks.features(model, names)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)
    for one, other in zip(folded(images), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_normalisation_that_is_chosen_or_shared_is_not_folded(network_path):
    model = networks.load(str(network_path), (-1.0, 1.0)).model
    images = tf.random.stateless_uniform((1, 20, 20, 3), (0, 0), -1, 1)
    for names in (["normalized"], ["edges", "mixed0"]):
        found = networks.features(model, names)
        expected = keras.Model(model.inputs, [model.get_layer(name).output for name in names])(images)
        for one, other in zip(*map(keras.tree.flatten, (found(images), expected)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_adapted_normalisation_keeps_what_it_learnt():
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(np.random.default_rng(0).uniform(0, 255, (50, 8, 8, 3)))
    images = keras.Input((None, None, 3))
    inner = keras.Sequential([images, normalization, layers.Conv2D(4, 3, padding="same")], name="inner")
    model = keras.Model(images, layers.Activation("relu", name="seen")(inner(images)))
    images = tf.random.stateless_uniform((1, 20, 20, 3), (0, 0), 0, 255)
    np.testing.assert_allclose(networks.features(model, ["seen"])(images)[0], model(images)[0], rtol=1e-4)


def test_a_convolution_whose_output_an_operator_uses_too_is_not_folded(tmp_path):
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", name="convolution")(images)
    y = layers.BatchNormalization(name="normalization")(x)
    model = keras.Model(images, layers.Activation("relu", name="sum")(x + y))
    model.get_layer("normalization").moving_mean.assign([0.5, -0.5, 1.0, 2.0])
    images = tf.random.stateless_uniform((1, 20, 20, 3), (0, 0), -1, 1)
    np.testing.assert_allclose(networks.features(model, ["sum"])(images)[0], model(images)[0], atol=1e-5)


def test_a_convolution_that_is_used_twice_is_not_folded():
    images, convolution = keras.Input((None, None, 3)), layers.Conv2D(3, 3, padding="same", name="convolution")
    x = layers.BatchNormalization(name="normalization")(convolution(images))
    model = keras.Model(images, layers.Add(name="sum")([x, convolution(layers.Activation("relu")(x))]))
    model.get_layer("normalization").moving_mean.assign([0.5, -0.5, 1.0])
    images = tf.random.stateless_uniform((1, 20, 20, 3), (0, 0), -1, 1)
    np.testing.assert_allclose(networks.features(model, ["sum"])(images)[0], model(images)[0], atol=1e-5)


def test_a_model_within_the_model_is_a_layer_like_any_other(dream, tmp_path):
    images = keras.Input((48, 48, 3))
    base = keras.Model(images, layers.Conv2D(4, 3, strides=2, name="inner")(images), name="base")
    inputs = keras.Input((48, 48, 3))
    x = layers.GlobalAveragePooling2D()(base(layers.Rescaling(0.5)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    network = networks.Network("a", "a", Path(), model, None)
    assert network.layer_shapes == {"rescaling": (None, 48, 48, 3), "base": (None, 23, 23, 4)}
    images = tf.random.stateless_uniform((1, 48, 48, 3), (0, 0), -1, 1)
    np.testing.assert_allclose(networks.features(model, ["base"])(images)[0], base(0.5 * images)[0], atol=1e-5)
    model.save(tmp_path / "transfer.keras")
    assert pixels_of(dream("--model", tmp_path / "transfer.keras") / "dream.png").shape == (40, 60, 3)


def test_a_guide_whose_size_does_not_suit_the_network(refusal_of, picture_path):
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same")(images)
    y = layers.UpSampling2D(4)(layers.MaxPooling2D(4)(x))
    keras.Model(images, layers.Concatenate(name="joined")([x, y])).save("joined.keras")
    Image.open(picture_path).resize((66, 50)).save("guide.png")
    flags = ["--model", "joined.keras", "--image_path", picture_path, "--guide", "guide.png"]
    assert "the layers do not fit together at 66x50 pixels" in refusal_of(deep_dream, *flags)


def test_a_discriminator_of_one_size_and_grey_dreams_too(dream, tmp_path, capsys):
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 4, strides=2, padding="same", name="first"),
            layers.LeakyReLU(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.save(tmp_path / "grey.keras")
    folder = dream("--model", tmp_path / "grey.keras", "--input_range", 0, 1)
    assert "leaky_re_lu" in capsys.readouterr().out
    assert pixels_of(folder / "dream.png").shape == (40, 60, 3)


def test_input_range_is_what_the_network_gets(network_path):
    images = tf.constant([-1.0, 0.0, 1.0], shape=(1, 1, 1, 3))
    prepared = networks.load(str(network_path), (0.0, 255.0)).prepare(images)
    np.testing.assert_allclose(np.ravel(prepared), [0.0, 127.5, 255.0])


@pytest.mark.parametrize("name", ["InceptionV3", "VGG16"])
def test_published_networks_are_checked(name, refusal_of, monkeypatch, tmp_path):
    assert f"fetch it with: python get_ckpt.py --model {name}" in refusal_of(deep_dream, "--model", name)
    path = networks.NETWORKS[name].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"truncated")
    line = refusal_of(deep_dream, "--model", name)
    assert "is not the published file" in line
    assert f"python get_ckpt.py --model {name} --force" in line


@pytest.mark.parametrize(
    ("name", "prepared"),
    [
        ("MobileNetV2", [-1.0, 0.0, 1.0]),
        ("VGG16", [255.0 - 103.939, 127.5 - 116.779, -123.68]),  # blue, green, red, less the means of ImageNet
    ],
)
def test_a_published_network_is_read_and_prepared_as_it_was_trained(name, prepared, monkeypatch):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(None, None, 3))
    path = networks.NETWORKS[name].path
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:  # as they were published: in the format of Keras 2
        save_weights_to_hdf5_group(file, model)
    published = networks.NETWORKS[name]
    md5 = published.md5 and hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(networks.NETWORKS, name, dataclasses.replace(published, size=path.stat().st_size, md5=md5))
    network = networks.load(name, (0.0, 1.0))
    for one, other in zip(network.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    images = tf.constant([-1.0, 0.0, 1.0], shape=(1, 1, 1, 3))
    np.testing.assert_allclose(np.ravel(network.prepare(images)), prepared, atol=1e-4)
    assert networks.chosen_layers(deep_dream.DEFAULT_LAYERS[name], network)


def test_default_layers_exist():
    for name, chosen in deep_dream.DEFAULT_LAYERS.items():
        if name in networks.NETWORKS:
            model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(None, None, 3))
            assert networks.chosen_layers(chosen, networks.Network(name, name, Path(), model, None))


def test_the_network_in_the_box(capsys):
    assert networks.BOX.stat().st_size <= 2_000_000
    network = networks.load("auto", (-1.0, 1.0))
    assert "python get_ckpt.py" in capsys.readouterr().out
    assert network.layer_shapes["classes"][-1] == 10
    deep_dream.main(["--max_size", "64", *QUICK, "--name", "box"])
    settings = json.loads(Path("outputs/deep_dream/box/config.json").read_text())["settings"]
    assert (settings["model"], settings["layers"]) == ("box", "block5=2,classes=1")  # whatever "auto" means later
    assert pixels_of("outputs/deep_dream/box/dream.png").shape == (427, 640, 3)


# Tiles


@pytest.mark.parametrize(("height", "width"), [(1, 700), (40, 60), (640, 641), (1300, 2000)])
@pytest.mark.parametrize("shift", [(0, 0), (16, 3), (7, 16)])
def test_tiles_add_up_to_one_everywhere(height, width, shift):
    total = np.zeros((height, width, 1), np.float32)
    for tile in tiles.cover(height, width, shift):
        ones = np.ones((len(tile.rows), len(tile.columns), 1), np.float32)
        assert max(ones.shape) <= tiles.LONGEST
        tile.add(ones, total)
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_do_not_grow_with_the_picture():
    spans = list(tiles._spans(6000, 5))
    assert {len(positions) for positions, _ in spans} == {len(spans[0][0])}
    assert len(spans[0][0]) <= tiles.LONGEST


def test_tiles_see_the_mirror_image_beyond_the_edge():
    image = np.arange(12.0).reshape(3, 4, 1)
    (tile,) = tiles.cover(3, 4, (2, 1))
    seen = tile.cut(image)[..., 0]
    np.testing.assert_array_equal(seen[:5, 1], [4, 0, 0, 4, 8])
    np.testing.assert_array_equal(seen[2, :6], [0, 0, 1, 2, 3, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
def test_no_seams_where_tiles_meet(smoothing, network_path, monkeypatch):
    """The gradient jumps no more across the edges of tiles than elsewhere, and is nearly that of one tile."""
    image = np.asarray(pictures.to_signed(photographs.bundled().pixels))[100:228, 100:292].copy()
    whole, tiled = image.copy(), image.copy()
    step = make_step(network_path, smoothing=smoothing)
    step(whole, (5, 9))
    monkeypatch.setattr(tiles, "LONGEST", 100)
    monkeypatch.setattr(tiles, "OVERLAP", 32)
    assert len(list(tiles.cover(128, 192, (5, 9)))) == 6
    step(tiled, (5, 9))
    whole, tiled = whole - image, tiled - image
    assert np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.95
    edges = sorted({int(tile.columns[0]) for tile in tiles.cover(128, 192, (5, 9))} - {8})
    jumps = np.abs(np.diff(tiled, axis=1)).mean(axis=(0, 2))
    assert len(edges) == 2
    for edge in edges:
        assert jumps[edge - 1] < 1.2 * np.delete(jumps[edge - 13 : edge + 12], 12).max()


# Pictures in and out


def test_dream_leaves_what_it_promises(dream, capsys):
    folder = dream("--layers", "mixed0=1,mixed1=0.5", "--seed", 3)
    assert (folder.parent / "latest").readlink() == Path("a")
    assert pixels_of(folder / "before_after.png").shape == (40, 120, 3)
    with Image.open(folder / "ascent.gif") as gif:
        assert gif.size == (60, 40)
        assert gif.n_frames >= 3
    with Image.open(folder / "dream.png") as image:
        assert image.size == (60, 40)
        assert image.text["layers"] == "mixed0=1,mixed1=0.5"
        assert image.text["seed"] == "3"
    description = json.loads((folder / "config.json").read_text())
    assert description["settings"]["layers"] == "mixed0=1,mixed1=0.5"
    assert description["data"]["name"].endswith("picture.png")
    assert "octave 2 of 2, 60x40: mean activation mixed0 " in capsys.readouterr().out


def test_the_same_seed_gives_the_same_picture(dream):
    first, same, other = (
        pixels_of(dream("--seed", seed, name=name) / "dream.png") for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_guide_and_channels_change_the_dream(dream, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(tmp_path / "guide.png")
    plain = pixels_of(dream("--layers", "mixed0", name="a") / "dream.png")
    for name, flags in (("b", ["--guide", tmp_path / "guide.png"]), ("c", ["--channels", "1,3-4"])):
        assert not np.array_equal(plain, pixels_of(dream("--layers", "mixed0", *flags, name=name) / "dream.png"))


def test_what_was_dreamt_small_is_laid_over_the_full_size(dream, picture_path):
    dreamt = pixels_of(dream("--max_size", 30) / "dream.png")
    difference = np.abs(dreamt - pixels_of(picture_path))
    assert dreamt.shape == (40, 60, 3)
    assert 2 < difference.mean() < 60


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(picture, kind, mode, **settings):
    file = io.BytesIO()
    picture.convert(mode).save(file, kind, **settings)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("PNG", "P"), ("PNG", "I;16")]
)
def test_formats(kind, mode, picture_path, tmp_path):
    picture = Image.open(picture_path)
    if mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        file = tmp_path / "deep.png"
        Image.fromarray(grey).save(file)
        picture = picture.convert("L")
    else:
        file = tmp_path / "other"
        file.write_bytes(saved(picture, kind, mode).read())
    found = photographs.read(file)
    assert found.alpha is None
    expected = np.asarray(picture.convert("L").convert("RGB") if mode == "L" else picture.convert("RGB")).astype(int)
    assert np.abs(found.pixels - expected).mean() < 16


def test_exif_turns_the_picture_upright(picture_path, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(saved(Image.open(picture_path), "JPEG", "RGB", exif=exif).read())
    assert photographs.read(tmp_path / "turned.jpg").pixels.shape == (60, 40, 3)


def test_alpha_and_colour_profile_are_kept(dream, picture_path, tmp_path):
    picture = Image.open(picture_path).convert("RGBA")
    alpha = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "alpha.png", icc_profile=SRGB)
    folder = dream(image_path=tmp_path / "alpha.png")
    with Image.open(folder / "dream.png") as image:
        assert np.array_equal(np.asarray(image.getchannel("A")), alpha)
        assert image.info["icc_profile"] == SRGB
    zoomed = dream("--zoom", 1, image_path=tmp_path / "alpha.png", name="b") / "zoom/frame_00000.png"
    for path in (folder / "before_after.png", zoomed):
        with Image.open(path) as image:
            assert (image.mode, image.info["icc_profile"]) == ("RGB", SRGB)


def test_a_profile_of_greys_is_used_and_dropped(tmp_path):
    lightness = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # any that is none of colours
    grey = np.random.default_rng(0).integers(0, 256, (20, 30, 2), np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "grey.png", icc_profile=lightness)
    found = photographs.read(tmp_path / "grey.png")
    assert found.icc_profile is None
    assert np.array_equal(found.alpha, grey[..., 1])
    assert np.array_equal(found.pixels, np.repeat(grey[..., :1], 3, axis=-1))


def test_a_profile_of_another_kind_of_colour_is_used_and_dropped(picture_path, tmp_path):
    (tmp_path / "print.jpg").write_bytes(saved(Image.open(picture_path), "JPEG", "CMYK", icc_profile=SRGB).read())
    assert photographs.read(tmp_path / "print.jpg").icc_profile is None  # a damaged one: it is not of CMYK


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_that_cannot_be_read_is_left_aside(mode, picture_path, tmp_path):
    damaged = saved(Image.open(picture_path), "JPEG", mode, icc_profile=b"x" * 300)
    (tmp_path / "damaged.jpg").write_bytes(damaged.read())
    assert photographs.read(tmp_path / "damaged.jpg").icc_profile is None


# Zoom and folders


def test_a_zoom_goes_on_where_it_was_interrupted(dream, contents):
    straight = dream("--zoom", 4, name="straight")
    with Image.open(straight / "zoom.gif") as gif:
        assert gif.n_frames == 4
    with Image.open(straight / "zoom/frame_00003.png") as image:
        assert image.text["zoom"] == "4"
    dream("--zoom", 4, name="resumed")
    for number in (2, 3):
        Path(f"outputs/deep_dream/resumed/zoom/frame_{number:05d}.png").unlink()
    deep_dream.main(["--resume", "outputs/deep_dream/resumed"])
    assert list(contents(straight / "zoom").values()) == list(contents("outputs/deep_dream/resumed/zoom").values())


def test_colours_of_another_picture():
    random = np.random.default_rng(0)
    image, other = random.random((30, 40, 3)), random.random((20, 20, 3)) @ random.random((3, 3))
    changed = pictures.with_colors_of(image, other).reshape(-1, 3)
    np.testing.assert_allclose(changed.mean(axis=0), other.reshape(-1, 3).mean(axis=0))
    np.testing.assert_allclose(np.cov(changed, rowvar=False), np.cov(other.reshape(-1, 3), rowvar=False), atol=1e-9)
    np.testing.assert_allclose(pictures.with_colors_of(image, image), image)


def test_a_zoom_keeps_contrast_and_colours(dream):
    folder = dream("--zoom", 12, "--steps", 8, "--step_size", 0.05)
    first, last = (pixels_of(folder / f"zoom/frame_{number:05d}.png") for number in (0, 11))
    np.testing.assert_allclose(last.mean(axis=(0, 1)), first.mean(axis=(0, 1)), atol=6)
    np.testing.assert_allclose(last.std(axis=(0, 1)), first.std(axis=(0, 1)), rtol=0.15)
    sharpness = [np.abs(np.diff(frame, axis=1)).mean() for frame in (first, last)]
    assert sharpness[1] > 0.5 * sharpness[0]


def test_every_picture_of_a_folder(dream, tmp_path, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(photographs.bundled().pixels[:, 9 * number :]).resize((50, 30)).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"damaged")
    made = dream("--input_folder", folder, "--blend", 0.5, image_path=None)
    assert sorted(path.name for path in (made / "frames").iterdir()) == ["0.png", "2.png"]
    assert "left out" in capsys.readouterr().out
    blended = pixels_of(made / "frames/2.png")
    (made / "frames/2.png").unlink()
    deep_dream.main(["--resume", str(made)])
    assert np.array_equal(pixels_of(made / "frames/2.png"), blended)
    plain = dream("--input_folder", folder, name="plain", image_path=None)
    assert np.array_equal(pixels_of(plain / "frames/0.png"), pixels_of(made / "frames/0.png"))
    assert not np.array_equal(pixels_of(plain / "frames/2.png"), blended)


def test_the_gif_of_a_folder_keeps_the_shape_of_each_picture(tmp_path):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "wide.png")
    Image.new("RGB", (40, 60), "white").save(tmp_path / "high.png")
    photographs.save_gif_of_files(tmp_path / "a.gif", [tmp_path / "wide.png", tmp_path / "high.png"], 40, 60)
    with Image.open(tmp_path / "a.gif") as gif:
        gif.seek(1)
        lit = np.asarray(gif.convert("L")) > 128
    assert lit.shape == (40, 60)
    assert (lit.any(axis=0).sum(), lit.any(axis=1).sum()) == (27, 40)


def test_the_same_layers_may_be_named_again(dream):
    folder = dream("--layers", "mixed0", "--zoom", 2)
    deep_dream.main(["--resume", str(folder), "--layers", "mixed0"])


def test_pictures_whose_names_differ_in_their_ending_alone(dream, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(photographs.bundled().pixels).resize((50, 30)).save(folder / name)
    made = dream("--input_folder", folder, image_path=None)
    assert sorted(path.name for path in (made / "frames").iterdir()) == ["a.jpg.png", "a.png.png", "b.png"]


def test_a_picture_without_gradient_is_left_out_of_a_folder(tmp_path, capsys):
    images = keras.Input((None, None, 3))
    keras.Model(images, layers.Conv2D(4, 3, use_bias=False, activation="relu", name="seen")(images)).save("seen.keras")
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "0.png")  # black: 0 in the network's range
    Image.fromarray(photographs.bundled().pixels).resize((40, 30)).save(folder / "1.png")
    flags = ["--model", "seen.keras", "--input_range", "0", "1", "--input_folder", str(folder), "--name", "a"]
    deep_dream.main([*flags, *QUICK])
    assert [path.name for path in Path("outputs/deep_dream/a/frames").iterdir()] == ["1.png"]
    assert "left out: these layers have no gradient on this picture" in capsys.readouterr().out


def test_a_gif_has_so_many_frames_at_most(dream, monkeypatch):
    monkeypatch.setattr(photographs, "MOST_FRAMES", 3)
    folder = dream("--zoom", 5)
    with Image.open(folder / "zoom.gif") as gif:
        assert gif.n_frames == 3
    assert len(list((folder / "zoom").iterdir())) == 5


def test_a_name_that_is_not_utf8(dream, picture_path):
    strange = picture_path.with_name(os.fsdecode(b"caf\xe9.png"))
    picture_path.rename(strange)
    with Image.open(dream(image_path=strange) / "dream.png") as image:
        assert image.text["image_path"].endswith("caf?.png")


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
        ("--layers mixd1", "no such layer of features; the nearest are mixed1, mixed0"),
        ("--layers mixed1=x", "the weight must be a number other than 0"),
        ("--layers mixed1=0", "the weight must be a number other than 0"),
        ("--layers mixed1 --channels 5", "mixed1 has the channels 0 to 4"),
        ("--layers mixed1 --channels 0-9999999999", "mixed1 has the channels 0 to 4"),
        ("--layers mixed1 --channels 3-2", "mixed1 has the channels 0 to 4"),
        ("--layers mixed1 --channels a", "give numbers and ranges"),
        ("--layers mixed0,mixed1 --channels 1", "are those of one layer"),
        ("--octaves 0", "--octaves 0: must be at least 1"),
        ("--steps 0", "must be at least 1"),
        ("--octave_scale 1", "must lie between"),
        ("--blend 1", "must lie between"),
        ("--input_folder . --zoom 3", "goes with neither --image_path nor --zoom"),
        ("--input_folder nowhere", "nowhere: no such file or directory"),
        ("--input_folder .", "no pictures in it"),
        ("--image_path nowhere.jpg", "nowhere.jpg: no such file or directory"),
        ("--image_path .", "is a directory"),
        ("--guide nowhere.jpg", "nowhere.jpg: no such file or directory"),
        ("--name ../x", "must be a plain name"),
        ("--zoom 3 --blend 0.5", "--blend: lets the dream before show through, of --input_folder"),
        ("--zoom_factor 1.5", "--zoom_factor: says how much each frame of --zoom enlarges"),
        ("--input_range 0 inf", "--input_range 0.0 inf: give the lower value first"),
        ("--input_range 1 0", "--input_range 1.0 0.0: give the lower value first"),
        ("--guide=", "--guide '': is nothing"),
    ],
)
def test_bad_settings(flags, words, network_path, refusal_of):
    assert words in refusal_of(deep_dream, "--model", network_path, *flags.split())
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("size", "words"), [((5, 5), "5x5 pixels are too few"), ((1, 500), "1x500 pixels are too few")]
)
def test_pictures_that_are_too_small(size, words, network_path, refusal_of):
    Image.new("RGB", size).save("small.png")
    line = refusal_of(deep_dream, "--model", network_path, "--image_path", "small.png")
    assert words in line
    assert "which need 6x6" in line
    assert not Path("outputs").exists()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "bomb"])
def test_files_that_are_no_pictures(damage, picture_path, network_path, refusal_of):
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    content, words = {
        "text": (b"not a picture at all", "not a picture"),
        "empty": (b"", "not a picture"),
        "cut": (picture_path.read_bytes()[:800], "bad.png: "),
        "bomb": (
            head + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b""),
            "exceeds limit of 200000000 pixels",
        ),
    }[damage]
    Path("bad.png").write_bytes(content)
    assert words in refusal_of(deep_dream, "--model", network_path, "--image_path", "bad.png")
    assert not Path("outputs").exists()


@pytest.mark.parametrize("kind", ["words", "cut", "not pictures", "two inputs", "no layers", "no places", "directory"])
def test_files_that_are_no_networks_of_pictures(kind, network_path, refusal_of):
    path, words = Path("bad.keras"), "not a network of pictures"
    if kind == "words":
        keras.Sequential([keras.Input((7,)), layers.Dense(2)]).save(path)
    elif kind == "not pictures":
        keras.Sequential([keras.Input((7, 7, 12)), layers.Conv2D(2, 3)]).save(path)
    elif kind == "two inputs":
        inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
        keras.Model(inputs, layers.Add()(inputs)).save(path)
    elif kind == "no places":
        inputs = keras.Input((28, 28, 1))
        keras.Model(inputs, layers.Dense(1)(layers.Flatten()(inputs))).save(path)
        words = "has no layer that keeps places"
        assert words in refusal_of(deep_dream, "--model", path, "--list_layers")
    elif kind == "cut":
        path.write_bytes(network_path.read_bytes()[:9000])
        words = "not a whole Keras file"
    elif kind == "no layers":
        path.write_bytes(b"")
        words = "not a whole Keras file"
    else:
        path.mkdir()
        words = "there is no such file or network"
    assert words in refusal_of(deep_dream, "--model", path)


def test_a_name_that_is_nearly_right(refusal_of):
    assert "did you mean InceptionV3?" in refusal_of(deep_dream, "--model", "Inception")


def test_layers_that_lead_nowhere(refusal_of):
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(2, 3, name="before")(images)
    x = keras.ops.round(x)
    steps = layers.Activation("linear", name="steps")(x)
    dead = layers.ReLU(threshold=1e6, name="dead")(layers.Conv2D(2, 3)(images))
    keras.Model(images, [steps, dead]).save("odd.keras")
    inputs = keras.Input((8, 8, 3))
    fixed = layers.Reshape((12, 16, 1), name="fixed")(layers.Flatten()(inputs))
    keras.Model(inputs, fixed).save("fixed.keras")
    flags = ["--model", "odd.keras", *QUICK, "--max_size", "64"]
    for layer in ("steps", "dead"):
        assert "gradient" in refusal_of(deep_dream, *flags, "--layers", layer, "--name", "a")
        assert not Path("outputs/deep_dream/a").exists()
    assert "one size only" in refusal_of(deep_dream, "--model", "fixed.keras", "--layers", "fixed")


def test_branches_that_do_not_fit_together(refusal_of):
    images = keras.Input((None, None, 3))
    small = layers.MaxPooling2D(4)(layers.Conv2D(2, 3, padding="same")(images))
    joined = layers.Concatenate(name="joined")([images, layers.UpSampling2D(4)(small)])
    keras.Model(images, joined).save("branches.keras")
    Image.fromarray(photographs.bundled().pixels).resize((61, 41)).save("odd.png")
    flags = ["--model", "branches.keras", "--layers", "joined", "--octaves", "1", "--image_path", "odd.png"]
    assert "do not fit together at 77x57 pixels" in refusal_of(deep_dream, *flags)


def test_a_guide_that_is_too_small(network_path, picture_path, refusal_of):
    Image.new("RGB", (5, 5)).save("small.png")
    flags = ["--model", network_path, "--layers", "mixed1", "--image_path", picture_path, "--guide", "small.png"]
    assert "--guide small.png: is too small for these layers" in refusal_of(deep_dream, *flags)
    assert not Path("outputs").exists()


def test_another_picture_than_the_dream_was_made_from(dream, picture_path, refusal_of):
    dream()
    Image.new("RGB", (40, 40), "red").save(picture_path)
    assert "was made from another picture" in refusal_of(deep_dream, "--resume", "latest")


def test_another_network_or_guide_than_the_dream_was_begun_with(dream, picture_path, network_path, refusal_of):
    for name in ("network.keras", "guide.png"):
        Path(name).write_bytes((network_path if name == "network.keras" else picture_path).read_bytes())
    dream("--model", "network.keras", "--guide", "guide.png")
    deep_dream.main(["--resume", "latest"])
    Image.new("RGB", (40, 40), "red").save("guide.png")
    assert "was made with another guide" in refusal_of(deep_dream, "--resume", "latest")
    with zipfile.ZipFile("network.keras", "a") as archive:
        archive.writestr("more", "anything")
    assert "was made with another network" in refusal_of(deep_dream, "--resume", "latest")
