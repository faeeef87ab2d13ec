"""DeepDream: a network that was trained to recognise things shows what it believes to see in a photograph.

The picture itself is trained: gradient ascent drives up the activations of chosen layers, so that whatever the network
finds a trace of grows. First on a small copy of the picture, then on larger ones, the octaves, which lets large things
appear and small ones in them.

Source: Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", Google Research Blog, 2015. What
differs from it, and why, stands in docs/deep_dream.md.

    python deep_dream.py                                dream on a photograph that scikit-learn carries
    python deep_dream.py --image_path x.jpg             on your own
    python deep_dream.py --image_path x.jpg --zoom 60   fall into the dream: a GIF
    python deep_dream.py --list_layers                  what there is to choose from
"""

import os

# On CPUs without AVX-512 TensorFlow leaves oneDNN's convolutions off, though they are faster here: docs/deep_dream.md.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import collections
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import keras
import numpy as np
import tensorflow as tf

from common import cli, devices, files, networks, photographs, pictures, runs, stored, tiles

# What to dream of, where nothing is asked for; in other networks the last layer that has a place for each feature.
DEFAULT_LAYERS = {
    "box": "block5=2,classes=1",
    "InceptionV3": "mixed3=1,mixed5=1",
    "VGG16": "block4_conv3=1,block5_conv2=1",
    "VGG19": "block4_conv4=1,block5_conv2=1",
    "ResNet50": "conv4_block3_out",
    "MobileNetV2": "block_10_expand_relu=1,block_13_expand_relu=1",
    "Xception": "block8_sepconv2_act",
}
FRAMES = 32  # of ascent.gif, at most, besides the last
COLOR = 0.6  # of the gradient's colour that is kept
NEIGHBOURHOOD = 64  # pixels: coarser structures are left to smaller octaves; the strength is evened out over them
GUIDE_SIDE = 256  # the guide's longer side, at most, in pixels
GUIDE_FEATURES = 1000  # of the guide in each layer, at most: each place of the picture is compared with all of them
ZOOM_STEPS = 0.25  # of --steps, in each frame of a zoom after the first
ZOOM_OCTAVES = 3  # at most, in each of these frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of deep_dream.py."""

    image_path: cli.Named = ""
    """The picture to dream on; empty for the photograph that scikit-learn carries."""
    input_folder: cli.Named = ""
    """Dream on every picture of this folder instead, such as a video's frames, in the order of their names."""
    blend: Annotated[float, cli.Between(0.0, 0.95)] = 0.0
    """With --input_folder: how much of the dream before shows through where the next one starts."""
    zoom: cli.Count = 0
    """Frames of a zoom into the dream, each dreamt on from the one before; 0 for none."""
    zoom_factor: Annotated[float, cli.Between(1.001, 2.0)] = 1.04
    """How much each frame of a zoom enlarges the one before."""
    guide: cli.Named = ""
    """A picture whose features the dream shall take up."""
    model: str = "auto"
    """A network of keras.applications that get_ckpt.py has fetched, "box" for the small one that comes along, a Keras
    file; auto for InceptionV3 if it is here, else the one in the box."""
    input_range: tuple[float, float] = (-1.0, 1.0)
    """Lowest and highest pixel value of the pictures that the network of a Keras file was trained on."""
    layers: str = ""
    """Whose activations to drive up, with weights: mixed3=1,mixed5=0.5; empty for a choice that suits the network."""
    channels: str = ""
    """Drive up only these channels of the layer: 3,17,40-45."""
    list_layers: bool = False
    """Show the network's layers instead of dreaming."""
    steps: cli.Positive = 15
    """Steps of gradient ascent in each octave."""
    step_size: Annotated[float, cli.Between(1e-5, 1.0)] = 0.015
    """By how much a step changes the pixels, root mean square; they are in [-1, 1]."""
    octaves: cli.Positive = 5
    """Sizes at which to dream, from small to full."""
    octave_scale: Annotated[float, cli.Between(1.05, 4.0)] = 1.4
    """How much larger each octave is than the one before."""
    max_size: cli.Count = 1024
    """Longer side at which to dream; what was dreamt is then laid over the full-size picture. 0 for no limit."""
    smoothing: Annotated[float, cli.Between(0.0, 2.0)] = 0.7
    """How much the gradient's coarse structures are favoured: it is divided by its frequency to this power."""
    seed: Annotated[int, cli.Between(0, 2**31 - 1)] = 0
    """Where the random shifts start; the same seed gives the same picture."""
    resume: Annotated[cli.Named, cli.OfOneCommand] = ""
    """Go on with a dream that was interrupted: its folder, or "latest"; finished frames are skipped, a single picture
    begins anew."""
    output_dir: Annotated[str, cli.MayChange] = "outputs"
    """Dreams land in a folder of the script's name in here."""
    name: str = ""
    """The dream's name; empty for a time stamp."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Arithmetic of the network; auto takes mixed_bfloat16 where the hardware multiplies it."""

    # What common/ asks of every config: one picture at a time on one device; there is no trained run to be sampled.
    batch_size, strategy, jit, uses_trained_run, reads_data = 1, "one_device", "off", False, True


def activations_of(features, images) -> list:
    """Return what each of the chosen layers makes of images: float32 (batch, height, width, channels)."""
    return [tf.cast(it, tf.float32) for it in keras.tree.flatten(features(images, training=False))]


def objective(activations: list, weights: list[float], channels: list[int], guides: list):
    """What gradient ascent drives up, a scalar, from activations (1, height, width, channels) of each layer.

    The mean square of the activations, as in the source, but of the positive ones: where a network has no rectifiers,
    what it does not see should not be driven up, too. Summed over layers as logarithms: so weights mean the same for
    layers of any scale. For chosen channels their mean. With a guide, features (N, channels) of each layer: how
    well each place agrees with the feature of the guide that suits it best, by their dot product.
    """
    terms = []
    for activation, guide in zip(activations, guides, strict=True):
        if channels:
            activation = tf.gather(activation, channels, axis=-1)
        if guide is not None:
            terms.append(agreement(activation[0], guide))
        elif channels:
            terms.append(tf.reduce_mean(activation))
        else:
            terms.append(tf.math.log(tf.reduce_mean(tf.nn.relu(activation) ** 2) + 1e-12))
    return tf.add_n([weight * term for weight, term in zip(weights, terms, strict=True)])


def agreement(activation, guide):
    """Return the mean over places, (height, width, channels), of the greatest dot product with a row of the guide."""

    def suits_best(row):
        return tf.argmax(row @ tf.transpose(guide), axis=-1)

    # Row by row: all places times all features of the guide would take gigabytes in the first layers.
    best = tf.map_fn(suits_best, tf.stop_gradient(activation), tf.int64)
    return tf.reduce_mean(tf.reduce_sum(activation * tf.gather(guide, best), axis=-1))


def favour_coarse(gradient, smoothing: float):
    """Divide a gradient (height, width, 3) by its spatial frequency to the power `smoothing`.

    What ascent in Fourier space, with frequencies scaled alike, would follow (Olah, Mordvintsev and Schubert, "Feature
    Visualization", 2017, "Preconditioning and Parameterization"). Without it the finest structures win. What is coarser
    than the neighbourhood fades out: it is for smaller octaves, and would turn the whole picture dark or bright.
    """
    height, width = tf.shape(gradient)[0], tf.shape(gradient)[1]
    rows = tf.minimum(tf.range(height), height - tf.range(height)) / height  # cycles per pixel
    columns = tf.range(width // 2 + 1) / width
    frequency = tf.cast(tf.sqrt(rows[:, None] ** 2 + columns[None] ** 2), tf.float32)
    high_pass = frequency**2 / (frequency**2 + NEIGHBOURHOOD**-2)  # 0 for the mean
    scale = high_pass * tf.maximum(frequency, 1e-6) ** -smoothing
    spectrum = tf.signal.rfft2d(tf.transpose(gradient, (2, 0, 1)))
    filtered = tf.signal.irfft2d(spectrum * tf.cast(scale, spectrum.dtype), (height, width))
    return tf.transpose(filtered, (1, 2, 0))


def calm_colors(gradient):
    """Scale how a gradient (height, width, 3) differs between red, green and blue: pure colours would shout."""
    grey = tf.reduce_mean(gradient, axis=-1, keepdims=True)
    return grey + COLOR * (gradient - grey)


def even_out(gradient):
    """Divide a gradient (height, width, 3) by its root mean square in the neighbourhood: so the sky dreams, too.

    Returns about 1, root mean square, everywhere; 0 where there is no gradient.
    """
    height, width = tf.shape(gradient)[0], tf.shape(gradient)[1]
    cells = tf.maximum(tf.stack([height, width]) // NEIGHBOURHOOD, 1)
    energy = tf.reduce_mean(gradient**2, axis=-1, keepdims=True)[None]
    smooth = tf.image.resize(tf.image.resize(energy, cells, "area"), (height, width), "bilinear")[0]
    return tf.math.divide_no_nan(gradient, tf.sqrt(smooth + 1e-3 * tf.reduce_mean(energy)))


def make_gradient_ascent_step(features, prepare: Callable, weights: dict, channels: list, guides: list, config: Config):
    """Return the step, which changes a picture once, in place, and returns the mean activation of each layer.

    Its arguments: the picture, float32 (height, width, 3) in [-1, 1]; by how much the tiles are shifted.
    Raises UserError if there is no gradient from the layers to the picture.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3))], autograph=False)
    def ascent_direction(tile):
        with tf.GradientTape(watch_accessed_variables=False) as tape:  # of the pixels alone
            tape.watch(tile)
            activations = activations_of(features, prepare(tile[None]))
            value = objective(activations, list(weights.values()), channels, guides)
        gradient = tape.gradient(value, tile)
        if gradient is None:
            raise cli.UserError(f"--layers {', '.join(weights)}: no gradient comes through to the picture")
        direction = even_out(favour_coarse(calm_colors(gradient), config.smoothing))
        return direction, [tf.reduce_mean(it) for it in activations]

    ascent_direction.get_concrete_function()  # so that layers without gradient are refused now, not in the first step

    def gradient_ascent_step(image, shift):
        ascent = np.zeros_like(image)
        means = []
        for tile in tiles.cover(*image.shape[:2], shift):
            try:
                direction, activations = ascent_direction(tile.cut(image))
            except tf.errors.InvalidArgumentError:  # where branches are joined
                size = f"{len(tile.columns)}x{len(tile.rows)}"
                advice = "it needs other sizes, by --max_size, or earlier layers"
                raise cli.UserError(f"this network's layers do not fit together at {size} pixels; {advice}") from None
            tile.add(direction.numpy(), ascent)
            means.append(activations)
        ascent *= config.step_size
        image += ascent
        np.clip(image, -1.0, 1.0, out=image)
        return dict(zip(weights, np.mean(means, axis=0).tolist(), strict=True))

    return gradient_ascent_step


def octave_sizes(height: int, width: int, config: Config, fits: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """Return the octaves' heights and widths, from small to full, without those too small for the network.

    Raises UserError if even the full size is too small.
    """
    scales = [config.octave_scale**-number for number in reversed(range(config.octaves))]
    sizes = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales]
    kept = [size for size in sizes if fits(*size)]
    if not kept:
        least = next((side for side in range(2, 1025) if fits(side, side)), 1025)
        shrunk = f" (--max_size {config.max_size})" if config.max_size == max(height, width) else ""
        raise cli.UserError(f"{width}x{height} pixels{shrunk} are too few for these layers, which need {least}x{least}")
    if skipped := len(sizes) - len(kept):
        print(f"left out the {skipped} smallest of {len(sizes)} octaves: too small for the network", flush=True)
    return kept


def dream(image: np.ndarray, gradient_ascent_step: Callable, sizes: list, steps: int, seed: list[int]):
    """Yield the picture, float32 (height, width, 3) in [-1, 1], after each step, from the smallest octave to the full.

    An octave starts from the picture at its size and what was dreamt at the size before: no detail of the photograph
    is lost on the way. seed: of the shifts, which keep the network's own grid from showing.
    """
    detail = None
    for octave, (height, width) in enumerate(sizes):
        base = image  # not a copy: a large photograph takes 12 bytes a pixel
        if (height, width) != image.shape[:2]:
            base = np.clip(photographs.resize(image, height, width), -1.0, 1.0)  # the filter overshoots
        dreamt = base.copy()
        if detail is not None:
            dreamt += photographs.resize(detail, height, width)
        for step in cli.progress(range(steps), f"octave {octave + 1} of {len(sizes)}, {width}x{height}"):
            shift = np.random.default_rng([*seed, octave, step]).integers(0, tiles.SHIFT + 1, 2)
            activations = gradient_ascent_step(dreamt, shift)
            yield dreamt
        if octave + 1 < len(sizes):
            detail = dreamt - base
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in activations.items())
        print(f"octave {octave + 1} of {len(sizes)}, {width}x{height}: mean activation {means}", flush=True)
    if np.array_equal(dreamt, base):  # a small octave alone may show nothing that these layers know
        raise cli.UserError("these layers have no gradient on this picture: they are 0 everywhere, or constant")


def dreamt_to_the_end(*arguments) -> np.ndarray:
    """Return the last picture of `dream`."""
    return collections.deque(dream(*arguments), maxlen=1).pop()  # which holds no others


def settings_as_text(config: Config) -> dict:
    """Return the settings that make a dream what it is, by name, to be written into its PNG."""
    return dataclasses.asdict(dataclasses.replace(config, resume="", output_dir="", name=""))


def zoom(photograph, image, gradient_ascent_step: Callable, sizes: list, config: Config, folder: Path) -> None:
    """Write the frames of a zoom into the dream, each dreamt on from the middle of the one before, and their GIF.

    Each is a function of the written frame before it, so that a zoom goes on where it was interrupted. Colours would
    drift to those the network likes best: each frame is given the mean and the covariance of the first one's.
    """
    height, width, _ = image.shape
    margin = 0.5 - 0.5 / config.zoom_factor
    middle = (width * margin, height * margin, width * (1 - margin), height * (1 - margin))
    paths = [folder / "zoom" / f"frame_{number:05d}.png" for number in range(config.zoom)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        if number == 0:
            start, octaves, steps = image, sizes, config.steps
        else:
            first, before = (
                pictures.to_signed_array(photographs.read(it).pixels) for it in (paths[0], paths[number - 1])
            )
            start = np.clip(photographs.resize(before, height, width, middle), -1.0, 1.0)
            octaves, steps = sizes[-ZOOM_OCTAVES:], max(1, round(config.steps * ZOOM_STEPS))
        print(f"frame {number + 1} of {config.zoom}", flush=True)
        dreamt = dreamt_to_the_end(start, gradient_ascent_step, octaves, steps, [config.seed, number])
        if number:
            dreamt = pictures.with_colors_of(dreamt, first)
        with files.told_in_one_line(path):
            path.parent.mkdir(exist_ok=True)
        colors = dataclasses.replace(photograph, alpha=None)  # nothing but its profile
        photographs.save_png(path, pictures.from_signed(dreamt), colors, settings_as_text(config))
    photographs.save_gif_of_files(folder / "zoom.gif", paths, height, width)
    print(f"done: look at {folder / 'zoom.gif'}")


def dream_picture(photograph, image, gradient_ascent_step: Callable, sizes: list, config: Config, folder: Path) -> None:
    """Write dream.png at the photograph's full size, before_after.png, and ascent.gif."""
    frames = []
    every = -(-len(sizes) * config.steps // FRAMES)
    for number, dreamt in enumerate(dream(image, gradient_ascent_step, sizes, config.steps, [config.seed])):
        if number % every == 0:
            frames.append(photographs.frame(dreamt, *image.shape[:2]))
    frames.append(photographs.frame(dreamt, *image.shape[:2]))
    dreamt = photographs.lay_over(photograph, image, dreamt)
    photographs.save_before_after(folder / "before_after.png", photograph, dreamt)
    pictures.save_gif(folder / "ascent.gif", frames, rest=2000)
    photographs.save_png(folder / "dream.png", dreamt, photograph, settings_as_text(config))
    print(f"done: look at {folder / 'before_after.png'}")


def dream_folder(paths: list[Path], gradient_ascent_step: Callable, fits: Callable, config: Config, folder: Path):
    """Write the dream of each picture as frames/<its name>.png; what cannot be read is named and left out."""
    before, written = None, []
    named_alike = collections.Counter(path.stem for path in paths)
    with files.told_in_one_line(folder):
        (folder / "frames").mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        target = folder / "frames" / f"{path.name if named_alike[path.stem] > 1 else path.stem}.png"
        if not target.exists():
            print(f"picture {number + 1} of {len(paths)}: {path.name}", flush=True)
            try:
                photograph = photographs.read(path)
                image = photographs.working_copy(photograph, config.max_size)
                sizes = octave_sizes(*image.shape[:2], config, fits)
                start = image
                if before is not None and config.blend:
                    before = np.clip(photographs.resize(before, *image.shape[:2]), -1.0, 1.0)
                    start = (1.0 - config.blend) * image + config.blend * before
                dreamt = dreamt_to_the_end(start, gradient_ascent_step, sizes, config.steps, [config.seed])
            except cli.UserError as error:
                print(f"left out: {error}", flush=True)
                continue
            dreamt = photographs.lay_over(photograph, image, dreamt)
            photographs.save_png(target, dreamt, photograph, settings_as_text(config))
        if config.blend:
            before = pictures.to_signed_array(photographs.read(target).pixels)
        written.append(target)
    if not written:
        raise cli.UserError(f"--input_folder {config.input_folder}: none of its pictures can be dreamt on")
    photographs.save_gif_of_files(folder / "dreams.gif", written, *photographs.read(written[0]).pixels.shape[:2])
    print(f"done: look at {folder / 'frames'}")


def guide_features(guide: photographs.Photograph | None, features, prepare: Callable, channels: list, fits) -> list:
    """Return the features (N, channels) of the guide in each layer, at most 1,000 of them; without it None for each.

    channels: those that are meant; empty for all. fits: tells whether the network can take a height and width; raises
    UserError if not those of the guide.
    """
    if not guide:
        return [None] * len(features.outputs)
    image = photographs.working_copy(guide, GUIDE_SIDE)
    if not fits(*image.shape[:2]):
        raise cli.UserError(f"--guide {guide.name}: is too small for these layers")
    try:
        found = activations_of(features, prepare(tf.constant(image[None])))
    except tf.errors.InvalidArgumentError:  # where branches are joined
        size = f"{image.shape[1]}x{image.shape[0]} pixels"
        raise cli.UserError(
            f"--guide {guide.name}: the layers do not fit together at {size}; another shape may"
        ) from None
    if channels:
        found = [tf.gather(it, channels, axis=-1) for it in found]
    found = [it.numpy().reshape(-1, it.shape[-1]) for it in found]
    random = np.random.default_rng(0)
    return [tf.constant(random.permutation(it)[:GUIDE_FEATURES]) for it in found]


def run(config: Config) -> None:
    """Dream as the config asks."""
    if config.input_folder and (config.image_path or config.zoom):
        raise cli.UserError("--input_folder: goes with neither --image_path nor --zoom")
    if config.blend and not config.input_folder:
        raise cli.UserError("--blend: lets the dream before show through, of --input_folder; a zoom always does")
    if config.zoom_factor != Config.zoom_factor and not config.zoom:
        raise cli.UserError("--zoom_factor: says how much each frame of --zoom enlarges; give both")
    if not -math.inf < config.input_range[0] < config.input_range[1] < math.inf:
        raise cli.UserError(
            f"--input_range {config.input_range[0]} {config.input_range[1]}: give the lower value first"
        )
    device = devices.setup(config)
    if config.input_folder:
        paths = photographs.find(Path(config.input_folder))
        data = {"name": config.input_folder, "pictures": len(paths), "digest": ""}  # it may grow before it is resumed
    else:
        photograph = photographs.read(Path(config.image_path)) if config.image_path else photographs.bundled()
        data = {"name": photograph.name, "pictures": 1, "digest": photograph.digest}
    guide = photographs.read(Path(config.guide)) if config.guide else None
    network, weights = network_and_weights(config)
    # What "auto" means may be another network tomorrow: a dream is resumed with that which it was begun with.
    chosen = ",".join(f"{name}={weight!r}".removesuffix(".0") for name, weight in weights.items())
    config = dataclasses.replace(config, model=network.source, layers=config.layers or chosen)
    data |= {"network_digest": network.digest, "guide_digest": guide.digest if guide else ""}
    channels = networks.chosen_channels(config.channels, network.layer_shapes[next(iter(weights))][-1], list(weights))
    features = networks.features(network.model, list(weights))
    fits = networks.size_test(features)
    guides = guide_features(guide, features, network.prepare, channels, fits)
    gradient_ascent_step = make_gradient_ascent_step(features, network.prepare, weights, channels, guides, config)
    print(f"network: {network.name}; layers: {chosen}")
    if not config.input_folder:  # now, so that a picture that is refused leaves no folder behind
        image = photographs.working_copy(photograph, config.max_size)
        sizes = octave_sizes(*image.shape[:2], config, fits)
    with runs.folder(config, data | {"channels": 3, "class_names": []}, device) as folder:
        if config.input_folder:
            dream_folder(paths, gradient_ascent_step, fits, config, folder)
        elif config.zoom:
            zoom(photograph, image, gradient_ascent_step, sizes, config, folder)
        else:
            dream_picture(photograph, image, gradient_ascent_step, sizes, config, folder)


def network_and_weights(config: Config) -> tuple[networks.Network, dict[str, float]]:
    """Return the network that `config` asks for, and the layers of it, with their weights."""
    network = networks.load(config.model, config.input_range)
    return network, networks.chosen_layers(config.layers or DEFAULT_LAYERS.get(network.source, ""), network)


def show_layers(config: Config) -> None:
    """Print a line for each layer of features: its name and how many channels it has."""
    network, chosen = network_and_weights(config)
    print(f"{network.name}: layer, channels (* what it dreams of)")
    for name, shape in network.layer_shapes.items():
        print(f"{'*' if name in chosen else ' '} {name:30} {shape[-1]:5}")


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = stored.configure(Config, argv, __doc__)
    if config.list_layers:
        show_layers(config)
    else:
        run(config)


if __name__ == "__main__":
    main()
