"""What do the nearest codes of autoencoder.py show? Precision at 10, by class, beside codes made in simpler ways.

For each of 2,000 test pictures, the ten training pictures with the nearest codes are looked up; precision is the share
of them that show its class. Beside a run with --code binary stand the same number of bits from PCA (the sign of each
component), and the pixels themselves. Writes outputs/benchmarks/codes_autoencoder.json.

    python autoencoder.py --code binary --name bits
    python -m benchmarks.codes_autoencoder --run outputs/autoencoder/bits
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


@cli.one_line_errors
def main(argv=None):
    """Measure the run that the command line names."""
    parser = results.parser(__doc__)
    parser.add_argument("--run", default="latest", help="a run of autoencoder.py with --code binary (%(default)s)")
    parser.add_argument("--queries", type=int, default=2_000, help="test pictures to look up (%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.queries < 1:
        raise UserError(f"--queries {arguments.queries}: must be at least 1")
    config = saved_runs.configure(autoencoder.Config, ["--run", arguments.run, "--evaluate"], "")
    if config.code != "binary":
        raise UserError(f"{config.run} has codes of real numbers; give a run with --code binary")
    run = saved_runs.SavedRun(config.run)
    encoder = autoencoder.build_encoder(config, run.channels)
    run.restore(encoder=encoder)
    kept = run.arrays("codes.npz")["codes"]
    train, test = (datasets.load(config.data, config.image_size, split, run.channels) for split in ("train", "test"))
    run.check_data(train)
    labels = test.labels[: arguments.queries]

    codes = devices.predict(encoder, pictures.to_unit(test.images))
    pixels, test_pixels = (part.images.reshape(len(part.images), -1) / np.float32(255) for part in (train, test))
    components = min(config.code_size, *pixels.shape)
    pca = PCA(components, random_state=0).fit(pixels)
    signs, test_signs = np.packbits(pca.transform(pixels) > 0, axis=-1), pca.transform(test_pixels)
    norms = (pixels**2).sum(axis=-1)
    searches = {
        f"{config.code_size} bits of autoencoder.py": (lambda it: autoencoder.code_distances(kept, it, config), codes),
        f"{components} bits of PCA": (lambda it: autoencoder.code_distances(signs, it, config), test_signs),
        "pixels": (lambda it: norms - 2 * pixels @ it, test_pixels),
    }
    rows = [
        precision(search, queries[: arguments.queries], train.labels, labels, len(test.class_names), title)
        for title, (search, queries) in searches.items()
    ]
    result = {"run": config.run, "pictures": len(train.images), "queries": len(labels)}
    results.publish(NAME, {**result, "class_names": test.class_names, "rows": rows}, section)


if __name__ == "__main__":
    main()
