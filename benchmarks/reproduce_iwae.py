"""Burda et al. 2016 (arXiv:1509.00519), table 1, with vae.py: a VAE, and the same network trained as an IWAE.

The networks and bounds are vae.py's, with two dense layers of 200 units and 50 latents. Training has five stages: the
first maximises the ELBO, as a VAE does, the others the importance-weighted bound. This file adds what vae.py lacks: a
cheaper gradient of the importance-weighted bound, and a step size that rises and falls again in later stages.

Training takes five and a half hours on one core. If it is interrupted, the same command continues it. The run is in
outputs/vae/reproduce_iwae, where vae.py can use it; delete it to start over. Writes
outputs/benchmarks/reproduce_iwae.json.

    python -m benchmarks.reproduce_iwae
    python -m benchmarks.reproduce_iwae --data mnist:fit    evaluated on held-out training images, to choose settings
    python -m benchmarks.reproduce_iwae --epochs_scale 0.001 --evaluation_samples 100    a trial of a few minutes
"""

import bisect
import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

import vae
from benchmarks import results
from blocks import binarization
from blocks.averaging import update_average
from blocks.schedules import cosine_by_progress, linear_warmup
from common import checkpoints, cli, datasets, devices, files, latent_space, pictures, runs
from evaluation.importance_sampling import BURDA_TABLE_1

NAME = "reproduce_iwae"
SETTINGS = {"network": "dense", "prior": "normal", "latent_dim": 50, "batch_size": 256, "precision": "float32"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training.

    importance_samples: of the bound; with 1 it is the ELBO. backward_samples: the number of them drawn for the
    gradient; 0 uses all. learning_rate: as in vae.py. restarts: whether the schedule of the step size starts again with
    this stage instead of continuing. row: the table's row for the network after this stage, if any.
    """

    epochs: int
    importance_samples: int = 1
    backward_samples: int = 0
    learning_rate: float
    restarts: bool = True
    row: str = ""


STAGES = (
    Stage(epochs=1000, learning_rate=6e-3, row="VAE"),
    Stage(epochs=51, importance_samples=5, learning_rate=8e-4),
    Stage(epochs=61, importance_samples=50, backward_samples=5, learning_rate=8e-4, restarts=False),
    Stage(epochs=78, importance_samples=50, backward_samples=5, learning_rate=1.5e-3),
    Stage(epochs=128, importance_samples=50, backward_samples=5, learning_rate=2e-3, row="IWAE"),
)


def section(result: dict) -> list[str]:
    """Return the section of docs/results.md, as lines."""
    first = result["rows"][0]
    lines = results.opening(
        "Burda et al. 2016, table 1, with vae.py",
        f"benchmarks.{NAME}",
        f"Negative log-likelihood of {first['data']} in nats, with {first['binarization']} binarization and "
        f"{first['importance_samples']:,} importance samples. The training of the IWAE continues that of the VAE.",
    )
    columns = {
        "": "{row}",
        "epochs": "{epochs:,}",
        "-log p(x) at most": "{nats:.2f} ± {standard_error:.2f}",
        "Burda et al.": "{published_nats:.2f}",
        "active latents": "{active_units}",
        "those of Burda et al.": "{published_units}",
    }
    rows = []
    for row in result["rows"]:
        nats, units = BURDA_TABLE_1[row["row"]]
        rows.append(
            {**row, "nats": -row["importance_weighted_bound"], "published_nats": nats, "published_units": units}
        )
    return lines + results.table_of(rows, columns)


def draw_by_weight(noise, log_weights, uniform, count: int):
    """Draw `count` of each image's samples with their normalised importance weights as probabilities.

    The gradient of the importance-weighted bound is the sum of the gradients of the log weights, each times its
    normalised weight (Burda et al. 2016, equation 14). The mean gradient of the drawn samples' log weights is an
    unbiased estimate of it.
    noise: standard normal, (batch, samples, latent_dim). log_weights: of the samples, (batch, samples). uniform: random
    numbers in [0, 1), (batch, 1), which shift `count` equally spaced points of the distribution function; such draws
    vary less than independent ones. Returns the noise of the drawn samples, (batch, count, latent_dim), and their
    normalised weights, (batch, count).
    """
    normalized_weights = tf.nn.softmax(log_weights)
    positions = (tf.range(count, dtype=tf.float32) + uniform) / count
    drawn = tf.searchsorted(tf.cumsum(normalized_weights, axis=-1), positions, side="right")
    drawn = tf.minimum(drawn, noise.shape[1] - 1)  # rounding may leave the distribution function below 1 at its end
    return tf.gather(noise, drawn, batch_dims=1), tf.gather(normalized_weights, drawn, batch_dims=1)


def doubly_reparameterized_terms(networks: vae.Networks, images, one_hot, noise, factors, config: vae.Config):
    """Return the values of `vae.bound_terms`, with a gradient for the encoder that has less noise.

    The gradient passes through the latents alone, not also through the parameters of the density q(z|x), and each
    sample's is multiplied by `factors`, (batch, samples). For samples from `draw_by_weight`, with their normalised
    weights as factors, its mean has the same expectation as the plain gradient's; it vanishes where the encoder is
    exact. Tucker et al. 2019 (arXiv:1810.04152) multiply by squared weights, because they sum over all samples instead
    of drawing some with their weights as probabilities.
    """
    parameters, factors = networks.encoder([images, one_hot]), factors[:, :, None]
    mean, log_scale = tf.split(parameters[:, None], 2, axis=-1)
    latents = mean + tf.exp(log_scale) * noise
    latents = factors * latents + tf.stop_gradient((1.0 - factors) * latents)  # scales the gradient, not the values
    parameters = tf.stop_gradient(parameters)
    mean, log_scale = tf.split(parameters[:, None], 2, axis=-1)
    noise = (latents - mean) * tf.exp(-log_scale)  # the same values, but with the gradient of the latents
    return vae.bound_terms(networks._replace(encoder=lambda inputs: parameters), images, one_hot, noise, config)


def make_train_step(
    networks: vae.Networks,
    averaged_networks: vae.Networks,
    optimizer,
    config: vae.Config,
    backward_samples: int,
    first_step: int,
):
    """Return vae.py's training step for the importance-weighted bound, with a gradient of a few drawn samples only."""

    def train_step(pixels, labels, step, progress):
        uniform = devices.uniform(tuple(pixels.shape), config.seed, step, stream=1)
        images, one_hot = binarization.dynamic(pictures.to_unit(pixels), uniform), tf.zeros((pixels.shape[0], 0))
        noise = devices.normal((pixels.shape[0], config.importance_samples, config.latent_dim), config.seed, step)
        kl_weight = config.beta * linear_warmup(step, config.warmup_steps)
        reconstruction, divergence = vae.bound_terms(networks, images, one_hot, noise, config)
        log_weights = reconstruction - kl_weight * divergence

        uniform = devices.uniform((pixels.shape[0], 1), config.seed, step, stream=2)
        noise, normalized_weights = draw_by_weight(noise, log_weights, uniform, backward_samples)
        # With kl_weight = 1 these are the normalised weights. The gradient that they replace passes through the density
        # q(z|x), which enters log_weights times kl_weight.
        factors = 1.0 - kl_weight * (1.0 - normalized_weights)
        with tf.GradientTape() as tape:
            terms = doubly_reparameterized_terms(networks, images, one_hot, noise, factors, config)
            drawn_log_weights = terms[0] - kl_weight * terms[1]
            loss = tf.nn.compute_average_loss(-tf.reduce_mean(drawn_log_weights, axis=-1))
        rate = cosine_by_progress(config.learning_rate, step - first_step, vae.RATE_WARMUP, progress)
        optimizer.learning_rate.assign(rate)
        optimizer.apply(tape.gradient(loss, networks.trainable_variables), networks.trainable_variables)
        update_average(averaged_networks.variables, networks.variables, config.average_decay, step)
        return {
            "negative_bound": tf.nn.compute_average_loss(-vae.lower_bound(log_weights, "iwae")),
            "reconstruction_error": tf.nn.compute_average_loss(-tf.reduce_mean(reconstruction, axis=-1)),
            "kl_divergence": tf.nn.compute_average_loss(tf.reduce_mean(divergence, axis=-1)),
        }

    return train_step


def plan(steps_per_epoch: int, scale: float, **settings) -> Iterator[tuple[Stage, vae.Config, tuple[int, int]]]:
    """Yield each stage, its settings, and the first and the last step of the schedule of its step size.

    In the settings, epochs count from the start of training. scale: multiplies all epochs.
    """
    begins = [0, *itertools.accumulate(max(1, round(scale * stage.epochs)) for stage in STAGES)]
    restarts = [begin for stage, begin in zip(STAGES, begins, strict=False) if stage.restarts] + begins[-1:]
    for stage, begin, epochs in zip(STAGES, begins, begins[1:], strict=False):
        number = bisect.bisect(restarts, begin)
        schedule = restarts[number - 1] * steps_per_epoch, restarts[number] * steps_per_epoch
        config = vae.Config(
            **SETTINGS,
            **settings,
            bound="elbo" if stage.importance_samples == 1 else "iwae",
            importance_samples=stage.importance_samples,
            learning_rate=stage.learning_rate,
            epochs=epochs,
        )
        yield stage, config, schedule


def train(stage: Stage, config: vae.Config, schedule: tuple[int, int], data: datasets.Images) -> None:
    """Train a stage, from its start or from where it was interrupted; schedule: as from `plan`."""
    first_step, last_step = schedule
    device = devices.setup(config, side_by_side=2)  # as vae.py does
    with device.strategy.scope():
        state = vae.build(config, data.channels, classes=0)
    state_and_schedule = {**state, "config": config, "first_step": first_step}
    if stage.backward_samples:
        train_step = make_train_step(**state_and_schedule, backward_samples=stage.backward_samples)
    else:
        train_step = vae.make_train_step(**state_and_schedule, classes=0)
    train_step = device.compile(train_step)
    networks = state["averaged_networks"]
    generator = vae.build_generator(networks, config)
    with runs.Run(config, device, data, vae.DEFAULT_STEPS, **state) as run:
        for epoch in run.epochs():
            for pixels, labels, step in run.batches(epoch):
                progress = tf.cast(step - first_step, tf.float64) / (last_step - first_step)
                run.log(train_step(pixels, labels, step, progress))
        sheet = pictures.grid(vae.sample(generator, latent_space.draw(100, config.latent_dim, config.seed)), 10)
        run.finish(sheet, encoder=networks.encoder, prior=networks.prior, generator=generator)


def evaluate(stage: Stage, config: vae.Config, folder: Path, samples: int) -> dict:
    """Return the stage's row of the table, which `vae.py --evaluate` measures and the run keeps as a JSON file."""
    kept = folder / f"evaluation_{stage.row}.json"
    if not kept.exists():
        vae.generate(dataclasses.replace(config, run=str(folder), evaluate=True, evaluation_samples=samples))
        measured = json.loads((folder / "generated" / "evaluation.json").read_text())
        files.write_json(kept, {"row": stage.row, "epochs": config.epochs, **measured})
    return json.loads(kept.read_text())


def steps_done(folder: Path) -> int:
    """Return the step of a run's newest checkpoint; 0 without a run."""
    return max(map(checkpoints.step_of, (folder / "checkpoints").glob("step_*.npz")), default=0)


@cli.one_line_errors
def main(argv=None):
    """Train all stages and evaluate those with a row in the table; continue where an earlier call was interrupted."""
    parser = results.parser(__doc__)
    parser.add_argument("--epochs_scale", type=float, default=1.0, help="multiplies all epochs (%(default)s)")
    parser.add_argument("--evaluation_samples", type=int, default=5_000, help="importance samples (%(default)s)")
    parser.add_argument("--data", default="mnist", help="mnist; mnist:fit to choose settings; digits (%(default)s)")
    arguments = parser.parse_args(argv)
    is_trial = arguments.epochs_scale != 1.0 or arguments.data != "mnist"
    name = f"{NAME}_{arguments.data.replace(':', '_')}_{arguments.epochs_scale:g}" if is_trial else NAME
    folder, data = Path("outputs/vae") / name, datasets.load(arguments.data, vae.Config.image_size)
    steps_per_epoch, rows = data.steps(vae.Config(**SETTINGS)), []
    for stage, config, schedule in plan(steps_per_epoch, arguments.epochs_scale, data=arguments.data, name=name):
        if steps_done(folder) < config.epochs * steps_per_epoch:
            print(f"stage {STAGES.index(stage) + 1} of {len(STAGES)}: {stage.importance_samples} samples", flush=True)
            resumed = dataclasses.replace(config, resume=str(folder) if folder.exists() else "")
            try:
                train(stage, resumed, schedule, data)
            except runs.Interrupted:
                print("run the same command again to continue", flush=True)
                raise
        if stage.row:
            rows.append(evaluate(stage, config, folder, arguments.evaluation_samples))
    results.publish(name, {"seeds": 1, "rows": rows}, section)


if __name__ == "__main__":
    main()
