"""Surprisal and validation loss against closed forms, and the page of coloured text."""

import math
from pathlib import Path

import numpy as np
import pytest

from evaluation import surprisal


def test_surprisal_is_in_bits_and_the_least_surprised_network_comes_first():
    def predicts_with(probability):
        return lambda indices, title="": (np.full((len(indices), indices.shape[1] - 1), -math.log(probability)), [])

    indices = np.zeros((2, 5), np.int32)
    np.testing.assert_allclose(surprisal.surprisal(predicts_with(0.25), indices), np.full((2, 4), 2.0))
    readers = {"poor": predicts_with(0.125), "good": predicts_with(0.5)}
    assert list(surprisal.by_mean_surprisal(readers, indices[0]).items()) == [
        ("good", pytest.approx(1.0)),
        ("poor", pytest.approx(3.0)),
    ]


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
