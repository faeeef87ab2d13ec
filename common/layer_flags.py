"""The flags --layers and --channels: a choice of layers with weights, and of the channels of one layer."""

import difflib
import math
from collections.abc import Sequence

from common.errors import UserError


def parse_layers(text: str, known: Sequence[str], network_name: str) -> dict[str, float]:
    """Return the layers in a text such as mixed3=1,mixed5=0.5 and their weights, 1 by default.

    known: the layers of the network, in order; an empty text means the last of them.
    Raises UserError for an unknown layer, with the nearest names, and for a weight that is 0 or not a number.
    """
    if not known:
        raise UserError(f"{network_name} has no feature maps: no layer, such as a convolution, keeps height and width")
    weights = {}
    for word in [it.strip() for it in text.split(",") if it.strip()] or [known[-1]]:
        name, weight = (it.strip() for it in word.partition("=")[::2])
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            advice = f"the nearest are {', '.join(nearest)}" if nearest else "--list_layers lists them all"
            raise UserError(f"--layers {name}: {network_name} has no such layer; {advice}")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            weights[name] = math.nan
        if not math.isfinite(weights[name]) or weights[name] == 0:
            raise UserError(f"--layers {word}: the weight must be a number other than 0")
    return weights


def as_text(weights: dict[str, float]) -> str:
    """Return layers and their weights as the text that `parse_layers` reads."""
    return ",".join(f"{name}={weight!r}".removesuffix(".0") for name, weight in weights.items())


def parse_channels(text: str, layers: Sequence[str], count: int) -> list[int]:
    """Return the channels in a text such as 3,17,40-45; [] for "", which means all.

    layers: those that --layers names; count: the channels of the first.
    Raises UserError if there are several layers, or for a channel that the layer does not have.
    """
    if not text:
        return []
    if len(layers) > 1:
        raise UserError(f"--channels {text}: needs a single layer, but --layers names {len(layers)}")
    chosen = []
    for word in text.split(","):
        first, _, last = word.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UserError(f"--channels {word.strip()}: give numbers and ranges, such as 3,17,40-45")
        if not int(first) <= int(last or first) < count:
            raise UserError(f"--channels {word.strip()}: {layers[0]} has the channels 0 to {count - 1}")
        chosen += range(int(first), int(last or first) + 1)
    return chosen
