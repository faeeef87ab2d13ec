"""How much faster do the scripts train than at an older commit? Images or characters a second, at default settings.

Each script trains for some seconds with its code of that commit and with today's, in turns, as a command of its own.
The rate of a turn is the median of the rows of its metrics.csv without the first two, which include compilation.
Quote the ratios rather than the rates: other programs on the machine change both.

    python -m benchmarks.speed_since c437156
    python -m benchmarks.speed_since c437156 --as_avx2     as a processor without AVX-512 would

Writes outputs/benchmarks/speed_since.json, or speed_since_avx2.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import results, same_weights
from common import cli, tables

NAME = "speed_since"
FLAGS = ("--precision", "float32", "--sample_every", "1000000", "--checkpoint_every", "1000000", "--epochs", "1000")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
# Before the scripts set this variable, TensorFlow enabled oneDNN on processors with AVX-512's neural extensions only.
WITHOUT_AVX512 = {**AVX2, "TF_ENABLE_ONEDNN_OPTS": "0"}


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    words = " with oneDNN limited to AVX2, which was off before" if result["as_avx2"] else ""
    lines = results.opening(
        "Speed of the scripts, now and before" + (", on a processor without AVX-512" if result["as_avx2"] else ""),
        f"benchmarks.speed_since {result['commit'][:7]}" + (" --as_avx2" if result["as_avx2"] else ""),
        f"Default settings, float32, {result['seconds']:g} s of training a turn{words}; "
        f"medians over the turns of images, or characters, a second. Before: commit {result['commit'][:7]}.",
    )
    columns = {
        "": "{script}.py",
        "turns": "{turns}",
        "before": "{before:,.0f}",
        "now": "{now:,.0f}",
        "ratio": "{ratio:.2f}",
    }
    return lines + results.table_of(result["rows"], columns)


def rate(tree: Path, script: str, seconds: float, environment: dict[str, str]) -> float:
    """Train a script of the project in `tree` for some seconds; return its images or characters a second."""
    with tempfile.TemporaryDirectory() as outputs:
        where = ("--output_dir", outputs, "--name", "run", "--minutes", f"{seconds / 60:.4f}")
        command = [sys.executable, f"{script}.py", *FLAGS, *where]
        ended = subprocess.run(command, cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"{script}.py failed in {tree}:\n{ended.stderr[-2000:]}")
        rows = tables.read(Path(outputs, script, "run", "metrics.csv"))
    (column,) = (name for name in rows[0] if name.endswith("_per_second"))
    if len(rows) < 4:
        raise SystemExit(f"{script}.py: only {50 * len(rows)} steps in {seconds:g} s; give more --seconds")
    return statistics.median(float(row[column]) for row in rows[2:])


def kept_rows(path: Path, result: dict, measured: Sequence[str]) -> list[dict]:
    """Return the rows of other scripts than the `measured` ones that an earlier result of the same kind has."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    is_same = all(earlier.get(name) == value for name, value in result.items())
    return [row for row in earlier["rows"] if row["script"] not in measured] if is_same else []


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("commit", help="to compare with")
    parser.add_argument("--only", nargs="+", default=results.SCRIPTS, choices=results.SCRIPTS, help="these scripts")
    parser.add_argument("--turns", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=40, help="of a turn (%(default)s)")
    parser.add_argument("--as_avx2", action="store_true", help="limit oneDNN to AVX2")
    options = parser.parse_args(argv)
    commit, rows = same_weights.full_name(options.commit), []
    before, now = (WITHOUT_AVX512, AVX2) if options.as_avx2 else ({}, {})
    with same_weights.tree_of(commit) as tree:
        for script in options.only:
            turns = []
            for _ in range(options.turns):
                pair = [(tree, before), (same_weights.ROOT, now)]
                turns.append([rate(folder, script, options.seconds, it) for folder, it in pair])
                print(f"{script}.py: {turns[-1][0]:,.0f} before, {turns[-1][1]:,.0f} now", flush=True)
            medians = [statistics.median(column) for column in zip(*turns, strict=True)]
            ratio = statistics.median(after / earlier for earlier, after in turns)
            rows.append(
                {"script": script, "turns": len(turns), "before": medians[0], "now": medians[1], "ratio": ratio}
            )
    result = {"commit": commit, "as_avx2": options.as_avx2, "seconds": options.seconds}
    name = f"{NAME}_avx2" if options.as_avx2 else NAME
    rows = kept_rows(results.FOLDER / f"{name}.json", result, options.only) + rows
    results.publish(
        name, {**result, "rows": sorted(rows, key=lambda row: results.SCRIPTS.index(row["script"]))}, section
    )


if __name__ == "__main__":
    main()
