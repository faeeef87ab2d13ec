"""Results of a trained run: samples, walks, maps and tables, written into its folder generated/ or that of `--to`.

The scripts pass functions: `generate_images` maps latents (N, latent_dim) and labels (N,) to images, uint8 (N, height,
width, channels); `draw_latents` maps a count, a seed and a size to latents in parts of at most this size, an iterator,
and draws standard normal ones by default.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from common import cli, devices, files, latent_space, pictures
from common.saved_runs import SavedRun

PART = 2 * devices.PREDICTED_AT_ONCE  # samples generated at once: other batches would change their last bits
MOST_SHOWN = 400  # samples in grid.png, all from the first part
MOST_ROWS = 100  # in reconstructions.png
NEAREST = 10  # training pictures shown by --nearest
MOST_TRAVERSED = 64  # latents, each of which has a row in traversals.png
WALKERS = 16  # latents that move at the same time in walk.gif
ODD = 0.999  # a picture is odd if at least this fraction of the training pictures have smaller errors


def samples_and_walk(run: SavedRun, config, generate_images: Callable) -> None:
    """Write what `--sample` and `--interpolate` request."""
    if config.sample:
        samples(run, config, generate_images)
    if config.interpolate:
        walk(run, config, generate_images)
    run.report()


def samples(run: SavedRun, config, generate_images: Callable, draw_latents: Callable | None = None) -> None:
    """Write `config.sample` images, with labels if the run is conditional, as samples.npz and grid.png.

    They are generated and written in parts, so that memory does not limit their number.
    """
    count = config.sample
    latents = (draw_latents or _normal_latents(config))(count, config.seed, PART)

    def labels() -> Iterator[np.ndarray]:
        return (run.labels(config, min(PART, count - start), start) for start in range(0, count, PART))

    parts = map(generate_images, latents, labels())
    with cli.phase("sampling"):
        first = next(parts)
    images = itertools.chain([first], parts)
    images = cli.progress(images, "sampling", -(-count // PART))
    is_conditional = getattr(config, "conditional", False)
    arrays = {"images": images, **({"labels": labels()} if is_conditional else {})}
    run.write("samples.npz", files.write_npz_in_parts, count, **arrays)
    run.write("grid.png", save_grid, first, next(labels()) if is_conditional else None, run.class_names)


def save_grid(path: Path, images: np.ndarray, labels: np.ndarray | None, class_names: Sequence[str]) -> None:
    """Write images, at most 400, as a grid, which has a row for each of several classes."""
    shown = np.arange(min(len(images), MOST_SHOWN))
    columns, row_names = int(np.ceil(np.sqrt(len(shown)))), ()
    classes, counts = np.unique(labels[shown] if labels is not None else 0, return_counts=True)
    if len(classes) > 1:
        columns, row_names = counts.min(), [class_names[label] for label in classes]
        shown = np.concatenate([shown[labels[shown] == label][:columns] for label in classes])
    pictures.save_png(path, pictures.grid(images[shown], columns, row_names), row_names)


def walk(
    run: SavedRun,
    config,
    generate_images: Callable,
    draw_latents: Callable | None = None,
    interpolate: Callable = latent_space.slerp,
) -> None:
    """Write walk.gif, in which each of 16 latents walks between four stations, and walk.png, eight of their first legs.

    interpolate: `latent_space.slerp` or `lerp`.
    """
    stations = next((draw_latents or _normal_latents(config))(4 * WALKERS, config.seed, 4 * WALKERS))
    steps = latent_space.round_trip(stations.reshape(4, WALKERS, -1), interpolate)  # (64, walkers, latent_dim)
    labels = run.labels(config, WALKERS)
    frames = np.stack([generate_images(latents, labels) for latents in cli.progress(steps, "walking")])
    run.write("walk.gif", pictures.save_gif, [pictures.grid(images, 4) for images in frames])
    rows = frames[:17, :8].swapaxes(0, 1)  # (walkers, steps, height, width, channels)
    run.write("walk.png", pictures.save_png, pictures.grid(np.concatenate(rows), 17))


def latent_map(run: SavedRun, config, generate_images: Callable) -> None:
    """Show the effect of each latent: two as a plane, map.png; more as the rows of traversals.png, strongest first."""
    label = run.labels(config, 1)
    if config.latent_dim == 2:
        latents = latent_space.plane(20)
        images = generate_images(latents, np.resize(label, len(latents)))
        run.write("map.png", pictures.save_png, pictures.grid(images, 20))
        return
    latents = latent_space.axes(config.latent_dim, 11)
    images = generate_images(latents, np.resize(label, len(latents)))
    images = images.reshape(config.latent_dim, 11, *images.shape[1:])
    strongest = images.std(axis=1).mean(axis=(1, 2, 3)).argsort()[::-1][:MOST_TRAVERSED]
    sheet = pictures.grid(np.concatenate(images[strongest]), 11, tuple(map(str, strongest)))
    run.write("traversals.png", pictures.save_png, sheet)


def between(run: SavedRun, given: np.ndarray, latents: np.ndarray, label: int, generate_images: Callable) -> None:
    """Write the walk from one picture to another as between.png, with the pictures at its ends, and between.gif.

    given: the pictures, uint8 (2, height, width, channels); latents: theirs, (2, latent_dim); label: their class.
    """
    start, end = latents[:1], latents[1:]
    steps = np.concatenate([latent_space.slerp(start, end, 15)[:, 0], end])
    images = generate_images(steps, np.full(len(steps), label))
    sheet = np.concatenate([given[:1], images, given[1:]])
    run.write("between.png", pictures.save_png, pictures.grid(sheet, len(sheet)))
    run.write("between.gif", pictures.save_gif, [pictures.grid(it[None], 1) for it in [*images, *images[::-1]]])


def encoded(run: SavedRun, test, latents: np.ndarray, generate_images: Callable) -> None:
    """Write 50 test images, each above its reconstruction, as reconstructions.png, and all latents as latents.png.

    test: datasets.Images. latents: theirs, (N, latent_dim), drawn in the colours of the classes.
    """
    images, labels = test.images[:50], test.labels[:50]
    sheet = pictures.counterparts([images, generate_images(latents[:50], labels)], 10)
    run.write("reconstructions.png", pictures.save_png, sheet)
    run.write("latents.png", pictures.save_scatter, latents, test.labels, test.class_names)


def nearest(
    run: SavedRun, query: np.ndarray, images: np.ndarray, names, labels, find_distances: Callable, unit: str
) -> None:
    """Print the ten training pictures nearest to a query, and write them, after the query, as nearest.png.

    query: uint8 (1, height, width, channels). images, names, labels: of the training pictures, (N, …) each.
    find_distances: returns the query's distances (N,), and is timed. unit: of the distances, in words.
    """
    start = time.perf_counter()
    distances = find_distances()
    found = np.argsort(distances, kind="stable")[:NEAREST]
    milliseconds = 1000 * (time.perf_counter() - start)
    print(f"{unit} among {len(distances):,} codes, found in {milliseconds:.1f} ms:")
    for index in found:
        class_name = f" ({run.class_names[labels[index]]})" if run.class_names else ""
        print(f"  {distances[index]:6.3g}   {names[index]}{class_name}")
    sheet = np.concatenate([query, images[found]])
    run.write("nearest.png", pictures.save_png, pictures.grid(sheet, len(sheet)))


def reconstructions(
    run: SavedRun, paths: Sequence, columns: dict[str, np.ndarray], errors: np.ndarray, training_errors
) -> None:
    """Print and write the squared errors of the user's pictures, the largest first, and which pictures are odd.

    paths: (N,). columns: images to show of each, uint8 (N, height, width, channels), by column name. errors: (N,).
    training_errors: those of the training pictures, for comparison; None if they are not comparable.
    """
    is_comparable = training_errors is not None
    fractions = np.searchsorted(np.sort(training_errors), errors) / len(training_errors) if is_comparable else None
    order, rows = np.argsort(-errors), []
    for index in order:
        row = {"file": str(paths[index]), "squared_error": round(float(errors[index]), 3)}
        if is_comparable:
            row["training_pictures_with_less"] = round(float(fractions[index]), 4)
        rows.append({**row, "odd": is_comparable and bool(fractions[index] >= ODD)})
    run.write("reconstructions.json", files.write_json, rows)
    print("squared error   larger than that of   file")
    for row in rows:
        fraction = f"{row['training_pictures_with_less']:.1%} of training" if is_comparable else "-"
        print(f"{row['squared_error']:13.2f}   {fraction:>19}   {row['file']}{'   ODD' if row['odd'] else ''}")
    rows, order = rows[:MOST_ROWS], order[:MOST_ROWS]
    images = np.stack(list(columns.values()), axis=1)[order]
    names = [f"{row['squared_error']:.1f}  {Path(row['file']).name}{'  odd' if row['odd'] else ''}" for row in rows]
    table = pictures.table(images, list(columns), names, [row["odd"] for row in rows])
    run.write("reconstructions.png", pictures.save_png, table, names)


def until(stop: str, pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces of a text up to the first `stop`, which may lie across two of them; all pieces if it is ""."""
    text = ""
    for piece in pieces:
        before, text = len(text), text + piece
        found = text.find(stop, max(before - len(stop) + 1, 0)) if stop else -1
        if found >= 0:
            yield text[before : found + len(stop)]
            return
        yield piece


def stream_text(run: SavedRun, prime: str, pieces: Iterable[str]) -> None:
    """Print `prime` and the pieces of text that continue it as they come, and write all of it as sample.txt."""
    pieces = iter(pieces)
    with cli.phase("preparing to write"):
        first = next(pieces, "")
    written = prime
    print(prime, end="")
    try:
        for piece in itertools.chain([first], pieces):
            written += piece
            print(piece, end="", flush=True)
        print()
    finally:  # also when the reader of a pipe has read enough
        run.write("sample.txt", files.write_text, written)


def _normal_latents(config) -> Callable:
    return lambda count, seed, size: latent_space.draw_in_parts(count, config.latent_dim, seed, size)
