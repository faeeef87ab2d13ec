"""The yardstick itself: the Fréchet distance against closed forms, and the classes that it counts."""

import os
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import gan_cifar10
import get_ckpt
from benchmarks import compare_cifar10, compare_vae, quality, race, report, train_dream_network, workers
from common import cli, datasets, networks


def test_distance_of_equal_gaussians_is_zero():
    covariance = np.cov(np.random.default_rng(0).standard_normal((50, 4)), rowvar=False)
    assert quality.frechet_distance(np.ones(4), covariance, np.ones(4), covariance) == pytest.approx(0, abs=1e-9)


def test_distance_against_closed_forms():
    mean, other = np.array([1.0, -2.0]), np.array([0.0, 0.5])
    # Diagonal covariances commute: the distance is that of the means and of the standard deviations.
    expected = 1 + 2.5**2 + (2 - 1) ** 2 + (3 - 5) ** 2
    distance = quality.frechet_distance(mean, np.diag([4.0, 9.0]), other, np.diag([1.0, 25.0]))
    assert distance == pytest.approx(expected)


def test_distance_is_symmetric_and_does_not_depend_on_the_axes():
    generator = np.random.default_rng(0)
    a, b = (np.cov(generator.standard_normal((9, 4)), rowvar=False) for _ in range(2))
    rotation, _ = np.linalg.qr(generator.standard_normal((4, 4)))
    zero = np.zeros(4)
    distance = quality.frechet_distance(zero, a, zero, b)
    assert distance > 0.1
    assert quality.frechet_distance(zero, b, zero, a) == pytest.approx(distance)
    turned = [rotation @ covariance @ rotation.T for covariance in (a, b)]
    assert quality.frechet_distance(zero, turned[0], zero, turned[1]) == pytest.approx(distance)


def test_time_to_a_distance_is_interpolated():
    points = [{"seconds": seconds, "frechet_distance": distance} for seconds, distance in ((0, 99), (10, 40), (40, 10))]
    assert report.seconds_to(20, points) == pytest.approx(20)
    assert np.isnan(report.seconds_to(5, points))
    assert report.seconds_to(60, points) == 10


def test_report_of_the_race_tells_how_much_sooner():
    def point(contender, seconds, images, distance):
        times = {"seconds": seconds, "processor_seconds": 2 * seconds}
        return {"contender": contender, **times, "images": images, "frechet_distance": distance, "class_entropy": 2.0}

    rough = point("tutorial", 700.0, report.MILESTONE_IMAGES, 200.0)
    points = [point("ours", 5.0, 1_000, 120.0), point("ours", 10.0, 2_000, 30.0), rough]
    points += [point("tutorial", 800.0, 500_000, 60.0), point("tutorial", 900.0, 600_000, 80.0)]
    lines = report.comparison({"floor": 2.0, "points": points})
    assert "| tutorial, as far as it was trained | 900 | 1,800 | 600,000 | 80.00 | 40.0 |" in lines
    assert (
        "distance at its rough digits, 200.0 after 409,600 images and 700 s, ours reaches after 5 s: 140" in lines[14]
    )
    assert "best distance, 60.0 after 500,000 images and 800 s, ours reaches after 7 s: 113 times" in lines[15]


def test_the_judge_tells_digits_from_noise_and_right_labels_from_wrong_ones():
    judge = quality.Judge("digits")
    test = datasets.load("digits", 28, "test")
    measured = judge.measure(test.images, test.labels)
    assert measured["frechet_distance"] == pytest.approx(0, abs=1e-3)
    assert measured["label_agreement"] == pytest.approx(judge.accuracy)
    assert judge.accuracy > 0.7
    assert judge.measure(test.images, (test.labels + 1) % 10)["label_agreement"] < 0.2
    noise = np.random.default_rng(0).integers(0, 256, test.images.shape, np.uint8)
    assert judge.measure(noise)["frechet_distance"] > 5 * judge.floor


def test_inception_is_used_only_if_its_published_file_is_here():
    assert quality.inception_network() is None
    path = get_ckpt.NETWORKS["InceptionV3"].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(cli.UserError, match="is not the published file"):
        quality.inception_network()


def test_distance_in_the_features_of_another_network():
    random = np.random.default_rng(0)
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    dark, light = (random.integers(low, low + 50, (120, 8, 8, 3), np.uint8) for low in (0, 100))
    assert quality.inception_distance(network, dark, dark) == pytest.approx(0, abs=1e-6)
    expected = 3 * 100**2  # the means of three channels; their variances are alike
    assert quality.inception_distance(network, light, dark) == pytest.approx(expected, rel=0.02)


def test_the_tutorials_autoencoder_is_as_large_as_the_tutorial_says_and_learns():
    pixels = np.random.default_rng(0).choice([0, 255], (64, 28, 28, 1)).astype(np.uint8)
    data = datasets.Images(pixels, np.zeros(64, np.int32), (), "made")
    contender = compare_vae.tutorial(data, data)
    networks = contender.saved["networks"]
    encoder = 9 * 32 + 32 + 9 * 32 * 64 + 64 + 6 * 6 * 64 * 4 + 4
    decoder = 2 * 1568 + 1568 + 9 * 32 * 64 + 64 + 9 * 64 * 32 + 32 + 9 * 32 + 1
    counts = [sum(np.prod(v.shape) for v in model.trainable_variables) for model in networks[:3]]
    assert counts == [encoder, decoder, 0]
    before = contender.further_figures()["test_elbo"]
    contender.until = 64 * 10
    contender.train(60.0)
    assert before == pytest.approx(-784 * np.log(2), rel=0.02)
    assert contender.further_figures()["test_elbo"] > before


def test_a_figure_stays_with_its_machine_until_it_is_measured_again(monkeypatch):
    def section(result):
        return [f"{result['right']} right", "![a plot](plot.png)"]

    monkeypatch.setattr(report, "SECTIONS", {"one": section, "other": section})
    monkeypatch.setattr(quality, "machine", lambda: "the first machine")
    quality.write_json("one", {"right": 1})
    quality.write_json("other", {"right": 2})
    (quality.FOLDER / "plot.png").write_bytes(b"drawn")
    report.main()
    assert Path("docs/plot.png").read_bytes() == b"drawn"
    shutil.rmtree("outputs")  # another machine
    monkeypatch.setattr(quality, "machine", lambda: "the second machine")
    quality.write_json("other", {"right": 3})
    report.main()
    lines = Path("docs/results.md").read_text().splitlines()
    told = [line for line in lines if "right" in line or "machine" in line]
    assert told == ["1 right", "Measured on the first machine.", "3 right", "Measured on the second machine."]


def test_report_of_the_autoencoders():
    points = [
        {"contender": name, "seconds": 60.0, "images": 100, "test_elbo": elbo, "frechet_distance": 5.0}
        for name, elbo in (("ours", -120.0), ("ours", -110.5), ("tutorial", -140.0))
    ]
    lines = report.comparison_vae({"minutes": 1.0, "points": points})
    assert lines[-1] == "After 1 minutes each, ours is 29.5 nats above the tutorial's."


def test_report_in_color_compares_at_equal_minutes():
    points = [
        {"contender": name, "seconds": seconds, "images": 1200, "frechet_distance": distance}
        for name, seconds, distance in (
            *(("ours, 1 minutes", 30.0, 9.0), ("ours, 1 minutes", 60.0, 5.0), ("ours, 2 minutes", 120.0, 4.0)),
            *(("tutorial", 30.0, 99.0), ("tutorial", 61.0, 20.0), ("tutorial", 120.0, 16.0)),
        )
    ]
    lines = report.comparison_in_color({"floor": 0.1, "points": points})
    assert lines[-2:] == ["| 1 | 5.0 | 20.0 | 0.25 | 20 | 20 |", "| 2 | 4.0 | 16.0 | 0.25 | 10 | 10 |"]
    assert "all in one process, in turns;" in lines[2]
    at_once = report.comparison_in_color({"floor": 0.1, "points": points, "cores": 1})
    assert "all at the same time, each on 1 core of its own (`--at_once`);" in at_once[2]


def test_a_race_at_once_needs_a_core_for_each(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    with pytest.raises(cli.UserError, match="needs a core for each of the 2 contenders"):
        compare_cifar10.train_at_once(2, [])


def test_workers_take_turns_and_tell_why_they_cannot():
    Path("clock.py").write_text("""
import sys, time
from benchmarks import workers

def prepare():
    print("for the terminal")
    if sys.argv[-1] == "broken":
        raise RuntimeError("has no such\\nthing")
    return workers.timed(lambda: time.sleep(0.01))

workers.work(prepare)
""")
    whole, broken, missing = (
        workers.Worker(name, [program], {"PYTHONPATH": str(ROOT)})
        for name, program in (("whole", "clock.py"), ("broken", "clock.py"), ("missing", "nowhere.py"))
    )
    for _ in range(2):
        seconds, processor_seconds = whole.turn(0.05)
        assert 0.01 <= seconds < 1.0 and processor_seconds < seconds
    whole.end()
    assert (whole.failure, broken.failure, missing.failure) == ("", "has no such", "its process ended")
    with pytest.raises(SystemExit, match="--work broken: has no such"):
        broken.turn(0.05)


def test_in_a_race_the_step_size_falls_by_the_clock():
    data = datasets.Images(np.zeros((64, 32, 32, 3), np.uint8), np.zeros(64, np.int32), (), "black")
    contender = compare_cifar10.ours(data, minutes=1.0)
    contender.seconds = 45.0
    contender.step(tf.constant(data.images[:32]), tf.constant(data.labels[:32]), tf.constant(0, tf.int64))
    for name in ("generator_optimizer", "discriminator_optimizer"):
        rate = float(contender.saved[name].learning_rate.numpy())
        assert rate == pytest.approx(gan_cifar10.Config().learning_rate / 2)


def test_samples_that_cannot_be_judged(refusal_of):
    def save(images, name="images"):
        np.savez("samples.npz", **{name: images})

    digits = datasets.load("digits", 28).images
    save(digits[:100])
    flags = ["--samples", "samples.npz", "--data", "digits"]
    assert "holds 100 images; a distance needs 200" in refusal_of(quality, *flags)
    save(np.repeat(digits[:300], 3, axis=-1))
    assert "samples.npz: are colour, unlike scikit-learn's small digits" in refusal_of(quality, *flags)
    assert "--inception_count 0: must be at least 200" in refusal_of(quality, *flags, "--inception_count", 0)
    assert "samples.npz: " in refusal_of(quality, "--samples", "nowhere/samples.npz")
    for images in (digits[:300, ..., 0], digits[:300] / np.float32(255), digits[:300, 1:], np.arange(3)):
        save(images)
        assert "samples.npz: must hold `images`, uint8 (N, size, size, 1 or 3)" in refusal_of(quality, *flags)
    save(digits[:300], "weights")
    assert "samples.npz: must hold `images`" in refusal_of(quality, *flags)


def test_a_race_too_short_for_pictures_is_drawn():
    contender = types.SimpleNamespace(
        name="fast",
        shown={},
        points=[{"seconds": 5.0, "frechet_distance": 9.0}, {"seconds": 9.0, "frechet_distance": 8.0}],
    )
    race.draw([contender], 1.0, Path("race.png"))
    assert Path("race.png").stat().st_size > 0


def test_a_network_in_the_box_is_not_written_over_without_training(refusal_of):
    before = networks.BOX.read_bytes()
    assert "--epochs 0: must be at least 1" in refusal_of(train_dream_network, "--epochs", 0)
    assert networks.BOX.read_bytes() == before


def test_a_package_that_is_missing_is_named():
    with pytest.raises(cli.UserError, match="no_such_package is not installed: pip install -r"):
        quality.needed("no_such_package")
