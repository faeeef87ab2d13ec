"""What others can do: the measures and the plain rivals that a method's figures stand beside."""

import io
import warnings

import numpy as np
from PIL import Image

from common import cli


def psnr(images, others) -> float:
    """Return the peak signal-to-noise ratio in dB of images in [0, 1], by their mean squared error over all pixels."""
    return float(-10.0 * np.log10(np.mean((np.asarray(images) - others) ** 2)))


def median_filtered(noisy: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, height, width, channels), each pixel the median of a window around it, clipped to [0, 1]."""
    from scipy.ndimage import median_filter

    return median_filter(noisy, (1, size, size, 1)).clip(0.0, 1.0)


def through_jpeg(image: np.ndarray, quality: int) -> tuple[np.ndarray, int]:
    """Return a uint8 image (height, width, channels) as it comes out of a JPEG file, and how many bits it takes there.

    quality: 1 to 95. Only the image's own bits are counted, not the 170 bytes or more of headers and tables.
    """
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality, optimize=True)
    contents = file.getvalue()
    scan = contents.rindex(b"\xff\xda") + 2  # the marker before it; a header follows, which tells its own length
    bits = 8 * (len(contents) - scan - int.from_bytes(contents[scan : scan + 2]) - 2)  # and two bytes mark the end
    with Image.open(file) as decoded:
        return np.asarray(decoded).reshape(image.shape), bits


def jpeg_curve(images: np.ndarray) -> list[dict]:
    """Return the mean bits of uint8 images (N, height, width, channels) and their PSNR, at seven qualities of JPEG."""
    curve = []
    for quality in cli.progress((1, 10, 20, 40, 60, 80, 90), "JPEG"):
        outputs, bits = zip(*(through_jpeg(image, quality) for image in images), strict=True)
        outputs = np.stack(outputs) / np.float32(255)
        curve.append(
            {"quality": quality, "bits": float(np.mean(bits)), "psnr": psnr(images / np.float32(255), outputs)}
        )
    return curve


def coded_bits(training: np.ndarray, test: np.ndarray) -> float:
    """Return how many bits the rows of `test`, integers (N, numbers), take on average in an ideal arithmetic coder.

    It knows how often each value of each number occurs in `training`, and each once more, so that none is impossible;
    values beyond those in `training` are taken for the nearest.
    """
    bits = 0.0
    for known, coded in zip(training.T, test.T, strict=True):
        counts = np.bincount(known - known.min()) + 1
        bits += np.log2(counts.sum() / counts[np.clip(coded, known.min(), known.max()) - known.min()]).mean()
    return float(bits)


def linear_accuracy(features, labels, test_features, test_labels) -> float:
    """Return the share of test rows that a linear classifier gets right: logistic regression on standardised features.

    features, test_features: (N, numbers). labels, test_labels: (N,).
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
    with warnings.catch_warnings(action="ignore"):  # on pixels it has not converged by then, but no longer improves
        classifier.fit(features, labels)
    return float(classifier.score(test_features, test_labels))


def tell(result: dict, titles: dict[str, str]) -> None:
    """Print an evaluation for people to read.

    result: figures by name, under the names of `titles`; "code", a list of bits and PSNR; "jpeg", from `jpeg_curve`.
    """
    for name, title in titles.items():
        if name in result:
            print(f"{title}:")
            for what, figure in result[name].items():
                print(f"  {what:16} {figure:.4g}")
    print("the code, its numbers rounded, beside JPEG without its headers:")
    print("  code: bits of an image, PSNR in dB   JPEG: PSNR at as many bits, bits at the same PSNR")
    sizes, qualities = ([row[name] for row in result["jpeg"]] for name in ("bits", "psnr"))
    for row in result["code"]:
        quality, size = (
            _between(row[given], known, wanted, digits)
            for given, known, wanted, digits in (("bits", sizes, qualities, 1), ("psnr", qualities, sizes, 0))
        )
        print(f"  {row['bits']:9.0f} {row['psnr']:16.1f} {quality:>29} {size:>20}")


def _between(at: float, known: list[float], values: list[float], digits: int) -> str:
    """Return the value at `at` of a rising curve; beyond its ends, that it is less or more than there."""
    sign = "< " if at < known[0] else "> " if at > known[-1] else ""
    return f"{sign}{np.interp(at, known, values):.{digits}f}"
