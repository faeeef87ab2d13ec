"""How benchmarks read their flags, keep what they measured, and report it.

Each benchmark writes outputs/benchmarks/<name>.json and has a function `section`, which turns the contents of that file
into lines of Markdown. The benchmark prints them, and `python -m benchmarks.report` collects them in docs/results.md.
"""

import argparse
import datetime
import importlib
import platform
import subprocess
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common import cores, files, pictures
from common.errors import UserError

FOLDER = Path("outputs/benchmarks")
SCRIPTS = ("dcgan_mnist", "vanilla_gan", "gan_cifar10", "autoencoder", "vae", "char_rnn")  # that train a network


def parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's flags, whose help begins with its docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def needed(package: str):
    """Import a package that only some benchmarks need. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"{package} is not installed: pip install -r benchmarks/requirements.txt") from None


def machine() -> str:
    """Return where figures are measured, in words: the processor, its cores, and the versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return f"{processor or platform.processor()}, {counted(cores.count(), 'core')}; {versions}"


def counted(number: int, unit: str) -> str:
    """Return a number with its unit, such as "1 core" or "2 cores"."""
    return f"{number} {unit}{'' if number == 1 else 's'}"


def measured() -> dict[str, str]:
    """Return how a result was measured: on which machine, from which commit ("+": with changes), on which day."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=7"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout
    except OSError:  # git is not installed
        found = ""
    return {
        "measured_on": machine(),
        "measured_commit": found.strip(),
        "measured_date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def closing(result: dict) -> str:
    """Return the last sentences of a section: what is to be known of the figures, the seeds, the machine, and when.

    In a result, `seeds` is the number of seeds of each network that was trained, and `note` a reservation, in words.
    """
    sentences = [result["note"]] if "note" in result else []
    if seeds := result.get("seeds"):
        sentences.append("One seed." if seeds == 1 else f"{seeds} seeds.")
    sentences.append(f"Measured on {result['measured_on']}.")
    if "measured_date" in result:
        sentences.append(f"Commit {result['measured_commit'] or 'unknown'}, {result['measured_date']}.")
    return " ".join(sentences)


def write_json(name: str, result: dict) -> dict:
    """Write a result, and how it was measured, to outputs/benchmarks/<name>.json; return what was written."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {**result, **measured()}
    files.write_json(FOLDER / f"{name}.json", result)
    return result


def publish(name: str, result: dict, section: Callable[[dict], list[str]]) -> None:
    """Print the section of a result, and write the result as `write_json` does."""
    lines = section(result)
    print("\n".join([*lines, "", *paragraph(closing(write_json(name, result)))]), flush=True)
    print(f"\nwritten to {FOLDER / name}.json")


def save_figure(name: str, figure) -> None:
    """Write a figure of Matplotlib to outputs/benchmarks/<name>.png."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pictures.save_figure(FOLDER / f"{name}.png", figure, dpi=120)


def opening(title: str, command: str, text: str) -> list[str]:
    """Return the first lines of a section: its title, its command `python -m <command>`, and a text."""
    return [f"## {title}", "", f"    python -m {command}", "", *paragraph(text)]


def spread(values: Iterable[float], form: str) -> str:
    """Return the mean of the values of several seeds and their standard deviation, or the value of a single one."""
    values = list(values)
    deviation = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{deviation}"


def paragraph(text: str) -> list[str]:
    """Break a text into lines of at most 120 characters."""
    return textwrap.wrap(text.strip(), 120, break_long_words=False, break_on_hyphens=False)


def table(headings: Iterable[str], rows: Iterable[Iterable]) -> list[str]:
    """Return a table in Markdown, with an empty line before it."""
    headings = list(headings)
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (headings, *rows)]
    return ["", lines[0], "|---" * len(headings) + "|", *lines[1:]]


def table_of(rows: Iterable[dict], columns: dict[str, str]) -> list[str]:
    """Return a table of `rows`, which hold values by name.

    columns: the format of a cell by its heading, such as {"minutes": "{minutes:.1f}"}.
    """
    return table(columns, [[form.format(**row) for form in columns.values()] for row in rows])
