"""Measures and rivals against values known in advance; and the density from which codes are drawn."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from common import latent_space, yardsticks


def test_psnr_of_a_known_error():
    images = np.zeros((2, 4, 4, 1))
    assert yardsticks.psnr(images, images + 0.1) == pytest.approx(20)
    assert yardsticks.psnr(images, images - 1.0) == pytest.approx(0)


def test_the_median_takes_single_pixels_away_and_mixes_neither_images_nor_channels():
    images = np.zeros((2, 7, 7, 3), np.float32)
    images[1, ..., 2] = 1.0
    spotted = images.copy()
    spotted[0, 3, 3, 0] = 5.0
    assert np.array_equal(yardsticks.median_filtered(spotted, 3), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_counts_what_the_file_holds_beyond_its_headers(channels):
    random = np.random.default_rng(0)
    flat = np.full((32, 32, channels), 128, np.uint8)
    noise = random.integers(0, 256, (32, 32, channels)).astype(np.uint8)
    output, bits = yardsticks.through_jpeg(flat, 50)
    assert np.array_equal(output, flat)
    assert 0 < bits <= 8 * 16 * channels
    file = io.BytesIO()
    Image.fromarray(noise[..., 0] if channels == 1 else noise).save(file, "JPEG", quality=90, optimize=True)
    output, bits = yardsticks.through_jpeg(noise, 90)
    assert output.shape == noise.shape
    assert 150 <= len(file.getvalue()) - bits / 8 <= 700  # headers and tables


def test_jpeg_gets_better_and_larger_with_its_quality():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    curve = yardsticks.jpeg_curve(images)
    for figure in ("bits", "psnr"):
        assert [row[figure] for row in curve] == sorted(row[figure] for row in curve)


def test_coded_bits_of_fair_and_of_loaded_dice():
    random = np.random.default_rng(0)
    fair = random.integers(-3, 5, (100_000, 2))  # eight values: three bits each
    assert yardsticks.coded_bits(fair, fair) == pytest.approx(6, abs=0.01)
    loaded = random.choice(2, (100_000, 1), p=[0.9, 0.1])
    assert yardsticks.coded_bits(loaded, loaded) == pytest.approx(stats.entropy([0.9, 0.1], base=2), abs=0.01)
    # What was never seen costs many bits, but not infinitely many:
    assert yardsticks.coded_bits(np.array([[0]] * 98 + [[2]]), np.array([[1], [7]])) == pytest.approx(
        (np.log2(102) + np.log2(102 / 2)) / 2
    )


def test_a_linear_classifier_tells_apart_what_a_line_can_and_nothing_else():
    points = np.random.default_rng(0).standard_normal((4000, 2))
    train, test = points[:3000], points[3000:]
    right = yardsticks.linear_accuracy(train, train[:, 0] > 0, test, test[:, 0] > 0)
    assert right > 0.98
    crossed = yardsticks.linear_accuracy(train, train.prod(axis=1) > 0, test, test.prod(axis=1) > 0)
    assert crossed < 0.65


def test_what_jpeg_never_reaches_is_told_as_beyond_it(capsys):
    jpeg = [{"bits": 500.0, "psnr": 14.0}, {"bits": 3000.0, "psnr": 40.0}]
    code = [{"bits": bits, "psnr": psnr} for bits, psnr in ((1750.0, 27.0), (400.0, 60.0), (9999.0, 9.0))]
    yardsticks.tell({"code": code, "jpeg": jpeg}, {})
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows == ["1750 27.0 27.0 1750", "400 60.0 < 14.0 > 3000", "9999 9.0 > 40.0 < 500"]


def test_a_mixture_is_found_again_in_its_draws():
    means = np.array([[-4.0, 0.0], [4.0, 4.0]])
    covariances = np.array([[[1.0, 0.8], [0.8, 1.0]], [[0.5, 0.0], [0.0, 2.0]]])
    codes = latent_space.draw_from_mixture([0.25, 0.75], means, covariances, 20_000, seed=0)
    assert codes.dtype == np.float32
    second = codes[:, 0] > 0
    assert second.mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(codes[second].mean(axis=0), means[1], atol=0.05)
    np.testing.assert_allclose(np.cov(codes[second], rowvar=False), covariances[1], atol=0.1)
    fitted = latent_space.fit_mixture(codes, seed=0)
    assert fitted["weights"].sum() == pytest.approx(1)
    center = fitted["weights"] @ fitted["means"]
    np.testing.assert_allclose(center, codes.mean(axis=0), atol=0.1)


def test_a_straight_round_trip_comes_back():
    stations = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    walk = latent_space.round_trip(stations, latent_space.straight_walk)
    assert walk.shape == (64, 3, 5)
    for number, station in enumerate(stations):
        np.testing.assert_allclose(walk[16 * number], station, rtol=1e-6)
    np.testing.assert_allclose(walk[8], (stations[0] + stations[1]) / 2, rtol=1e-5)
    np.testing.assert_allclose(walk[63], stations[3] / 16 + stations[0] * 15 / 16, rtol=1e-5)
