"""deep_dream.py against TensorFlow's tutorial: the time of a step, and how far both get in equal time.

Time: InceptionV3 with random weights, its layers mixed3 and mixed5, a picture of 500x375 pixels, float32, oneDNN on for
both. Each contender has a process of its own, and they take turns.

Activation: a network with trained weights, in one process. The tutorial dreams in its octaves, whose last one is given
the photograph's size, like that of deep_dream.py, which then dreams for the same processor time. (The tutorial's own
octaves end at 1.69 times that size, and the picture is then reduced.) The figure is the mean activation of the chosen
layers on the two pictures as they would be written.

Writes outputs/benchmarks/compare_deep_dream.json, and the pictures as compare_deep_dream.png.

    python -m benchmarks.compare_deep_dream --model NETWORK.keras --layers fire5,fire8
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import deep_dream
from benchmarks import peers, results, workers
from blocks.feature_extraction import FeatureExtractor
from common import cli, devices, environment, photographs, pictures

NAME = "compare_deep_dream"
HEIGHT, WIDTH = 375, 500
LAYERS = ("mixed3", "mixed5")
EQUAL = 0.03  # relative difference of processor times that counts as none
CONTENDERS = ("ours", "tutorial")


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    step, activation = result.get("step"), result.get("activation")
    command = "benchmarks.compare_deep_dream"
    if activation:
        model = activation.get("model", activation["network"])
        command += f" --model {model} --layers {','.join(activation['layers'])}"
    lines = results.opening(
        "deep_dream.py against TensorFlow's tutorial",
        command,
        f"On a photograph of {WIDTH}x{HEIGHT} pixels, in float32, with oneDNN for both.",
    )
    return lines + (times_section(step) if step else []) + (activation_section(activation) if activation else [])


def times_section(step: dict) -> list[str]:
    """Return the lines on the time of a step."""
    lines = results.paragraph(
        f"A step with the layers {' and '.join(LAYERS)} of InceptionV3, with random weights; in turns, medians. The "
        "ratios are to the tutorial's step; in brackets, the least and the greatest of the turns."
    )
    columns = {
        "": "{name}",
        "ms": "{milliseconds:.0f}",
        "ratio": "{ratio:.2f} ({least_ratio:.2f} to {greatest_ratio:.2f})",
        "ms of processor time": "{processor_milliseconds:.0f}",
        "its ratio": "{processor_ratio:.2f}",
    }
    rows = []
    for name, it in step.items():
        milliseconds = {"milliseconds": 1000 * it["seconds"], "processor_milliseconds": 1000 * it["processor_seconds"]}
        rows.append({"name": name, **it, **milliseconds})
    return ["", *lines, *results.table_of(rows, columns)]


def activation_section(activation: dict) -> list[str]:
    """Return the lines on how far both get in equal time."""
    names, seconds = activation["layers"], activation["seconds"]
    lines = results.paragraph(
        f"With {activation['network']}, the mean activations of {' and '.join(names)} after equal processor time, both "
        f"on pictures that grow to the photograph's size. The sum of ours is {activation['ratio']:.2f} times the "
        "tutorial's."
    )
    rows = []
    for name, means in activation["activations"].items():
        taken = f"{seconds[name]:.0f}" if name in seconds else ""
        rows.append([name, taken, activation["steps"].get(name, ""), *(f"{mean:.4g}" for mean in means)])
    lines += results.table(("", "seconds", "steps", *names), rows)
    return ["", *lines, "", "![the photograph, the tutorial's dream, ours](compare_deep_dream.png)"]


def photograph() -> np.ndarray:
    """Return the middle of scikit-learn's photograph: float32 (HEIGHT, WIDTH, 3) in [-1, 1]."""
    image = pictures.to_signed(photographs.bundled().pixels).numpy()
    return photographs.resize(image, HEIGHT, WIDTH, (35.0, 0.0, 605.0, 427.0))


def inception() -> keras.Model:
    """Return InceptionV3 with random weights, and batch statistics like those after training."""
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
    config = deep_dream.Config(precision="float32")
    devices.setup(config)
    dreamt, model = [tf.constant(photograph())], inception()
    if contender == "ours":
        features, weights = FeatureExtractor(model, list(LAYERS)), dict.fromkeys(LAYERS, 1.0)
        ascent_step = deep_dream.make_gradient_ascent_step(features, weights, [], [], config)

        def step(image):
            return ascent_step(image, (3, 5))[0]
    else:
        outputs = [model.get_layer(name).output for name in LAYERS]
        gradient_at = peers.make_dream_gradient(keras.Model(model.inputs, outputs))
        step = tf.function(lambda image: peers.dream_update(image, gradient_at(image)))

    def take() -> None:
        dreamt[0] = step(dreamt[0])
        dreamt[0].numpy()  # wait for the step to end

    return workers.timed(take)


def time_steps(rounds: int, seconds: float) -> dict:
    """Let all contenders take steps in turns; return the seconds per step, of the clock and of the processor."""
    command = ["-m", "benchmarks.compare_deep_dream"]
    crew = {name: workers.Worker(name, command, {environment.ONEDNN: "1"}) for name in CONTENDERS}
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


def compare_activations(path: str, chosen: str, steps: int) -> dict:
    """Dream for equal times; return seconds and mean activations, and write the pictures side by side."""
    config = deep_dream.Config(model=path, layers=chosen, precision="float32")
    devices.setup(config)
    image = photograph()
    network, _, weights = deep_dream.load_network(config)
    features = FeatureExtractor(network.model, list(weights), network.prepare)
    original = keras.Model(network.model.inputs, [network.model.get_layer(name).output for name in weights])

    def means(image) -> list[float]:
        written = pictures.to_signed(pictures.from_signed(image))
        return [float(tf.reduce_mean(it)) for it in features(written[None])]

    start = time.process_time()
    tutorial = peers.dream(image, original, steps)
    tutorial_seconds = time.process_time() - start

    ascent_step = deep_dream.make_gradient_ascent_step(features, weights, [], [], config)
    sizes = deep_dream.octave_sizes(HEIGHT, WIDTH, config, features.accepts)
    deep_dream.finished_dream(image, ascent_step, sizes, 1, [0])  # builds what is built once
    ours, seconds, taken = dream_for(
        tutorial_seconds, lambda steps: deep_dream.finished_dream(image, ascent_step, sizes, steps, [0])
    )
    shown = [pictures.from_signed(it) for it in (image, tutorial, ours)]
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    pictures.save_png(results.FOLDER / f"{NAME}.png", np.concatenate(shown, axis=1))
    activations = {name: means(it) for name, it in (("photograph", image), ("tutorial", tutorial), ("ours", ours))}
    return {
        "network": network.name,
        "model": Path(path).name,
        "layers": list(weights),
        "seconds": {"tutorial": tutorial_seconds, "ours": seconds},
        "steps": {"tutorial": 5 * steps, "ours": len(sizes) * taken},
        "activations": activations,
        "ratio": sum(activations["ours"]) / sum(activations["tutorial"]),
    }


def dream_for(wanted: float, dream: Callable[[int], np.ndarray]) -> tuple[np.ndarray, float, int]:
    """Dream with the number of steps that takes `wanted` seconds of processor time; return dream, seconds and steps.

    dream: takes the number of steps in each octave.
    """
    steps = 5
    while True:  # a noisy machine may need several attempts
        start = time.process_time()
        dreamt = dream(steps)
        seconds = time.process_time() - start
        better = max(1, round(steps * wanted / seconds))
        if abs(seconds / wanted - 1.0) <= EQUAL or better == steps:
            return dreamt, seconds, steps
        steps = better


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each; 0 for none (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (%(default)s)")
    parser.add_argument("--model", default="bundled", help="whose activations are compared (%(default)s)")
    parser.add_argument("--layers", default="", help="of the model; empty for those of deep_dream.py")
    parser.add_argument(
        "--octave_steps", type=int, default=100, help="the tutorial's, in each octave; 0 for none (%(default)s)"
    )
    parser.add_argument("--work", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.work:
        workers.work(lambda: prepared(arguments.work))
        return
    path = results.FOLDER / f"{NAME}.json"
    result = json.loads(path.read_text()) if path.exists() else {}  # each part can be measured by itself
    if arguments.rounds:
        result["step"] = time_steps(arguments.rounds, arguments.seconds)
    if arguments.octave_steps:
        result["activation"] = compare_activations(arguments.model, arguments.layers, arguments.octave_steps)
    results.publish(NAME, result, section)


if __name__ == "__main__":
    main()
