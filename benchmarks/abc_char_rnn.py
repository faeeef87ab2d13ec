"""Does char_rnn.py learn to write music? How many of the bars that it writes have the right length.

The corpus is made here, so that nothing need be downloaded: tunes in ABC notation
(https://abcnotation.com/wiki/abc:standard:v2.1), each of two parts of eight bars in one of four metres, whose melodies
walk up and down a scale. `--tunes FILE` takes real ones, in ABC notation without chords and ornaments. A run is trained
on them, or the run of that name is resumed; then it writes tunes. A bar is right if its notes are together as long as
the tune's metre requires.

Writes outputs/benchmarks/abc_char_rnn.json and abc_char_rnn.abc.

    python -m benchmarks.abc_char_rnn --minutes 5
"""

import fractions
import re
from pathlib import Path

import numpy as np

import char_rnn
from benchmarks import results
from common import cli, files, saved_runs
from common.errors import UserError

NAME = "abc_char_rnn"
NOTES = ["C", "D", "E", "F", "G", "A", "B", "c", "d", "e", "f", "g", "a", "b"]
METRES = {"4/4": 8, "3/4": 6, "2/4": 4, "6/8": 6}  # and the eighths in a bar
RHYTHMS = {2: [[2], [1, 1]], 3: [[3], [2, 1], [1, 1, 1]]}  # of a beat of two or three eighths
NOTE = re.compile(r"[_^=]?[A-Ga-gz][,']*(\d*)(/?)(\d*)")


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    return results.opening(
        "Tunes by char_rnn.py",
        "benchmarks.abc_char_rnn",
        f"After {result['minutes']:g} minutes of training on tunes in ABC notation it wrote {result['tunes']} tunes; "
        f"{result['copied']} of them were among those it was trained on. Of their {result['bars']:,} bars, "
        f"{result['whole']:,} have the length that the metre requires, {result['whole'] / max(result['bars'], 1):.1%}.",
    )


def make_tune(number: int, random: np.random.Generator) -> str:
    """Return a tune in ABC notation: two parts of eight bars, each repeated."""
    metre = str(random.choice(list(METRES)))
    place, parts = int(random.integers(3, 9)), []
    for _ in range(2):
        bars = []
        for bar in range(8):
            if bar >= 4 and random.random() < 0.5:  # as four bars before
                bars.append(bars[bar - 4])
                continue
            beats = [3, 3] if metre == "6/8" else [2] * (METRES[metre] // 2)
            written = []
            for beat in beats:
                lengths, notes = RHYTHMS[beat][random.integers(len(RHYTHMS[beat]))], ""
                for length in lengths:
                    place = int(np.clip(place + random.choice([-2, -1, -1, 0, 1, 1, 2]), 0, len(NOTES) - 1))
                    notes += NOTES[place] + (str(length) if length > 1 else "")
                written.append(notes)
            bars.append(" ".join(written))
        parts.append("|:" + "|".join(bars[:4]) + "|\n" + "|".join(bars[4:]) + ":|\n")
    return f"X:{number}\nM:{metre}\nL:1/8\nK:C\n{''.join(parts)}\n"


def whole_bars(tune: str) -> tuple[int, int]:
    """Return how many bars of a tune have the length that its metre requires, and how many there are.

    A bar that holds anything but notes and rests is wrong. The last bar is not counted if the text ends within it.
    """
    metre = re.search(r"^M:(\d+)/(\d+)$", tune, re.MULTILINE)
    unit = re.search(r"^L:(\d+)/(\d+)$", tune, re.MULTILINE)
    if not metre or not unit:
        return 0, 0
    bar = fractions.Fraction(*map(int, metre.groups())) / fractions.Fraction(*map(int, unit.groups()))
    melody = "".join(line for line in tune.splitlines() if not re.match(r"[A-Za-z]:", line))
    bars = [it.strip() for it in re.split(r":?\|+:?", melody)[:-1]]
    bars = [it for it in bars if it]
    return sum(_length(it) == bar for it in bars), len(bars)


def _length(bar: str) -> fractions.Fraction | None:
    """Return the length of a bar in units; None if something in it is no note."""
    if NOTE.sub("", bar).strip():
        return None
    total = fractions.Fraction(0)
    for times, slash, parts in NOTE.findall(bar):
        total += fractions.Fraction(int(times or 1), int(parts or 2) if slash else 1)
    return total


def make_corpus(path: Path) -> None:
    """Write 4,000 tunes to `path`, unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        with files.atomic_write(path) as file:
            file.write("".join(make_tune(number, random) for number in range(1, 4001)).encode())


def count(written: str, corpus: str) -> dict[str, int]:
    """Return how many tunes and bars were written, how many bars are right, and how many tunes the corpus has."""
    tunes = [f"X:{tune}" for tune in written.split("X:")[1:-1]]  # the last is cut off
    whole, bars = (sum(counts) for counts in zip((0, 0), *map(whole_bars, tunes), strict=True))
    known = {tune.partition("\n")[2].strip() for tune in corpus.split("\n\n")}  # without its number
    copied = sum(tune.partition("\n")[2].strip() in known for tune in tunes)
    return {"tunes": len(tunes), "bars": bars, "whole": whole, "copied": copied}


@cli.one_line_errors
def main(argv=None):
    """Train, write, check, and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="of training (%(default)s)")
    parser.add_argument("--tunes", help="a file of tunes in ABC notation, instead of those made here")
    parser.add_argument("--name", default="abc", help="of the run (%(default)s)")
    arguments = parser.parse_args(argv)
    corpus = Path(arguments.tunes or results.FOLDER / "abc_char_rnn.txt")
    if not arguments.tunes:
        make_corpus(corpus)
    folder = results.FOLDER / "char_rnn" / arguments.name
    start = ["--name", arguments.name]
    if folder.exists():
        start = ["--resume", str(folder)]
        if saved_runs.SavedRun(folder).settings["train"] != [str(corpus)]:
            raise UserError(f"{folder} was trained on other tunes; choose another --name")
    start += ["--train", str(corpus), "--minutes", str(arguments.minutes)]
    char_rnn.main([*start, "--output_dir", str(results.FOLDER)])
    char_rnn.main(["--sample", "20000", "--prime", "X:1\n", "--run", str(folder)])
    written = (folder / "generated" / "sample.txt").read_text()
    with files.atomic_write(results.FOLDER / f"{NAME}.abc") as file:
        file.write(written.encode())
    results.publish(NAME, {"minutes": arguments.minutes, "seeds": 1, **count(written, corpus.read_text())}, section)


if __name__ == "__main__":
    main()
