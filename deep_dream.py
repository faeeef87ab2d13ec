"""DeepDream: a network trained to recognise things shows what it sees in a photograph.

A layer's activations say where in the picture, and how strongly, it detects the patterns that it has learned: edges in
early layers, animals in late ones. Gradient ascent changes the picture, not the network, so that the activations of
chosen layers increase: whatever the network faintly detects becomes visible. It starts on a small copy of the picture
and continues at larger sizes, the octaves: large shapes form first, small ones within them.

Source: Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", Google Research Blog, 2015, and
its notebook, github.com/google/deepdream. docs/deep_dream.md lists what differs from them, and why.

    python deep_dream.py                                dream on a bundled photograph: about a minute
    python deep_dream.py --image_path x.jpg             dream on your own
    python deep_dream.py --image_path x.jpg --zoom 60   fall into the dream: a GIF
    python deep_dream.py --list_layers                  the layers to choose from
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import numpy as np
import tensorflow as tf

from blocks import tiles
from blocks.color_transfer import match_colors
from blocks.feature_extraction import FeatureExtractor, layer_shapes, mismatch_as_user_error
from blocks.guides import agreement, guide_features
from blocks.local_mean import local_mean
from common import cli, devices, flags, layer_flags, photographs, pictures, run_folder, saved_runs, trained_networks
from common.errors import UserError

DEFAULT_LAYERS = {  # by network; for any other network, the last layer with feature maps
    "bundled": "block5=2,classes=1",
    "InceptionV3": "mixed3=1,mixed5=1",
    "VGG16": "block4_conv3=1,block5_conv2=1",
    "VGG19": "block4_conv4=1,block5_conv2=1",
    "ResNet50": "conv4_block3_out",
    "MobileNetV2": "block_10_expand_relu=1,block_13_expand_relu=1",
    "Xception": "block8_sepconv2_act",
}
NEIGHBORHOOD = 64  # pixels: the gradient is normalised over this size; coarser structures are left to smaller octaves
COLOR_STRENGTH = 0.6  # factor for the gradient's deviation from grey
ZOOM_STEPS = 0.25  # of --steps, in every frame of a zoom but the first: it continues the dream of the frame before
ZOOM_OCTAVES = 3  # at most, the largest ones, in the same frames
ASCENT_FRAMES = 32  # of ascent.gif, at most, besides the last


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.CommandConfig):
    """Settings of deep_dream.py; where ours differ, the help gives those of the source's notebook."""

    image_path: Annotated[flags.Named, flags.NamesData] = ""
    """The picture to dream on; empty for scikit-learn's photograph of a temple."""
    input_folder: Annotated[flags.Named, flags.Excludes("image_path", "zoom")] = ""
    """Dream on every picture in this folder, such as the frames of a video, sorted by name."""
    blend: Annotated[float, flags.Between(0.0, 0.95), flags.Needs("input_folder")] = 0.0
    """How much of the previous picture's dream to mix into the next picture of --input_folder."""
    zoom: Annotated[flags.Count, flags.AtMost(100_000)] = 0
    """Frames of a zoom into the dream: each continues the enlarged centre of the one before; 0 for no zoom."""
    zoom_factor: Annotated[float, flags.Between(1.001, 2.0), flags.Needs("zoom")] = 1.04
    """Enlargement from one frame of --zoom to the next; the notebook's is about 1.05."""
    guide: Annotated[flags.Named, flags.NamesData] = ""
    """Steer the dream towards the features of this picture."""
    model: Annotated[str, flags.NamesData] = "auto"
    """A network fetched by get_ckpt.py, "bundled", or a Keras file; auto: InceptionV3 if fetched, else bundled."""
    input_range: tuple[float, float] = (-1.0, 1.0)
    """Lowest and highest pixel value that the network of a Keras file was trained on."""
    layers: str = ""
    """Layers whose activations to increase, with weights: mixed3=1,mixed5=0.5; empty for the network's default."""
    channels: str = ""
    """Increase only these channels of a single layer: 3,17,40-45."""
    list_layers: bool = False
    """List the network's layers instead of dreaming."""
    steps: flags.Positive = 15
    """Steps of gradient ascent per octave; the notebook's 10."""
    step_size: Annotated[float, flags.Between(1e-5, 1.0)] = 0.015
    """Root mean square change of the pixels, in [-1, 1], per step; the notebook's mean absolute one is 0.012."""
    octaves: Annotated[flags.Positive, flags.AtMost(100)] = 5
    """Number of sizes at which to dream, the last being full size; the notebook's 4."""
    octave_scale: Annotated[float, flags.Between(1.05, 4.0)] = 1.4
    """Ratio of each octave's size to the one before."""
    max_size: flags.Count = 1024
    """Limit of the longer side, in pixels, while dreaming; the change is enlarged afterwards. 0 for none."""
    smoothing: Annotated[float, flags.Between(0.0, 2.0)] = 0.7
    """Favour coarse structures: divide the gradient by its spatial frequency to this power; the notebook's 0."""
    seed: Annotated[int, flags.Between(0, 2**31 - 1)] = 0
    """Seed of the random shifts: the same seed gives the same picture."""
    resume: Annotated[flags.Named, flags.PerCommand] = ""
    """Continue an interrupted dream: its folder, or "latest". Finished frames are kept; a single picture restarts."""

    # What common/ reads from every config: one picture at a time, on one device, and never a trained run.
    batch_size, strategy, jit, uses_trained_run, reads_data = 1, "one_device", "off", False, True


def objective(activations: list, weights: list[float], channels: list[int], guides: list):
    """Return what gradient ascent increases, a scalar: the sum over layers of weight * log(mean(relu(activations)^2)).

    The source increases the L2 norm of one layer's activations. With the logarithm, a weight means the same for layers
    of any scale. relu omits negative activations, which networks without rectifiers have where they detect nothing.
    activations: (1, height, width, channels) for each layer. channels: increase the mean of these instead; empty for
    all. guides: features (N, channels) for each layer: increase the agreement with them instead; empty for no guide.
    """
    terms = []
    for layer, activation in enumerate(activations):
        if channels:
            activation = tf.gather(activation, channels, axis=-1)
        if guides:
            terms.append(agreement(activation[0], guides[layer]))
        elif channels:
            terms.append(tf.reduce_mean(activation))
        else:
            terms.append(tf.math.log(tf.reduce_mean(tf.nn.relu(activation) ** 2) + 1e-12))
    return tf.add_n([weight * term for weight, term in zip(weights, terms, strict=True)])


def make_gradient_ascent_step(features: Callable, weights: dict, channels: list, guides: list, config: Config):
    """Return the step, which returns a changed picture and the objective before the change, both on the device.

    Its arguments: the picture, float32 (height, width, 3) in [-1, 1]; the shift of the tiles in which it is processed.
    features: computes the activations of the layers in `weights`. Raises UserError if no gradient reaches the picture.
    """

    def ascent_direction(tile):
        with tf.GradientTape(watch_accessed_variables=False) as tape:  # the weights stay as they are
            tape.watch(tile)
            activations = features(tile[None])
            value = objective(activations, list(weights.values()), channels, guides)
        gradient = tape.gradient(value, tile)
        if gradient is None:
            raise UserError(f"--layers {', '.join(weights)}: no gradient reaches the picture from there")
        return normalize_locally(favor_coarse(mute_colors(gradient), config.smoothing)), value

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((2,), tf.int32)], autograph=False)
    def take_step(image, shift):
        ascent, mean_value = tiles.process(image, shift, ascent_direction)
        return tf.clip_by_value(image + config.step_size * ascent, -1.0, 1.0), mean_value

    with cli.phase("compiling the gradient"):
        take_step.get_concrete_function()  # raises the error above now, not in the first step

    def gradient_ascent_step(image, shift):
        with mismatch_as_user_error(*image.shape[:2], "another --max_size or --layers may fit"):
            return take_step(image, shift)

    return gradient_ascent_step


def mute_colors(gradient):
    """Reduce the differences between red, green and blue in a gradient (height, width, 3): pure colours would glare."""
    grey = tf.reduce_mean(gradient, axis=-1, keepdims=True)
    return grey + COLOR_STRENGTH * (gradient - grey)


def favor_coarse(gradient, smoothing: float):
    """Divide each Fourier component of a gradient (height, width, 3) by its spatial frequency to the power `smoothing`.

    Without this, the finest structures win; the source, too, asks for correlated neighbouring pixels. It is ascent in
    Fourier space with scaled frequencies (Olah, Mordvintsev and Schubert 2017, "Feature Visualization", section
    "Preconditioning and Parameterization"). Structures coarser than the neighbourhood are suppressed: smaller octaves
    draw them, and here they would darken or brighten the whole picture.
    """
    height, width = tf.shape(gradient)[0], tf.shape(gradient)[1]
    rows = tf.minimum(tf.range(height), height - tf.range(height)) / height  # cycles per pixel
    columns = tf.range(width // 2 + 1) / width
    frequency = tf.cast(tf.sqrt(rows[:, None] ** 2 + columns[None] ** 2), tf.float32)
    high_pass = frequency**2 / (frequency**2 + NEIGHBORHOOD**-2)  # 0 for the mean
    scale = high_pass * tf.maximum(frequency, 1e-6) ** -smoothing
    spectrum = tf.signal.rfft2d(tf.transpose(gradient, (2, 0, 1)))
    filtered = tf.signal.irfft2d(spectrum * tf.cast(scale, spectrum.dtype), (height, width))
    return tf.transpose(filtered, (1, 2, 0))


def normalize_locally(gradient):
    """Divide a gradient (height, width, 3) by its root mean square in the neighbourhood, so that a sky dreams, too.

    Returns a root mean square of about 1; less where the gradient is below 3 % of its average, 0 where there is none.
    """
    energy = tf.reduce_mean(gradient**2, axis=-1)
    floor = 1e-3 * tf.reduce_mean(energy)
    return tf.math.divide_no_nan(gradient, tf.sqrt(local_mean(energy, NEIGHBORHOOD) + floor)[..., None])


def octave_sizes(height: int, width: int, config: Config, accepts: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """Return the height and width of each octave, from small to full size, without those too small for the network.

    accepts: whether the network accepts a height and width. Raises UserError if even the full size is too small.
    """
    scales = [config.octave_scale**-number for number in reversed(range(config.octaves))]
    sizes = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales]
    kept = [size for size in sizes if accepts(*size)]
    if not kept:
        least = next((side for side in range(2, 1025) if accepts(side, side)), 1025)
        shrunk = f" (--max_size {config.max_size})" if config.max_size == max(height, width) else ""
        raise UserError(f"{width}x{height} pixels{shrunk} are too few for these layers, which need {least}x{least}")
    if skipped := len(sizes) - len(kept):
        print(f"skipping the {skipped} smallest of {len(sizes)} octaves: too small for the network", flush=True)
    return kept


def dream(image, gradient_ascent_step: Callable, sizes: list, steps: int, seed: list) -> Iterator[tf.Tensor]:
    """Yield the picture, float32 (height, width, 3) in [-1, 1], after each step, from the smallest octave to the last.

    Each octave starts from the resized picture plus the enlarged change so far: the photograph keeps its detail.
    The pictures stay on the device. seed: of the random shifts, which hide the grids of the network and the tiles.
    """
    change = None
    for octave, (height, width) in enumerate(sizes):
        base = image  # not a copy: a large photograph takes 12 bytes a pixel
        if (height, width) != image.shape[:2]:
            base = np.clip(photographs.resize(image, height, width), -1.0, 1.0)  # the filter overshoots
        # On the device from here on; tf.constant would keep another copy for a while.
        dreamt = tf.identity(base if change is None else base + photographs.resize(change, height, width))
        objectives = []
        title = f"octave {octave + 1} of {len(sizes)}, {width}x{height}"
        for step in cli.progress(range(steps), title):
            shift = np.random.default_rng([*seed, octave, step]).integers(0, tiles.SHIFT + 1, 2, np.int32)
            dreamt, value = gradient_ascent_step(dreamt, shift)
            objectives.append(value)
            yield dreamt
        change = dreamt.numpy()
        change -= base
        print(f"{title}: objective from {objectives[0]:.3f} to {objectives[-1]:.3f}", flush=True)
    if not change.any():  # only at the end: a small octave may lack what the layers detect
        raise UserError("these layers have no gradient on this picture: they are constant there")


def finished_dream(*arguments) -> np.ndarray:
    """Return the last picture of `dream`."""
    return collections.deque(dream(*arguments), maxlen=1).pop().numpy()  # holds one picture at a time


def dream_picture(photograph, image, gradient_ascent_step: Callable, sizes: list, config: Config, folder: Path) -> None:
    """Write dream.png at the photograph's full size, before_after.png, and ascent.gif."""
    frames = []
    every = -(-len(sizes) * config.steps // ASCENT_FRAMES)
    for number, dreamt in enumerate(dream(image, gradient_ascent_step, sizes, config.steps, [config.seed])):
        if number % every == 0:
            frames.append(photographs.gif_frame(dreamt.numpy(), *image.shape[:2]))
    dreamt = dreamt.numpy()
    frames.append(photographs.gif_frame(dreamt, *image.shape[:2]))
    dreamt = photographs.at_full_size(photograph, image, dreamt)
    photographs.save_before_after(folder / "before_after.png", photograph, dreamt)
    pictures.save_gif(folder / "ascent.gif", frames, rest=2000)
    photographs.save_png(folder / "dream.png", dreamt, photograph, png_text(config))
    print(f"done: see {folder / 'before_after.png'}")


def zoom(photograph, image, gradient_ascent_step: Callable, sizes: list, config: Config, folder: Path) -> None:
    """Write the frames of a zoom into the dream, each continuing the enlarged centre of the one before, and their GIF.

    A frame depends only on the files of earlier frames, so that an interrupted zoom resumes where it stopped. Colours
    would drift to those that the network prefers, so each frame gets the colour statistics of the first.
    """
    height, width, _ = image.shape
    margin = 0.5 - 0.5 / config.zoom_factor
    centre = (width * margin, height * margin, width * (1 - margin), height * (1 - margin))
    paths = [folder / "zoom" / f"frame_{number:05d}.png" for number in range(config.zoom)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        print(f"frame {number + 1} of {config.zoom}", flush=True)
        if number == 0:
            dreamt = finished_dream(image, gradient_ascent_step, sizes, config.steps, [config.seed, number])
        else:
            first, previous = (photographs.read_signed(it) for it in (paths[0], paths[number - 1]))
            start = np.clip(photographs.resize(previous, height, width, centre), -1.0, 1.0)
            steps = max(1, round(config.steps * ZOOM_STEPS))
            dreamt = finished_dream(start, gradient_ascent_step, sizes[-ZOOM_OCTAVES:], steps, [config.seed, number])
            dreamt = match_colors(dreamt, first)
        photographs.save_png(path, pictures.from_signed(dreamt), photograph.opaque, png_text(config))
    photographs.save_gif_of_files(folder / "zoom.gif", paths, height, width)
    print(f"done: see {folder / 'zoom.gif'}")


def dream_folder(paths: list[Path], gradient_ascent_step: Callable, accepts: Callable, config: Config, folder: Path):
    """Write the dream of each picture to frames/, and all of them as dreams.gif; skip and name unreadable pictures."""
    previous, written = None, []
    stem_counts = collections.Counter(path.stem for path in paths)
    for number, path in enumerate(paths):
        target = folder / "frames" / f"{path.name if stem_counts[path.stem] > 1 else path.stem}.png"
        if not target.exists():
            print(f"picture {number + 1} of {len(paths)}: {path.name}", flush=True)
            try:
                photograph = photographs.read(path)
                image = photographs.working_copy(photograph, config.max_size)
                sizes = octave_sizes(*image.shape[:2], config, accepts)
                start = image if previous is None else photographs.blend(image, previous, config.blend)
                dreamt = finished_dream(start, gradient_ascent_step, sizes, config.steps, [config.seed])
            except UserError as error:
                print(f"skipped: {error}", flush=True)
                continue
            dreamt = photographs.at_full_size(photograph, image, dreamt)
            photographs.save_png(target, dreamt, photograph, png_text(config))
        if config.blend:
            previous = photographs.read_signed(target)
        written.append(target)
    if not written:
        raise UserError(f"--input_folder {config.input_folder}: there is no picture in it to dream on")
    photographs.save_gif_of_files(folder / "dreams.gif", written, *photographs.read(written[0]).pixels.shape[:2])
    print(f"done: see {folder / 'frames'}")


def png_text(config: Config) -> dict:
    """Return the settings that determine a dream, by name, to be stored in its PNG."""
    return dataclasses.asdict(dataclasses.replace(config, resume="", output_dir="", name=""))


def run(config: Config) -> None:
    """Dream on a picture, zoom into it, or dream on every picture in a folder."""
    if config.input_folder:
        paths = photographs.find(Path(config.input_folder))
        data = {"name": config.input_folder, "pictures": len(paths), "digest": ""}  # it may grow before a resume
    else:
        photograph = photographs.read(Path(config.image_path)) if config.image_path else photographs.bundled()
        data = {"name": photograph.name, "pictures": 1, "digest": photograph.digest}
    guide = photographs.read(Path(config.guide)) if config.guide else None
    device = devices.setup(config)
    network, shapes, weights = load_network(config)
    data |= {"network_digest": network.digest, "guide_digest": guide.digest if guide else ""}
    # "auto" may mean another network tomorrow, so a dream records the network and layers that it starts with.
    config = dataclasses.replace(config, model=network.source, layers=config.layers or layer_flags.as_text(weights))
    channels = layer_flags.parse_channels(config.channels, list(weights), shapes[next(iter(weights))][-1])
    features = FeatureExtractor(network.model, list(weights), network.prepare)
    guides = guide_features(guide, features, channels) if guide else []
    gradient_ascent_step = make_gradient_ascent_step(features, weights, channels, guides, config)
    print(f"network: {network.name}; layers: {config.layers}")
    if not config.input_folder:  # here, so that a picture of an unsuitable size leaves no folder behind
        image = photographs.working_copy(photograph, config.max_size)
        sizes = octave_sizes(*image.shape[:2], config, features.accepts)
    with run_folder.open_folder(config, data | {"channels": 3, "class_names": []}, device) as folder:
        if config.input_folder:
            dream_folder(paths, gradient_ascent_step, features.accepts, config, folder)
        elif config.zoom:
            zoom(photograph, image, gradient_ascent_step, sizes, config, folder)
        else:
            dream_picture(photograph, image, gradient_ascent_step, sizes, config, folder)


def load_network(config: Config) -> tuple[trained_networks.TrainedNetwork, dict[str, tuple], dict[str, float]]:
    """Return the network, the shapes of its layers by name, and the weights of the chosen ones by name."""
    network = trained_networks.load(config.model, config.input_range)
    shapes = layer_shapes(network.model)
    chosen = config.layers or DEFAULT_LAYERS.get(network.source, "")
    return network, shapes, layer_flags.parse_layers(chosen, list(shapes), network.name)


def list_layers(config: Config) -> None:
    """Print a line for each layer with feature maps: its name and its number of channels."""
    network, shapes, weights = load_network(config)
    print(f"{network.name}: layer, channels (* chosen)")
    for name, shape in shapes.items():
        print(f"{'*' if name in weights else ' '} {name:30} {shape[-1]:5}")


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = saved_runs.configure(Config, argv, __doc__)
    if config.list_layers:
        list_layers(config)
    else:
        run(config)


if __name__ == "__main__":
    main()
