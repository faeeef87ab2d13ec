"""The tables of a run, metrics.csv and validation.csv: whole rows of numbers below a header."""

import csv
import io
from pathlib import Path

import numpy as np

from common import files
from common.errors import UserError, reason_of


def read(path: Path, last_step: float = np.inf, is_reported: bool = True) -> list[dict[str, str]]:
    """Return the rows of a table up to a step; all their cells are numbers. Without the file there are none.

    A row that a killed process left unfinished is dropped, and so is everything from the first damaged row on.
    is_reported: print a line about such damage. Raises UserError if the file cannot be read at all.
    """
    if not path.exists():
        return []
    try:
        text = files.read_bytes(path).decode(errors="surrogateescape")  # a number with such a character is no number
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}; move it away to continue without it") from None
    lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    rows = []
    try:
        header = next(lines, ["step"])
        if "step" not in header or len(set(header)) < len(header):
            raise ValueError
        for cells in lines:
            row = dict(zip(header, cells, strict=True))
            if int(row["step"]) < 0:
                raise ValueError
            list(map(float, cells))
            rows.append(row)
    except (ValueError, csv.Error):
        if is_reported:
            print(f"{path} is damaged from line {max(lines.line_num, 1)} on; rows kept: {len(rows)}", flush=True)
    return [row for row in rows if int(row["step"]) <= last_step]


def as_csv(rows: list[dict], header: bool = True) -> bytes:
    """Return rows as the bytes of a table, with or without its header."""
    if not rows:
        return b""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
