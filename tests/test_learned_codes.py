"""The evaluation of codes, and the baselines beside it, against values known in advance."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from common.datasets import Images
from evaluation import compression, denoising, learned_codes
from evaluation.linear_probe import linear_accuracy


def test_psnr_of_a_known_error():
    images = np.zeros((2, 4, 4, 1))
    assert compression.psnr(images, images + 0.1) == pytest.approx(20)
    assert compression.psnr(images, images - 1.0) == pytest.approx(0)


@pytest.mark.parametrize(
    ("apply", "setting"), [(denoising.blurred, 0.8), (denoising.median_filtered, 3), (denoising.closed, 3)]
)
def test_filters_mix_neither_images_nor_channels(apply, setting):
    images = np.zeros((2, 9, 9, 3), np.float32)
    images[1, ..., 2] = 1.0
    np.testing.assert_allclose(apply(images, setting), images, atol=1e-6)
    images[0, 4, 4, 0] = 1.0
    outputs = apply(images, setting)
    np.testing.assert_allclose(outputs[1], images[1], atol=1e-6)
    np.testing.assert_allclose(outputs[0, ..., 1:], images[0, ..., 1:], atol=1e-6)


def test_the_learned_filter_is_the_wiener_filter_of_a_known_distribution():
    """For x of covariance C and noise of covariance N it is C (C + N)^-1, applied to the deviation from the mean."""
    random = np.random.default_rng(0)
    mixing, mean, deviation = random.normal(0, 0.3, (4, 4)), np.array([0.1, 0.9, 0.4, 0.5]), 0.5
    images = (mean + random.standard_normal((40_000, 4)) @ mixing.T).reshape(-1, 2, 2, 1).astype(np.float32)

    def add_noise(images, draw):
        return images + np.random.default_rng(draw).normal(0, deviation, images.shape).astype(np.float32)

    apply = denoising.learned_filter(images, add_noise)
    noisy = random.random((3, 2, 2, 1), np.float32)
    covariance = mixing @ mixing.T
    gain = covariance @ np.linalg.inv(covariance + deviation**2 * np.eye(4))
    expected = mean + (noisy.reshape(3, 4) - mean) @ gain.T
    np.testing.assert_allclose(apply(noisy).reshape(3, 4), expected, atol=0.01)


def test_settings_of_filters_are_chosen_on_training_images_and_outputs_clipped(monkeypatch):
    random = np.random.default_rng(0)
    chosen, images = (np.round(random.random((count, 8, 8, 1))).astype(np.float32) for count in (40, 10))
    seen = []

    def shift(noisy, setting):  # best on the training images where 2, best on the others where 3
        seen.append((len(noisy), setting))
        return noisy + abs(setting - (2 if len(noisy) == 20 else 3))

    monkeypatch.setattr(denoising, "FILTERS", {"shift": (shift, (1, 2, 3))})
    found = denoising.denoised_psnr(images, images - 0.9, images + 0.5, chosen, lambda images, draw: images - 0.01)
    assert seen == [(20, 1), (20, 2), (20, 3), (10, 2)]
    assert found["noisy"] == pytest.approx(-20 * np.log10(0.9))
    assert found["clipping"] == pytest.approx(-10 * np.log10(0.81 * np.mean(images)))
    assert list(found)[3:] == ["shift 2", "linear filter, learned from 20"]
    assert found["shift 2"] == pytest.approx(-10 * np.log10(0.01 * np.mean(1 - images)), abs=1e-3)


def test_median_removes_single_pixels_and_mixes_neither_images_nor_channels():
    images = np.zeros((2, 7, 7, 3), np.float32)
    images[1, ..., 2] = 1.0
    spotted = images.copy()
    spotted[0, 3, 3, 0] = 5.0
    assert np.array_equal(denoising.median_filtered(spotted, 3), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_counts_the_bits_of_a_file_without_its_headers(channels):
    flat = np.full((32, 32, channels), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, channels)).astype(np.uint8)
    output, bits = compression.through_jpeg(flat, 50)
    assert np.array_equal(output, flat)
    assert 0 < bits <= 8 * 16 * channels
    file = io.BytesIO()
    Image.fromarray(noise[..., 0] if channels == 1 else noise).save(file, "JPEG", quality=90, optimize=True)
    output, bits = compression.through_jpeg(noise, 90)
    assert output.shape == noise.shape
    assert 150 <= len(file.getvalue()) - bits / 8 <= 700  # headers and tables


def test_jpeg_gets_better_and_larger_with_its_quality():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    curve = compression.jpeg_curve(images)
    for figure in ("bits", "psnr"):
        assert [row[figure] for row in curve] == sorted(row[figure] for row in curve)


def test_coded_bits_of_fair_and_loaded_dice():
    random = np.random.default_rng(0)
    fair = random.integers(-3, 5, (100_000, 2))  # eight values: three bits each
    assert compression.coded_bits(fair, fair) == pytest.approx(6, abs=0.01)
    loaded = random.choice(2, (100_000, 1), p=[0.9, 0.1])
    assert compression.coded_bits(loaded, loaded) == pytest.approx(stats.entropy([0.9, 0.1], base=2), abs=0.01)
    # A value that never occurred costs many bits, but not infinitely many:
    assert compression.coded_bits(np.array([[0]] * 98 + [[2]]), np.array([[1], [7]])) == pytest.approx(
        (np.log2(102) + np.log2(102 / 2)) / 2
    )


def test_jpeg_beyond_the_ends_of_its_curve(capsys):
    jpeg = [{"bits": 500.0, "psnr": 14.0}, {"bits": 3000.0, "psnr": 40.0}]
    code = [{"bits": bits, "psnr": psnr} for bits, psnr in ((1750.0, 27.0), (400.0, 60.0), (9999.0, 9.0))]
    compression.print_beside_jpeg(code, jpeg)
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows == ["1750 27.0 27.0 1750", "400 60.0 < 14.0 > 3000", "9999 9.0 > 40.0 < 500"]


def test_linear_classifier_separates_what_a_line_can_and_nothing_else():
    points = np.random.default_rng(0).standard_normal((4000, 2))
    train, test = points[:3000], points[3000:]
    assert linear_accuracy(train, train[:, 0] > 0, test, test[:, 0] > 0) > 0.98
    assert linear_accuracy(train, train.prod(axis=1) > 0, test, test.prod(axis=1) > 0) < 0.65


def test_squared_errors_are_sums_over_pixels():
    images, outputs = np.zeros((2, 3, 3, 1), np.float32), np.full((2, 3, 3, 1), 0.5, np.float32)
    outputs[1] = 1.0
    np.testing.assert_allclose(learned_codes.squared_errors(images, outputs), [9 * 0.25, 9])


@pytest.fixture
def bright_and_dark():
    """Training and test images of two classes, bright and dark, 4x4, with noise."""
    random = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count, dtype=np.int32) % 2
        pixels = random.integers(0, 100, (count, 4, 4, 1)) + 150 * labels[:, None, None, None]
        return Images(pixels.astype(np.uint8), labels, ("dark", "bright"), "made")

    return split(60), split(20)


def flat(images):
    return np.reshape(images, (len(images), -1))


def test_evaluation_of_codes_that_are_the_pixels(bright_and_dark, tmp_path, capsys):
    train, test = bright_and_dark
    path = tmp_path / "evaluation.json"
    learned_codes.evaluate_codes(
        path,
        train,
        test,
        training_codes=flat(train.images)[:, :3] / np.float32(255),
        encode=lambda images: flat(images)[:, :3],
        decode=lambda codes: np.tile(codes[:, :1], 16).reshape(-1, 4, 4, 1),
        add_noise=lambda images, draw: images + 0.5,
    )
    result, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert result["test_images"] == 20
    pixels, tested = (flat(part.images) / 255 for part in (train, test))
    expected = ((tested - tested[:, :1]) ** 2).sum(axis=1).mean()
    assert result["squared_error"]["this run"] == pytest.approx(expected, rel=1e-5)
    components = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)[2][:3]
    rest = tested - pixels.mean(axis=0)
    rest -= rest @ components.T @ components
    assert result["squared_error"]["PCA"] == pytest.approx((rest**2).sum(axis=1).mean(), rel=1e-3)
    assert f"{result['squared_error']['PCA']:.4g}" in printed
    assert result["denoised_psnr"]["noisy"] == pytest.approx(-10 * np.log10(0.25), abs=1e-3)
    error = np.mean((tested[:, :1] + 0.5 - tested) ** 2)
    assert result["denoised_psnr"]["this run"] == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert result["linear_accuracy"] == {"this run": 1.0, "PCA": 1.0, "pixels": 1.0}
    assert [row["bits"] for row in result["code"]] == sorted(row["bits"] for row in result["code"])


def test_evaluation_of_bits(bright_and_dark, tmp_path):
    train, test = bright_and_dark
    path = tmp_path / "evaluation.json"
    learned_codes.evaluate_codes(
        path,
        train,
        test,
        training_codes=2.0 * train.labels[:, None] - 1.0,
        encode=lambda images: flat(images).mean(axis=1, keepdims=True) - 0.5,
        decode=lambda codes: np.broadcast_to(codes[:, None, None] / 2 + 0.5, (len(codes), 4, 4, 1)),
        is_binary=True,
    )
    result = json.loads(path.read_text())
    expected = ((flat(test.images) / 255 - test.labels[:, None]) ** 2).sum(axis=1).mean()
    assert result["squared_error"]["this run"] == pytest.approx(expected, rel=1e-5)
    assert "denoised_psnr" not in result
    assert [row["bits"] for row in result["code"]] == [pytest.approx(1.0)]
    assert result["code"][0]["psnr"] == pytest.approx(-10 * np.log10(expected / 16), abs=1e-3)
