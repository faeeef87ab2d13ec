"""How soon do help and error messages come? Processor seconds of commands that need no network.

Each command runs several times, in turns: the help, a flag that does not exist, and a file that is missing. All of a
command's threads count, and other programs on the machine do not. Writes outputs/benchmarks/startup.json; exit status 1
if a median is over one second.

    python -m benchmarks.startup
"""

import os
import statistics
import subprocess
import sys

from benchmarks import results
from common import cli

NAME = "startup"
LIMIT = 1.0  # seconds
FILE_FLAGS = {"char_rnn": "--train", "deep_dream": "--image_path", "get_ckpt": "--from"}
SCRIPTS = (*results.SCRIPTS, "deep_dream", "get_ckpt")
KINDS = ("help", "typing error", "missing file")


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    lines = results.opening(
        "Processor seconds until help and errors", "benchmarks.startup", f"Medians of {result['repeats']} turns."
    )
    rows = [(f"{script}.py", *(f"{it[kind]:.2f}" for kind in KINDS)) for script, it in result["seconds"].items()]
    return lines + results.table(("", *KINDS), rows)


def seconds(script: str, kind: str) -> float:
    """Return the processor time that a command takes."""
    words = {
        "help": ["--help"],
        "typing error": ["--no_such_flag", "1"],
        "missing file": [FILE_FLAGS.get(script, "--data"), "no_such_file"],
    }
    begin = os.times()
    ended = subprocess.run([sys.executable, f"{script}.py", *words[kind]], capture_output=True, check=False)
    if ended.returncode != (0 if kind == "help" else 2):
        raise SystemExit(f"{script}.py {' '.join(words[kind])}: {ended.stderr.decode()}")
    end = os.times()
    return end.children_user + end.children_system - begin.children_user - begin.children_system


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each command (%(default)s)")
    repeats = parser.parse_args(argv).repeats
    turns = [{(script, kind): seconds(script, kind) for script in SCRIPTS for kind in KINDS} for _ in range(repeats)]
    medians = {
        script: {kind: statistics.median(turn[script, kind] for turn in turns) for kind in KINDS} for script in SCRIPTS
    }
    results.publish(NAME, {"repeats": repeats, "seconds": medians}, section)
    slow = [f"{script}.py, {kind}" for script, of_kind in medians.items() for kind in KINDS if of_kind[kind] > LIMIT]
    if slow:
        raise SystemExit(f"over {LIMIT:g} s: {'; '.join(slow)}")


if __name__ == "__main__":
    main()
