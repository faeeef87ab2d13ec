"""What the benchmarks of char_rnn.py count: bars of tunes, answers to sums, and bits of sentences."""

import json
import re
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import char_rnn
from benchmarks import (
    abc_char_rnn,
    arithmetic_char_rnn,
    classify_char_rnn,
    compare_char_rnn,
    nanogpt_char_rnn,
    peers,
    speed_char_rnn,
)
from blocks import arithmetic
from common import devices, run_folder, saved_runs, text
from common.errors import UserError
from evaluation import surprisal

TINY = {"width": 8, "layers": 1, "embedding": 4}


def test_bars_are_counted_and_measured():
    head = "X:1\nM:3/4\nL:1/8\nK:C\n"
    assert abc_char_rnn.whole_bars(head + "|:C2 D2 E2|C3 z D/2E/ F|\nG6|^A,2 b'2:|") == (3, 4)
    assert abc_char_rnn.whole_bars(head + "C6|D5 x|E6") == (1, 2)  # x is no note; the last bar is not over
    assert abc_char_rnn.whole_bars("C6|") == (0, 0)
    random = np.random.default_rng(0)
    for number in range(20):
        whole, bars = abc_char_rnn.whole_bars(abc_char_rnn.make_tune(number, random))
        assert whole == bars == 16


def test_tunes_are_counted_and_compared_with_the_corpus():
    head = "M:3/4\nL:1/8\nK:C\n"
    corpus = f"X:1\n{head}C6|D6|\n\nX:2\n{head}E6|\n\n"
    written = f"X:7\n{head}E6|\n\nX:8\n{head}C6|D5|\n\nX:9\nM:3/"  # the first is in the corpus, the last is cut off
    assert abc_char_rnn.count(written, corpus) == {"tunes": 2, "bars": 3, "whole": 2, "copied": 1}


def test_exact_answers_are_counted(monkeypatch):
    sums = arithmetic.Sums(1, reverse=False)
    config = char_rnn.Config(**TINY)
    network = char_rnn.build_network(config, len(sums.alphabet))
    right, wrong = arithmetic_char_rnn.exact_answers(network, config, sums)
    assert right + len(wrong) == len(sums.held_out) == 5

    def knows_all(network, config, alphabet):
        def write(last, states, place):
            lines = [f"{answer}\n".ljust(25, "0") for answer in answers]
            return tf.constant([alphabet.encode(line) for line in lines]), states

        return write

    answers = [sums.answer(pair) for pair in sorted(map(tuple, sums.held_out.tolist()))]
    monkeypatch.setattr(char_rnn, "make_writer", knows_all)
    monkeypatch.setattr(sums, "held_out", np.array(sorted(map(tuple, sums.held_out.tolist()))))
    assert arithmetic_char_rnn.exact_answers(network, config, sums) == (5, [])


def test_bits_of_sentences_are_those_of_each_alone():
    alphabet = text.Alphabet("\nabc" + text.UNKNOWN)
    config = char_rnn.Config(**TINY, map_unknown=True)
    read = char_rnn.make_reader(char_rnn.build_network(config, len(alphabet)), config)
    sentences = ["abca", "bxbb"]
    rows = [alphabet.encode(alphabet.start + sentence, map_unknown=True) for sentence in sentences]
    alone = [np.nansum(surprisal.surprisal(read, row[None], alphabet.unknown)) for row in rows]
    np.testing.assert_allclose(classify_char_rnn.bits(read, alphabet, sentences), alone, rtol=1e-5)


def test_section_of_languages():
    labels, found = np.repeat([0, 1], 4), np.array([0, 0, 1, 0, 1, 1, 1, 1])
    confused = classify_char_rnn.most_confused(labels, found, ["Dutch", "German"])
    row = {"characters": 5, "networks": 0.75, "naive_bayes": 0.5, "most_confused": confused}
    lines = classify_char_rnn.section({"languages": ["Dutch", "German"], "sentences": 8, "rows": [row]})
    assert lines[-1] == "| 5 | 75.0% | 50.0% | 1 of 4 in Dutch taken for German |"


def test_sentences_are_numbered_by_language():
    sentences, labels = classify_char_rnn.numbered({"Dutch": ["a", "b"], "German": ["c"]})
    assert sentences == ["a", "b", "c"] and labels.tolist() == [0, 0, 1]


def test_section_of_tunes():
    result = {"minutes": 5.0, "tunes": 40, "bars": 1250, "whole": 1125, "copied": 2}
    page = " ".join(abc_char_rnn.section(result))
    assert "After 5 minutes" in page and "2 of them were among those" in page
    assert "Of their 1,250 bars, 1,125 have the length that the metre requires, 90.0%." in page


def test_section_of_speeds():
    shape = {"width": 512, "batch_size": 32, "window": 16}
    rates = {"training": {"ours": 4000.0, "PyTorch": 5000.0}, "ratios": {"PyTorch": [0.7, 0.8, 0.9]}}
    result = {**shape, **rates, "failures": {"bfloat16": "no such unit"}, "writing": 2900.0}
    lines = speed_char_rnn.section(result)
    assert "speed_char_rnn --width 512 --batch_size 32 --window 16" in lines[2] and "32 windows of 16" in lines[4]
    assert lines[-4:-2] == ["| PyTorch | 5,000 | 0.80 (0.70 to 0.90) |", "| bfloat16 | not on this processor |  |"]


def test_keras_baseline_learns_its_windows():
    tf.keras.utils.set_random_seed(0)
    windows = np.tile(np.arange(4, dtype=np.int32), (3, 3))
    step = peers.make_keras_step(tf.keras.layers.SimpleRNN, windows, characters=4, embedding=4, width=16)
    losses = [step() for _ in range(20)]
    assert losses[0] == pytest.approx(np.log(4), rel=0.1) and losses[-1] < losses[0] - 0.005


def test_pytorchs_lstm_learns_and_continues_where_it_was_saved():
    pytest.importorskip("torch")
    windows, carried = np.tile(np.arange(4, dtype=np.int32), (3, 3)), np.ones(3, np.float32)
    straight, resumed = (peers.PyTorchLSTM(4, 4, 16, depth=2, rate=1e-3) for _ in range(2))
    losses = [straight.train(windows, carried, clip=1.0) for _ in range(20)]
    assert losses[0] == pytest.approx(np.log(4), rel=0.1) and losses[-1] < losses[0] - 0.005
    resumed.load(straight.dump())
    assert resumed.train(windows, carried) == straight.train(windows, carried)
    read, _ = resumed.read(windows)
    assert read.shape == (3, 11) and np.array_equal(read, straight.read(windows)[0])


def test_the_tutorials_windows_are_each_used_once_an_epoch():
    windows_of = peers.gru_windows(np.arange(100 * 128 + 1))
    first, second = (np.concatenate([windows_of(step) for step in steps]) for steps in ((0, 1), (2, 3)))
    for epoch in (first, second):
        assert sorted(epoch[:, 0].tolist()) == list(range(0, 12_800, 100))
        assert (np.diff(epoch) == 1).all() and epoch.shape == (128, 101)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "was trained without --minutes"),
        ({"minutes": 1.0, "layers": 1}, "--layers 2 (the run has 1)"),
        ({"minutes": 1.0, "width": 12}, None),
    ],
)
def test_only_a_run_that_can_race_does(settings, message, tmp_path):
    config = char_rnn.Config(**settings)
    data = {"name": "a.txt", "digest": "0", "characters": 10, "alphabet": "ab"}
    run_folder.write_config(tmp_path, config, data, devices.setup(config))
    run = saved_runs.SavedRun(tmp_path)
    if message:
        with pytest.raises(UserError, match=re.escape(message)):
            compare_char_rnn.check_run(run)
    else:
        compare_char_rnn.check_run(run)


def test_the_curve_of_a_run_is_its_validations(tmp_path):
    (tmp_path / "validation.csv").write_text("step,seconds,validation_loss,validation_bits\n979,224.4,1.69,2.44\n")
    run = types.SimpleNamespace(folder=tmp_path, settings={"batch_size": 32, "window": 16, "seed": 4})
    point = {"contender": "ours", "seed": 4, "seconds": 224.4, "characters": 979 * 512, "validation_loss": 1.69}
    (found,) = compare_char_rnn.points_of_run(run)
    assert found == {**point, "is_run": True}
    result = {"minutes": 4.0, "text": "a.txt", "ours": {}, "rate": 2e-3, "search": None, "seeds": 1}
    assert "a run of the script" in " ".join(compare_char_rnn.section({**result, "points": [found]}))
    assert "a run of the script" not in " ".join(compare_char_rnn.section({**result, "points": [point]}))


def test_runs_are_measured_as_nanogpt_measures_itself(monkeypatch, capsys):
    Path("a.txt").write_text("to be or not to be\n" * 200)
    flags = ["--train", "a.txt", "--epochs", "1", "--batch_size", "4", "--window", "8", "--precision", "float32"]
    char_rnn.main([*flags, *(word for name, value in TINY.items() for word in (f"--{name}", str(value)))])
    monkeypatch.setattr(surprisal.window_loss, "__defaults__", (40,))
    nanogpt_char_rnn.main(["--runs", "latest", "latest"])
    result = json.loads(Path("outputs/benchmarks/nanogpt_char_rnn.json").read_text())
    row = result["rows"][0]
    assert row["window_loss"] == pytest.approx(row["validation_loss"], rel=0.1)
    page = "\n".join(nanogpt_char_rnn.section(result))
    assert f"Windows, mean and standard deviation of the 2 runs: {row['window_loss']:.4f} ± 0.0000." in page
    assert "1.4697" not in page  # it is another text
    row["digest"] = result["rows"][1]["digest"] = nanogpt_char_rnn.TINY_SHAKESPEARE
    assert "nanoGPT publishes 1.4697" in "\n".join(nanogpt_char_rnn.section(result))


def test_contenders_train_and_are_validated_on_the_same_text(monkeypatch):
    Path("a.txt").write_text("to be or not to be\n" * 400)
    monkeypatch.setattr(peers, "GRU_UNITS", 8)
    monkeypatch.setattr(peers, "GRU_BATCH", 4)
    data = compare_char_rnn.load("a.txt")
    config = char_rnn.Config(**TINY, cell="gru", batch_size=4, window=8, minutes=1.0, precision="float32")
    for name in ("ours", "tutorial"):
        contender = compare_char_rnn.contender(name, Path("race"), data, config, every=1e-9, rate=1e-3)
        contender.seconds_limit = 1e-9  # one step
        points, is_finished = contender.turn(60.0)
        assert is_finished and points[0]["characters"] == contender.step_size
        assert points[0]["validation_loss"] == pytest.approx(np.log(len(data.alphabet)), rel=0.1)
