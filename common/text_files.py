"""Text files: found in folders, decoded piece by piece, and refused if they hold anything but text."""

import codecs
import dataclasses
import io
import os
import re
import sysconfig
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from common import flags, folders
from common.errors import UserError, reason_of
from common.files import is_hidden

PIECE = 1 << 22  # bytes read at a time
WIDE = ("utf-16", "utf-32")  # encodings with several bytes for each character, some of them zero
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UNMARKED = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
BINARY = "looks like binary data, not text: it holds zero bytes"
ALREADY_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # pipes that a shell has opened, as for <(cat a b)
START = 8192  # bytes from which an encoding is recognised


def find(paths: Sequence[str], encoding: str, read_once: bool = False) -> list[Path]:
    """Return the files that `paths` name, in that order; without any, those of Python's standard library.

    A folder stands for its files that are neither hidden nor binary, sorted by `folders.natural_order`. encoding: with
    those in WIDE, zero bytes are no sign of binary data. read_once: accept pipes that a shell has opened.
    Raises UserError if a path does not exist, cannot be read, holds no text, or is a pipe or device.
    """
    found = [] if paths else _standard_library()
    for given in paths:
        path = Path(given)
        try:
            exists, is_folder, is_file = bool(given) and path.exists(), path.is_dir(), path.is_file()
        except OSError as error:  # a name that is too long
            raise UserError(f"{given}: {reason_of(error)}") from None
        if not exists:
            raise UserError(f"{given}: there is no such file or folder")
        if not (is_folder or is_file or (read_once and given.startswith(ALREADY_OPEN) and path.is_fifo())):
            raise UserError(f"{given}: a pipe or device, not a file; write the text to a file and name that")
        found += _texts_in(path, encoding) if is_folder else [path]
    return found


def read(path: str | Path, encoding: str) -> str:
    """Return the whole text of one file. Raises UserError if it cannot be read, is empty or is not text."""
    text = "".join(pieces(find([str(path)], encoding, read_once=True), encoding))
    if not text:
        raise UserError(f"{path}: is empty")
    return text


def unescape(config, given: Sequence[str]):
    """Return the config with the values of flags marked `flags.EscapedText` replaced by the texts they stand for.

    given: the fields of the flags on the command line; the settings of a saved run are left as they are. Files have the
    encoding `config.encoding`. Raises UserError if one cannot be read.
    """
    texts = {}
    for field, markers in flags.markers_of(type(config)).items():
        for marker in markers:
            if isinstance(marker, flags.EscapedText) and field in given:
                value = getattr(config, field)
                if marker.may_be_file and value.startswith("@") and not value.startswith("@@"):
                    path = os.path.expanduser(value[1:])  # noqa: PTH111 - as flags.expand_paths
                    texts[field] = read(path, config.encoding).removesuffix("\n")
                else:
                    value = value[1:] if marker.may_be_file and value.startswith("@@") else value
                    texts[field] = re.sub(r"\\([n\\])", lambda it: "\n" if it[1] == "n" else "\\", value)
    return dataclasses.replace(config, **texts)


def pieces(files: list[Path], encoding: str) -> Iterator[str]:
    """Yield the text of files in pieces, without byte order marks, each line end as "\\n".

    Raises UserError if a file cannot be read or is not text in this encoding.
    """
    codec = _codec(encoding)
    for path in files:
        try:
            with path.open("rb") as file:
                yield from _decode(file, path, codec, encoding)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
        except UnicodeError as error:  # for example utf-16 without its byte order mark
            raise _refusal(path, encoding, f"is not {encoding}: {error}") from None


def _decode(file: BinaryIO, path: Path, codec: codecs.CodecInfo, encoding: str) -> Iterator[str]:
    decoder, is_wide = codec.incrementaldecoder(), codec.name.startswith(WIDE)
    newlines = io.IncrementalNewlineDecoder(decoder=None, translate=True)
    position, is_start, is_end = 0, True, False
    while not is_end:
        data = file.read(PIECE)
        is_end = not data
        if position == 0 and not is_wide and data.startswith(UTF16_MARKS) and b"\0" in data:
            raise _refusal(path, encoding)
        try:
            text = decoder.decode(data, final=is_end)
        except UnicodeDecodeError as error:
            offset = position + len(data) - len(error.object) + error.start
            reason = (
                f"byte {error.object[error.start]:#04x} at offset {offset:,} is not {encoding}; "
                "try another --encoding, or repair the file"
            )
            raise _refusal(path, encoding, BINARY if b"\0" in error.object and not is_wide else reason) from None
        if "\0" in text:
            raise _refusal(path, encoding)
        position += len(data)
        text = newlines.decode(text.removeprefix("\N{BOM}") if is_start else text, final=is_end)
        is_start = is_start and not text
        if text:
            yield text


def _refusal(path: Path, encoding: str, reason: str = BINARY) -> UserError:
    """Return the error for a file that is not text in `encoding`: the right encoding, if it is recognised."""
    start = b""
    if path.is_file():  # and not a pipe, whose start is gone
        with path.open("rb") as file:
            start = file.read(START)
    wide = _wide_encoding(start)
    if wide and codecs.lookup(wide) != codecs.lookup(encoding):
        mark = " without a byte order mark" if wide in UNMARKED else ""
        return UserError(f"{path}: looks like {wide[:6].upper()}{mark}; try --encoding {wide}")
    return UserError(f"{path}: {reason}")


def _wide_encoding(start: bytes) -> str:
    """Return the encoding with several bytes for each character that a file's first bytes look like, "" for none."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith(UTF16_MARKS) and b"\0" in start:
        return "utf-16"
    ascii_count = {}
    for encoding in UNMARKED:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(start)  # its end may be half a character
        except UnicodeDecodeError:
            continue
        if all(unicodedata.category(it) not in ("Cc", "Cn", "Co", "Cs") or it in "\t\n\r" for it in text):
            ascii_count[encoding] = sum(it.isascii() for it in text)
    likeliest = max(ascii_count, key=ascii_count.get, default="")
    return likeliest if ascii_count.get(likeliest) else ""


def _codec(encoding: str) -> codecs.CodecInfo:
    try:
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding:
            raise LookupError
    except LookupError:
        raise UserError(f"--encoding {encoding}: Python knows no such encoding; utf-8 and latin-1 are common") from None
    return codec


def _standard_library() -> list[Path]:
    """Return the source files of Python's standard library, without its tests and without installed packages."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"site-packages", "test", "tests"}
    sources = (it for it in sorted(folder.rglob("*.py")) if not is_hidden(it, folder) and it.is_file())
    found = [it for it in sources if not left_out & set(it.relative_to(folder).parts)]
    if not found:
        raise UserError(f"{folder}: no text in it")
    return found


def _texts_in(folder: Path, encoding: str) -> list[Path]:
    """Return the files in a folder that are not binary, and print how many are skipped.

    A file that looks like UTF-16 or UTF-32 is kept: reading it in another encoding says which to try.
    """
    inside = _files_in(folder)
    may_hold_zeros = _codec(encoding).name.startswith(WIDE)
    texts = [it for it in inside if may_hold_zeros or not _is_binary(it)]
    if not texts:
        raise UserError(f"{folder}: no text in it" + (f"; its {len(inside)} files are binary" if inside else ""))
    if len(texts) < len(inside):
        print(f"{folder}: skipped {len(inside) - len(texts)} of {len(inside)} files, which are binary", flush=True)
    return texts


def _files_in(folder: Path) -> list[Path]:
    """Return the files below a folder that are not hidden, sorted by name with numbers in numerical order."""
    try:
        return [it for it in folders.natural_order(folders.files_below(folder)) if it.is_file()]
    except OSError as error:  # a folder that may be listed but not entered
        raise UserError(f"{error.filename} cannot be read: {reason_of(error)}") from None


def _is_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
    return b"\0" in start and not _wide_encoding(start)
