"""What the codes of an autoencoder are good for: reconstruction, denoising, classification and compression."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import cli, files
from common.datasets import Images
from evaluation import compression
from evaluation.denoising import denoised_psnr
from evaluation.linear_probe import linear_accuracies


def evaluate_codes(
    path: Path,
    train: Images,
    test: Images,
    training_codes: np.ndarray,
    encode: Callable,
    decode: Callable,
    add_noise: Callable | None = None,
    is_binary: bool = False,
    seed: int = 0,
) -> None:
    """Measure an autoencoder on test images; print the figures beside their baselines and write them to `path`.

    training_codes: of the images in `train`, float (N, code_size); if `is_binary`, they are -1 and 1.
    encode: maps images, float32 (M, height, width, channels) in [0, 1], to codes, before they are rounded to bits.
    decode: maps codes to images. add_noise: maps images and the number of a draw to noisy ones; only for a denoising
    autoencoder. seed: of PCA.
    """
    from sklearn.decomposition import PCA  # takes a second to import

    images = test.images / np.float32(255)
    codes = encode(images)
    if is_binary:
        codes = np.where(codes > 0, np.float32(1), np.float32(-1))
    pixels, test_pixels = (part.images.reshape(len(part.images), -1) / np.float32(255) for part in (train, test))
    with cli.phase("principal components"):
        pca = PCA(min(codes.shape[-1], *pixels.shape), random_state=seed).fit(pixels)
        components = pca.transform(pixels), pca.transform(test_pixels)
    features = {"this run": (training_codes, codes), "PCA": components, "pixels": (pixels, test_pixels)}
    outputs = {"this run": decode(codes), "PCA": pca.inverse_transform(features["PCA"][1]).reshape(images.shape)}
    errors = {name: float(squared_errors(images, it).mean()) for name, it in outputs.items()}
    result = {"test_images": len(images), "squared_error": errors}
    if add_noise:
        noisy = np.asarray(add_noise(images, 0))
        training_images = train.images / np.float32(255)
        result["denoised_psnr"] = denoised_psnr(images, noisy, decode(encode(noisy)), training_images, add_noise)
    if train.class_names:
        result["linear_accuracy"] = linear_accuracies(features, train.labels, test.labels)
    steps = (2.0,) if is_binary else (2.0, 1.0, 0.5, 0.25)  # with 2, bits stay -1 and 1
    result["code"] = compression.code_curve(training_codes, codes, images, decode, steps)
    result["jpeg"] = compression.jpeg_curve(test.images)
    count = codes.shape[-1]
    size = f"{count} bits (PCA: {count} numbers)" if is_binary else f"{count} numbers"
    print_result(result, test.name, size)
    files.write_json(path, result)


def squared_errors(images, reconstructions) -> np.ndarray:
    """Return each image's squared error, summed over its pixels: float32 (N,)."""
    return np.sum((np.asarray(images) - reconstructions) ** 2, axis=(1, 2, 3))


def print_result(result: dict, name: str, size: str) -> None:
    """Print the figures of `evaluate_codes`.

    name: that of the test images. size: that of a code, in words.
    """
    titles = {
        "squared_error": f"reconstruction of {name} from {size}, squared error summed over an image",
        "denoised_psnr": "denoising, PSNR in dB",
        "linear_accuracy": "classification, fraction of the images that a linear classifier classifies correctly",
    }
    for key, title in titles.items():
        if key in result:
            print(f"{title}:")
            for row, figure in result[key].items():
                print(f"  {row:{max(map(len, result[key]))}}  {figure:.4g}")
    if rivals := {
        name: it for name, it in result.get("denoised_psnr", {}).items() if name not in ("noisy", "this run")
    }:
        best = max(rivals, key=rivals.get)
        gain = result["denoised_psnr"]["this run"] - rivals[best]
        print(f"  this run is {abs(gain):.1f} dB {'above' if gain > 0 else 'below'} the best of the others, {best}")
    compression.print_beside_jpeg(result["code"], result["jpeg"])
