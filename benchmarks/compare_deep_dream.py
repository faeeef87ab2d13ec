"""deep_dream.py against TensorFlow's tutorial: the time of a step, and how far both get in equal time.

Time: InceptionV3 with random weights, its layers mixed3 and mixed5, a picture of 500x375 pixels, float32. The step of
the tutorial (https://www.tensorflow.org/tutorials/generative/deepdream) is built here from its description. TensorFlow
reads the setting for oneDNN when it is imported, so each contender has a process of its own, and they take turns.

Activation: a network with trained weights, in one process. The tutorial's octaves, then deep_dream.py for as many
seconds of processor time; measured is the chosen layers' mean activation in the two pictures, as they would be written.

Writes outputs/benchmarks/compare_deep_dream.json, and the pictures as compare_deep_dream.png.

    python -m benchmarks.compare_deep_dream --model NETWORK.keras --layers fire5,fire8
"""

import argparse
import json
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import deep_dream
from benchmarks import quality, workers
from common import cli, devices, networks, photographs, pictures

HEIGHT, WIDTH = 375, 500
LAYERS = ("mixed3", "mixed5")
CONTENDERS = {  # name: which step, and whether with oneDNN; the tutorial's user has what TensorFlow chooses
    "ours": ("ours", "1"),
    "tutorial": ("tutorial", None),
    "tutorial with oneDNN": ("tutorial", "1"),
}


def photograph() -> np.ndarray:
    """Return the middle of scikit-learn's photograph: float32 (HEIGHT, WIDTH, 3) in [-1, 1]."""
    image = pictures.to_signed(photographs.bundled().pixels).numpy()
    return photographs.resize(image, HEIGHT, WIDTH, (35.0, 0.0, 605.0, 427.0))


def tutorial_gradient(model):
    """Return a function for the gradient of what the tutorial drives up: the sum of the layers' mean activations."""

    def gradient_of(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            activations = keras.tree.flatten(model(image[None]))
            loss = tf.add_n([tf.reduce_mean(activation) for activation in activations])
        return tape.gradient(loss, image)

    return gradient_of


def tutorial_update(image, gradient):
    """Return the image after a step of 0.01 along its gradient, which is divided by its standard deviation."""
    return tf.clip_by_value(image + 0.01 * gradient / (tf.math.reduce_std(gradient) + 1e-8), -1.0, 1.0)


def inception() -> keras.Model:
    """Return InceptionV3 with random weights, and statistics as after training."""
    keras.utils.set_random_seed(0)
    model = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(None, None, 3))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(0.0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


def prepared(contender: str) -> Callable:
    """Build a contender; return what takes its turns."""
    image, model = photograph(), inception()
    if contender == "ours":
        config = deep_dream.Config()
        devices.setup(config)  # precision, as the script has it
        step = deep_dream.make_gradient_ascent_step(
            networks.features(model, list(LAYERS)),
            lambda images: images,
            dict.fromkeys(LAYERS, 1.0),
            [],
            [None] * len(LAYERS),
            config,
        )
        return workers.timed(lambda: step(image, (3, 5)))

    gradient_of = tutorial_gradient(keras.Model(model.inputs, [model.get_layer(name).output for name in LAYERS]))
    step = tf.function(lambda image: tutorial_update(image, gradient_of(image)))
    state = [tf.constant(image)]

    def take() -> None:
        state[0] = step(state[0])
        state[0].numpy()  # wait for the step to end

    return workers.timed(take)


def time_steps(rounds: int, seconds: float) -> dict:
    """Let all contenders take steps, in turns; return seconds a step, of the clock and of the processor."""
    crew = {}
    for name, (_, onednn) in CONTENDERS.items():
        environment = {"TF_ENABLE_ONEDNN_OPTS": onednn or _default_onednn()}
        crew[name] = workers.Worker(name, ["-m", "benchmarks.compare_deep_dream"], environment)
    taken = {name: [] for name in crew}
    for _ in cli.progress(range(rounds), "taking turns"):
        for name, worker in crew.items():
            taken[name].append(worker.turn(seconds))
    for worker in crew.values():
        worker.end()
    result = {}
    for name, times in taken.items():
        ratios = np.array(times) / np.array(taken["tutorial"])
        result[name] = {
            "seconds": float(np.median(times, axis=0)[0]),
            "processor_seconds": float(np.median(times, axis=0)[1]),
            "ratio": float(np.median(ratios[:, 0])),
            "least_ratio": float(ratios[:, 0].min()),
            "greatest_ratio": float(ratios[:, 0].max()),
            "processor_ratio": float(np.median(ratios[:, 1])),
        }
    return result


def _default_onednn() -> str:
    """What TensorFlow chooses by itself: oneDNN where the processor has AVX-512 and certain extensions of it."""
    return "1" if devices.cpu_has("avx512_vnni") or devices.cpu_has("amx_tile") else "0"


def tutorial_dream(image: np.ndarray, model, steps: int) -> np.ndarray:
    """Return the tutorial's dream: octaves of 1.3^-2 to 1.3^2, tiles of up to 512 pixels, randomly rolled."""

    gradient_of = tutorial_gradient(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((2,), tf.int32)])
    def step(image, shift):
        rolled = tf.roll(image, shift, axis=(0, 1))
        # One tile, the first, is all that it computes below 1024 pixels: the roll brings each part in there by chance.
        part = gradient_of(rolled[:512, :512])
        missing = tf.shape(image) - tf.shape(part)
        gradient = tf.pad(part, tf.stack([tf.zeros_like(missing), missing], axis=-1))
        return tutorial_update(image, tf.roll(gradient, -shift, axis=(0, 1)))

    random, dreamt = np.random.default_rng(0), tf.constant(image)
    for octave in range(-2, 3):
        size = tf.cast(tf.constant(image.shape[:2], tf.float32) * 1.3**octave, tf.int32)
        dreamt = tf.image.resize(dreamt, size)
        for _ in cli.progress(range(steps), f"tutorial, octave {octave + 3} of 5"):
            dreamt = step(dreamt, random.integers(-512, 513, 2).astype(np.int32))
    return tf.image.resize(dreamt, image.shape[:2]).numpy()


def compare_activations(path: str, chosen: str, steps: int) -> dict:
    """Dream for equal times; return seconds, mean activations, and write the pictures side by side."""
    image = photograph()
    config = deep_dream.Config(model=path, layers=chosen)
    network = networks.load(config.model, config.input_range)
    weights = networks.chosen_layers(chosen, network)
    features = networks.features(network.model, list(weights))
    original = keras.Model(network.model.inputs, [network.model.get_layer(name).output for name in weights])

    def means(image) -> list[float]:
        written = pictures.to_signed(pictures.from_signed(image))
        return [float(tf.reduce_mean(it)) for it in deep_dream.activations_of(features, written[None])]

    start = time.process_time()
    tutorial = tutorial_dream(image, original, steps)
    seconds = {"tutorial": time.process_time() - start}

    step = deep_dream.make_gradient_ascent_step(features, network.prepare, weights, [], [None] * len(weights), config)
    sizes = deep_dream.octave_sizes(HEIGHT, WIDTH, config, networks.size_test(features))
    list(deep_dream.dream(image, step, sizes, 1, [0]))  # builds what is built once
    ours_steps, seconds["ours"] = 5, np.inf
    while abs(seconds["ours"] / seconds["tutorial"] - 1.0) > 0.03:  # a noisy machine may need several attempts
        start = time.process_time()
        *_, ours = deep_dream.dream(image, step, sizes, ours_steps, [0])
        seconds["ours"], taken = time.process_time() - start, ours_steps
        ours_steps = max(1, round(taken * seconds["tutorial"] / seconds["ours"]))
        if ours_steps == taken:
            break

    shown = [pictures.from_signed(it) for it in (image, tutorial, ours)]
    pictures.save_png(quality.FOLDER / "compare_deep_dream.png", np.concatenate(shown, axis=1))
    activations = {name: means(it) for name, it in (("photograph", image), ("tutorial", tutorial), ("ours", ours))}
    return {
        "network": network.name,
        "layers": list(weights),
        "seconds": seconds,
        "steps": {"tutorial": 5 * steps, "ours": len(sizes) * taken},
        "activations": activations,
        "ratio": sum(activations["ours"]) / sum(activations["tutorial"]),
    }


@cli.one_line_errors
def main(argv=None):
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each; 0 for none (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (%(default)s)")
    parser.add_argument("--model", default="box", help="whose activations are compared (%(default)s)")
    parser.add_argument("--layers", default="", help="of it; empty for those of deep_dream.py")
    parser.add_argument(
        "--octave_steps", type=int, default=100, help="the tutorial's, in each octave; 0 for none (%(default)s)"
    )
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.work:
        workers.work(lambda: prepared(CONTENDERS[arguments.work][0]))
        return
    path = quality.FOLDER / "compare_deep_dream.json"
    result = json.loads(path.read_text()) if path.exists() else {}  # each part may be measured by itself
    if arguments.rounds:
        result["step"] = time_steps(arguments.rounds, arguments.seconds)
    quality.FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.octave_steps:
        result["activation"] = compare_activations(arguments.model, arguments.layers, arguments.octave_steps)
    for part in ("step", "activation"):
        for name, value in result.get(part, {}).items():
            print(f"{name:20} {value}")
    quality.write_json("compare_deep_dream", result)


if __name__ == "__main__":
    main()
