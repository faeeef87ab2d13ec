"""Pixel ranges, grids, GIFs and curves."""

import csv
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from common.files import whole

MOST_FRAMES = 32
MOST_GREYS = 32  # in a frame of a GIF of grey grids; with 256 it would be three times as large


def to_signed(pixels) -> tf.Tensor:
    """Pixels of 0 to 255 as float32 in [-1, 1], the range of tanh."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def from_signed(images) -> np.ndarray:
    """Images in [-1, 1] as uint8, rounded; the inverse of `to_signed`."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int, row_names: Sequence[str] = ()) -> np.ndarray:
    """Lay uint8 images (N, height, width, channels) out in rows, with a name before each row if given.

    Small images are enlarged, pixel for pixel, to about 56. Returns uint8 (height, width, 3).
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    zoom = max(1, round(56 / max(height, width)))
    border = 2
    sheet = np.full((rows * (height * zoom + border) + border, columns * (width * zoom + border) + border, 3), 32)
    for index, image in enumerate(images):
        top = (index // columns) * (height * zoom + border) + border
        left = (index % columns) * (width * zoom + border) + border
        sheet[top : top + height * zoom, left : left + width * zoom] = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
    sheet = sheet.astype(np.uint8)
    if not row_names:
        return sheet
    font = ImageFont.load_default(size=16)
    margin = Image.new("RGB", (12 + int(max(map(font.getlength, row_names))), sheet.shape[0]), (32, 32, 32))
    draw = ImageDraw.Draw(margin)
    for row, name in enumerate(row_names[:rows]):
        draw.text((6, (row + 0.5) * (height * zoom + border)), name, (255, 255, 255), font, anchor="lm")
    return np.concatenate([np.asarray(margin), sheet], axis=1)


def page(text: str, caption: str, columns: int = 64, rows: int = 14) -> np.ndarray:
    """Draw the beginning of a text, cut into lines of so many characters, below a caption: uint8 (height, width, 3)."""
    lines = [
        line[start : start + columns]
        for line in text.strip("\n").split("\n")
        for start in range(0, len(line) or 1, columns)
    ]
    small, font = (ImageFont.load_default(size=size) for size in (12, 14))
    sheet = Image.new("RGB", (columns * 8 + 24, (rows + 2) * 19), (250, 250, 246))
    draw = ImageDraw.Draw(sheet)
    draw.text((12, 8), caption, (130, 130, 130), small)
    for row, line in enumerate(lines[:rows]):
        draw.text((12, 32 + 19 * row), line, (20, 20, 20), font)
    return np.asarray(sheet)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 pixels (height, width, 3) as a PNG."""
    with whole(path) as file:
        Image.fromarray(pixels).save(file, "PNG")


def save_gif(path: Path, frames: list[np.ndarray], milliseconds: int = 100, rest: int = 0) -> None:
    """Write frames of uint8 (height, width, 3) as a GIF that repeats; it rests on the last for `rest` milliseconds."""
    durations = [milliseconds] * (len(frames) - 1) + [milliseconds + rest]
    if len(frames) == 1:
        durations = durations[0]  # Pillow takes no list then
    contents = imageio.imwrite("<bytes>", frames, extension=".gif", duration=durations, loop=0)
    with whole(path) as file:  # only now: imageio prints a traceback of its own when a disk is full
        file.write(contents)


def save_gif_of_files(path: Path, sources: list[Path]) -> None:
    """Write pictures of equal size as a GIF, at most 32 of them, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(sources) - 1, min(len(sources), MOST_FRAMES)).astype(int))
    frames = []
    for index in chosen:
        with Image.open(sources[index]) as image:
            frame = np.asarray(image.convert("RGB"))
            if (frame == frame[..., :1]).all():
                few_greys = Image.fromarray(frame).quantize(MOST_GREYS, dither=Image.Dither.NONE)
                frame = np.asarray(few_greys.convert("RGB"))
            frames.append(frame)
    save_gif(path, frames, milliseconds=150, rest=2000)


def save_curves(path: Path, metrics: Path) -> None:
    """Draw each loss of a metrics.csv over the steps."""
    from matplotlib.figure import Figure  # imported here: it takes a second, and the first grid should not wait

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name in rows[0]:
        if name not in ("epoch", "step", "seconds") and not name.endswith("_per_second"):
            axes.plot(steps, [float(row[name]) for row in rows], label=name.replace("_", " "), linewidth=1)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(path) as file:
        figure.savefig(file, format="png", dpi=120)
