"""Pixel ranges, and what is drawn: grids of images, GIFs, curves and charts."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from common import lettering
from common.files import atomic_write
from common.progress import phase

MOST_FRAMES = 32
MOST_GREYS = 32  # in a frame of a GIF of grey grids; with 256 it would be three times as large


def to_signed(pixels) -> tf.Tensor:
    """Scale pixels, 0 to 255, to float32 in [-1, 1], the range of tanh."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def to_signed_array(pixels: np.ndarray) -> np.ndarray:
    """Scale pixels, 0 to 255, to float32 in [-1, 1] in NumPy: TensorFlow would hold several copies of a photograph."""
    values = pixels.astype(np.float32)
    values /= 127.5
    values -= 1.0
    return values


def from_signed(images) -> np.ndarray:
    """Scale images in [-1, 1] to uint8, rounded; the inverse of `to_signed`."""
    values = np.array(images, np.float32)  # a single copy, changed in place, because photographs are large
    values += 1.0
    values *= 127.5
    return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)


def to_unit(pixels) -> tf.Tensor:
    """Scale pixels, 0 to 255, to float32 in [0, 1]."""
    return tf.cast(pixels, tf.float32) / 255.0


def from_unit(images) -> np.ndarray:
    """Scale images in [0, 1] to uint8, rounded; the inverse of `to_unit`."""
    return np.clip(np.rint(np.asarray(images, np.float32) * 255.0), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int, row_names: Sequence[str] = ()) -> np.ndarray:
    """Lay out uint8 images (N, height, width, channels) in rows, with a name before each row if given.

    Small images are enlarged by a whole factor to about 56 pixels. Returns uint8 (height, width, 3).
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
    margin = Image.new("RGB", (12 + int(max(map(lettering.width, row_names))), sheet.shape[0]), (32, 32, 32))
    draw = ImageDraw.Draw(margin)
    for row, name in enumerate(row_names[:rows]):
        lettering.write(draw, (6, (row + 0.5) * (height * zoom + border)), name, (255, 255, 255), anchor="lm")
    return np.concatenate([np.asarray(margin), sheet], axis=1)


def table(images: np.ndarray, column_names: list[str], row_names: list[str], marked: list[bool]) -> np.ndarray:
    """Lay out uint8 images (rows, columns, height, width, channels) below column names, with a name after each row.

    marked: whether each row's name is red instead of white. Returns uint8 (height, width, 3).
    """
    rows, columns = images.shape[:2]
    sheet = grid(images.reshape(rows * columns, *images.shape[2:]), columns)
    width = 20 + max(
        sheet.shape[1] + int(max(map(lettering.width, row_names))),
        int(sheet.shape[1] / columns * (columns - 0.5) + max(map(lettering.width, column_names))),
    )
    page = Image.new("RGB", (width, 24 + sheet.shape[0]), (32, 32, 32))
    page.paste(Image.fromarray(sheet), (0, 24))
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(column_names):
        place = ((column + 0.5) * sheet.shape[1] / columns, 12)
        lettering.write(draw, place, name, (255, 255, 255), anchor="mm")
    for row, (name, is_marked) in enumerate(zip(row_names, marked, strict=True)):
        place = (sheet.shape[1] + 10, 24 + (row + 0.5) * sheet.shape[0] / rows)
        lettering.write(draw, place, name, (255, 96, 96) if is_marked else (255, 255, 255), anchor="lm")
    return np.asarray(page)


def counterparts(parts: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Lay out uint8 images (N, height, width, channels) in rows, and their counterparts in the rows below each.

    parts: the images, and one or more kinds of counterparts of the same shape. N must be a multiple of `columns`.
    Returns uint8 (height, width, 3).
    """
    rows = [images.reshape(-1, columns, *images.shape[1:]) for images in parts]
    return grid(np.stack(rows, axis=1).reshape(-1, *parts[0].shape[1:]), columns)


def page(text: str, caption: str, columns: int = 64, rows: int = 14) -> np.ndarray:
    """Draw the beginning of a text below a caption, in lines of `columns` characters: uint8 (height, width, 3)."""
    visible = map(lettering.visible, text.strip("\n").split("\n"))
    lines = [piece for line in visible for piece in lettering.wrap(line, columns)]
    sheet = Image.new("RGB", (columns * 8 + 24, (rows + 2) * 19), (250, 250, 246))
    draw = ImageDraw.Draw(sheet)
    lettering.write(draw, (12, 8), caption, (130, 130, 130), size=11)
    for row, line in enumerate(lines[:rows]):
        lettering.write(draw, (12, 32 + 19 * row), line, (20, 20, 20), size=13)
    return np.asarray(sheet)


def save_png(path: Path, pixels: np.ndarray, names: Sequence[str] = ()) -> None:
    """Write uint8 pixels (height, width, 3) as a PNG, and the names drawn in it beside it if no font has them."""
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, "PNG")
    lettering.write_beside(path, names)


def save_gif(path: Path, frames: list[np.ndarray], milliseconds: int = 100, rest: int = 0) -> None:
    """Write frames, uint8 (height, width, 3), as a GIF that repeats, and shows the last one `rest` milliseconds longer.

    Raises UserError if it cannot be written.
    """
    durations = [milliseconds] * (len(frames) - 1) + [milliseconds + rest]
    if len(frames) == 1:
        durations = durations[0]  # Pillow takes no list for a single frame
    with phase(f"making {path.name}"):
        contents = imageio.imwrite("<bytes>", frames, extension=".gif", duration=durations, loop=0)
    with atomic_write(path) as file:  # after encoding: imageio prints its own traceback when a disk is full
        file.write(contents)


def evenly(items: list, most: int) -> list:
    """Return at most `most` of the items, evenly spaced, with the first and the last."""
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).astype(int))]


def save_gif_of_files(path: Path, sources: list[Path]) -> None:
    """Write picture files of equal size as a GIF, at most 32 of them, evenly spaced."""
    frames = []
    for source in evenly(sources, MOST_FRAMES):
        with Image.open(source, formats=["PNG"]) as image:
            frame = np.asarray(image.convert("RGB"))
            if (frame == frame[..., :1]).all():
                few_greys = Image.fromarray(frame).quantize(MOST_GREYS, dither=Image.Dither.NONE)
                frame = np.asarray(few_greys.convert("RGB"))
            frames.append(frame)
    save_gif(path, frames, milliseconds=150, rest=2000)


def save_figure(path: Path, figure, dpi: int) -> None:
    """Write a figure of Matplotlib as a PNG."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=dpi)


def save_curves(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Draw each loss in rows of tables such as metrics.csv over the steps; without any, draw nothing."""
    from matplotlib.figure import Figure  # imported here because it takes a second, which delays the first grid

    curves = {}  # name: steps and values
    for row in rows:
        for name in row.keys() - {"epoch", "step", "seconds"}:
            if not name.endswith(("_per_second", "_bits")):  # bits are nats in another unit
                curves.setdefault(name, []).append((int(row["step"]), float(row[name])))
    if not curves:
        return
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in sorted(curves.items()):
        axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), linewidth=1)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(path, figure, dpi=120)


def save_scatter(path: Path, points: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Draw points (N, dimensions), coloured by their labels; of more than two dimensions, two principal components."""
    from matplotlib.figure import Figure
    from sklearn.decomposition import PCA

    name = "dimension"
    if points.shape[1] > 2:
        points, name = PCA(2).fit_transform(points), "principal component"
    elif points.shape[1] == 1:
        points = np.concatenate(
            [points, np.random.default_rng(0).random((len(points), 1))], axis=1
        )  # spread them over a plane
    with lettering.chart(path, class_names):
        figure = Figure(figsize=(7, 6), layout="constrained")
        axes = figure.subplots()
        for label, class_name in enumerate(class_names or ("",)):
            chosen = points[labels == label]
            name_shown = lettering.for_charts(class_name)
            axes.scatter(chosen[:, 0], chosen[:, 1], s=2, color=f"C{label % 10}", label=name_shown)
        axes.set(xlabel=f"first {name}", ylabel=f"second {name}", aspect="equal")
        if class_names:
            axes.legend(markerscale=5, loc="center left", bbox_to_anchor=(1, 0.5))
        save_figure(path, figure, dpi=100)


def save_confusion(path: Path, matrix: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Draw a confusion matrix: counts, with a row for each true and a column for each found class."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    errors = matrix - np.diag(np.diag(matrix))  # which set the colours: the diagonal would make them pale
    side = 2 + 0.45 * len(class_names)
    with lettering.chart(path, class_names):
        figure = Figure(figsize=(side, side), layout="constrained")
        display = ConfusionMatrixDisplay(matrix, display_labels=list(map(lettering.for_charts, class_names)))
        turned = "vertical" if max(map(len, class_names)) > 4 else "horizontal"  # long names would overlap
        colors = {"vmin": 0, "vmax": 2 * max(errors.max(), 1)}
        display.plot(ax=figure.subplots(), cmap="Reds", colorbar=False, im_kw=colors, xticks_rotation=turned)
        save_figure(path, figure, dpi=100)
