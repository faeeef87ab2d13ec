"""Text to train on: decoded, encoded to a file of small integers, split, and read in windows; or sums, made as needed.

Memory does not grow with the text: it is read in pieces, and what is trained on lies in a file that is mapped.
"""

import codecs
import contextlib
import dataclasses
import hashlib
import html
import io
import itertools
import json
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.cli import UserError, progress
from common.files import is_hidden, told_in_one_line, whole

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # stands for all characters that the alphabet lacks
PIECE = 1 << 22  # bytes read at a time
CODE_POINTS = 0x110000  # of Unicode
FEW = 100_000  # characters; with fewer there is little to learn
SUMS_LENGTH = 1_000_000  # characters in an epoch of sums
WIDE = ("utf-16", "utf-32")  # encodings with several bytes for each character
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BINARY = "{}: looks like binary data, not text: it holds zero bytes"
MOST_VALIDATED = 500_000  # characters, so that validating a large text does not take longer than training on it


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """The characters that a network knows, in the order of their numbers.

    The last is UNKNOWN, which stands for all others.
    """

    characters: str

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def unknown(self) -> int:
        """The number of UNKNOWN."""
        return len(self.characters) - 1

    @property
    def opening(self) -> str:
        """What a text is taken to follow, as its first character must follow something: the end of a line if known."""
        return "\n" if "\n" in self.characters else self.characters[0]

    def missing(self, text: str) -> str:
        """The characters of `text` that are not in the alphabet, each once, in order."""
        return "".join(sorted(set(text) - set(self.characters)))

    def encode(self, text: str, map_unknown: bool = False) -> np.ndarray:
        """Return the numbers of the characters, int32 (len(text),).

        map_unknown: take those that are not in the alphabet for UNKNOWN. Else raises UserError, which names them.
        """
        if not map_unknown and (missing := self.missing(text)):
            raise UserError(
                f"the network never saw {named(missing)}; --map_unknown reads such characters as unknown ones"
            )
        numbers = {character: number for number, character in enumerate(self.characters)}
        return np.array([numbers.get(character, self.unknown) for character in text], np.int32)

    def decode(self, numbers) -> str:
        """Return the text of the characters' numbers."""
        return "".join(self.characters[number] for number in numbers)


class Text:
    """A text, split: the last tenth validates, the rest is trained on.

    numbers: of the characters, one after the other; training, validation: its two parts. name: where they come from,
    for people to read.
    """

    unit, flag = "characters", "--train"

    def __init__(self, alphabet: Alphabet, numbers: np.ndarray, name: str, digest: str, sources=()):
        """Take over `numbers`, an array or a mapped file; sources: (path, size, time of change) of what was read."""
        self.alphabet, self.name, self.digest, self._sources = alphabet, name, digest, sources
        split = len(numbers) - len(numbers) // 10
        self.numbers, self.training, self.validation = numbers, numbers[:split], numbers[split:][:MOST_VALIDATED]
        self.length = len(numbers)

    @property
    def extent(self) -> str:
        """How much there is, for people to read."""
        return f"{self.length:,} characters"

    @property
    def description(self) -> dict:
        """What config.json keeps of it."""
        return {
            "name": self.name,
            "characters": self.length,
            "alphabet": self.alphabet.characters,
            "digest": self.digest,
        }

    def steps(self, config) -> int:
        """Return how many batches make an epoch. Raises UserError if there is not even one, or too little to validate.

        One window less than would fit, so that each epoch can start elsewhere.
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
        """Return how many characters a batch has."""
        return config.batch_size * config.window

    def batches(self, config, epoch: int, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield windows of text, int32 (batch_size, window + 1), and which of them go on, float32 (batch_size,).

        The text is cut into as many streams as there are rows, and each row goes through its stream window by window,
        so that a network can carry its state on; 0 where a stream starts. Each window's last character is the next
        one's first. The streams start at another character in each epoch. first: number of the first batch.
        """
        text, steps, window = self._of_epoch(config, epoch), self.steps(config), config.window
        offset = int(np.random.default_rng([config.seed, epoch]).integers(window))
        for number in range(first, steps):
            starts = offset + (np.arange(config.batch_size) * steps + number) * window
            rows = [text[start : start + window + 1] for start in starts]
            yield np.stack(rows).astype(np.int32), np.full(config.batch_size, number > 0, np.float32)

    def _of_epoch(self, config, epoch: int) -> np.ndarray:
        return self.training

    def check_unchanged(self) -> None:
        """Raise UserError if a file was written to since it was read: the network would learn a text that is gone."""
        for path, *before in self._sources:
            if before != list(_state(path)):
                raise UserError(
                    f"{path} was written to since the training began; if it holds the same text, go on with --resume, "
                    "else start a new run"
                )


class Sums(Text):
    """Additions, made as they are needed, such as 612+59=671, each on a line of its own.

    10,000 of them, or a tenth if there are fewer, are held out: `held_out` holds both numbers of each, int64 (N, 2).
    """

    def __init__(self, digits: int, reverse: bool):
        """Make sums of two numbers of up to so many digits; reverse: write answers from their last digit to the first.

        No two epochs, of a million characters each, are alike.
        """
        self._size, self._reverse = 10**digits, reverse
        count = min(10_000, self._size**2 // 10)
        chosen = np.random.default_rng(0).choice(self._size**2, count, replace=False)
        self.held_out = np.stack(divmod(chosen, self._size), axis=-1)
        self._is_held_out = np.zeros(self._size**2, bool)
        self._is_held_out[chosen] = True
        alphabet = Alphabet("\n+0123456789=" + UNKNOWN)
        lines = "".join(map(self.line, self.held_out))
        name = f"sums of numbers up to {self._size - 1}" + (", answers reversed" if reverse else "")
        super().__init__(alphabet, alphabet.encode(lines), name, hashlib.sha256(name.encode()).hexdigest())
        self.validation, self.length = self.numbers[:MOST_VALIDATED], SUMS_LENGTH
        self.training = np.broadcast_to(np.uint8(0), SUMS_LENGTH)  # stands for each epoch's own

    def question(self, pair) -> str:
        """Return what comes before the answer: "612+59="."""
        return f"{pair[0]}+{pair[1]}="

    def answer(self, pair) -> str:
        """Return the sum of both numbers, as the network should write it."""
        answer = str(pair[0] + pair[1])
        return answer[::-1] if self._reverse else answer

    def line(self, pair) -> str:
        """Return a whole line."""
        return f"{self.question(pair)}{self.answer(pair)}\n"

    def _of_epoch(self, config, epoch: int) -> np.ndarray:
        random, text = np.random.default_rng([1, config.seed, epoch]), ""
        while len(text) < self.length:
            pairs = random.integers(self._size, size=(10_000, 2))
            pairs = pairs[~self._is_held_out[pairs[:, 0] * self._size + pairs[:, 1]]]
            text += "".join(map(self.line, pairs.tolist()))
        return self.alphabet.encode(text[: self.length])


def load(
    paths: Sequence[str],
    encoding: str,
    min_count: int,
    folder: Path,
    alphabet: Alphabet | None = None,
    strict_unless: str | None = None,
) -> Text:
    """Return the text of files and folders, one after the other; without any, of Python's standard library.

    min_count: characters that are rarer become UNKNOWN. folder: where the encoded text is kept; what lies there of the
    same text is used again. alphabet: in place of the text's own; strict_unless: which must have all of its characters,
    unless its digest is this one.
    Raises UserError if something cannot be read, is no text, or has other characters than it must.
    """
    name = ", ".join(paths) or "Python's standard library"
    files = _files(list(paths) or [sysconfig.get_paths()["stdlib"]], encoding, is_library=not paths)
    sources = [(path, *_state(path)) for path in files]
    counts, digest = np.zeros(CODE_POINTS, np.int64), hashlib.sha256()
    for piece in progress(_pieces(files, encoding), "reading text", sum(size for _, size, _ in sources) // PIECE):
        counts += np.bincount(_code_points(piece), minlength=CODE_POINTS)
        digest.update(piece.encode("utf-8", "surrogatepass"))
    found = {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
    if not found:
        raise UserError(f"{name}: is empty" if len(files) == 1 else f"{name}: all files are empty")
    if alphabet is None:
        common = "".join(character for character, count in found.items() if count >= min_count)
        alphabet = Alphabet(common.replace(UNKNOWN, "") + UNKNOWN)
    digest.update(json.dumps(alphabet.characters).encode())
    if strict_unless not in (None, digest.hexdigest()) and (missing := alphabet.missing("".join(found))):
        raise UserError(
            f"{name} holds {named(missing)}, which the run's alphabet lacks; "
            "--map_unknown reads such characters as unknown ones"
        )
    if len(alphabet) < 3:
        raise UserError(f"{name}: has no two kinds of characters" + (f" {min_count} times" if min_count > 1 else ""))
    length = int(counts.sum())
    path = folder / f"{digest.hexdigest()[:16]}.numbers"
    kind = np.min_scalar_type(len(alphabet) - 1)
    with told_in_one_line(path):
        is_encoded = path.exists() and path.stat().st_size == length * kind.itemsize
    if not is_encoded:
        _encode(files, encoding, alphabet, kind, path, length)
    rare = sum(count for character, count in found.items() if character not in alphabet.characters)
    print(
        f"data: {name}, {length:,} characters, {len(alphabet) - 1} different"
        + (f", {rare:,} read as unknown" if rare else ""),
        flush=True,
    )
    if length < FEW:
        print(f"that is little: from fewer than {FEW:,} characters a network learns them by heart", flush=True)
    return Text(alphabet, np.memmap(path, kind, "r"), name, digest.hexdigest(), sources)


def read(path: str | Path, encoding: str) -> str:
    """Return the text of one file, whole. Raises UserError if it cannot be read or is no text."""
    text = "".join(_pieces(_files([str(path)], encoding), encoding))
    if not text:
        raise UserError(f"{path}: is empty")
    return text


def save_surprise(path: Path, text: str, bits: np.ndarray, title: str) -> None:
    """Write an HTML page of a text, each character on a ground that is the redder the more bits it has.

    bits: float32 (len(text),). Of a long text the page shows the first 100,000 characters.
    """
    shown, parts = text[:100_000], []
    steps = np.clip(bits[: len(shown)] * 2, 0, 20).astype(int)  # half a bit each
    for step, run in itertools.groupby(zip(steps, shown, strict=True), key=lambda it: it[0]):
        parts.append(f'<i class="s{step}">{html.escape("".join(character for _, character in run))}</i>')
    style = "".join(f".s{step}{{background:rgb(255,{255 - 11 * step},{255 - 12 * step})}}" for step in range(21))
    cut = f", of which these are the first {len(shown):,}" if len(shown) < len(text) else ""
    page = (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>'
        f"pre{{white-space:pre-wrap;font-size:15px}}i{{font-style:normal}}{style}</style></head><body>"
        f"<p>{html.escape(title)}: {bits.mean():.3f} bits a character; {len(text):,} characters{cut}. "
        f'From <i class="s0">expected</i> to <i class="s20">10 bits and more</i>.</p>'
        f"<pre>{''.join(parts)}</pre></body></html>\n"
    )
    with whole(path) as file:
        file.write(page.encode("utf-8", "replace"))


def named(characters: str) -> str:
    """Write characters for people to read, at most twenty: 'é', 'ß', '\\n'."""
    shown = ", ".join(map(repr, characters[:20]))
    return shown + (f" and {len(characters) - 20} more" if len(characters) > 20 else "")


def _files(paths: list[str], encoding: str, is_library: bool = False) -> list[Path]:
    """All files that `paths` mean; of folders those that are neither hidden nor binary, in alphabetic order.

    encoding: in those of WIDE any text has the zero bytes by which binary files are told.
    """
    found = []
    for given in paths:
        path = Path(given)
        try:
            path = path.expanduser()
            exists, is_folder = bool(given) and path.exists(), path.is_dir()
        except (OSError, RuntimeError) as error:  # a name too long, the home of nobody
            raise UserError(f"{given}: {getattr(error, 'strerror', None) or error}") from None
        if not exists:
            raise UserError(f"{given}: there is no such file or folder")
        if not is_folder:
            found.append(path)
            continue
        inside = sorted(path.rglob("*.py") if is_library else path.rglob("*"))
        if is_library:  # its own tests and what was installed beside it are not the library
            inside = [it for it in inside if not {"site-packages", "test", "tests"} & set(it.relative_to(path).parts)]
        inside = [it for it in inside if not is_hidden(it, path)]
        try:
            inside = [it for it in inside if it.is_file()]
        except OSError as error:  # a folder that may be listed but not entered
            raise UserError(f"{error.filename} cannot be read: {error.strerror.lower()}") from None
        is_known_text = is_library or _codec(encoding).name.startswith(WIDE)
        texts = [it for it in inside if is_known_text or not _is_binary(it)]
        if not texts:
            raise UserError(f"{given}: no text in it" + (f"; its {len(inside)} files are binary" if inside else ""))
        if len(texts) < len(inside):
            print(f"left out {len(inside) - len(texts)} of the {len(inside)} files in {given}: binary")
        found += texts
    return found


def _is_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(8192)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    return b"\0" in start and not start.startswith(UTF16_MARKS)


def _codec(encoding: str) -> codecs.CodecInfo:
    try:
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding:
            raise LookupError
    except LookupError:
        raise UserError(f"--encoding {encoding}: Python knows no such encoding; utf-8 and latin-1 are common") from None
    return codec


def _pieces(files: list[Path], encoding: str) -> Iterator[str]:
    """Yield the files' text in pieces, without byte order marks, all line ends as "\\n"."""
    codec = _codec(encoding)
    for path in files:
        decoder = codec.incrementaldecoder()
        lines = io.IncrementalNewlineDecoder(decoder=None, translate=True)
        position, is_start = 0, True
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
                while True:
                    read = file.read(PIECE)
                    is_utf16 = not position and read.startswith(UTF16_MARKS) and b"\0" in read
                    if is_utf16 and not codec.name.startswith(WIDE):
                        raise UserError(f"{path}: begins as UTF-16 does; give --encoding utf-16")
                    try:
                        text = decoder.decode(read, final=not read)
                    except UnicodeDecodeError as error:
                        if b"\0" in error.object and not codec.name.startswith(WIDE):
                            raise UserError(BINARY.format(path)) from None
                        offset = position + len(read) - len(error.object) + error.start
                        raise UserError(
                            f"{path}: byte {error.object[error.start]:#04x} at offset {offset:,} is not {encoding}; "
                            "give the right --encoding, or mend the file"
                        ) from None
                    position += len(read)
                    if "\0" in text:
                        raise UserError(BINARY.format(path))
                    text = lines.decode(text.removeprefix("\N{BOM}") if is_start else text, final=not read)
                    is_start = is_start and not text
                    if text:
                        yield text
                    if not read:
                        break
            except OSError as error:
                raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
            except UnicodeError as error:  # of utf-16 without its mark
                raise UserError(f"{path}: is not {encoding}: {error}") from None


def _encode(files: list[Path], encoding: str, alphabet: Alphabet, kind: np.dtype, path: Path, length: int) -> None:
    """Write the numbers of all characters, one after the other, each of the type `kind`, as the file `path`."""
    table = np.full(CODE_POINTS, alphabet.unknown, kind)  # by code point
    table[[ord(character) for character in alphabet.characters]] = np.arange(len(alphabet))
    with told_in_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with whole(path) as file:
        for piece in progress(_pieces(files, encoding), "encoding text", length // PIECE):
            numbers = table[_code_points(piece)]
            file.write(numbers.tobytes())
            written += len(numbers)
        if written != length:
            raise UserError(f"{path.name}: the text has changed while it was read; try again")


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # gone
        return -1, -1
    return status.st_size, status.st_mtime_ns
