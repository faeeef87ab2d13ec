"""Surprisal and validation loss against closed forms, and the page of coloured text."""

import math
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.text import UNKNOWN, Alphabet
from evaluation import surprisal

ALPHABET = Alphabet("a" + UNKNOWN)


def test_surprisal_is_in_bits_and_the_least_surprised_network_comes_first():
    def predicts_with(probability):
        return lambda indices, title="": (np.full((len(indices), indices.shape[1] - 1), -math.log(probability)), [])

    indices = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], np.int32)
    expected = [[2.0, 2.0, 2.0, 2.0], [2.0, 2.0, np.nan, 2.0]]
    np.testing.assert_allclose(surprisal.surprisal(predicts_with(0.25), indices, unknown=1), expected)
    readers = {"poor": predicts_with(0.125), "good": predicts_with(0.5)}
    assert list(surprisal.by_mean_surprisal(readers, ALPHABET, "aaaa", "text").items()) == [
        ("good", pytest.approx(1.0)),
        ("poor", pytest.approx(3.0)),
    ]


def test_unknown_characters_do_not_decide(capsys):
    """No network was trained on them, so that their surprisal is arbitrary."""

    def reads(bits_of_known, bits_of_unknown):
        def read(indices, title=""):
            bits = np.where(indices[:, 1:] == ALPHABET.unknown, bits_of_unknown, bits_of_known)
            return (bits * math.log(2)).astype(np.float32), []

        return read

    text = "a" * 20 + "éé"
    readers = {"right": reads(1.0, 31.8), "wrong": reads(1.2, 28.9)}  # with them: 3.80 and 3.72
    found = surprisal.by_mean_surprisal(readers, ALPHABET, text, "x.txt")
    assert list(found.items()) == [("right", pytest.approx(1.0)), ("wrong", pytest.approx(1.2))]
    assert "x.txt: 2 of 22 characters are unknown to the network and left out: 'é'\n" in capsys.readouterr().out
    surprisal.score(Path("score.html"), readers["right"], ALPHABET, text, "x.txt", "under a run")
    assert "x.txt under a run: 1.0000 bits per character, 0.6931 nats" in capsys.readouterr().out
    page = Path("score.html").read_text()
    assert "1.000 bits per character" in page and '<i class="s0">éé</i>' in page
    with pytest.raises(UserError, match=r"y\.txt: the network knows none of its characters"):
        surprisal.by_mean_surprisal(readers, ALPHABET, "éö", "y.txt")


@pytest.mark.parametrize("length", [50, 3999, 4000, 20_011, 111_540])
def test_validation_counts_each_character_once_and_only_with_its_context(length):
    def read(parts, title):  # the loss of a character is its own index, or not a number if its context is too short
        targets, contexts = parts[:, 1:], np.arange(1, parts.shape[1])
        last.append(targets.max())
        return np.where(contexts >= np.minimum(targets, 256), targets, np.nan), None

    last = []
    assert surprisal.validation_loss(read, np.arange(length)) == pytest.approx((1 + last[0]) / 2)
    assert last[0] >= length - 33  # fewer than one per part are left over


def test_windows_as_nanogpt_draws_them_have_no_other_past_than_their_own():
    def read(rows, title=""):
        assert rows.shape[1] == 257 and (np.diff(rows) == 1).all()
        starts.extend(rows[:, 0].tolist())
        return 1 / np.arange(1, 257) + np.where(rows[:, :1] < 50, 0.0, 2.0), None

    starts = []
    found = surprisal.window_loss(read, np.arange(356), windows=1000)
    assert len(starts) == 1000 and min(starts) >= 0 and max(starts) == 99  # the last window ends with the text
    late = np.mean(np.array(starts) >= 50)
    assert found["window_loss"] == pytest.approx(np.mean(1 / np.arange(1, 257)) + 2 * late)
    assert found["standard_error"] == pytest.approx(2 * np.sqrt(late * (1 - late) / 999))
    assert found == surprisal.window_loss(read, np.arange(356), windows=1000)


def test_the_page_is_escaped_and_coloured():
    surprisal.save_page(Path("page.html"), "<b>&", np.array([0, 1, 30, 2], np.float32), 'a"<script>')
    page = Path("page.html").read_text()
    assert "<b>" not in page
    assert "<script>" not in page
    assert '<i class="s0">&lt;</i><i class="s2">b</i><i class="s20">&gt;</i><i class="s4">&amp;</i>' in page
    assert "8.250 bits per character" in page


def test_the_page_of_a_long_text_is_cut(monkeypatch):
    monkeypatch.setattr(surprisal, "MOST_SHOWN", 3)
    surprisal.save_page(Path("page.html"), "abcdef", np.zeros(6, np.float32), "long")
    page = Path("page.html").read_text()
    assert "6 characters, the first 3 below" in page
    assert '<i class="s0">abc</i>' in page
