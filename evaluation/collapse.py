"""Two failures of GAN training that are easily overlooked: mode collapse, and a discriminator that wins."""

import numpy as np

MODE_COLLAPSE = "mode collapse; another --seed or a smaller --learning_rate may help"
COMPARED = 1000  # real images, at most
LEAST_VARIETY = 0.25  # as a fraction of the real images' variety
LEAST_LOSS = 0.02


def signs_of_failure(
    images: np.ndarray,
    real_images: np.ndarray,
    metrics: dict[str, float],
    labels: tuple[np.ndarray, np.ndarray] | None = None,
    loss: str | None = "discriminator_loss",
    diagnosis: str = MODE_COLLAPSE,
) -> dict[str, str]:
    """Return a sentence for each sign of failure, by its name; empty if there is none.

    images, real_images: uint8 (N, height, width, channels). metrics: the last row of losses; empty at the start, when
    samples are alike in any run. labels: the classes of both, (N,) each, if the samples are conditional. loss: the name
    of the loss that vanishes when the discriminator wins, or None. diagnosis: what it means if the samples are alike.
    """
    found = {}
    if loss and metrics.get(loss, 1.0) < LEAST_LOSS:
        found["discriminator wins"] = (
            f"the {loss.replace('_', ' ')} is near zero: the discriminator distinguishes all real from all generated "
            "images, and the generator learns little from it; a smaller --learning_rate or more pictures may help"
        )
    chosen = np.random.default_rng(0).permutation(len(real_images))[:COMPARED]
    labels, real_labels = (labels[0], labels[1][chosen]) if labels else (None, None)
    if metrics and variety(images, labels) < LEAST_VARIETY * variety(real_images[chosen], real_labels):
        found["alike"] = f"the samples are all alike: {diagnosis}"
    return found


def variety(images: np.ndarray, labels: np.ndarray | None) -> float:
    """Return the standard deviation, 0 to 128, of each pixel over images (N, …), averaged over the pixels.

    With labels (N,) it is the mean over the classes of the value within each.
    """
    groups = [images] if labels is None else [images[labels == label] for label in np.unique(labels)]
    return float(np.mean([group.std(axis=0).mean() for group in groups if len(group) > 1] or [0.0]))
