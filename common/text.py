"""A corpus on disk: its alphabet, its characters encoded as small integers, and the windows in which it is read.

Memory use does not grow with the text: it is read in pieces, and the encoded text is a memory-mapped file.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common import text_files
from common.errors import UserError
from common.files import as_user_error, atomic_write, map_array
from common.progress import phase, progress

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # stands for all characters that the alphabet lacks
CODE_POINTS = 0x110000  # in Unicode
LITTLE_TEXT = 100_000  # characters; a network memorises a shorter text
MOST_VALIDATED = 500_000  # characters; with all of a large text's tenth, validating would take longer than training


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """The characters that a network knows; a character's index is its place among them.

    The last is UNKNOWN, which stands for all others.
    """

    characters: str

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def unknown(self) -> int:
        """The index of UNKNOWN."""
        return len(self.characters) - 1

    @property
    def start(self) -> str:
        """The character that is put before a text, so that its first one can be predicted: a line end if known."""
        return "\n" if "\n" in self.characters else self.characters[0]

    def missing(self, text: str) -> str:
        """Return the characters of `text` that the alphabet lacks, each once, sorted."""
        return "".join(sorted(set(text) - set(self.characters)))

    def check_is_writable(self, text: str, flag: str) -> None:
        """Raise UserError unless the network can write `text`, the value of `flag`."""
        if missing := self.missing(text):
            raise UserError(f"{flag}: the network never writes {quoted(missing)}")

    @phase("encoding the text")
    def encode(self, text: str, map_unknown: bool = False) -> np.ndarray:
        """Return the indices of the characters of `text`, int32 (len(text),).

        map_unknown: replace characters that the alphabet lacks with UNKNOWN. Without it, they raise UserError.
        """
        if not map_unknown and (missing := self.missing(text)):
            raise UserError(f"the network does not know {quoted(missing)}; --map_unknown replaces unknown characters")
        indices = {character: index for index, character in enumerate(self.characters)}
        return np.array([indices.get(character, self.unknown) for character in text], np.int32)

    def encode_any(self, text: str, name: str) -> np.ndarray:
        """Return the indices of `start` and of the characters of `text`, int32 (1 + len(text),).

        Characters that the alphabet lacks are replaced with UNKNOWN; one line says how many. name: of the text.
        Raises UserError if it lacks all of them.
        """
        if missing := self.missing(text):
            count = sum(map(text.count, missing))
            if count == len(text):
                raise UserError(f"{name}: the network knows none of its characters; give a text that has some of them")
            words = "characters are unknown to the network and left out"
            print(f"{name}: {count:,} of {len(text):,} {words}: {quoted(missing)}", flush=True)
        return self.encode(self.start + text, map_unknown=True)

    def decode(self, indices) -> str:
        """Return the text whose characters have these indices."""
        return "".join(self.characters[index] for index in indices)


class Text:
    """An encoded text in two parts: the last tenth is for validation, the rest for training.

    indices: those of all characters, (length,); training, validation: its two parts. missing: the characters that the
    alphabet lacks. name: where the text comes from, for people to read. digest: identifies text and alphabet.
    unit: what metrics.csv counts per second. flag: names the text on the command line.
    """

    unit, flag = "characters", "--train"

    def __init__(self, alphabet: Alphabet, indices: np.ndarray, name: str, digest: str, sources=(), missing: str = ""):
        """Split `indices`, an array or a mapped file; sources: (path, size, time of change) of each file read."""
        self.alphabet, self.name, self.digest, self.missing, self._sources = alphabet, name, digest, missing, sources
        split = len(indices) - len(indices) // 10
        self.indices, self.training, self.validation = indices, indices[:split], indices[split:][:MOST_VALIDATED]
        self.length = len(indices)

    @property
    def extent(self) -> str:
        """The length of the text, for people to read."""
        return f"{self.length:,} characters"

    @property
    def description(self) -> dict:
        """What config.json holds about the text."""
        return {
            "name": self.name,
            "characters": self.length,
            "alphabet": self.alphabet.characters,
            "digest": self.digest,
        }

    def steps(self, config) -> int:
        """Return the number of batches in an epoch: one fewer than fit, so that epochs can start at any offset.

        Raises UserError if the text is too short for one batch and something to validate on.
        """
        steps = (len(self.training) - 1) // (config.batch_size * config.window) - 1
        if steps < 1 or len(self.validation) < 2:
            needed = 10 * (2 * config.batch_size * config.window + 1) // 9 + 10
            raise UserError(
                f"{self.name} holds {self.extent}, but --batch_size {config.batch_size} sequences of "
                f"--window {config.window} need {needed:,}; give more text or smaller numbers"
            )
        return steps

    def per_step(self, config) -> int:
        """Return the number of characters in a batch."""
        return config.batch_size * config.window

    def batches(self, config, epoch: int, first: int, count: int, gather=None) -> tuple[np.ndarray, np.ndarray]:
        """Return windows of the text, int32 (count, batch_size, window + 1), and whether each continues the one before.

        The text is split into `batch_size` streams, and each row of the batch moves along its stream window by window,
        so that the network's state can be carried over. Each window's last character is the next one's first.
        The second array, float32 (count, batch_size), is 1 for a row that continues its stream and 0 where the stream
        starts. The streams start at a different offset in each epoch. first, count: the batches of the epoch. gather:
        unused, as these batches are small.
        """
        text, window, size = self.epoch_indices(config, epoch), config.window, config.batch_size
        offset = int(np.random.default_rng([config.seed, epoch]).integers(window))
        numbers = np.arange(first, first + count)[:, None]
        starts = offset + (np.arange(size) * self.steps(config) + numbers) * window  # (count, batch_size)
        windows = np.stack([text[start : start + window + 1] for start in starts.ravel()]).astype(np.int32)
        return windows.reshape(count, size, window + 1), np.repeat(numbers > 0, size, axis=1).astype(np.float32)

    def epoch_indices(self, config, epoch: int) -> np.ndarray:
        """Return the indices that an epoch trains on; a corpus has the same in every epoch."""
        return self.training

    def check_unchanged(self) -> None:
        """Raise UserError if a file has been written to since it was read."""
        for path, *before in self._sources:
            if before != list(_state(path)):
                raise UserError(
                    f"{path} has changed since the training began; if its text is the same, continue with --resume, "
                    "otherwise start a new run"
                )


@phase("reading the text")
def load(paths: Sequence[str], encoding: str, min_count: int, folder: Path, alphabet: Alphabet | None = None) -> Text:
    """Return the text of files and folders, concatenated; without any, that of Python's standard library.

    min_count: characters that occur less often become UNKNOWN. folder: keeps the encoded text, which is found there
    when the same text is loaded again. alphabet: replaces the text's own.
    Raises UserError if a file cannot be read or is not text, or if the text has fewer than two different characters.
    """
    name = ", ".join(paths) or "Python's standard library"
    files = text_files.find(paths, encoding)
    sources = [(path, *_state(path)) for path in files]
    counts, digest = _count(files, encoding, sum(size for _, size, _ in sources))
    if not counts:
        raise UserError(f"{name}: is empty" if len(files) == 1 else f"{name}: all files are empty")
    if alphabet is None:
        common = "".join(character for character, count in counts.items() if count >= min_count)
        alphabet = Alphabet(common.replace(UNKNOWN, "") + UNKNOWN)
    if len(alphabet) < 3:
        times = f" at least {min_count} times" if min_count > 1 else ""
        raise UserError(f"{name}: needs two different characters that occur{times}")
    digest.update(json.dumps(alphabet.characters).encode())
    length, missing = sum(counts.values()), alphabet.missing("".join(counts))
    path = folder / f"{digest.hexdigest()[:16]}.numbers"
    dtype = np.min_scalar_type(len(alphabet) - 1)
    with as_user_error(path):
        is_encoded = path.exists() and path.stat().st_size == length * dtype.itemsize
    if not is_encoded:
        _encode(files, encoding, alphabet, dtype, path, length)
    unknown = sum(counts[character] for character in missing)
    read_as_unknown = f", {unknown:,} read as unknown" if unknown else ""
    print(f"data: {name}, {length:,} characters, {len(alphabet) - 1} different{read_as_unknown}", flush=True)
    if length < LITTLE_TEXT:
        print(f"the text is short: a network memorises fewer than {LITTLE_TEXT:,} characters", flush=True)
    return Text(alphabet, map_array(path, dtype), name, digest.hexdigest(), sources, missing)


def quoted(characters: str) -> str:
    """Return at most twenty characters as a list for people to read: 'é', 'ß', '\\n'."""
    shown = ", ".join(map(repr, characters[:20]))
    return shown + (f" and {len(characters) - 20} more" if len(characters) > 20 else "")


def _count(files: list[Path], encoding: str, size: int):
    """Return how often each character occurs, as a dict in the order of Unicode, and the SHA-256 object of the text.

    size: that of all files, in bytes.
    """
    counts, digest = np.zeros(CODE_POINTS, np.int64), hashlib.sha256()
    for piece in progress(text_files.pieces(files, encoding), "reading text", size // text_files.PIECE + 1):
        counts += np.bincount(_code_points(piece), minlength=CODE_POINTS)
        digest.update(piece.encode("utf-8", "surrogatepass"))
    return {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}, digest


def _encode(files: list[Path], encoding: str, alphabet: Alphabet, dtype: np.dtype, path: Path, length: int) -> None:
    """Write the indices of all characters, each of type `dtype`, to the file `path`; length: their number."""
    table = np.full(CODE_POINTS, alphabet.unknown, dtype)  # from code point to index
    table[[ord(character) for character in alphabet.characters]] = np.arange(len(alphabet))
    with as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with atomic_write(path) as file:
        for piece in progress(text_files.pieces(files, encoding), "encoding text", length // text_files.PIECE + 1):
            indices = table[_code_points(piece)]
            file.write(indices.tobytes())
            written += len(indices)
        if written != length:
            raise UserError(f"{path.name}: the text changed while it was being read; try again")


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _state(path: Path) -> tuple[int, int]:
    """Return the size of a file and the time of its last change, which reveal a later change."""
    try:
        status = path.stat()
    except OSError:  # deleted
        return -1, -1
    return status.st_size, status.st_mtime_ns
