"""vae.py: distributions and bounds against closed forms, the training step, and its command line."""

import dataclasses
import json
import shutil
import types
from pathlib import Path

import keras
import linear_model
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

import vae
from benchmarks import reproduce_iwae
from common import datasets, files
from evaluation import importance_sampling
from vae import Config

SMALL = Config(
    network="dense", prior="normal", latent_dim=6, batch_size=16, image_size=8, warmup_steps=0, precision="float32"
)
TINY_FLAGS = [
    *("--data", "digits", "--image_size", "8", "--network", "dense", "--latent_dim", "4", "--batch_size", "64"),
    *("--epochs", "1", "--sample_every", "50", "--checkpoint_every", "10", "--precision", "float32"),
]
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
LABELS = np.arange(16, dtype=np.int32) % 3
START = tf.constant(0.0, tf.float64)  # the progress
COUPLINGS = vae.COUPLINGS


@pytest.fixture(scope="module", autouse=True)
def short_flow():
    """A flow of one coupling: its gradient is much faster to trace than that of four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae, "COUPLINGS", 1)
        yield


def make(classes=0, **changes):
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    state = vae.build(config, 1, classes)
    return state, vae.make_train_step(**state, config=config, classes=classes)


def step_losses(step, number, pixels=PIXELS):
    return {name: float(value) for name, value in step(pixels, LABELS, tf.constant(number), START).items()}


def count(model):
    return sum(np.prod(variable.shape) for variable in model.trainable_variables)


# Networks


def test_parameter_counts_of_burdas_network():
    networks = vae.build_networks(Config(network="dense", latent_dim=50, prior="normal"), 1, 0)
    assert count(networks.encoder) == 785 * 200 + 201 * 200 + 201 * 100
    assert count(networks.decoder) == 51 * 200 + 201 * 200 + 201 * 784
    assert count(networks.prior) == 0


def test_parameter_counts_of_the_default_networks(monkeypatch):
    monkeypatch.setattr(vae, "COUPLINGS", COUPLINGS)
    networks = vae.build_networks(Config(), 1, 0)
    assert count(networks.encoder) == 832 + 9 * 32 * 48 + 48 + 2 * (9 * 48 * 48 + 48) + (2352 + 1) * 256 + 257 * 64
    decoder = 33 * 256 + 257 * 1568 + 2 * (9 * 32 * 32 + 32) + 16 * 32 * 32 + 32 + 9 * 32 * 4 + 4
    assert count(networks.decoder) == decoder
    assert count(networks.prior) == 4 * (17 * 128 + 129 * 128 + 129 * 32)


@pytest.mark.parametrize(
    ("network", "likelihood", "size", "channels", "classes"),
    [("conv", "bernoulli", 28, 1, 0), ("conv", "gaussian", 16, 3, 4), ("dense", "discretized_logistic", 9, 3, 4)],
)
def test_networks_fit_each_other(network, likelihood, size, channels, classes):
    config = dataclasses.replace(SMALL, network=network, image_size=size, likelihood=likelihood)
    networks = vae.build_networks(config, channels, classes)
    assert networks.encoder([tf.zeros((2, size, size, channels)), tf.zeros((2, classes))]).shape == (2, 12)
    generator = vae.build_generator(networks, config)
    images = generator(tf.random.stateless_normal((2, 6 + classes), (0, 0)))
    assert images.shape == (2, size, size, channels)
    assert 0 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 1


def test_conv_decoder_puts_the_four_pixels_of_a_position_side_by_side():
    decoder = vae.build_decoder(dataclasses.replace(SMALL, network="conv"), 1, 0)
    last = next(layer for layer in reversed(decoder.layers) if isinstance(layer, keras.layers.Conv2D))
    tail = keras.Model(last.output, decoder.output)
    positions = np.zeros((1, 4, 4, 4), np.float32)
    positions[0, 1, 2] = [1, 2, 3, 4]
    image = tail(positions).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(image[2:4, 4:6], [[1, 2], [3, 4]])
    assert image.sum() == 10


# Distributions

GREY = np.array([0, 1, 100, 254, 255], np.float32).reshape(1, 1, 5, 1) / 255


def test_bernoulli_against_scipy():
    images = np.array([0, 1, 1, 0], np.float32).reshape(1, 2, 2, 1)
    logits = np.array([-3, 0.5, 20, 2], np.float32).reshape(1, 2, 2, 1)
    expected = stats.bernoulli.logpmf(images, 1 / (1 + np.exp(-logits.astype(np.float64)))).sum()
    assert float(vae.log_likelihood(images, logits, "bernoulli")[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("log_scale", "scale"), [(-1.2, np.exp(-1.2)), (-9.0, 1 / 256)])
def test_gaussian_against_scipy_with_a_least_scale(log_scale, scale):
    parameters = np.float32([0.3, log_scale]) * np.ones((1, 1, 5, 2), np.float32)
    found = vae.log_likelihood(GREY, parameters, "gaussian")
    assert float(found[0]) == pytest.approx(stats.norm.logpdf(GREY, 0.3, scale).sum(), rel=1e-5)


def test_discretized_logistic_against_scipy_with_a_least_scale():
    parameters = np.float32([0.5, -9.0]) * np.ones((1, 1, 5, 2), np.float32)
    edges = np.clip([GREY.ravel() - 0.5 / 255, GREY.ravel() + 0.5 / 255], 0, 1)
    edges = np.where(edges == 0, -np.inf, np.where(edges == 1, np.inf, edges))
    cdf = stats.logistic(0.5, 1 / 256)
    # Above the mean the difference of survival functions is the more exact one.
    masses = np.where(edges[0] < 0.5, cdf.cdf(edges[1]) - cdf.cdf(edges[0]), cdf.sf(edges[0]) - cdf.sf(edges[1]))
    found = vae.log_likelihood(GREY, parameters, "discretized_logistic")
    assert float(found[0]) == pytest.approx(np.log(masses).sum(), rel=1e-4)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized_logistic"])
def test_images_outside_the_range_are_refused(likelihood):
    parameters = tf.zeros((1, 2, 2, 1 if likelihood == "bernoulli" else 2))
    for measure in (vae.log_likelihood, tf.function(vae.log_likelihood)):
        for wrong in (-1.0, 1.5):
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"must lie in \[0, 1\]"):
                measure(tf.fill((1, 2, 2, 1), wrong), parameters, likelihood)
        assert np.isfinite(measure(tf.ones((1, 2, 2, 1)), parameters, likelihood))


def test_kl_divergence_against_closed_form_and_monte_carlo():
    assert float(vae.kl_divergence(tf.zeros((1, 3)), tf.zeros((1, 3)))[0]) == 0
    assert float(vae.kl_divergence(tf.constant([[2.0]]), tf.zeros((1, 1)))[0]) == pytest.approx(2)
    mean, log_scale = np.float32([[0.5, -1.0]]), np.float32([[-0.7, 0.2]])
    noise = tf.random.stateless_normal((200_000, 2), (0, 0))
    log_posterior = vae.log_normal(noise) - log_scale.sum()
    log_prior = vae.log_normal(mean + np.exp(log_scale) * noise)
    expected = float(tf.reduce_mean(log_posterior - log_prior))
    assert float(vae.kl_divergence(mean, log_scale)[0]) == pytest.approx(expected, abs=0.01)


def test_log_normal_against_scipy():
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_allclose(vae.log_normal(x), stats.multivariate_normal(np.zeros(3)).logpdf(x), rtol=1e-5)


# Bounds


def test_bound_rises_with_the_number_of_samples():
    noise = tf.random.stateless_normal((5, 60_000, 2), (0, 0))
    reconstruction, divergence = linear_model.bound_terms(linear_model.networks(0.5), noise)
    log_weights, log_likelihood = reconstruction - divergence, linear_model.log_likelihood().mean()
    means = [
        float(tf.reduce_mean(vae.lower_bound(tf.reshape(log_weights, (-1, samples)), "iwae")))
        for samples in (1, 2, 5, 20, 100)
    ]
    assert means == sorted(means)
    assert means[0] == pytest.approx(float(tf.reduce_mean(vae.lower_bound(log_weights, "elbo"))), abs=1e-4)
    assert means[-1] < log_likelihood
    assert means[-1] == pytest.approx(log_likelihood, abs=0.02)


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_gradient_against_finite_differences(bound):
    posterior = tf.Variable([[0.2, -0.3, -0.4, 0.1]])
    noise = tf.random.stateless_normal((5, 3, 2), (0, 0))

    def value():
        terms = linear_model.bound_terms(linear_model.networks_with(posterior), noise)
        return tf.reduce_mean(vae.lower_bound(terms[0] - terms[1], bound))

    with tf.GradientTape() as tape:
        found = value()
    gradient = tape.gradient(found, posterior).numpy()[0]
    start, step = posterior.numpy(), 1e-2
    for index in range(4):
        change = step * np.eye(4, dtype=np.float32)[index]
        values = [float((posterior.assign(start + sign * change), value())[1]) for sign in (1, -1)]
        assert gradient[index] == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-3)


def test_closed_form_of_the_divergence_is_the_mean_over_samples():
    noise = tf.random.stateless_normal((5, 50_000, 2), (0, 0))
    networks = linear_model.networks(0.5)
    sampled, exact = (linear_model.bound_terms(networks, noise, closed_form=it)[1] for it in (False, True))
    np.testing.assert_allclose(tf.reduce_mean(sampled, axis=1), tf.reduce_mean(exact, axis=1), atol=0.02)
    assert np.ptp(exact.numpy(), axis=1).max() == 0


# Training


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "flow"},
        {"network": "conv", "likelihood": "gaussian"},
        {"prior": "flow", "bound": "iwae", "importance_samples": 3, "likelihood": "discretized_logistic"},
    ],
    ids=str,
)
def test_every_variable_moves(changes):
    state, step = make(classes=3, **changes)
    names = ("networks", "averaged_networks")
    before = {name: [variable.numpy() for variable in state[name].trainable_variables] for name in names}
    for number in (3, 4):  # the flow's last layers start at zero, so its first ones have a gradient only then
        losses = step_losses(step, number)
    assert np.isfinite(list(losses.values())).all()
    for name in names:
        for variable, value in zip(state[name].trainable_variables, before[name], strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path


@pytest.mark.parametrize(
    "changes",
    [{"network": "conv"}, {"prior": "flow", "bound": "iwae", "importance_samples": 4}],
    ids=str,
)
def test_one_batch_can_be_overfitted(changes, monkeypatch):
    monkeypatch.setattr(vae, "RATE_WARMUP", 1)
    _, step = make(learning_rate=4e-3, **changes)
    pixels, step = np.where(PIXELS > 127, 255, 0).astype(np.uint8), tf.function(step)
    losses = [step_losses(step, number, pixels)["negative_bound"] for number in range(100)]
    assert losses[0] > 43  # log 2 for each of the 64 pixels is 44.4
    assert losses[-1] < 30


@pytest.mark.parametrize("changes", [{}, {"prior": "flow", "network": "conv"}], ids=str)
def test_losses_are_float32_in_mixed_precision(changes):
    def losses(policy):
        keras.config.set_dtype_policy(policy)
        _, step = make(classes=3, **changes)
        return step(PIXELS, LABELS, tf.constant(0), START)

    mixed, expected = losses("mixed_bfloat16"), losses("float32")
    for name, value in expected.items():
        assert mixed[name].dtype == tf.float32
        assert float(mixed[name]) == pytest.approx(float(value), rel=0.02, abs=0.02)


def test_learning_rate_rises_and_falls_until_the_end_of_the_training():
    """Its end may be one of minutes: the fraction that is over counts, not the step."""
    state, train_step = make(learning_rate=0.1)
    for step, progress, rate in (
        (0, 0.0, 2e-4),
        (249, 0.0, 0.05),
        (600, 0.5, 0.05),
        (600, 0.9, 2.447e-3),
        (9000, 1.0, 0),
    ):
        train_step(PIXELS, LABELS, tf.constant(step), tf.constant(progress, tf.float64))
        assert float(state["optimizer"].learning_rate) == pytest.approx(rate, rel=1e-3)


def test_weight_of_the_divergence_grows_to_beta():
    _, step = make(beta=4.0, warmup_steps=99, learning_rate=1e-7)
    for number, weight in ((0, 0.04), (49, 2.0), (500, 4.0)):
        losses = step_losses(step, number)
        expected = losses["reconstruction_error"] + weight * losses["kl_divergence"]
        assert losses["negative_bound"] == pytest.approx(expected, rel=1e-5)


def test_two_devices_equal_one(assert_two_devices_equal_one):
    """Also in the step of benchmarks/reproduce_iwae.py, which draws more random numbers."""
    random = np.random.default_rng(0)
    batches = [(random.integers(0, 256, (16, 8, 8, 1), np.uint8), LABELS % 2) for _ in range(2)]

    def find(train, strategy):
        found = []
        for script, shape, options in (
            (vae, (1, 2), {"classes": 2}),
            (
                types.SimpleNamespace(build=vae.build, make_train_step=reproduce_iwae.make_train_step),
                (1, 0),
                {"backward_samples": 3, "first_step": 0},
            ),
        ):
            config = dataclasses.replace(SMALL, bound="iwae", importance_samples=6, strategy=strategy)
            state, losses = train(script, config, *shape, batches=batches, **options)
            found += [*losses.values(), *state["networks"].variables, *state["averaged_networks"].variables]
        return found

    assert_two_devices_equal_one(find)


def test_dynamic_binarization_draws_anew_in_each_step(monkeypatch):
    _, step = make(learning_rate=1e-7)
    first, second = (step_losses(step, number)["kl_divergence"] for number in (0, 1))
    assert abs(first - second) > 1e-3
    black_and_white = vae.binarization.static(PIXELS)
    first, second = (step_losses(step, number, black_and_white)["kl_divergence"] for number in (0, 1))
    assert first == pytest.approx(second, abs=1e-4)


def test_data_are_binarized_once_unless_training_draws_them(monkeypatch):
    grey = datasets.Images(PIXELS, LABELS, (), "made")
    monkeypatch.setattr(datasets, "load", lambda *arguments: grey)
    assert vae.load(SMALL) is grey
    assert set(np.unique(vae.load(SMALL, "test").images)) == {0, 255}
    static, threshold = (
        vae.load(dataclasses.replace(SMALL, binarization=how)).images for how in ("static", "threshold")
    )
    np.testing.assert_array_equal(threshold, np.where(PIXELS >= 128, 255, 0))
    assert 0.1 < (static != threshold).mean() < 0.4
    assert vae.load(dataclasses.replace(SMALL, likelihood="gaussian"), "test") is grey


# The command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains a run with a name and flags once, and copies it into outputs/vae as the latest."""
    outputs = tmp_path_factory.mktemp("trained")

    def copy(name, *flags):
        if not (outputs / "vae" / name).exists():
            vae.main([*TINY_FLAGS, "--output_dir", str(outputs), "--name", name, *flags])
        folder = Path("outputs/vae") / name
        shutil.copytree(outputs / "vae" / name, folder)
        (folder.parent / "latest").symlink_to(name)
        return folder

    return copy


@pytest.fixture
def plain_run(trained):
    return trained("plain", "--epochs", "2")


@pytest.fixture
def conditional_run(trained, monkeypatch):
    monkeypatch.setattr(vae, "RATE_WARMUP", 1)
    flags = ("--epochs", "8", "--latent_dim", "2", "--prior", "normal", "--learning_rate", "5e-3")
    return trained("conditional", "--conditional", *flags)


def test_a_run_leaves_networks_that_fit_each_other(plain_run):
    for name in ("config.json", "samples.gif", "final.png"):
        assert (plain_run / name).stat().st_size > 0
    encoder, prior, generator = (
        keras.models.load_model(plain_run / f"{name}.keras") for name in ("encoder", "prior", "generator")
    )
    no_classes = tf.zeros((2, 0))
    mean = encoder([tf.zeros((2, 8, 8, 1)), no_classes])[:, :4]
    assert generator(prior([mean, no_classes])[0]).shape == (2, 8, 8, 1)


def test_what_can_be_made_with_a_run(plain_run, capsys, tmp_path):
    for name, level in (("a", 60), ("b", 200)):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    pair = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    vae.main(["--sample", "5", "--interpolate", "--evaluate", "--evaluation_samples", "7", "--between", *pair])
    generated = plain_run / "generated"
    with np.load(generated / "samples.npz", allow_pickle=False) as file:
        assert file["images"].shape == (5, 8, 8, 1)
    for name in ("walk.gif", "traversals.png", "reconstructions.png", "latents.png", "between.png", "between.gif"):
        assert (generated / name).exists(), name
    result = json.loads((generated / "evaluation.json").read_text())
    assert (result["test_images"], result["binarization"], result["given_the_class"]) == (297, "dynamic", False)
    assert result["importance_weighted_bound"] > result["elbo"]
    assert f"{-result['importance_weighted_bound']:.2f} ± " in capsys.readouterr().out


def test_figures_are_printed_even_if_no_file_can_be_written(conditional_run, capsys, monkeypatch):
    monkeypatch.setattr(vae, "CLASSIFY_SAMPLES", 1)
    (conditional_run / "generated").touch()
    with pytest.raises(SystemExit) as leaving:
        vae.main(["--evaluate", "--evaluation_samples", "2", "--classify"])
    assert leaving.value.code == 2
    captured = capsys.readouterr()
    assert "  ELBO " in captured.out
    assert "with 2 importance samples" in captured.out
    assert "% of scikit-learn's small digits" in captured.out
    names = "reconstructions.png, latents.png, evaluation.json, classification.json"
    assert f"cannot write {names} in {conditional_run}/generated: file exists; name another folder" in captured.err
    vae.main(["--classify", "--to", "elsewhere"])
    assert {path.name for path in Path("elsewhere").iterdir()} == {"classification.json", "confusion.png"}


def change_settings(folder, **settings):
    description = json.loads((folder / "config.json").read_text())
    description["settings"].update(settings)
    (folder / "config.json").write_text(json.dumps(description))


def test_a_run_in_mixed_precision_is_evaluated_in_float32(plain_run, monkeypatch):
    change_settings(plain_run, precision="mixed_bfloat16")
    policies = []
    monkeypatch.setattr(
        importance_sampling, "evaluate", lambda *args, **more: policies.append(keras.config.dtype_policy().name)
    )
    vae.main(["--evaluate"])
    assert policies == ["float32"]


def test_a_run_of_an_earlier_version_can_be_used(plain_run, capsys):
    change_settings(plain_run, backward_samples=5, decay_from=234_000)
    vae.main(["--sample", "3"])
    assert "ignoring its --backward_samples, --decay_from" in capsys.readouterr().out


def test_classes_can_be_chosen_and_predicted(conditional_run, capsys, refusal_of, monkeypatch):
    monkeypatch.setattr(vae, "CLASSIFY_SAMPLES", 5)
    vae.main(["--sample", "6", "--label", "7", "--interpolate"])
    generated = conditional_run / "generated"
    assert (np.load(generated / "samples.npz")["labels"] == 7).all()
    assert (generated / "map.png").exists()
    vae.main(["--classify", "--evaluate", "--evaluation_samples", "2"])
    result = json.loads((generated / "classification.json").read_text())
    assert result["accuracy"] > 0.5  # 0.1 is chance
    assert (result["samples"], np.sum(result["confusion"])) == (5, 297)
    assert (generated / "confusion.png").exists()
    assert json.loads((generated / "evaluation.json").read_text())["given_the_class"]
    assert "given the classes" in capsys.readouterr().out
    assert "name the class of the pictures with --label" in refusal_of(vae, "--between", "a.png", "b.png")
    assert "--label x: the run's classes are" in refusal_of(vae, "--sample", 3, "--label", "x")


def test_a_run_that_is_killed_and_resumed_equals_one_that_is_not(plain_run):
    last = plain_run / "checkpoints/step_00000046.npz"
    straight = files.read_npz(last)
    last.unlink()  # the one before is that of step 40, in the middle of an epoch
    keras.utils.clear_session()
    vae.main(["--resume", "latest"])
    resumed = files.read_npz(last)
    assert straight.keys() == resumed.keys()
    for name in straight:
        assert name == "seconds" or np.array_equal(straight[name], resumed[name]), name


def test_a_run_continues_with_the_importance_weighted_bound(plain_run):
    vae.main(["--resume", "latest", "--epochs", "3", "--bound", "iwae", "--importance_samples", "3"])
    settings = json.loads((plain_run / "config.json").read_text())["settings"]
    assert (settings["bound"], settings["importance_samples"]) == ("iwae", 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--network", "conv", "--image_size", "30"], "--image_size 30: must be a multiple of 4 for --network conv"),
        (["--latent_dim", "1"], "--latent_dim 1: --prior flow needs at least 2"),
        (["--latent_dim", "0"], "--latent_dim 0: must be at least 1"),
        (["--likelihood", "poisson"], "--likelihood"),
        (["--beta", "-1"], "--beta -1.0: must lie between 0 and 1000"),
        (["--importance_samples", "0"], "--importance_samples 0: must be at least 1"),
        (["--label", "3"], "--label 3: needs --sample or --interpolate or --between"),
        (["--bound", "iwae"], "--bound iwae: needs --importance_samples"),
        (["--backward_samples", "2"], "unknown flag --backward_samples"),
        (["--evaluation_samples", "100"], "--evaluation_samples 100: needs --evaluate"),
        (["--evaluate"], "there is no run in outputs/vae yet"),
        (["--likelihood", "gaussian", "--binarization", "static"], "--binarization static: needs --likelihood bern"),
        (["--run", "outputs/vae/a"], "--run outputs/vae/a: needs --sample or another use of the run"),
        (["--evaluate", "--resume", "outputs/vae/a"], "to use a trained run, name it with --run"),
        (["--between"], "--between: name at least one file"),
        (["--between", "a.png"], "--between: takes 2 files, not 1"),
    ],
)
def test_bad_settings(flags, words, refusal_of):
    assert words in refusal_of(vae, *TINY_FLAGS, *flags)
    assert not Path("outputs").exists()


def test_own_pictures_and_what_cannot_be_done_with_them(tiny_folder, refusal_of):
    folder = tiny_folder(count=20, classes=())
    assert "has no classes" in refusal_of(vae, *TINY_FLAGS, "--data", folder, "--batch_size", 8, "--conditional")
    flags = ["--likelihood", "discretized_logistic", "--prior", "normal", "--latent_dim", "1", "--batch_size", "8"]
    vae.main([*TINY_FLAGS, "--data", str(folder), *flags, "--name", "own"])
    vae.main(["--interpolate", "--between", str(folder / "000.png"), str(folder / "001.png")])
    assert Image.open("outputs/vae/own/generated/between.png").mode == "RGB"
    assert "has no test pictures" in refusal_of(vae, "--evaluate")
    assert "--classify: needs --conditional" in refusal_of(vae, "--classify")
    assert "--label 3: needs --sample or --interpolate or --between" in refusal_of(vae, "--evaluate", "--label", 3)
    assert "--evaluation_samples 7: needs --evaluate" in refusal_of(vae, "--sample", 3, "--evaluation_samples", 7)
    assert "cannot read nowhere.png (no such file)" in refusal_of(vae, "--between", "nowhere.png", folder / "000.png")
    assert "the run's classes are: none" in refusal_of(vae, "--sample", 3, "--label", "left")
