"""vae.py against the convolutional VAE of TensorFlow's tutorial, at the tutorial's setting: test ELBO over minutes.

Both train on MNIST, binarized at a threshold, with two latents and a normal prior; ours is the default network
otherwise. They train in one process, in turns of a few seconds. The ELBO of the test images is measured with one sample
of the latents each, as the tutorial does. May be interrupted; started again, it continues.

Writes outputs/benchmarks/compare_vae.json and .png.

    python -m benchmarks.compare_vae
"""

import keras
import tensorflow as tf
from matplotlib.figure import Figure

import vae
from benchmarks import peers, quality, race, results
from blocks.flows import affine_coupling_flow
from common import cli, datasets, devices, latent_space, pictures
from evaluation import importance_sampling
from evaluation.frechet_distance import Evaluator

NAME = "compare_vae"
REPORTED = (1, 3)  # minutes, and the end
# The tutorial's setting, as far as our flags can express it.
SHARED = {"data": "mnist", "latent_dim": 2, "binarization": "threshold", "prior": "normal", "precision": "float32"}
OURS = vae.Config(**SHARED)
TUTORIAL = vae.Config(**SHARED, batch_size=peers.VAE_BATCH)


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    lines = results.opening(
        "vae.py against the convolutional VAE of TensorFlow's tutorial",
        "benchmarks.compare_vae",
        "Both train on MNIST with two latents and threshold binarization, in one process, in turns. The table has the "
        "mean ELBO of the 10,000 test images, in nats, and the Fréchet distance of 10,000 generated images to the grey "
        "test images.",
    )
    lines += ["", "![ELBO over minutes](compare_vae.png)"]
    rows, last = [], {}
    for name in ("ours", "tutorial"):
        points = [point for point in result["points"] if point["contender"] == name]
        last[name] = points[-1]
        for minutes in (*(it for it in REPORTED if it < result["minutes"]), result["minutes"]):
            rows.append(min(points, key=lambda point, at=60 * minutes: abs(point["seconds"] - at)))
    columns = {
        "": "{contender}",
        "seconds of training": "{seconds:,.0f}",
        "images seen": "{images:,}",
        "test ELBO": "{test_elbo:.2f}",
        "Fréchet distance": "{frechet_distance:.1f}",
    }
    gain = last["ours"]["test_elbo"] - last["tutorial"]["test_elbo"]
    text = f"After {result['minutes']:g} minutes each, ours is {abs(gain):.1f} nats {'above' if gain > 0 else 'below'} "
    text += "the tutorial's."
    return [*lines, *results.table_of(rows, columns), "", text]


def contender(
    name: str,
    data: datasets.Images,
    test: datasets.Images,
    evaluator: Evaluator,
    config: vae.Config,
    networks: vae.Networks,
    train_step,
    saved: dict,
    **limits,
) -> race.Contender:
    """Return a contender whose ELBO is measured on `test`.

    networks: those that are measured. The remaining arguments are those of `race.image_contender`.
    """
    generator = vae.build_generator(networks, config)

    def sample(count: int):
        return vae.sample(generator, latent_space.draw(count, config.latent_dim, seed=1))

    def terms(pixels, labels, noise):
        return vae.bound_terms(networks, pictures.to_unit(pixels), tf.zeros((pixels.shape[0], 0)), noise, config)

    estimate = importance_sampling.make_estimator(terms, config.latent_dim, samples=1)

    def test_elbo(images) -> dict[str, float]:
        reconstruction, divergence, _ = estimate(test.images, test.labels, "measuring")
        return {"test_elbo": float((reconstruction - divergence).mean())}

    return race.image_contender(
        name, NAME, data, config.batch_size, train_step, saved, sample, evaluator, test_elbo, **limits
    )


def ours(data: datasets.Images, test: datasets.Images, evaluator: Evaluator, **limits) -> race.Contender:
    """Return the contender of vae.py, whose averaged networks are measured; `limits` are fields of a Contender."""
    device = devices.setup(OURS, side_by_side=2)  # as the script does
    saved = vae.build(OURS, data.channels, classes=0)
    step = race.one_step(device, vae.make_train_step(**saved, config=OURS, classes=0))
    return contender("ours", data, test, evaluator, OURS, saved["averaged_networks"], step, saved, **limits)


def tutorial(data: datasets.Images, test: datasets.Images, evaluator: Evaluator, **limits) -> race.Contender:
    """Return the tutorial's contender; `limits` are fields of a Contender."""
    saved = peers.vae(TUTORIAL.latent_dim)
    images, one_hot = keras.Input((28, 28, 1)), keras.Input((0,))  # vae.py's encoder takes classes, too
    mean, log_variance = keras.ops.split(saved["encoder"](images), 2, axis=-1)
    encoder = keras.Model([images, one_hot], keras.ops.concatenate([mean, log_variance / 2.0], axis=-1))
    networks = vae.Networks(encoder, saved["decoder"], *affine_coupling_flow(TUTORIAL.latent_dim, 0, couplings=0))
    step = peers.make_vae_step(**saved)
    return contender("tutorial", data, test, evaluator, TUTORIAL, networks, step, saved, **limits)


def draw(points: list[dict]) -> None:
    """Draw the test ELBO over the minutes."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", ylabel="test ELBO, nats")
    race.plot(axes, points, "test_elbo")
    results.save_figure(NAME, figure)


@cli.one_line_errors
def main(argv=None):
    """Train both for the given number of minutes."""
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each (%(default)s)")
    seconds = 60 * parser.parse_args(argv).minutes
    evaluator = quality.evaluator(*quality.load("mnist", 28, "test"))
    data, test = (vae.load(OURS, split) for split in ("train", "test"))
    contenders = [build(data, test, evaluator, seconds_limit=seconds) for build in (ours, tutorial)]
    points = race.run(contenders)
    draw(points)
    results.publish(NAME, {"minutes": seconds / 60, "seeds": 1, "floor": evaluator.floor, "points": points}, section)


if __name__ == "__main__":
    main()
