"""What the benchmarks of char_rnn.py count: bars of tunes, answers to sums, and bits of sentences."""

import re
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import char_rnn
from benchmarks import abc_char_rnn, arithmetic_char_rnn, classify_char_rnn, compare_char_rnn, quality, report
from common import cli, stored, text


def test_bars_are_counted_and_measured():
    head = "X:1\nM:3/4\nL:1/8\nK:C\n"
    assert abc_char_rnn.whole_bars(head + "|:C2 D2 E2|C3 z D/2E/ F|\nG6|^A,2 b'2:|") == (3, 4)
    assert abc_char_rnn.whole_bars(head + "C6|D5 x|E6") == (1, 2)  # x is no note; the last bar is not over
    assert abc_char_rnn.whole_bars("C6|") == (0, 0)
    random = np.random.default_rng(0)
    for number in range(20):
        whole, bars = abc_char_rnn.whole_bars(abc_char_rnn.make_tune(number, random))
        assert whole == bars == 16


def test_exact_answers_are_counted(monkeypatch):
    sums = text.Sums(1, reverse=False)
    config = char_rnn.Config(width=8, layers=1, embedding=4)
    network = char_rnn.build_network(config, len(sums.alphabet))
    right, wrong = arithmetic_char_rnn.exact_answers(network, config, sums)
    assert right + len(wrong) == len(sums.held_out) == 10

    def knows_all(network, config, alphabet):
        def write(last, states, place):
            lines = [f"{answer}\n".ljust(25, "0") for answer in answers]
            return tf.constant([alphabet.encode(line) for line in lines]), states

        return write

    answers = [sums.answer(pair) for pair in sorted(map(tuple, sums.held_out.tolist()))]
    monkeypatch.setattr(char_rnn, "make_writer", knows_all)
    monkeypatch.setattr(sums, "held_out", np.array(sorted(map(tuple, sums.held_out.tolist()))))
    assert arithmetic_char_rnn.exact_answers(network, config, sums) == (10, [])


def test_bits_of_sentences_are_those_of_each_alone():
    alphabet = text.Alphabet("\nabc" + text.UNKNOWN)
    config = char_rnn.Config(width=8, layers=1, embedding=4, map_unknown=True)
    read = char_rnn.make_reader(char_rnn.build_network(config, len(alphabet)), config)
    sentences = ["abca", "bxbb"]
    alone = [char_rnn.surprise(read, sentence, alphabet, config).sum() for sentence in sentences]
    np.testing.assert_allclose(classify_char_rnn.bits(read, alphabet, sentences), alone, rtol=1e-5)


def test_report_of_languages():
    labels, found = np.repeat([0, 1], 4), np.array([0, 0, 1, 0, 1, 1, 1, 1])
    confused = classify_char_rnn.most_confused(labels, found, ["Dutch", "German"])
    row = {"characters": 5, "networks": 0.75, "naive_bayes": 0.5, "most_confused": confused}
    lines = report.languages({"languages": ["Dutch", "German"], "sentences": 8, "rows": [row]})
    assert lines[-1] == "| 5 | 75.0% | 50.0% | 1 of 4 in Dutch taken for German |"


def test_report_of_tunes():
    lines = report.music({"minutes": 5.0, "tunes": 40, "bars": 1250, "whole": 1125, "copied": 2})
    assert "after 5 minutes" in lines[2]
    assert lines[-1] == "1,125 of their 1,250 bars are as long as the metre says, 90.0%."


def test_report_of_speeds():
    shape = {"width": 512, "batch_size": 32, "window": 16}
    rates = {"training": {"ours": 4000.0, "PyTorch": 5000.0}, "ratios": {"PyTorch": [0.7, 0.8, 0.9]}}
    lines = report.text_speed({**shape, **rates, "failures": {"bfloat16": "no such unit"}, "writing": 2900.0})
    assert "speed_char_rnn --width 512 --batch_size 32 --window 16`: 32 windows of 16" in lines[2]
    assert lines[-4:-2] == ["| PyTorch | 5,000 | 0.80 (0.70 to 0.90) |", "| bfloat16 | cannot | |"]


def test_a_race_keeps_what_the_same_race_measured_before(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "FOLDER", tmp_path)
    race = {"minutes": 10.0, "text": "a.txt", "ours": {"width": 256, "dropout": 0.2, "learning_rate": 0.008}}
    assert compare_char_rnn.earlier_points(race) == []
    points = [{"contender": "tutorial", "seconds": 600.0, "characters": 1000, "validation_loss": 1.7}]
    quality.write_json("compare_char_rnn_10", {**race, "points": points})
    assert compare_char_rnn.earlier_points(race) == points
    assert compare_char_rnn.earlier_points({**race, "text": "b.txt"}) == []
    monkeypatch.setattr(quality, "machine", lambda: "a faster one")
    assert compare_char_rnn.earlier_points(race) == []
    lines = report.text_comparison({**race, "points": points})
    assert lines[-1] == "| TensorFlow's tutorial, a GRU | 10 | 1,000 | 1.7000 | 1.7000 |"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "was trained without --minutes"),
        (["--minutes", "0.0001", "--layers", "1"], "--layers 2 (the run has 1)"),
        (["--minutes", "0.0001"], None),
    ],
)
def test_only_a_run_that_can_race_does(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("to be or not to be\n" * 200)
    char_rnn.main(["--train", "a.txt", "--width", "12", "--epochs", "1", *flags])
    run = stored.StoredRun("outputs/char_rnn/latest")
    if message:
        with pytest.raises(cli.UserError, match=re.escape(message)):
            compare_char_rnn.check_run(run)
    else:
        compare_char_rnn.check_run(run)


def test_the_curve_of_a_run_is_its_validations(tmp_path):
    (tmp_path / "validation.csv").write_text("step,seconds,validation_loss,validation_bits\n979,224.4,1.69,2.44\n")
    run = types.SimpleNamespace(folder=tmp_path, settings={"batch_size": 32, "window": 16})
    point = {"contender": "ours", "seconds": 224.4, "characters": 979 * 512, "validation_loss": 1.69}
    (found,) = compare_char_rnn.of_run(run)
    assert found == {**point, "is_run": True}
    result = {"minutes": 4.0, "text": "a.txt", "ours": {}}
    assert "a run of the script" in "\n".join(report.text_comparison({**result, "points": [found]}))
    assert "a run of the script" not in "\n".join(report.text_comparison({**result, "points": [point]}))
