"""Corpora: found, decoded, counted, encoded on disk, split and read in windows; and sums, made as needed."""

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from blocks import arithmetic
from common import text, text_files
from common.errors import UserError


@dataclasses.dataclass
class Reading:
    batch_size: int = 3
    window: int = 4
    seed: int = 0


def load(*paths, encoding="utf-8", min_count=1, **more):
    return text.load([str(path) for path in paths], encoding, min_count, Path("texts"), **more)


def write(name, content, encoding="utf-8"):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def whole(data):
    return data.alphabet.decode(data.indices)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"])
def test_text_in_any_script_is_read_as_it_was_written(encoding):
    content = "Grüße, мир, 世界, 𝄞!\nzwei\n" * 3
    data = load(write("a.txt", content, encoding), encoding=encoding)
    assert whole(data) == content
    assert data.alphabet.characters == "".join(sorted(set(content))) + text.UNKNOWN


def test_byte_order_marks_and_line_ends(monkeypatch):
    for piece in (3, 4, 1 << 22):  # a character or a line end may be split between two pieces
        monkeypatch.setattr(text_files, "PIECE", piece)
        path = write(f"{piece}.txt", "\ufeffä\r\nb\rc\n\r\nd\ufeff")
        assert text_files.read(path, "utf-8") == "ä\nb\nc\n\nd\ufeff"
    assert text_files.read(write("mark.txt", "\ufeffä\r\n", "utf-16"), "utf-16").endswith("ä\n")


def test_files_in_the_given_order_and_those_of_a_folder_in_alphabetical_order():
    write("folder/b.txt", "second ")
    write("folder/a/z.txt", "first ")
    write("folder/picture.png", b"\x89PNG\0\0")
    write("folder/.hidden", "never ")
    last = write("last.txt", "last")
    assert whole(load("folder", last)) == "first second last"
    assert whole(load(last, "folder")) == "lastfirst second "


def test_zero_bytes_are_text_in_wide_encodings():
    Path("folder").mkdir()
    Path("folder/a.txt").write_bytes("déjà vu\n".encode("utf-16-le") * 100)
    assert whole(load("folder", encoding="utf-16-le")) == "déjà vu\n" * 100


def test_rare_characters_become_unknown():
    data = load(write("a.txt", "aaaabbbbcd"), min_count=2)
    assert data.alphabet.characters == "ab" + text.UNKNOWN
    assert whole(data) == "aaaabbbb" + 2 * text.UNKNOWN


def test_the_last_tenth_is_for_validation():
    data = load(write("a.txt", "0123456789" * 10))
    assert (len(data.training), len(data.validation)) == (90, 10)
    assert data.alphabet.decode(data.validation) == "0123456789"


def test_indices_have_the_smallest_type_and_stay_on_disk():
    small = load(write("small.txt", "abc" * 100))
    assert small.indices.dtype == np.uint8
    large = load(write("large.txt", "".join(map(chr, range(0x4E00, 0x4E00 + 300)))))
    assert large.indices.dtype == np.uint16
    for data in (small, large):
        assert isinstance(data.indices, np.memmap)
    before = {path: path.stat().st_mtime_ns for path in Path("texts").iterdir()}
    load("small.txt")  # is encoded already
    assert {path: path.stat().st_mtime_ns for path in Path("texts").iterdir()} == before


def test_windows_cover_all_streams_without_a_gap():
    data = load(write("a.txt", "".join(chr(0x4E00 + index) for index in range(100))))
    reading = Reading()
    steps = data.steps(reading)
    assert steps == (90 - 1) // 12 - 1
    batches = list(zip(*data.batches(reading, epoch=0, first=0, count=steps), strict=True))
    assert len(batches) == steps
    streams = [np.concatenate([windows[row][:-1] for windows, _ in batches]) for row in range(3)]
    for windows, _ in batches:
        assert windows.shape == (3, 5)
    for (before, _), (after, carried) in itertools.pairwise(batches):
        assert np.array_equal(before[:, -1], after[:, 0])
        assert carried.tolist() == [1, 1, 1]
    assert batches[0][1].tolist() == [0, 0, 0]
    read = np.concatenate(streams)
    assert np.array_equal(read, np.arange(read[0], read[0] + len(read)))  # each once, in order
    assert read[-1] < 90  # none of the validation text
    starts = {int(data.batches(reading, epoch, 0, 1)[0][0, 0, 0]) for epoch in range(20)}
    assert len(starts) > 1
    again, _ = data.batches(reading, 0, 3, steps - 3)
    assert np.array_equal(again, [windows for windows, _ in batches[3:]])


def test_the_shortest_text():
    needed = 10 * (2 * 12 + 1) // 9 + 10
    assert load(write("a.txt", "ab" * (needed // 2 + 1))).steps(Reading()) >= 1
    with pytest.raises(UserError, match=rf"holds 20 characters, but --batch_size 3 .* --window 4 need {needed}"):
        load(write("b.txt", "ab" * 10)).steps(Reading())


def test_a_short_text_causes_a_warning(capsys):
    load(write("a.txt", "ab" * 100))
    assert "fewer than 100,000 characters" in capsys.readouterr().out
    load(write("b.txt", "ab" * 50_000))
    assert "fewer" not in capsys.readouterr().out


def test_another_alphabet():
    known = text.Alphabet("abc" + text.UNKNOWN)
    path = write("a.txt", "abcäöa")
    data = load(path, alphabet=known)
    assert whole(data) == "abc" + 2 * text.UNKNOWN + "a"
    assert data.missing == "äö"
    with pytest.raises(UserError, match="does not know 'x', 'y'; --map_unknown replaces unknown characters"):
        known.encode("ayxb")
    assert known.encode("axb", map_unknown=True).tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"GIF89a\0\0\x01", "looks like binary data"),
        (b"abc\n" * 5 + "ä".encode("latin-1") + b"bc", "byte 0xe4 at offset 20 is not utf-8"),
        (b"abc \xe2\x82", "byte 0xe2 at offset 4 is not utf-8"),
        (b"\xff\xfea\0b\0", r"bad\.txt: looks like UTF-16; try --encoding utf-16"),
        (b"aaaaaa", "needs two different characters"),
    ],
)
@pytest.mark.parametrize("piece", [5, 1 << 22])
def test_bad_files(content, words, piece, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", piece)
    path = write("bad.txt", content)
    with pytest.raises(UserError, match=words):
        load(path)
    assert not list(Path().glob("texts/*"))


@pytest.mark.parametrize(
    ("written", "tried", "advice"),
    [
        ("utf-32", "utf-8", "looks like UTF-32; try --encoding utf-32"),
        ("utf-32", "utf-16", "looks like UTF-32; try --encoding utf-32"),
        ("utf-16", "latin-1", "looks like UTF-16; try --encoding utf-16"),
        ("utf-16-le", "utf-8", "looks like UTF-16 without a byte order mark; try --encoding utf-16-le"),
        ("utf-16-be", "utf-16", "looks like UTF-16 without a byte order mark; try --encoding utf-16-be"),
        ("utf-32-le", "utf-8", "looks like UTF-32 without a byte order mark; try --encoding utf-32-le"),
        ("utf-32-be", "utf-16-le", "looks like UTF-32 without a byte order mark; try --encoding utf-32-be"),
    ],
)
@pytest.mark.parametrize("content", ["Grüße, мир!\n𝄞 " * 10, "世界您好\n" * 2000])
def test_the_right_wide_encoding_is_advised(written, tried, advice, content):
    path = write("folder/a.txt", content, written)
    for given in (path, "folder"):
        with pytest.raises(UserError, match=f"{advice}$"):
            load(given, encoding=tried)
    assert whole(load(path, encoding=advice.split()[-1])) == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_refused_unless_they_are_open_and_read_once():
    os.mkfifo("pipe")
    for given in ("pipe", "/dev/zero"):
        for read in (load, lambda path: text_files.read(path, "utf-8")):
            with pytest.raises(UserError, match=f"{given}: a pipe or device, not a file; write the text to a file"):
                read(given)
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    with pytest.raises(UserError, match=f"/dev/fd/{reader}: a pipe or device"):
        load(f"/dev/fd/{reader}")
    assert text_files.read(f"/dev/fd/{reader}", "utf-8") == "abc"
    os.close(reader)


def test_bad_paths():
    Path("empty").mkdir()
    write("pictures/a.png", b"\x89PNG\0")
    for path, words in (
        ("nowhere", "there is no such file"),
        ("", "there is no such file"),
        ("x" * 300, "name too long"),
        ("~nobody-here/x", "there is no such file"),
        ("empty", "no text in it"),
        ("pictures", "no text in it; its 1 files are binary"),
    ):
        with pytest.raises(UserError, match=words):
            load(path)
    for encoding in ("utf-9", "base64"):
        with pytest.raises(UserError, match=f"--encoding {encoding}: Python knows no such encoding"):
            load(write("a.txt", "abc"), encoding=encoding)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root can read everything")
def test_a_file_without_permission_to_read_it():
    path = write("a.txt", "abc")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read: permission denied"):
        load(path)


def test_a_file_that_changes():
    path = write("a.txt", "abc" * 100)
    data = load(path)
    data.check_unchanged()
    path.write_text("abd" * 100)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match=r"a\.txt has changed since the training began"):
        data.check_unchanged()
    path.unlink()
    with pytest.raises(UserError, match=r"a\.txt has changed"):
        data.check_unchanged()


def test_a_file_that_changes_while_it_is_read(monkeypatch):
    path = write("a.txt", "abc" * 100)
    encode = text._encode

    def change_first(*arguments):
        path.write_text("abc" * 50)
        encode(*arguments)

    monkeypatch.setattr(text, "_encode", change_first)
    with pytest.raises(UserError, match="changed while it was being read"):
        load(path)
    assert not list(Path("texts").iterdir())


def test_the_default_text_is_pythons_standard_library(monkeypatch):
    monkeypatch.setattr(text_files.sysconfig, "get_paths", lambda: {"stdlib": "test/library"})
    write("test/library/this.py", "import that\n")
    write("test/library/test/test_this.py", "no\n")
    write("test/library/site-packages/other.py", "no\n")
    data = text.load((), "utf-8", 1, Path("texts"))
    assert whole(data) == "import that\n"
    assert data.name == "Python's standard library"


@pytest.mark.parametrize("reverse", [False, True])
def test_sums(reverse, monkeypatch):
    monkeypatch.setattr(arithmetic, "EPOCH_LENGTH", 5000)
    sums = arithmetic.Sums(2, reverse)
    reading = Reading(batch_size=1, window=500)
    assert sums.held_out.shape == (500, 2)
    validated = sums.alphabet.decode(sums.validation).splitlines()
    validated = [tuple(map(int, line.split("=")[0].split("+"))) for line in validated]
    apart = {tuple(sorted(pair)) for pair in [*sums.held_out.tolist(), *validated]}
    assert len(apart) == 1000  # no held-out sum is validated on, in either order
    assert 200 < sum(a > b for a, b in sums.held_out.tolist()) < 300
    epochs = []
    for epoch in range(2):
        windows, _ = sums.batches(reading, epoch, 0, sums.steps(reading))
        epochs.append(sums.alphabet.decode(windows[:, 0, :-1].ravel()))
        lines = epochs[-1].split("\n")[1:-1]
        assert len(lines) > 300
        for line in lines:
            question, answer = line.split("=")
            a, b = map(int, question.split("+"))
            assert tuple(sorted((a, b))) not in apart
            assert int(answer[::-1] if reverse else answer) == a + b
    assert epochs[0] != epochs[1]
    assert sums.question((12, 9)) + sums.answer((12, 9)) == ("12+9=12" if reverse else "12+9=21")
    again, _ = arithmetic.Sums(2, reverse).batches(reading, 1, 0, 1)
    assert sums.alphabet.decode(again[0, 0, :-1]) == epochs[1][:500]
