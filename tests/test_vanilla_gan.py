"""The method: losses, tricks and the log-likelihood against closed forms, and what the command line makes of them."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import vanilla_gan
from blocks.gradient_penalties import interpolated_penalty, r1_penalty
from common import datasets
from evaluation import parzen
from vanilla_gan import Config

SMALL = Config(width=16, latent_dim=8, batch_size=16, image_size=16, precision="float32")
TINY_FLAGS = [
    *("--data", "digits", "--image_size", "16", "--width", "16", "--latent_dim", "8", "--batch_size", "32"),
    *("--loss", "wasserstein_gp", "--sample_every", "20", "--checkpoint_every", "20", "--precision", "float32"),
]
LOSSES = ["minimax", "non_saturating", "least_squares", "hinge", "wasserstein_gp"]
REAL, FAKE = np.array([0.3, -2.0, 1.1], np.float32), np.array([1.5, -0.7, -3.0], np.float32)


def probability(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def make(**changes):
    """The networks, and the step, which is not compiled: that takes longer than a few steps of small networks."""
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    networks = vanilla_gan.build(config, 1)
    step = vanilla_gan.make_train_step(**networks, config=config)
    return networks, lambda number: step(PIXELS, tf.constant(number, tf.int64))


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1), np.uint8)


def test_parameter_counts_of_the_default_networks():
    networks = vanilla_gan.build(Config(), 1)
    width, latent_dim = Config.width, Config.latent_dim
    generator = latent_dim * width + width * width + 4 * width + width * 784 + 784
    discriminator = 784 * width + width + width * width + width + width + 1
    assert sum(np.prod(v.shape) for v in networks["generator"].trainable_variables) == generator
    assert sum(np.prod(v.shape) for v in networks["discriminator"].trainable_variables) == discriminator


@pytest.mark.parametrize("generator", ["mlp", "transposed_conv"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_networks_fit_each_other(generator, size, channels):
    config = dataclasses.replace(SMALL, generator=generator, image_size=size)
    images = vanilla_gan.build_generator(config, channels)(tf.ones((2, 8)))
    assert images.shape == (2, size, size, channels)
    assert float(tf.reduce_max(tf.abs(images))) <= 1
    assert vanilla_gan.build_discriminator(config, channels)(images).shape == (2,)


CROSS_ENTROPY = np.mean(-np.log(probability(REAL)) - np.log(1 - probability(FAKE)))


@pytest.mark.parametrize(
    ("loss", "generator", "discriminator"),
    [
        ("minimax", np.mean(np.log(1 - probability(FAKE))), CROSS_ENTROPY),
        ("non_saturating", np.mean(-np.log(probability(FAKE))), CROSS_ENTROPY),
        ("least_squares", np.mean((FAKE - 1) ** 2) / 2, np.mean((REAL - 1) ** 2 + FAKE**2) / 2),
        ("hinge", -FAKE.mean(), np.mean([0.7 + 2.5, 3.0 + 0.3, 0.0 + 0.0])),
        ("wasserstein_gp", -FAKE.mean(), FAKE.mean() - REAL.mean()),
    ],
)
def test_losses_against_closed_forms(loss, generator, discriminator):
    assert float(vanilla_gan.generator_loss(loss, FAKE)) == pytest.approx(generator, rel=1e-5)
    assert float(vanilla_gan.discriminator_loss(loss, REAL, FAKE)) == pytest.approx(discriminator, rel=1e-5)


def test_minimax_gradient_vanishes_where_the_non_saturating_one_does_not():
    logits = tf.constant([-12.0])  # the discriminator is sure
    gradients = {}
    for loss in ("minimax", "non_saturating"):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = vanilla_gan.generator_loss(loss, logits)
        gradients[loss] = float(tape.gradient(value, logits)[0])
    assert gradients["minimax"] == pytest.approx(-np.exp(-12), rel=1e-3)
    assert gradients["non_saturating"] == pytest.approx(-1, rel=1e-3)


def test_label_smoothing_against_the_losses_with_soft_targets():
    target = 0.9
    expected = np.mean(
        -target * np.log(probability(REAL))
        - (1 - target) * np.log(1 - probability(REAL))
        - np.log(1 - probability(FAKE))
    )
    assert float(vanilla_gan.discriminator_loss("non_saturating", REAL, FAKE, 0.1)) == pytest.approx(expected, rel=1e-5)
    expected = np.mean((REAL - 0.9) ** 2 + FAKE**2) / 2
    assert float(vanilla_gan.discriminator_loss("least_squares", REAL, FAKE, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_gradient_penalties_of_a_linear_discriminator():
    weights = tf.constant(np.random.default_rng(0).standard_normal((16, 1)), tf.float32)

    def linear(images):
        return tf.squeeze(tf.reshape(images, (-1, 16)) @ weights, -1)

    images = tf.zeros((5, 4, 4, 1))
    penalty = interpolated_penalty(linear, images, images + 1.0, tf.fill((5, 1, 1, 1), 0.5))
    assert float(penalty) == pytest.approx((np.linalg.norm(weights) - 1) ** 2, rel=1e-4)
    penalty = r1_penalty(linear, images)
    assert float(penalty) == pytest.approx(np.sum(weights.numpy() ** 2) / 2, rel=1e-4)


def test_wasserstein_penalty_is_taken_between_the_images():
    def square(images):  # its gradient is 2x
        return tf.reduce_sum(images**2, axis=(1, 2, 3))

    real, fake = tf.fill((2, 1, 1, 1), 3.0), tf.fill((2, 1, 1, 1), 1.0)
    mix = tf.constant([0.0, 0.5], shape=(2, 1, 1, 1))
    assert float(interpolated_penalty(square, real, fake, mix)) == pytest.approx(((2 - 1) ** 2 + (4 - 1) ** 2) / 2)


def test_penalty_at_real_images_comes_every_fourth_step_and_shrinks_the_gradient():
    def train(weight):
        networks, step = make(gradient_penalty=weight, learning_rate=5e-3)
        losses = [step(number) for number in range(13)]
        images = tf.constant(PIXELS / 127.5 - 1, tf.float32)
        return losses, float(r1_penalty(networks["discriminator"], images))

    losses, slope = train(10.0)
    assert [float(loss["gradient_penalty"]) > 0 for loss in losses[:5]] == [True, False, False, False, True]
    losses, free_slope = train(0.0)
    assert "gradient_penalty" not in losses[0]
    assert slope < 0.5 * free_slope


def test_wasserstein_loss_has_its_own_penalty():
    _, step = make(loss="wasserstein_gp", gradient_penalty=0.0)
    assert float(step(1)["gradient_penalty"]) > 0


def test_latents_have_the_chosen_distribution():
    normal = tf.random.stateless_normal((4000, 50), seed=(0, 0))
    assert vanilla_gan.shape_latents(normal, "normal") is normal
    sphere = vanilla_gan.shape_latents(normal, "sphere").numpy()
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=-1), 50**0.5, rtol=1e-5)
    uniform = vanilla_gan.shape_latents(normal, "uniform").numpy()
    assert stats.kstest(uniform[:, 0], stats.uniform(-1, 2).cdf).pvalue > 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_every_variable_moves(loss):
    networks, step = make(loss=loss, instance_noise=0.1)
    models = [networks[name] for name in ("generator", "discriminator", "averaged_generator")]
    before = [[v.numpy() for v in model.trainable_variables] for model in models]
    assert all(np.isfinite(float(value)) for value in step(3).values())
    for model, values in zip(models, before, strict=True):
        for variable, value in zip(model.trainable_variables, values, strict=True):
            if loss in ("hinge", "wasserstein_gp") and variable.shape == (1,):
                continue  # the discriminator's last bias: real and generated images cancel out
            assert not np.array_equal(variable.numpy(), value), variable.path


@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_overfits_one_batch(loss):
    networks, step = make(loss=loss, learning_rate=1e-2)
    networks["generator_optimizer"].learning_rate = 0.0
    losses = [float(step(0)["discriminator_loss"]) for _ in range(10)]
    assert losses[-1] < losses[0] - 0.3


def test_instance_noise_fades():
    def first_loss(number, **changes):
        return float(make(**changes)[1](number)["discriminator_loss"])

    noisy = {"instance_noise": 0.5, "instance_noise_steps": 100}
    assert first_loss(0, **noisy) != first_loss(0)
    assert first_loss(100, **noisy) == first_loss(100)


@pytest.mark.parametrize("loss", LOSSES)
def test_logits_and_losses_are_float32_in_mixed_precision(loss):
    keras.config.set_dtype_policy("mixed_bfloat16")
    networks, step = make(loss=loss, instance_noise=0.1, precision="mixed_bfloat16")
    convolutional = vanilla_gan.build_generator(dataclasses.replace(SMALL, generator="transposed_conv"), 1)
    for network in (networks["generator"], convolutional, networks["discriminator"]):
        assert network.output.dtype == "float32"
    assert {value.dtype for value in step(0).values()} == {tf.float32}


def test_parzen_windows_against_a_known_density():
    """One window is a normal distribution; several are their mixture with equal weights."""
    random = np.random.default_rng(0)
    images, samples = random.random((7, 5)), random.random((3, 5))
    found = parzen.log_densities(images, samples, [0.2, 0.5])
    assert found.shape == (2, 7)
    for row, sigma in zip(found, (0.2, 0.5), strict=True):
        parts = [stats.multivariate_normal(sample, sigma**2).pdf(images) for sample in samples]
        np.testing.assert_allclose(row, np.log(np.mean(parts, axis=0)), rtol=1e-9)


def test_sigma_is_chosen_on_other_images_than_it_is_used_for():
    random = np.random.default_rng(0)
    samples = np.full((50, 4, 4, 1), 128, np.uint8)
    near, far = (
        128 + np.rint(random.normal(0, deviation, (count, 4, 4, 1))) for deviation, count in ((20, 90), (30, 200))
    )
    near[60:] = 0  # only the first are used for the choice
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parzen, "CHOSEN_ON", 60)
        found = parzen.log_likelihood(samples, *(it.clip(0, 255).astype(np.uint8) for it in (far, near)))
    # All samples are the same, so the best sigma is the images' own deviation from it.
    assert found["sigma"] == pytest.approx(np.std(near[:60] / 255 - 128 / 255), rel=0.05)
    assert found["test_images"] == 200
    densities = stats.norm(128 / 255, found["sigma"]).logpdf(far.clip(0, 255) / 255).sum(axis=(1, 2, 3))
    assert found["log_likelihood"] == pytest.approx(np.mean(densities), rel=1e-6)


@pytest.mark.parametrize("is_published", [True, False])
def test_published_figures_stand_beside_those_of_mnist_only(is_published, tmp_path, capsys, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
    images = datasets.Images(pixels, np.zeros(20, np.int32), (), "noise")
    monkeypatch.setattr(datasets.Images, "has_published_figures", is_published)
    parzen.evaluate(tmp_path / "evaluation.json", pixels, images, images)
    printed, result = capsys.readouterr().out, json.loads((tmp_path / "evaluation.json").read_text())
    assert f"this run                  {result['log_likelihood']:.1f} ± " in printed
    assert "under Parzen windows around 20 samples" in printed
    assert ("225 ± 2" in printed) == is_published
    assert ("not comparable with the published figures" in printed) != is_published
    assert ("perhaps too low" in printed) == (result["sigma"] == 0.05)  # each image is a sample


@pytest.fixture(scope="module")
def _finished_run(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("finished")
    vanilla_gan.main([*TINY_FLAGS, "--epochs", "2", "--output_dir", str(outputs), "--name", "finished"])
    return outputs / "vanilla_gan" / "finished"


@pytest.fixture
def finished_run(_finished_run):
    """The folder of a finished run of two epochs; the test's own copy."""
    folder = Path("outputs/vanilla_gan/finished")
    shutil.copytree(_finished_run, folder)
    return folder


def test_run_writes_its_files_and_can_be_sampled_and_evaluated(finished_run, capsys, monkeypatch):
    for name in ("config.json", "metrics.csv", "curves.png", "samples.gif", "final.png", "generator.keras"):
        assert (finished_run / name).stat().st_size > 0
    monkeypatch.setattr(parzen, "SAMPLES", 300)
    vanilla_gan.main(["--sample", "5", "--interpolate", "--evaluate"])
    with np.load(finished_run / "generated/samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (5, 16, 16, 1)
    assert (finished_run / "generated/walk.gif").exists()
    result = json.loads((finished_run / "generated/evaluation.json").read_text())
    assert (result["test_images"], result["samples"]) == (297, 300)
    assert result["data"] == "scikit-learn's small digits (test)"
    assert "not comparable with the published figures" in capsys.readouterr().out


def test_the_likelihood_is_printed_even_if_no_file_can_be_written(finished_run, capsys, monkeypatch):
    monkeypatch.setattr(parzen, "SAMPLES", 300)
    (finished_run / "generated").touch()
    with pytest.raises(SystemExit) as leaving:
        vanilla_gan.main(["--sample", "5", "--evaluate"])
    assert leaving.value.code == 2
    captured = capsys.readouterr()
    assert "  this run " in captured.out
    assert f"cannot write evaluation.json, samples.npz, grid.png in {finished_run}/generated: file" in captured.err
    vanilla_gan.main(["--evaluate", "--to", "elsewhere"])
    assert [path.name for path in Path("elsewhere").iterdir()] == ["evaluation.json"]


def test_one_epoch_and_another_after_resuming_equal_two(finished_run):
    vanilla_gan.main([*TINY_FLAGS, "--epochs", "1", "--name", "resumed"])
    keras.utils.clear_session()
    vanilla_gan.main(["--resume", "outputs/vanilla_gan/resumed", "--epochs", "2"])
    straight, resumed = (
        np.load(f"outputs/vanilla_gan/{name}/checkpoints/step_00000092.npz") for name in ("finished", "resumed")
    )
    assert straight.files == resumed.files
    for name in straight.files:
        assert name == "seconds" or np.array_equal(straight[name], resumed[name]), name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--loss", "hinge", "--label_smoothing", "0.1"],
            "--label_smoothing 0.1: cannot be combined with --loss hinge; that loss has no labels to smooth",
        ),
        (["--label_smoothing", "0.1"], "--label_smoothing 0.1: cannot be combined with --loss wasserstein_gp; "),
        (["--instance_noise_steps", "5"], "--instance_noise_steps 5: needs --instance_noise"),
        (
            ["--generator", "transposed_conv", "--image_size", "30"],
            "--image_size 30: must be a multiple of 4 for --generator transposed_conv",
        ),
        (["--loss", "hing"], "--loss"),
        (["--label_smoothing", "0.7"], "must lie between 0 and 0.5"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(vanilla_gan, *TINY_FLAGS, *flags)
    assert not Path("outputs").exists()


def test_evaluation_needs_test_images_and_the_data_of_the_run(finished_run, tiny_folder, refusal_of):
    assert "has no test pictures" in refusal_of(vanilla_gan, "--evaluate", "--data", tiny_folder(count=20))
    assert "was trained on other data" in refusal_of(vanilla_gan, "--evaluate", "--data", "patches")
