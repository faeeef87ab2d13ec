"""The layer against Keras's, the method against closed forms, and what the command line makes of them."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import char_rnn
from char_rnn import Config
from common import checkpoints, devices, recurrence, text

SMALL = Config(width=16, layers=2, embedding=8, batch_size=4, window=8, dropout=0.0, precision="float32")
TINY_FLAGS = [
    *("--width", "12", "--layers", "1", "--embedding", "8", "--batch_size", "8", "--window", "16"),
    *("--epochs", "1", "--checkpoint_every", "10", "--precision", "float32"),
]
WORDS = "the cat sat on the mat & the dog <ran> to the log.\n"
SENTENCES = " ".join(np.random.default_rng(0).permuted(np.tile(np.array(WORDS.split(" ")), 130)))[:6000]
RUNS = Path("outputs/char_rnn")


@pytest.fixture
def corpus():
    """A text of 6,000 characters: 41 steps an epoch with the tiny flags."""
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
    """The folder, relative to the current one, of a finished run; the test's own copy."""
    shutil.copytree(_trained / "outputs", "outputs", symlinks=True)
    shutil.copy(_trained / "corpus.txt", "corpus.txt")
    return RUNS / "tiny"


def make(**changes):
    config = dataclasses.replace(SMALL, **changes)
    keras.utils.set_random_seed(0)
    parts = char_rnn.build(config, 5)
    return parts, tf.function(char_rnn.make_train_step(**parts, config=config)), config


def windows(config, characters=5):
    return np.random.default_rng(0).integers(0, characters, (config.batch_size, config.window + 1)).astype(np.int32)


# The layer


def outcome(layer, run, sequences, states):
    """Outputs, states and all gradients of a layer."""

    def compute():
        with tf.GradientTape() as tape:
            tape.watch([sequences, *states])
            outputs, *after = layer(sequences, initial_state=states)
            weights = tf.cos(tf.range(7.0))[None, :, None]
            loss = tf.reduce_sum(outputs * weights) + sum(tf.reduce_sum(tf.sin(state)) for state in after)
        return [outputs, *after, *tape.gradient(loss, [sequences, *states, *layer.trainable_variables])]

    return run(compute)()


@pytest.mark.parametrize("run", [lambda compute: compute, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("time", [7, None])
@pytest.mark.parametrize("cores", [1, 2], ids="{} cores".format)
def test_layer_is_keras_lstm_to_rounding_with_its_gradients(run, time, cores, monkeypatch):
    monkeypatch.setattr(recurrence, "SMALLEST_PART", 1)
    monkeypatch.setattr(devices, "cores", lambda: cores)
    monkeypatch.setattr(devices, "threads_of_operation", lambda: 1)
    assert recurrence.division(3) == (1 if cores == 1 else [1, 2])
    ours, theirs = (kind(16, return_sequences=True, return_state=True) for kind in (recurrence.LSTM, keras.layers.LSTM))
    random = np.random.default_rng(0)
    sequences = tf.constant(random.standard_normal((3, 7, 5)), tf.float32)
    states = [tf.constant(random.standard_normal((3, 16)), tf.float32) for _ in range(2)]
    for layer in (ours, theirs):
        layer.build((3, time, 5))
    theirs.set_weights([random.standard_normal(weight.shape) / 3 for weight in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
    for found, expected in zip(
        outcome(ours, run, sequences, states), outcome(theirs, run, sequences, states), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_layer_is_keras_own_where_ours_does_less(monkeypatch):
    monkeypatch.setattr(recurrence, "lstm", None)
    for settings in ({"dropout": 0.1}, {"activation": "relu"}, {"use_bias": False}, {"go_backwards": True}):
        layer = recurrence.LSTM(4, **settings)
        assert layer(tf.ones((2, 3, 5)), training=True).shape == (2, 4)
    assert recurrence.LSTM(4)(tf.ones((2, 3, 5)), mask=tf.constant([[True, True, False]] * 2)).shape == (2, 4)


def test_a_process_that_limits_an_operation_to_one_core_has_parts_for_the_others():
    program = """
import os
from common import devices, recurrence
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    assert devices.cores() == 1
devices.cores = lambda: 4
assert recurrence.division(64) == 1  # each operation takes all cores
devices.limit_threads(2)
assert recurrence.division(64) == [32, 32] and recurrence.division(None) == 1
devices.limit_threads(1)
assert recurrence.division(64) == [16, 16, 16, 16] and recurrence.division(33) == [16, 17]
import tensorflow as tf
tf.ones(1)
devices.limit_threads(4)  # too late
assert devices.threads_of_operation() == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


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
def test_reading_at_once_in_windows_and_character_by_character_is_the_same(changes):
    parts, _, config = make(**changes)
    network = parts["averaged_network"]
    numbers = tf.constant(np.random.default_rng(0).integers(0, 5, (2, 140)), tf.int32)
    start = [tf.zeros((2, 16))] * char_rnn.states_of(config)
    logits, *after = network([numbers[:, :-1], *start])
    expected = -tf.nn.log_softmax(logits).numpy()
    expected = np.take_along_axis(expected, numbers.numpy()[:, 1:, None], axis=-1)[..., 0]
    losses, states = char_rnn.make_reader(network, config)(numbers)  # in windows of 128
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
    states_by_character = start
    step = tf.function(lambda numbers, states: char_rnn.one_step(network, config, numbers, states))
    for place in range(139):
        step_logits, states_by_character = step(numbers[:, place], states_by_character)
    np.testing.assert_allclose(step_logits, logits[:, -1], rtol=1e-4, atol=1e-5)
    for one, two, three in zip(after, states, states_by_character, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [50, 3999, 4000, 20_011, 111_540])
def test_validating_in_parts_counts_each_character_once_and_none_without_a_past(length):
    def read(parts):  # a loss is the character's own number; where more should have been read before it, it is not one
        targets, pasts = parts[:, 1:], np.arange(1, parts.shape[1])
        last.append(targets.max())
        return np.where(pasts >= np.minimum(targets, 256), targets, np.nan), None

    last = []
    assert char_rnn.validate(read, np.arange(length)) == pytest.approx((1 + last[0]) / 2)
    assert last[0] >= length - 33  # all but what does not make a column


def test_loss_against_the_entropy_of_guessing():
    logits, targets = tf.zeros((3, 4, 7)), tf.zeros((3, 4), tf.int32)
    assert float(char_rnn.mean_loss(logits, targets)) == pytest.approx(math.log(7))
    logits = tf.one_hot(targets, 7) * math.log(6.0)  # a half for the right one
    assert float(char_rnn.mean_loss(logits, targets)) == pytest.approx(math.log(2))


def test_learning_rate():
    config = dataclasses.replace(SMALL, learning_rate=0.1)
    assert char_rnn.learning_rate(config, 99, 0.0) == pytest.approx(0.05)
    assert char_rnn.learning_rate(config, 5000, 0.5) == pytest.approx(0.05)
    assert char_rnn.learning_rate(config, 5000, 1.0) == pytest.approx(0.0)
    assert char_rnn.learning_rate(dataclasses.replace(config, schedule="constant"), 5000, 1.0) == 0.1


@pytest.mark.parametrize("changes", [{"dropout": 0.3}, {"cell": "gru"}, {"precision": "mixed_bfloat16"}], ids=str)
def test_every_variable_moves(changes):
    keras.config.set_dtype_policy(changes.get("precision", "float32"))
    parts, step, config = make(**changes)
    models = [parts["network"], parts["averaged_network"]]
    before = [[variable.numpy() for variable in model.trainable_variables] for model in models]
    characters = tf.constant(windows(config))
    for number in range(2):  # the second so that the states are not zero: recurrent weights
        losses = step(characters, tf.ones(config.batch_size), tf.constant(number, tf.int64))
    assert np.isfinite(float(losses["loss"]))
    for model, values in zip(models, before, strict=True):
        for variable, value in zip(model.trainable_variables, values, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path
    for index in range(char_rnn.states_of(config)):
        assert np.abs(parts[f"state_{index}"].numpy()).max(axis=1).min() > 0


def test_one_batch_can_be_overfitted():
    parts, step, config = make()
    parts["optimizer"].learning_rate = 0.03
    characters = tf.constant(windows(config))
    losses = [
        float(step(characters, tf.zeros(config.batch_size), tf.constant(number, tf.int64))["loss"])
        for number in range(120)
    ]
    assert losses[0] == pytest.approx(math.log(5), abs=0.1)
    assert losses[-1] < 0.1


def test_states_are_carried_on_or_not():
    characters, after = None, {}
    for carried in (0.0, 1.0):
        parts, step, config = make()
        characters = tf.constant(windows(config))
        parts["optimizer"].learning_rate = 0.0
        parts["state_0"].assign(tf.ones_like(parts["state_0"]))
        after[carried] = float(step(characters, tf.fill(config.batch_size, carried), tf.constant(0, tf.int64))["loss"])
    network = parts["network"]
    zeros = [tf.zeros((4, 16))] * 4
    expected = {0.0: zeros, 1.0: [tf.ones((4, 16)), *zeros[1:]]}
    for carried, states in expected.items():
        logits, *_ = network([characters[:, :-1], *states])
        assert after[carried] == pytest.approx(float(char_rnn.mean_loss(logits, characters[:, 1:])), rel=1e-5)
    assert after[0.0] != after[1.0]


def test_gradients_are_clipped_all_together():
    gradients = [tf.fill((3,), 2.0), tf.fill((1,), 2.0)]  # of the norm 4
    for given, norm in ((1.0, 1.0), (100.0, 4.0)):
        clipped = char_rnn.devices.clipped(gradients, given)
        assert float(tf.linalg.global_norm(clipped)) == pytest.approx(norm)


# Writing


def drawn(temperature=1.0, top_k=0, top_p=1.0, count=4000):
    logits = tf.math.log(tf.constant([[0.1, 0.4, 0.3, 0.2]] * count))
    numbers = char_rnn.choose(logits, temperature, top_k, top_p, tf.constant([0, 1])).numpy()
    return np.bincount(numbers, minlength=4) / count


def test_characters_are_drawn_by_their_probabilities():
    np.testing.assert_allclose(drawn(), [0.1, 0.4, 0.3, 0.2], atol=0.03)
    squares = np.array([0.01, 0.16, 0.09, 0.04])
    np.testing.assert_allclose(drawn(temperature=0.5), squares / squares.sum(), atol=0.03)
    assert drawn(temperature=0.0).tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(drawn(top_k=2), [0, 4 / 7, 3 / 7, 0], atol=0.03)
    assert drawn(top_k=1).tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(drawn(top_k=99), [0.1, 0.4, 0.3, 0.2], atol=0.03)
    np.testing.assert_allclose(drawn(top_p=0.5), [0, 4 / 7, 3 / 7, 0], atol=0.03)  # 0.4 is less than a half
    assert drawn(top_p=0.3).tolist() == [0, 1, 0, 0]


def written(capsys, *flags):
    capsys.readouterr()
    char_rnn.main(["--sample", *map(str, flags)])
    return capsys.readouterr().out.split("XLA off\n")[1].rsplit("\nwritten to", 1)[0]


def test_run_leaves_what_it_promises(trained):
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


def test_finished_network_is_one_for_any_keras_program(trained):
    network = keras.saving.load_model(trained / "network.keras")
    assert type(network.get_layer("recurrent_0")) is keras.layers.LSTM
    alphabet = text.Alphabet(json.loads((trained / "config.json").read_text())["data"]["alphabet"])
    inputs = [tf.constant(alphabet.encode("the cat sat on")[None]), tf.zeros((1, 12)), tf.zeros((1, 12))]
    logits, *_ = network(inputs)
    ours = char_rnn.build_network(dataclasses.replace(SMALL, width=12, layers=1, dropout=0.2), len(alphabet))
    char_rnn.stored.StoredRun(trained).restore("best", averaged_network=ours)
    np.testing.assert_allclose(logits, ours(inputs)[0], atol=1e-5)


def test_writing(trained, capsys):
    first = written(capsys, 60, "--prime", "the ")
    assert len(first) == 64
    assert first.startswith("the ")
    assert (trained / "generated/sample.txt").read_text() == first
    assert written(capsys, 30, "--prime", "the ") == first[:34]  # a function of the seed and the place
    assert written(capsys, 60, "--prime", "the ", "--seed", 1) != first
    likeliest = written(capsys, 60, "--prime", "the ", "--temperature", 0)
    assert likeliest == written(capsys, 60, "--prime", "the ", "--temperature", 0, "--seed", 1)
    assert likeliest == written(capsys, 60, "--prime", "the ", "--top_k", 1)
    assert first[10] not in first[4:10]
    assert written(capsys, 60, "--prime", "the ", "--stop", first[10]) == first[:11]
    Path("prime.txt").write_text("the ")
    assert written(capsys, 60, "--prime", "@prime.txt") == first
    assert written(capsys, 5, "--prime", "the\\n").startswith("the\n")  # as a shell passes it
    with_lines = written(capsys, 500, "--prime", "the ")
    assert written(capsys, 500, "--prime", "the ", "--stop", "\\n") == with_lines.split("\n")[0] + "\n"
    assert text.UNKNOWN not in written(capsys, 500, "--temperature", 100)


def test_a_prime_that_begins_with_an_at_sign(capsys):
    Path("mail.txt").write_text("@a @b @c\n" * 500)
    char_rnn.main([*TINY_FLAGS, "--train", "mail.txt", "--prime", "@@a", "--name", "mail"])
    assert (RUNS / "mail/samples/step_00000000.txt").read_text().startswith("@a")
    Path("prime.txt").write_text("@b")
    assert written(capsys, 5, "--prime", "@prime.txt").startswith("@b")
    char_rnn.main(["--resume", "latest", "--epochs", "2"])  # where "@@a" is still the text "@a"


def test_writing_in_mixed_precision_without_a_prime(corpus, capsys):
    for cell in ("lstm", "gru"):
        flags = [*TINY_FLAGS, "--precision", "mixed_bfloat16", "--cell", cell]
        char_rnn.main([*flags, "--train", corpus, "--name", cell])
        assert len(written(capsys, 60)) == 60


def test_a_reader_that_has_enough_leaves_what_was_written(trained, monkeypatch):
    def full(*words, end="\n", flush=False):
        if end == "" and flush:
            raise BrokenPipeError

    monkeypatch.setattr(char_rnn, "print", full, raising=False)
    monkeypatch.setattr(os, "dup2", lambda *numbers: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    with pytest.raises(SystemExit) as leaving:
        char_rnn.main(["--sample", "60", "--prime", "the "])
    assert leaving.value.code == 141
    assert (trained / "generated/sample.txt").read_text().startswith("the ")


def test_a_text_is_streamed_and_a_stop_may_lie_across_pieces(trained):
    config = dataclasses.replace(SMALL, width=12, layers=1, stop="xyz")
    alphabet = text.Alphabet("xyz\n" + text.UNKNOWN)
    pieces = iter(["z\nyz" + 20 * "y" + "x", "yz" + 23 * "x"])  # the stop begins in the first

    def write(last, states, place):
        return tf.constant(alphabet.encode(next(pieces))[None]), states

    found = list(char_rnn.sample(lambda numbers: (None, []), write, config, alphabet, 100))
    assert found == ["z\nyz" + 20 * "y" + "x", "yz"]


def test_scoring(trained, capsys):
    Path("score.txt").write_text("the cat <\n")
    char_rnn.main(["--score", "score.txt"])
    printed = capsys.readouterr().out
    page = (trained / "generated/score.html").read_text()
    assert "&lt;" in page
    alphabet = text.Alphabet(json.loads((trained / "config.json").read_text())["data"]["alphabet"])
    config = dataclasses.replace(SMALL, width=12, layers=1, dropout=0.2)
    network = char_rnn.build_network(config, len(alphabet))
    char_rnn.stored.StoredRun(trained).restore("best", averaged_network=network)
    states, nats = [tf.zeros((1, 12))] * 2, 0.0
    for before, after in zip("\nthe cat <", "the cat <\n", strict=True):
        logits, states = char_rnn.one_step(network, config, alphabet.encode(before), states)
        nats -= float(tf.nn.log_softmax(logits)[0, alphabet.encode(after)[0]])
    assert f"score.txt: {nats / 10 / math.log(2):.4f} bits a character, {nats / 10:.4f} nats" in printed


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


def test_two_epochs_and_two_resumed_equal_four(corpus):
    for name, epochs in (("straight", 4), ("resumed", 2)):
        char_rnn.main(
            [*TINY_FLAGS, "--train", corpus, "--epochs", str(epochs), "--schedule", "constant", "--name", name]
        )
    keras.utils.clear_session()
    char_rnn.main(["--resume", "latest", "--epochs", "4"])
    assert_equal_runs(RUNS / "straight", RUNS / "resumed")


def test_a_run_cut_in_the_middle_of_an_epoch_goes_on_as_if_nothing_had_been(corpus, monkeypatch):
    flags = [*TINY_FLAGS, "--train", corpus, "--epochs", "2", "--sample_every", "25"]
    char_rnn.main([*flags, "--name", "straight"])
    log, logged = char_rnn.runs.Run.log, []

    def log_and_interrupt(run, losses):
        log(run, losses)
        logged.append(losses)
        if len(logged) == 57:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(char_rnn.runs.Run, "log", log_and_interrupt)
    with pytest.raises(SystemExit) as leaving:
        char_rnn.main([*flags, "--name", "cut"])
    assert leaving.value.code == 143
    char_rnn.main(["--resume", str(RUNS / "cut")])
    assert_equal_runs(RUNS / "straight", RUNS / "cut")


def test_what_a_killed_run_left_after_its_checkpoint_is_taken_back(trained):
    before = state_of(trained)
    newest = max((trained / "checkpoints").glob("*.npz"))
    newest.unlink()
    (trained / "best/step_00009999.npz").write_bytes(b"of a time that is gone")
    (trained / "samples/step_00009999.txt").write_text("never")
    char_rnn.main(["--resume", "latest"])
    arrays, *rest = state_of(trained)
    assert all(np.array_equal(array, before[0][name]) for name, array in arrays.items())
    assert rest == list(before[1:])


def test_the_best_at_the_last_checkpoint_survives_a_kill(trained):
    newest, best = max((trained / "checkpoints").iterdir()), max((trained / "best").iterdir())
    run = object.__new__(char_rnn.runs.Run)
    run.folder, run._saved_step = trained, checkpoints.step_of(newest)
    for step in (9001, 9002, 9003):  # validated since, each time better
        run.step = tf.Variable(step, dtype=tf.int64)
        run.keep_best(averaged_network=keras.Sequential())
    assert best.exists()
    assert len(list((trained / "best").iterdir())) == 3
    char_rnn.main(["--resume", "latest", "--epochs", "3"])
    assert not (trained / "best/step_00009003.npz").exists()
    char_rnn.main(["--sample", "5"])


def test_a_prime_is_taken_as_typed_once(corpus):
    Path("prime.txt").write_text("the \\n")  # a backslash and an n, which the text must hold
    Path("corpus.txt").write_text(SENTENCES.replace(" <", " \\n<"))
    char_rnn.main([*TINY_FLAGS, "--train", "corpus.txt", "--prime", "@prime.txt", "--name", "a"])
    char_rnn.main(["--resume", "latest", "--epochs", "2"])
    for sample in (RUNS / "a/samples").glob("*.txt"):
        assert sample.read_text().startswith("the \\n")


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
def test_how_often_it_is_validated_and_how_long_it_trains(steps_per_epoch, changes, expected):
    run = object.__new__(char_rnn.runs.Run)
    run.config = dataclasses.replace(SMALL, **changes)
    run._steps_per_epoch = steps_per_epoch
    run._default_steps = char_rnn.runs.steps_of(run.config, char_rnn.DEFAULT_STEPS)
    run._epochs = char_rnn.runs.epochs_of(run.config, steps_per_epoch, run._default_steps)
    assert run.show_every == expected
    if not run.config.minutes:
        assert run._last_step == (2 * 41 if run.config.epochs else 8000)


def test_an_epoch_of_a_long_text_ends_with_its_steps(corpus, monkeypatch, capsys):
    monkeypatch.setattr(char_rnn, "DEFAULT_STEPS", 25)
    char_rnn.main([*TINY_FLAGS, "--train", corpus, "--epochs", "0", "--name", "part"])
    assert "done: 25 steps" in capsys.readouterr().out
    char_rnn.main(["--resume", "latest"])
    assert "done: 25 steps" in capsys.readouterr().out


def test_patience(corpus, capsys, monkeypatch):
    monkeypatch.setattr(char_rnn, "validate", lambda read, numbers: 2.0)
    char_rnn.main([*TINY_FLAGS, "--train", corpus, "--epochs", "50", "--patience", "2", "--sample_every", "5"])
    printed = capsys.readouterr().out
    assert "no better validation in 2: the best was at step 0" in printed
    assert "done: 10 steps" in printed
    rows = next(RUNS.glob("*/validation.csv")).read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "5", "10"]


def test_fine_tuning(trained, refusal_of, capsys):
    Path("other.txt").write_text("the äcat satö\n" * 400)
    line = refusal_of(char_rnn, "--resume", "latest", "--train", "other.txt", "--name", "fine")
    assert "other.txt holds 'ä', 'ö', which the run's alphabet lacks; --map_unknown" in line
    assert not (RUNS / "fine").exists()
    before = state_of(trained)[0]
    char_rnn.main(["--resume", "latest", "--train", "other.txt", "--name", "fine", "--map_unknown", "--epochs", "3"])
    tuned, original = (json.loads((RUNS / name / "config.json").read_text()) for name in ("fine", "tiny"))
    assert tuned["data"]["alphabet"] == original["data"]["alphabet"]
    first = (RUNS / "fine/samples/step_00000000.txt").read_text()
    assert "the" in first  # it could write before it began
    assert all(np.array_equal(array, before[name]) for name, array in state_of(trained)[0].items())
    assert tuned["settings"]["map_unknown"]  # which was for that command alone
    Path("third.txt").write_text("the cat ü sat\n" * 400)
    assert "third.txt holds 'ü'" in refusal_of(char_rnn, "--resume", str(RUNS / "fine"), "--train", "third.txt")
    char_rnn.main(["--resume", "latest", "--epochs", "4"])  # the new one, on its own text
    assert json.loads((RUNS / "fine/config.json").read_text())["settings"]["train"] == ["other.txt"]
    char_rnn.main(["--resume", "latest", "--train", "corpus.txt", "--epochs", "1"])  # with a name of its own, not fine
    assert len(list(RUNS.glob("*/config.json"))) == 4  # of latest, too
    Path("elsewhere").mkdir()
    shutil.copy("other.txt", "elsewhere/other.txt")
    capsys.readouterr()
    char_rnn.main(["--resume", str(RUNS / "fine"), "--train", "elsewhere/other.txt", "--map_unknown", "--epochs", "5"])
    assert "resumed after" in capsys.readouterr().out  # the same text in another place is no other text
    line = refusal_of(char_rnn, "--resume", str(RUNS / "tiny"), "--train", "arithmetic")
    assert "has another alphabet than sums" in line


def test_a_fine_tuning_that_is_killed_at_once_still_starts_from_the_run(trained, monkeypatch):
    Path("other.txt").write_text("the cat sat\n" * 400)
    tuning = ["--resume", str(RUNS / "tiny"), "--train", "other.txt", "--name"]
    char_rnn.main([*tuning, "straight"])

    def die(*_):
        raise KeyboardInterrupt  # which saves nothing, as a kill

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(char_rnn.runs.Run, "log", die)
        char_rnn.main([*tuning, "killed"])
    char_rnn.main(["--resume", str(RUNS / "killed")])
    straight, killed = (state_of(RUNS / name)[0] for name in ("straight", "killed"))
    assert all(np.array_equal(array, killed[name]) for name, array in straight.items())


def test_a_text_with_rare_characters_in_another_place(capsys):
    Path("rare.txt").write_text(SENTENCES + "ß")
    char_rnn.main([*TINY_FLAGS, "--train", "rare.txt", "--min_count", "2", "--name", "a"])
    Path("elsewhere").mkdir()
    Path("rare.txt").rename("elsewhere/rare.txt")
    char_rnn.main(["--resume", "latest", "--train", "elsewhere/rare.txt", "--epochs", "2"])
    assert "resumed after" in capsys.readouterr().out


def test_a_text_that_changed(trained, refusal_of, monkeypatch):
    Path("corpus.txt").write_text(SENTENCES[:-1] + "!")
    assert "was trained on other data" in refusal_of(char_rnn, "--resume", "latest", "--epochs", "3")
    log = char_rnn.runs.Run.log

    def log_and_change(run, losses):
        log(run, losses)
        Path("corpus.txt").write_text(SENTENCES + "more")

    monkeypatch.setattr(char_rnn.runs.Run, "log", log_and_change)
    line = refusal_of(char_rnn, *TINY_FLAGS, "--train", "corpus.txt", "--name", "changing")
    assert "corpus.txt was written to since the training began" in line


def test_classifying(capsys, refusal_of):
    random = np.random.default_rng(0)
    for name, letters in (("left", "abc "), ("right", "xyzabc ")):
        Path(f"{name}.txt").write_text("".join(random.choice(list(letters), 4000)))
    Path("unknown.txt").write_text("xyxzzy zyz xzaé")  # é is in neither
    flags = [*TINY_FLAGS, "--train", "left.txt", "right.txt", "--classify", "unknown.txt", "--name", "letters"]
    char_rnn.main(flags)
    assert "unknown.txt is most like right.txt" in capsys.readouterr().out
    Path("unknown.txt").write_text("abba cab cabba")
    char_rnn.main(flags)  # the networks are there already
    printed = capsys.readouterr().out
    assert "training on" not in printed
    assert "unknown.txt is most like left.txt" in printed
    assert sorted(path.name for path in RUNS.glob("letters-*")) == ["letters-left", "letters-right"]
    assert "--width 13 (the run has 12)" in refusal_of(char_rnn, *flags, "--width", "13")
    (RUNS / "letters-right/network.keras").unlink()  # as if its training had been interrupted
    max((RUNS / "letters-right/checkpoints").iterdir()).unlink()
    char_rnn.main(flags)
    assert "training on right.txt, from where it was interrupted" in capsys.readouterr().out
    assert (RUNS / "letters-right/network.keras").exists()
    Path("third.txt").write_text("абв " * 1000)
    with_another = [*TINY_FLAGS, "--train", "left.txt", "right.txt", "third.txt", "--classify", "unknown.txt"]
    line = refusal_of(char_rnn, *with_another, "--name", "letters")
    assert "letters-left was trained on another text, or one of other texts; choose another --name" in line
    Path("folder").mkdir()
    shutil.copy("left.txt", "folder/left.txt")
    same = [*TINY_FLAGS, "--train", "left.txt", "folder/left.txt", "--classify", "unknown.txt"]
    assert "two of the texts have the same name, left" in refusal_of(char_rnn, *same)


def test_arithmetic_and_gru_and_tied_weights(capsys, monkeypatch):
    monkeypatch.setattr(text, "SUMS_LENGTH", 6000)
    flags = ["--train", "arithmetic", "--digits", "1", "--cell", "gru", "--tied", "--embedding", "12"]
    char_rnn.main([*TINY_FLAGS, *flags])
    line = written(capsys, 50, "--prime", "3+4=", "--stop", "\n")
    assert line.startswith("3+4=")


def test_without_a_text(monkeypatch, capsys):
    Path("library").mkdir()
    Path("library/this.py").write_text("import that\n" * 300)
    monkeypatch.setattr(text.sysconfig, "get_paths", lambda: {"stdlib": "library"})
    char_rnn.main([*TINY_FLAGS, "--name", "own"])
    assert "data: Python's standard library, 3,600 characters" in capsys.readouterr().out


# Bad input


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--train nowhere.txt", "nowhere.txt: there is no such file or folder"),
        ("--train empty.txt", "empty.txt: is empty"),
        ("--train short.txt", "short.txt holds 20 characters, but --batch_size 8 sequences of --window 16 need 295"),
        ("--train binary.txt", "binary.txt: looks like binary data, not text"),
        ("--train folder", "folder: no text in it"),
        ("--train latin.txt", "latin.txt: byte 0xe4 at offset 4 is not utf-8"),
        ("--train short.txt --encoding utf-9", "--encoding utf-9"),
        ("--train short.txt --temperature -1", "--temperature -1.0: must lie between 0 and 100"),
        ("--train short.txt --top_p 0", "--top_p 0.0: must lie between"),
        ("--train short.txt --cell rnn", "--cell"),
        ("--train corpus.txt --tied", "--tied: --embedding 8 must be as --width 12 then"),
        ("--train corpus.txt --prime ä", "the network never saw 'ä'"),
        ("--train arithmetic --digits 5", "--digits 5: must lie between 1 and 4"),
        ("--train corpus.txt --train short.txt", "--train: give it once, with all files behind it"),
        ("--train wide.txt", "wide.txt: begins as UTF-16 does; give --encoding utf-16"),
        ("--train corpus.txt --prime -x", "Missing value for argument '--prime'"),
        ("--train corpus.txt --prime -x", "(one that begins with - is written --name=value)"),
        ("--train corpus.txt --prime @no\\new.txt", "no\\new.txt: there is no such file"),
        ("--train corpus.txt --classify short.txt", "--classify: needs two texts or more"),
        ("--train corpus.txt short.txt --classify nowhere.txt", "nowhere.txt: there is no such file"),
    ],
)
def test_bad_settings(flags, words, refusal_of, corpus):
    Path("empty.txt").touch()
    Path("short.txt").write_text("ab" * 10)
    Path("binary.txt").write_bytes(bytes(range(256)))
    Path("latin.txt").write_bytes("caf ä".encode("latin-1"))
    Path("wide.txt").write_text("wide", encoding="utf-16")
    Path("folder").mkdir()
    assert words in refusal_of(char_rnn, *TINY_FLAGS, *flags.split(" "))
    assert not list(RUNS.glob("*/config.json"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sample", "5", "--prime", "aä"), "the network never saw 'ä'"),
        (("--sample", "5", "--prime", "@nowhere"), "nowhere: there is no such file"),
        (("--sample", "5", "--stop", "ä"), "--stop: the network never writes 'ä'"),
        (("--sample", "5", "--width", "13"), "--width 13 (the run has 12): cannot be changed"),
        (("--sample", "5", "--train", "other.txt"), "--train other.txt (the run has corpus.txt): cannot be changed"),
        (("--sample", "5", "--name", "other"), "leave it out, or name another run by --run"),
        (("--sample", "5", "--classify", "other.txt"), "--classify: trains its own networks"),
        (("--resume", "latest", "--classify", "other.txt"), "--classify: trains its own networks"),
        (("--sample", "5", "--run", "nowhere"), "nowhere holds no run"),
        (("--score", "nowhere.txt"), "nowhere.txt: there is no such file"),
        (("--score", "other.txt"), "the network never saw 'ß'"),
        (("--resume", "latest", "--cell", "gru"), "--cell gru (the run has lstm)"),
        (("--resume", "latest", "--sample", "5"), "to make something with a run name it by --run"),
    ],
)
def test_bad_use_of_a_run(flags, words, refusal_of, trained):
    Path("other.txt").write_text("ß")
    (trained / "generated").mkdir(exist_ok=True)
    (trained / "generated/sample.txt").write_text("of an earlier command")
    assert words in refusal_of(char_rnn, *flags)
    assert (trained / "generated/sample.txt").read_text() == "of an earlier command"


def test_a_run_of_another_alphabet_is_refused(refusal_of, trained):
    path = trained / "config.json"
    description = json.loads(path.read_text())
    description["data"]["alphabet"] += "x"
    path.write_text(json.dumps(description))
    assert "was made for another network" in refusal_of(char_rnn, "--sample", "5")


# Devices


def test_two_devices_equal_one_with_their_states_and_clipping(assert_two_devices_equal_one):
    program = """
import char_rnn
config = char_rnn.Config(width=16, embedding=8, batch_size=4, window=8, dropout=0.0, precision="float32", clip=0.1,
                         strategy=strategy)
texts = [np.random.default_rng(number).integers(0, 5, (4, 9)).astype(np.int32) for number in range(4)]
parts, losses = train(char_rnn, config, 5, batches=[(characters, np.ones(4, np.float32)) for characters in texts])
found = [losses["loss"], parts["state_0"], *parts["network"].trainable_variables,
         *parts["averaged_network"].trainable_variables]
"""
    assert_two_devices_equal_one(program, rtol=1e-3, atol=1e-5)
