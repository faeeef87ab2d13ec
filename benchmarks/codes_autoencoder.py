"""What do the nearest codes of autoencoder.py show? Precision at 10, by class, beside codes made in simpler ways.

For each of 2,000 test pictures, the ten training pictures with the nearest codes are looked up; precision is the share
of them that show its class. Beside a run with --code binary stand the same number of bits from PCA (the sign of each
component), and the pixels themselves. Several runs, such as one without the contrastive loss, each have a row. Writes
outputs/benchmarks/codes_autoencoder.json.

    python autoencoder.py --code binary --name bits
    python autoencoder.py --code binary --contrast 0 --name plain_bits
    python -m benchmarks.codes_autoencoder --runs outputs/autoencoder/bits outputs/autoencoder/plain_bits
"""

import time

import numpy as np
from sklearn.decomposition import PCA

import autoencoder
from benchmarks import results
from common import cli, datasets, devices, pictures, saved_runs
from common.errors import UserError

NAME = "codes_autoencoder"


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    lines = results.opening(
        "What the nearest codes of autoencoder.py show",
        "benchmarks.codes_autoencoder",
        f"For each of {result['queries']:,} test pictures, the ten nearest among {result['pictures']:,} training "
        "pictures are looked up. The table has the share of them that show its class, over all pictures and by class, "
        "and the time of a search.",
    )
    rows = []
    for row in result["rows"]:
        shares = ["-" if share is None else f"{share:.3f}" for share in (row["precision"], *row["by_class"])]
        rows.append([row["codes"], *shares, f"{row['milliseconds']:.1f}"])
    return lines + results.table(("", "all", *result["class_names"], "ms"), rows)


def precision(distances_to, queries, labels, query_labels, classes: int, title: str, count: int = 10) -> dict:
    """Return the mean share of each class's own pictures among the `count` nearest, and milliseconds for a search.

    distances_to: returns the distances (N,) of a query to all pictures, whose labels are `labels`, from 0 to
    classes - 1. The share of a class without queries is None.
    """
    hits, start = [], time.perf_counter()
    for query in cli.progress(queries, title):
        nearest = np.argpartition(distances_to(query), count)[:count]
        hits.append(labels[nearest])
    milliseconds = 1000 * (time.perf_counter() - start) / len(queries)
    shares = (np.stack(hits) == query_labels[:, None]).mean(axis=-1)
    by_class = [float(of.mean()) if len(of := shares[query_labels == label]) else None for label in range(classes)]
    return {"codes": title, "precision": float(shares.mean()), "by_class": by_class, "milliseconds": milliseconds}


def searched_codes(reference: str, train: datasets.Images, test: datasets.Images) -> tuple[str, tuple]:
    """Return the name of a run's codes, and its function `distances_to` with the codes of the test pictures."""
    config = saved_runs.configure(autoencoder.Config, ["--run", reference, "--evaluate"], "")
    if config.code != "binary":
        raise UserError(f"{config.run} has codes of real numbers; give a run with --code binary")
    run = saved_runs.SavedRun(config.run)
    run.check_data(train)
    encoder = autoencoder.build_encoder(config, run.channels)
    run.restore(encoder=encoder)
    kept = run.arrays("codes.npz")["codes"]
    codes = devices.predict(encoder, pictures.to_unit(test.images))
    title = f"{config.code_size} bits of autoencoder.py{'' if config.contrast else ' --contrast 0'}"
    return title, (lambda it: autoencoder.code_distances(kept, it, config), codes)


@cli.one_line_errors
def main(argv=None):
    """Measure the runs that the command line names."""
    parser = results.parser(__doc__)
    words = "of autoencoder.py with --code binary, on the same data (%(default)s)"
    parser.add_argument("--runs", nargs="+", default=["latest"], help=words)
    parser.add_argument("--queries", type=int, default=2_000, help="test pictures to look up (%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.queries < 1:
        raise UserError(f"--queries {arguments.queries}: must be at least 1")
    first = saved_runs.configure(autoencoder.Config, ["--run", arguments.runs[0], "--evaluate"], "")
    shape = first.image_size, saved_runs.SavedRun(first.run).channels
    train, test = (datasets.load(first.data, shape[0], split, shape[1]) for split in ("train", "test"))
    searches = dict(searched_codes(run, train, test) for run in arguments.runs)
    labels = test.labels[: arguments.queries]

    pixels, test_pixels = (part.images.reshape(len(part.images), -1) / np.float32(255) for part in (train, test))
    components = min(first.code_size, *pixels.shape)
    pca = PCA(components, random_state=0).fit(pixels)
    signs, test_signs = np.packbits(pca.transform(pixels) > 0, axis=-1), pca.transform(test_pixels)
    norms = (pixels**2).sum(axis=-1)
    searches |= {
        f"{components} bits of PCA": (lambda it: autoencoder.code_distances(signs, it, first), test_signs),
        "pixels": (lambda it: norms - 2 * pixels @ it, test_pixels),
    }
    rows = [
        precision(search, queries[: arguments.queries], train.labels, labels, len(test.class_names), title)
        for title, (search, queries) in searches.items()
    ]
    result = {"runs": arguments.runs, "seeds": 1, "pictures": len(train.images), "queries": len(labels)}
    results.publish(NAME, {**result, "class_names": test.class_names, "rows": rows}, section)


if __name__ == "__main__":
    main()
