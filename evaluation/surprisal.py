"""How well a network predicts a text: the surprisal of each character, -log2 p, and the mean loss.

Throughout, `read` is the function that char_rnn.make_reader returns: from the indices of texts, (rows, time), it
computes the losses, -log p of all characters but the first, in nats, float32 (rows, time - 1), and the network's states
before the last character.
"""

import html
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import files
from common.cli import progress
from common.text import Alphabet

WINDOW = 128  # characters that the network reads in one call
CONTEXT = 256  # characters that are read before each part of a validation text, but not counted
NANOGPT_WINDOW, NANOGPT_WINDOWS = 256, 12_800  # characters, and their number: 200 batches of 64
READ_AT_ONCE = 320  # of these windows
MOST_SHOWN = 100_000  # characters on an HTML page


def read_in_windows(read_window: Callable, indices: np.ndarray, states: list, title: str = "") -> tuple:
    """Return what `read` returns: read texts of any length window by window, and carry the states over.

    read_window: maps the indices of a window, int32 (rows, window + 1), and the states before it to the losses, float32
    (rows, window), and the states after all but its last character. states: those before the texts. title: of a
    progress bar; "" shows none.
    """
    indices, losses = np.asarray(indices, np.int32), [np.zeros((len(indices), 0), np.float32)]
    starts = range(0, indices.shape[1] - 1, WINDOW)
    for start in progress(starts, title) if title else starts:
        window_losses, states = read_window(indices[:, start : start + WINDOW + 1], states)
        losses.append(np.asarray(window_losses))
    return np.concatenate(losses, axis=1), states


def surprisal(read: Callable, indices: np.ndarray, unknown: int) -> np.ndarray:
    """Return the surprisal of all characters but the first, in bits: float32 (rows, time - 1).

    indices: (rows, time). unknown: the index of the unknown character, whose surprisal is nan: a network that was not
    trained on it gives it an arbitrary probability. A character of probability 1/2 has a surprisal of one bit (Shannon
    1948).
    """
    losses, _ = read(indices, "reading")
    return np.where(indices[:, 1:] == unknown, np.float32(np.nan), losses / np.float32(math.log(2)))


def score(path: Path, read: Callable, alphabet: Alphabet, text: str, name: str, network: str) -> None:
    """Print the mean surprisal of a text, and write that of each character to `path` as HTML.

    name, network: of the text and of what predicts it, for people to read. Raises UserError if no character is known.
    """
    title, indices = f"{name} {network}", alphabet.encode_any(text, name)
    bits = surprisal(read, indices[None], alphabet.unknown)[0]
    mean = np.nanmean(bits, dtype=np.float64)
    print(f"{title}: {mean:.4f} bits per character, {mean * math.log(2):.4f} nats", flush=True)
    save_page(path, text, bits, title)


def by_mean_surprisal(readers: dict[str, Callable], alphabet: Alphabet, text: str, name: str) -> dict[str, float]:
    """Return the mean surprisal of a text under each network, in bits per character, the lowest first.

    readers: the networks' `read`, by name, all with this alphabet. name: of the text. The first network is that of the
    most likely source of the text, if all sources are equally likely beforehand. Raises UserError if no character is
    known.
    """
    indices = alphabet.encode_any(text, name)[None]
    bits = {it: float(np.nanmean(surprisal(read, indices, alphabet.unknown))) for it, read in readers.items()}
    return dict(sorted(bits.items(), key=lambda it: it[1]))


def validation_loss(read: Callable, indices: np.ndarray) -> float:
    """Return the mean loss on a text (time,), in nats per character.

    For speed, the text is split into up to 32 parts of about 2,000 characters or more, which are read side by side.
    Reading starts 256 characters before each part but the first, so that its first characters, too, have a context.
    """
    rows = max(1, min(32, len(indices) // 2000))
    length = (len(indices) - 1 - CONTEXT) // rows
    parts = [indices[row * length : (row + 1) * length + CONTEXT + 1] for row in range(rows)]
    losses, _ = read(np.stack(parts), "validating")
    return float(np.concatenate([losses[0], losses[1:, CONTEXT:].ravel()]).mean(dtype=np.float64))


def window_loss(read: Callable, indices: np.ndarray, windows: int = NANOGPT_WINDOWS) -> dict[str, float]:
    """Return the mean loss over random windows of a text (time,), in nats per character, and its standard error.

    This is nanoGPT's protocol (https://github.com/karpathy/nanoGPT, `estimate_loss` of train.py with the settings of
    config/train_shakespeare_char.py). Each window is read from a state of zeros, so that its 256 targets have 1 to 256
    characters of past. The loss is therefore higher than `validation_loss`, where all have at least 256. The standard
    error is that of the draw of the windows, which are the same at every call.
    """
    starts = np.random.default_rng(0).integers(len(indices) - NANOGPT_WINDOW, size=windows)
    losses = []
    for first in progress(range(0, windows, READ_AT_ONCE), "reading windows"):
        rows = [indices[start : start + NANOGPT_WINDOW + 1] for start in starts[first : first + READ_AT_ONCE]]
        losses.append(read(np.stack(rows))[0].mean(axis=-1, dtype=np.float64))
    losses = np.concatenate(losses)
    return {"window_loss": float(losses.mean()), "standard_error": float(losses.std(ddof=1) / np.sqrt(windows))}


def save_page(path: Path, text: str, bits: np.ndarray, title: str) -> None:
    """Write an HTML page of a text: the more surprising a character, the redder its background.

    bits: the surprisal of each character, float32 (len(text),), nan where it is not known. The page shows at most the
    first 100,000 characters.
    """
    shown, parts = text[:MOST_SHOWN], []
    shades = np.clip(np.nan_to_num(bits[: len(shown)]) * 2, 0, 20).astype(int)  # one for each half bit
    for shade, group in itertools.groupby(zip(shades, shown, strict=True), key=lambda it: it[0]):
        parts.append(f'<i class="s{shade}">{html.escape("".join(character for _, character in group))}</i>')
    style = "".join(f".s{shade}{{background:rgb(255,{255 - 11 * shade},{255 - 12 * shade})}}" for shade in range(21))
    length = f"{len(text):,} characters" + (f", the first {len(shown):,} below" if len(shown) < len(text) else "")
    page = (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>'
        f"pre{{white-space:pre-wrap;font-size:15px}}i{{font-style:normal}}{style}</style></head><body>"
        f"<p>{html.escape(title)}: {np.nanmean(bits):.3f} bits per character; {length}. "
        f'From <i class="s0">expected</i> to <i class="s20">10 bits or more</i>.</p>'
        f"<pre>{''.join(parts)}</pre></body></html>\n"
    )
    files.write_text(path, page)
