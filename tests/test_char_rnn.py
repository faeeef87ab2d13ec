"""char_rnn.py: its loss and training step against closed forms, its texts, and its runs through the command line."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import char_rnn
from blocks import arithmetic
from char_rnn import Config
from common import checkpoints, fine_tuning, generated, interruption, runs, saved_runs, text
from common.errors import UserError
from common.run_schedule import Schedule
from common.train_once import train_on_each, train_once
from evaluation import surprisal

SMALL = Config(width=16, layers=2, embedding=8, batch_size=4, window=8, dropout=0.0, precision="float32")
TINY_FLAGS = [
    *("--width", "12", "--layers", "1", "--embedding", "8", "--batch_size", "8", "--window", "16"),
    *("--epochs", "1", "--checkpoint_every", "10", "--precision", "float32", "--schedule", "constant"),
]
WORDS = "the cat sat on the mat & the dog <ran> to the log.\n"
SENTENCES = " ".join(np.random.default_rng(0).permuted(np.tile(np.array(WORDS.split(" ")), 130)))[:6000]
RUNS = Path("outputs/char_rnn")


@pytest.fixture
def corpus():
    """A text of 6,000 characters: 41 steps per epoch with the tiny flags."""
    Path("corpus.txt").write_text(SENTENCES)
    return "corpus.txt"


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        Path("corpus.txt").write_text(SENTENCES)
        char_rnn.main([*TINY_FLAGS, "--train", "corpus.txt", "--name", "tiny", "--epochs", "2"])
    return folder


@pytest.fixture
def trained(_trained):
    """The folder, relative to the current one, of a finished run of two epochs; the test's own copy."""
    shutil.copytree(_trained / "outputs", "outputs", symlinks=True)
    shutil.copy(_trained / "corpus.txt", "corpus.txt")
    return RUNS / "tiny"


START = tf.constant(0.0, tf.float64)  # no part of the training is over


def make(**changes):
    """Build a small network for an alphabet of 5; return its parts, its training step (not compiled) and its config."""
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    parts = char_rnn.build(config, 5)
    return parts, char_rnn.make_train_step(**parts, config=config), config


def windows(config, characters=5):
    random = np.random.default_rng(0)
    return tf.constant(random.integers(0, characters, (config.batch_size, config.window + 1)), tf.int32)


def network_of(run):
    """Return the network that a tiny run kept, its config and its alphabet."""
    config = saved_runs.read_config(Config, run)
    alphabet = text.Alphabet(saved_runs.SavedRun(run).alphabet)
    network = char_rnn.build_network(config, len(alphabet))
    saved_runs.SavedRun(run).restore("best", averaged_network=network)
    return network, config, alphabet


# The network


def test_parameter_count_of_the_default_network():
    network = char_rnn.build_network(Config(), 66)
    width, embedding = Config.width, Config.embedding
    first, second = ((inputs + width + 1) * 4 * width for inputs in (embedding, width))
    assert network.count_params() == 66 * embedding + first + second + (width + 1) * 66


def test_tied_weights():
    network = char_rnn.build_network(dataclasses.replace(SMALL, tied=True, embedding=16), 5)
    assert not any(layer.name == "logits" for layer in network.layers)
    assert [weight.path for weight in network.weights].count("embedding/embeddings") == 1


@pytest.mark.parametrize("changes", [{}, {"cell": "gru"}, {"tied": True, "embedding": 16}], ids=str)
def test_reading_at_once_in_windows_and_character_by_character_is_the_same(changes, monkeypatch):
    monkeypatch.setattr(surprisal, "WINDOW", 8)
    parts, _, config = make(**changes)
    network = parts["averaged_network"]
    indices = tf.constant(np.random.default_rng(0).integers(0, 5, (2, 21)), tf.int32)
    start = [tf.zeros((2, 16))] * char_rnn.state_count(config)
    logits, *after = network([indices[:, :-1], *start])
    expected = -tf.nn.log_softmax(logits).numpy()
    expected = np.take_along_axis(expected, indices.numpy()[:, 1:, None], axis=-1)[..., 0]
    losses, states = char_rnn.make_reader(network, config)(indices)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
    states_by_character = start
    for position in range(20):
        step_logits, states_by_character = char_rnn.one_step(network, config, indices[:, position], states_by_character)
    np.testing.assert_allclose(step_logits, logits[:, -1], rtol=1e-4, atol=1e-5)
    for one, two, three in zip(after, states, states_by_character, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)


def test_loss_against_the_entropy_of_guessing():
    logits, targets = tf.zeros((3, 4, 7)), tf.zeros((3, 4), tf.int32)
    assert float(char_rnn.mean_loss(logits, targets)) == pytest.approx(math.log(7))
    logits = tf.one_hot(targets, 7) * math.log(6.0)  # probability 1/2 for the target
    assert float(char_rnn.mean_loss(logits, targets)) == pytest.approx(math.log(2))


def test_learning_rate():
    config = dataclasses.replace(SMALL, learning_rate=0.1)
    constant = dataclasses.replace(config, schedule="constant")
    for setting, step, progress, expected in (
        (config, 99, 0.0, 0.05),
        (config, 5000, 0.5, 0.05),
        (config, 5000, 1.0, 0.0),
        (constant, 5000, 1.0, 0.1),
    ):
        rate = char_rnn.learning_rate(setting, tf.constant(step), tf.constant(progress, tf.float64))
        assert float(rate) == pytest.approx(expected)


@pytest.mark.parametrize("changes", [{"dropout": 0.3}, {"cell": "gru"}, {"precision": "mixed_bfloat16"}], ids=str)
def test_every_variable_moves(changes):
    keras.config.set_dtype_policy(changes.get("precision", "float32"))
    parts, step, config = make(**changes)
    models = [parts["network"], parts["averaged_network"]]
    before = [[variable.numpy() for variable in model.trainable_variables] for model in models]
    for number in range(2):  # the recurrent weights move once the states are not zero
        losses = step(windows(config), tf.ones(config.batch_size), tf.constant(number), START)
    assert np.isfinite(float(losses["loss"]))
    for model, values in zip(models, before, strict=True):
        for variable, value in zip(model.trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path
    for index in range(char_rnn.state_count(config)):
        assert np.abs(parts[f"state_{index}"].numpy()).max(axis=1).min() > 0


def test_one_batch_can_be_overfitted():
    _, step, config = make(learning_rate=0.03)
    step, characters = tf.function(step), windows(config)
    losses = [
        float(step(characters, tf.zeros(config.batch_size), tf.constant(number), START)["loss"])
        for number in range(char_rnn.WARMUP_STEPS, char_rnn.WARMUP_STEPS + 120)
    ]
    assert losses[0] == pytest.approx(math.log(5), abs=0.1)
    assert losses[-1] < 0.1


def test_states_are_carried_over_or_reset():
    zeros, losses = [tf.zeros((4, 16))] * 4, []
    for carried, states in ((0.0, zeros), (1.0, [tf.ones((4, 16)), *zeros[1:]])):
        parts, step, config = make()
        characters = windows(config)
        logits, *_ = parts["network"]([characters[:, :-1], *states])
        parts["state_0"].assign(tf.ones((4, 16)))
        losses.append(float(step(characters, tf.fill(4, carried), tf.constant(0), START)["loss"]))
        assert losses[-1] == pytest.approx(float(char_rnn.mean_loss(logits, characters[:, 1:])), rel=1e-5)
    assert losses[0] != losses[1]


def test_gradients_are_clipped_by_their_joint_norm():
    gradients = [tf.fill((3,), 2.0), tf.fill((1,), 2.0)]  # of norm 4
    for limit, norm in ((1.0, 1.0), (100.0, 4.0)):
        clipped = char_rnn.devices.clip_by_global_norm(gradients, limit)
        assert float(tf.linalg.global_norm(clipped)) == pytest.approx(norm)


# Writing


def written(capsys, *flags):
    """Return what the command line writes with these flags."""
    capsys.readouterr()
    char_rnn.main(["--sample", *map(str, flags)])
    return capsys.readouterr().out.split("XLA off\n")[1].rsplit("\nsee ", 1)[0]


def test_finished_run_has_all_files(trained):
    for name in ("config.json", "metrics.csv", "curves.png", "samples.txt", "samples.gif", "final.png"):
        assert (trained / name).stat().st_size > 0
    description = json.loads((trained / "config.json").read_text())
    assert description["data"]["characters"] == 6000
    assert description["data"]["alphabet"].startswith("\n &.<>")
    with (trained / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss"]) > 1
    assert float(row["characters_per_second"]) > 0
    with (trained / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 41, 82]
    losses = [float(row["validation_loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert float(rows[-1]["validation_bits"]) == pytest.approx(losses[-1] / np.log(2))
    assert (trained / "samples.txt").read_text().count("--- step ") == 3
    assert len(list((trained / "samples").glob("step_*.png"))) == 3
    assert list((trained / "best").glob("*.npz"))


def test_finished_network_consists_of_kerass_own_layers(trained):
    network = keras.saving.load_model(trained / "network.keras")
    assert type(network.get_layer("recurrent_0")) is keras.layers.LSTM
    ours, _, alphabet = network_of(trained)
    inputs = [tf.constant(alphabet.encode("the cat sat on")[None]), tf.zeros((1, 12)), tf.zeros((1, 12))]
    np.testing.assert_allclose(network(inputs)[0], ours(inputs)[0], atol=1e-5)


def test_writing(trained, capsys):
    first = written(capsys, 60, "--prime", "the ")
    assert len(first) == 64
    assert first.startswith("the ")
    assert (trained / "generated/sample.txt").read_text() == first
    other = written(capsys, 500, "--prime", "the ", "--seed", 1)
    assert other[:64] != first
    stopped = written(capsys, 400, "--prime", "the ", "--seed", 1, "--stop", "\\n")  # as a shell passes it
    assert stopped == other[:404].partition("\n")[0] + "\n"
    most_likely = written(capsys, 30, "--prime", "the ", "--temperature", 0)
    assert most_likely == written(capsys, 30, "--prime", "the ", "--top_k", 1, "--seed", 1)
    Path("prime.txt").write_text("the\nend")
    random = written(capsys, 200, "--prime", "@prime.txt", "--temperature", 100)
    assert random.startswith("the\nend")
    assert text.UNKNOWN not in random


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_writing_in_mixed_precision_without_a_prime(cell):
    keras.config.set_dtype_policy("mixed_bfloat16")
    parts, _, config = make(cell=cell, layers=1)
    alphabet, network = text.Alphabet("\nabc" + text.UNKNOWN), parts["network"]
    read, write = char_rnn.make_reader(network, config), char_rnn.make_writer(network, config, alphabet)
    pieces = list(char_rnn.sample(read, write, alphabet, alphabet.encode(alphabet.start), 60))
    assert [len(piece) for piece in pieces] == [25, 25, 10]


def test_a_closed_pipe_leaves_what_was_written(trained, monkeypatch):
    def print_to_closed_pipe(*words, end="\n", flush=False):
        if end == "" and flush:
            raise BrokenPipeError

    monkeypatch.setattr(generated, "print", print_to_closed_pipe, raising=False)
    monkeypatch.setattr(os, "dup2", lambda *numbers: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    with pytest.raises(SystemExit) as leaving:
        char_rnn.main(["--sample", "60", "--prime", "the "])
    assert leaving.value.code == 141
    assert (trained / "generated/sample.txt").read_text().startswith("the ")


def test_a_text_ends_with_its_stop_which_may_lie_across_pieces():
    pieces = ["z\nyzyyx", "yzxx", "never"]
    assert list(generated.until("xyz", pieces)) == ["z\nyzyyx", "yz"]
    assert list(generated.until("", pieces)) == pieces
    assert list(generated.until("absent", pieces)) == pieces


def test_text_and_score_are_printed_even_if_no_file_can_be_written(trained, capsys):
    Path("score.txt").write_text("the cat\n")
    (trained / "generated").touch()
    with pytest.raises(SystemExit) as leaving:
        char_rnn.main(["--sample", "3", "--prime", "the ", "--score", "score.txt"])
    assert leaving.value.code == 2
    captured = capsys.readouterr()
    assert "\nthe " in captured.out
    assert " bits per character, " in captured.out
    assert f"cannot write sample.txt, score.html in {trained}/generated: file exists; name another" in captured.err
    char_rnn.main(["--score", "score.txt", "--to", "elsewhere"])
    assert [path.name for path in Path("elsewhere").iterdir()] == ["score.html"]


def test_scoring(trained, capsys):
    Path("score.txt").write_text("the cat <\n")
    char_rnn.main(["--score", "score.txt"])
    printed = capsys.readouterr().out
    assert "&lt;" in (trained / "generated/score.html").read_text()
    network, config, alphabet = network_of(trained)
    states, nats = [tf.zeros((1, 12))] * 2, 0.0
    for before, after in zip("\nthe cat <", "the cat <\n", strict=True):
        logits, states = char_rnn.one_step(network, config, alphabet.encode(before), states)
        nats -= float(tf.nn.log_softmax(logits)[0, alphabet.encode(after)[0]])
    bits = nats / math.log(2)
    assert f"score.txt under {trained}: {bits / 10:.4f} bits per character, {nats / 10:.4f} nats" in printed
    assert "unknown" not in printed
    Path("foreign.txt").write_text("der Spaß ß\n")
    char_rnn.main(["--score", "foreign.txt"])
    assert (
        "foreign.txt: 4 of 11 characters are unknown to the network and left out: 'S', 'p', 'ß'\n"
        in capsys.readouterr().out
    )


# Runs


def state_of(folder):
    newest = max((folder / "checkpoints").glob("*.npz"))
    with np.load(newest) as file:
        arrays = {name: file[name] for name in file.files if name != "seconds"}
    with (folder / "metrics.csv").open() as file:
        rows = [(row["step"], row["loss"]) for row in csv.DictReader(file)]
    with (folder / "validation.csv").open() as file:
        rows += [(row["step"], row["validation_loss"]) for row in csv.DictReader(file)]
    samples = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    best = [path.name for path in sorted((folder / "best").iterdir())]
    return arrays, rows, samples, best, (folder / "samples.txt").read_text()


def assert_equal_runs(folder, other):
    (arrays, *rest), (other_arrays, *other_rest) = state_of(folder), state_of(other)
    assert np.abs(arrays["state_0/000"]).max() > 0
    assert arrays.keys() == other_arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, other_arrays[name]), name
    assert rest == other_rest


def test_a_run_that_ended_earlier_was_interrupted_and_killed_equals_a_straight_one(trained, monkeypatch):
    char_rnn.main([*TINY_FLAGS, "--train", "corpus.txt", "--name", "cut"])  # one epoch instead of two
    keras.utils.clear_session()

    def log_and_interrupt(run, losses):
        log(run, losses)
        if run.step == 66:
            os.kill(os.getpid(), signal.SIGTERM)

    log = runs.Run.log
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(runs.Run, "log", log_and_interrupt)
        char_rnn.main(["--resume", "latest", "--epochs", "2"])
    assert leaving.value.code == 143
    newest = max((RUNS / "cut/checkpoints").glob("*.npz"))
    assert newest.stem == "step_00000067"
    newest.unlink()  # as if it had been killed, after files that the checkpoint of step 60 knows nothing about
    (RUNS / "cut/best/step_00009999.npz").write_bytes(b"never")
    (RUNS / "cut/samples/step_00009999.txt").write_text("never")
    char_rnn.main(["--resume", "latest"])
    assert_equal_runs(trained, RUNS / "cut")


def test_the_best_network_at_the_last_checkpoint_survives_a_kill(trained):
    best = max((trained / "best").iterdir())
    run = object.__new__(runs.Run)
    run.folder, run._saved_step = trained, checkpoints.step_of(max((trained / "checkpoints").iterdir()))
    for step in (9001, 9002, 9003):  # validations since then, each better than the one before
        run.step = step
        run.keep_best(averaged_network=keras.Sequential())
    assert best.exists()
    assert len(list((trained / "best").iterdir())) == 3


@pytest.mark.parametrize(
    ("steps_per_epoch", "changes", "expected"),
    [
        (41, {"epochs": 2}, 41),
        (5, {"epochs": 0}, 80),  # of 8,000 steps
        (5, {"minutes": 1.0}, 20),
        (87_889, {"epochs": 0}, 1000),
        (87_889, {"epochs": 0, "sample_every": 7}, 7),
    ],
)
def test_steps_between_validations_and_steps_in_all(steps_per_epoch, changes, expected):
    config = dataclasses.replace(SMALL, **changes)
    schedule = Schedule.of(config, steps_per_epoch, char_rnn.DEFAULT_STEPS)
    assert schedule.show_every == expected
    if not config.minutes:
        assert schedule.last_step == (2 * 41 if config.epochs else 8000)


def test_patience(corpus, capsys, monkeypatch):
    monkeypatch.setattr(surprisal, "validation_loss", lambda read, indices: 2.0)
    char_rnn.main([*TINY_FLAGS, "--train", corpus, "--epochs", "50", "--patience", "2", "--sample_every", "5"])
    printed = capsys.readouterr().out
    assert "no better validation in 2: the best was at step 0" in printed
    assert "done: 10 steps" in printed
    rows = next(RUNS.glob("*/validation.csv")).read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "5", "10"]


def test_a_text_that_changes_after_it_was_read(trained, refusal_of, monkeypatch):
    def change(run):
        Path("corpus.txt").write_text(SENTENCES + "more")
        return epochs(run)

    epochs = runs.Run.epochs
    monkeypatch.setattr(runs.Run, "epochs", change)
    line = refusal_of(char_rnn, "--resume", "latest", "--epochs", "3")
    assert "corpus.txt has changed since the training began" in line


def test_sums_with_a_gru_and_tied_weights_in_part_of_an_epoch(capsys, monkeypatch):
    monkeypatch.setattr(arithmetic, "EPOCH_LENGTH", 6000)
    monkeypatch.setattr(char_rnn, "DEFAULT_STEPS", 25)
    flags = ["--train", "arithmetic", "--digits", "1", "--reverse", "--cell", "gru", "--tied", "--embedding", "12"]
    char_rnn.main([*TINY_FLAGS, *flags, "--epochs", "0"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("done: 25 steps")
    assert last.endswith("/samples.txt")
    assert json.loads((RUNS / "latest/config.json").read_text())["data"]["name"].startswith(
        "sums of numbers up to 9, answers reversed"
    )
    assert written(capsys, 50, "--prime", "3+4=", "--stop", "\n").startswith("3+4=")


def test_primes_are_unescaped_when_typed_and_never_again(trained):
    Path("prime.txt").write_text("@the \\n\n")  # here a backslash and an n
    for typed, wanted in (
        ("@prime.txt", "@the \\n"),
        ("@@a\\n", "@a\n"),
        ("a\\n", "a\n"),
        ("\\\\nabla\\n\\", "\\nabla\n\\"),
    ):
        config = saved_runs.configure(Config, [*TINY_FLAGS, "--prime", typed, "--stop", "@\\n"], "")
        assert (config.prime, config.stop) == (wanted, "@\n")
        description = json.loads((trained / "config.json").read_text())
        description["settings"]["prime"] = wanted
        (trained / "config.json").write_text(json.dumps(description))
        assert saved_runs.configure(Config, ["--resume", "latest"], "").prime == wanted


def test_a_flag_may_need_a_setting_of_the_resumed_run(trained):
    description = json.loads((trained / "config.json").read_text())
    description["settings"].update(train=["arithmetic"], digits=2)
    (trained / "config.json").write_text(json.dumps(description))
    assert saved_runs.configure(Config, ["--resume", "latest", "--digits", "2"], "").digits == 2
    with pytest.raises(UserError, match=r"--digits 1 \(the run has 2\): cannot be changed"):
        saved_runs.configure(Config, ["--sample", "5", "--digits", "1"], "")


# Fine-tuning and classifying


def test_fine_tuning_starts_from_the_best_network_even_after_a_kill(trained, refusal_of, monkeypatch):
    Path("other.txt").write_text("the äcat satö\n" * 600)
    line = refusal_of(char_rnn, "--resume", "latest", "--train", "other.txt", "--name", "fine")
    assert "other.txt holds 'ä', 'ö', which outputs/char_rnn/tiny does not know; --map_unknown" in line
    assert not (RUNS / "fine").exists()
    before = state_of(trained)[0]
    tuning = ["--resume", str(trained), "--train", "other.txt", "--map_unknown", "--epochs", "1", "--name"]
    char_rnn.main([*tuning, "fine"])
    tuned, original = (json.loads((RUNS / name / "config.json").read_text()) for name in ("fine", "tiny"))
    assert tuned["data"]["alphabet"] == original["data"]["alphabet"]
    assert "the" in (RUNS / "fine/samples/step_00000000.txt").read_text()
    assert all(np.array_equal(array, before[name]) for name, array in state_of(trained)[0].items())
    assert tuned["settings"]["train"] == ["other.txt"]
    assert tuned["settings"]["map_unknown"]  # for this command alone

    def die(*_):
        raise KeyboardInterrupt  # which, like a kill, saves nothing

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(runs.Run, "epochs", die)
        char_rnn.main([*tuning, "killed"])
    char_rnn.main(["--resume", "latest"])
    straight, killed = (state_of(RUNS / name)[0] for name in ("fine", "killed"))
    assert all(np.array_equal(array, killed[name]) for name, array in straight.items())


def test_which_texts_of_a_resumed_run_are_another_text(trained):
    Path("rare.txt").write_text(SENTENCES + "ß")
    rare = text.load(["rare.txt"], "utf-8", 2, Path("texts"))
    description = json.loads((trained / "config.json").read_text())
    description["data"].update(alphabet=rare.alphabet.characters, digest=rare.digest)
    description["settings"].update(train=["rare.txt"], min_count=2)
    (trained / "config.json").write_text(json.dumps(description))
    shutil.copy("rare.txt", "copy.txt")
    Path("other.txt").write_text("the cat\n" * 99)
    Path("foreign.txt").write_text("the cat ü\n" * 99)

    def is_fine_tuning(path, **changes):
        config = dataclasses.replace(Config(), resume=str(trained), train=(path,), **changes)
        return fine_tuning.is_requested(config, char_rnn.load(config))

    assert not is_fine_tuning("rare.txt")
    assert not is_fine_tuning("copy.txt")  # the same text in another place, rare characters and all
    assert is_fine_tuning("other.txt")
    with pytest.raises(UserError, match=r"foreign\.txt holds 'ü', which .*tiny does not know"):
        is_fine_tuning("foreign.txt")
    assert is_fine_tuning("foreign.txt", map_unknown=True)
    with pytest.raises(UserError, match=r"--train arithmetic: .*tiny has another alphabet"):
        is_fine_tuning("arithmetic")
    Path("rare.txt").write_text(SENTENCES)  # a file that has changed is no other text: the run refuses it
    assert not is_fine_tuning("rare.txt")


@pytest.mark.parametrize(("given", "name"), [("tiny", ""), ("", ""), ("fine", "fine")])
def test_fine_tuning_gives_the_new_run_a_name_of_its_own(trained, given, name):
    network, config, _ = network_of(trained)
    config = fine_tuning.start(dataclasses.replace(config, resume=str(trained), name=given), network, network)
    assert (config.name, config.resume) == (name, "")


def test_classifying(capsys, refusal_of):
    random = np.random.default_rng(0)
    for name, letters in (("left", "abc "), ("right", "xyzabc ")):
        Path(f"{name}.txt").write_text("".join(random.choice(list(letters), 4000)))
    Path("unknown.txt").write_text("xyxzzy zyz xzaé")  # é is in neither
    flags = [*TINY_FLAGS, "--train", "left.txt", "right.txt", "--classify", "unknown.txt", "--name", "letters"]
    char_rnn.main(flags)
    printed = capsys.readouterr().out
    assert "unknown.txt is most like right.txt" in printed
    assert "unknown.txt: 1 of 15 characters are unknown to the network and left out: 'é'" in printed
    Path("unknown.txt").write_text("abba cab cabba")
    char_rnn.main(flags)
    printed = capsys.readouterr().out
    assert "training outputs/char_rnn/letters-" not in printed
    assert "unknown.txt is most like left.txt" in printed
    assert sorted(path.name for path in RUNS.glob("letters-*")) == ["letters-left", "letters-right"]
    Path("third.txt").write_text("абв " * 1000)
    with_another = [*TINY_FLAGS, "--train", "left.txt", "right.txt", "third.txt", "--classify", "unknown.txt"]
    line = refusal_of(char_rnn, *with_another, "--name", "letters")
    assert "letters-left was trained on other data; choose another --name" in line  # its alphabet was smaller
    Path("folder").mkdir()
    shutil.copy("left.txt", "folder/left.txt")
    same = [*TINY_FLAGS, "--train", "left.txt", "folder/left.txt", "--classify", "unknown.txt"]
    assert "two of the texts have the same name, left" in refusal_of(char_rnn, *same)


def test_an_interrupted_comparison_of_texts_says_how_to_continue(corpus, capsys):
    shutil.copy(corpus, "other.txt")

    def train(config, alphabet):
        raise interruption.Interrupted(2)

    config = char_rnn.Config(train=(corpus, "other.txt"), classify=corpus)
    with pytest.raises(SystemExit) as leaving:
        train_on_each(config, char_rnn.load, train)
    assert leaving.value.code == 130
    last = "to continue with this and all further texts, give the same command again"
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_run_is_trained_once_and_resumed_if_it_was_interrupted(trained):
    config = saved_runs.read_config(Config, trained)
    digest, trainings = saved_runs.SavedRun(trained).digest, []
    assert train_once(config, digest, trainings.append).folder == trained
    assert trainings == []
    new = dataclasses.replace(config, name="new")
    assert train_once(new, digest, lambda it: shutil.copytree(trained, RUNS / it.name))
    with pytest.raises(UserError, match=r"--width 13 \(the run has 12\): .*tiny exists; choose another --name"):
        train_once(dataclasses.replace(config, width=13), digest, trainings.append)
    with pytest.raises(UserError, match="tiny was trained on other data; choose another --name"):
        train_once(config, "another", trainings.append)
    (trained / "network.keras").unlink()
    train_once(config, digest, trainings.append)
    assert trainings == [dataclasses.replace(config, resume=str(trained))]


# Bad input


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--train nowhere.txt", "nowhere.txt: there is no such file or folder"),
        ("--train short.txt", "short.txt holds 20 characters, but --batch_size 8 sequences of --window 16 need 295"),
        ("--train short.txt --encoding utf-9", "--encoding utf-9"),
        ("--train short.txt --temperature -1", "--temperature -1.0: must lie between 0 and 100"),
        ("--train short.txt --top_p 0", "--top_p 0.0: must lie between"),
        ("--train short.txt --cell rnn", "--cell"),
        ("--train corpus.txt --tied", "--tied: needs --embedding 8 to equal --width 12"),
        ("--train corpus.txt --prime ä", "the network does not know 'ä'"),
        ("--train arithmetic --digits 5", "--digits 5: must lie between 1 and 4"),
        ("--train corpus.txt --digits 2", "--digits 2: needs --train arithmetic"),
        ("--train corpus.txt --reverse", "--reverse: needs --train arithmetic"),
        ("--train corpus.txt --train short.txt", "--train: give it once, with all files after it"),
        ("--train corpus.txt --prime -x", "--prime: needs a value"),
        ("--train corpus.txt --prime -x", "write one that begins with a hyphen as --prime=VALUE"),
        ("--train corpus.txt --prime @no\\new.txt", "no\\new.txt: there is no such file"),
        ("--train corpus.txt --classify short.txt", "--classify: needs two texts or more"),
        ("--train corpus.txt short.txt --classify nowhere.txt", "nowhere.txt: there is no such file"),
        ("--classify other.txt --sample 5", "--classify other.txt: cannot be combined with --sample"),
        ("--classify other.txt --resume latest", "--classify other.txt: cannot be combined with --resume"),
        ("--classify other.txt --score other.txt", "--classify other.txt: cannot be combined with --score"),
    ],
)
def test_bad_settings(flags, words, refusal_of, corpus):
    Path("short.txt").write_text("ab" * 10)
    assert words in refusal_of(char_rnn, *TINY_FLAGS, *flags.split(" "))
    assert not list(RUNS.glob("*/config.json"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sample", "5", "--prime", "aä"), "the network does not know 'ä'"),
        (("--sample", "5", "--prime", "@nowhere"), "nowhere: there is no such file"),
        (("--sample", "5", "--stop", "ä"), "--stop: the network never writes 'ä'"),
        (("--sample", "5", "--width", "13"), "--width 13 (the run has 12): cannot be changed"),
        (("--sample", "5", "--train", "other.txt"), "--train other.txt (the run has corpus.txt): cannot be changed"),
        (("--sample", "5", "--name", "other"), "leave it out, or name another run with --run"),
        (("--sample", "5", "--run", "nowhere"), "nowhere is not a run"),
        (("--score", "nowhere.txt"), "nowhere.txt: there is no such file"),
        (("--resume", "latest", "--cell", "gru"), "--cell gru (the run has lstm)"),
        (("--resume", "latest", "--sample", "5"), "to use a trained run, name it with --run"),
    ],
)
def test_bad_use_of_a_run(flags, words, refusal_of, trained):
    Path("other.txt").write_text("ß")
    (trained / "generated").mkdir(exist_ok=True)
    (trained / "generated/sample.txt").write_text("from an earlier command")
    assert words in refusal_of(char_rnn, *flags)
    assert (trained / "generated/sample.txt").read_text() == "from an earlier command"


def test_a_resumed_run_whose_text_has_changed(trained, refusal_of):
    Path("corpus.txt").write_text(SENTENCES[:-1] + "!")
    assert "was trained on other data" in refusal_of(char_rnn, "--resume", "latest", "--epochs", "3")


def test_a_run_with_another_alphabet(refusal_of, trained):
    path = trained / "config.json"
    description = json.loads(path.read_text())
    description["data"]["alphabet"] += "x"
    path.write_text(json.dumps(description))
    assert "was made for another network" in refusal_of(char_rnn, "--sample", "5")


# Devices


def test_two_devices_equal_one_with_their_states_and_clipping(assert_two_devices_equal_one):
    random = np.random.default_rng(0)
    batches = [(random.integers(0, 5, (4, 9), np.int32), np.ones(4, np.float32)) for _ in range(4)]

    def find(train, strategy):
        sizes = {"width": 16, "layers": 1, "embedding": 8, "batch_size": 4, "window": 8}
        config = char_rnn.Config(**sizes, dropout=0.4, clip=0.1, precision="float32", strategy=strategy)
        parts, losses = train(char_rnn, config, 5, batches=batches)
        variables = parts["network"].trainable_variables + parts["averaged_network"].trainable_variables
        return [losses["loss"], parts["state_0"], *variables]

    assert_two_devices_equal_one(find, rtol=1e-3, atol=1e-5)
