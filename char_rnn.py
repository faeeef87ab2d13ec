"""A recurrent network that reads a text character by character and learns to continue it.

At each character the network predicts the next one: it gives every character a score, the logit, which the softmax
turns into a probability. Its state, about a thousand numbers, summarises all that it has read so far. To write, we draw
the next character from these probabilities, let the network read it, and repeat.

Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015; Graves, "Generating Sequences With
Recurrent Neural Networks", 2013 (arXiv:1308.0850). docs/char_rnn.md lists what differs from them, and why.

    python char_rnn.py --train corpus.txt                    train on a text, a quarter of an hour
    python char_rnn.py --sample 500 --prime "ROMEO:"         write with the newest run
    python char_rnn.py --score FILE                          how surprising is another text?
    python char_rnn.py --train arithmetic                    learn to add
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks import adam, arithmetic, decoding, lstm
from blocks.averaging import update_average
from blocks.dropout import Dropout, as_keras, masks_of
from blocks.schedules import cosine_by_progress
from common import cli, devices, fine_tuning, flags, generated, pictures, runs, saved_runs, text, text_files, train_once
from common.best_network import BestNetwork
from common.errors import UserError
from evaluation import surprisal

DEFAULT_STEPS = 8_000
WARMUP_STEPS = 200
SAMPLE_LENGTH = 800  # characters, during training
WRITTEN_PER_CALL = 25  # characters; a call takes longer than one character


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.CommonConfig):
    """Settings of char_rnn.py; where ours differ, the help gives those of Karpathy's program char-rnn."""

    sample: Annotated[flags.Count, flags.NotEmpty, flags.PerCommand, flags.UsesRun()] = 0
    """Write this many characters with a trained run instead of training."""
    train: Annotated[tuple[str, ...], flags.TrainingOnly] = ()
    """Text files, folders or "arithmetic"; default: Python's standard library. --resume fine-tunes on a new text."""
    encoding: Annotated[str, flags.Changeable] = "utf-8"
    """Encoding of the files: utf-16, latin-1, cp1252 …"""
    min_count: flags.Positive = 1
    """Characters that occur less often than this become the unknown character."""
    map_unknown: Annotated[bool, flags.PerCommand] = False
    """Replace characters of a prime or text that the run does not know by the unknown one instead of stopping."""
    digits: Annotated[int, flags.Between(1, 4), flags.Needs("train=arithmetic")] = 3
    """Digits, at most, of the numbers that --train arithmetic adds."""
    reverse: Annotated[bool, flags.Needs("train=arithmetic")] = False
    """Write the answers of --train arithmetic from their last digit to their first."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Recurrent cell: long short-term memory or gated recurrent unit."""
    layers: Annotated[flags.Positive, flags.AtMost(100)] = 2
    """Recurrent layers, each reading the outputs of the one before."""
    width: flags.Positive = 256
    """Units of each layer; char-rnn's 128."""
    embedding: flags.Positive = 64
    """Numbers that represent a character; char-rnn's is a one-hot vector."""
    tied: bool = False
    """Use the weights of the embedding for the output layer, too; needs --embedding equal to --width."""
    dropout: Annotated[float, flags.Between(0.0, 0.9)] = 0.2
    """Fraction of each layer's outputs to drop, the same units throughout a window; char-rnn's 0."""
    window: flags.Positive = 32
    """Characters through which the gradient is propagated back; char-rnn's 50."""
    batch_size: flags.Positive = 32
    """Places in the text that are read at the same time; char-rnn's 50."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the text; 0 for 8,000 steps."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0), flags.TrainingOnly] = 8e-3
    """Adam's step size after 200 steps of warm-up; char-rnn has RMSProp with 2e-3."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Decay of the step size: along a cosine to zero at the end of training, or none."""
    clip: Annotated[float, flags.Between(1e-3, 1e9)] = 1.0
    """Scale the gradient down to this norm if its norm is larger; char-rnn clips each component at 5."""
    average_decay: Annotated[float, flags.Between(0.0, 0.99999)] = 0.998
    """Decay of the moving average of the weights, which is validated and sampled; 0 for none, as in char-rnn."""
    patience: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Stop training after this many validations without a new best one; 0 for never."""
    sample_every: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Steps between validations, each with a sample; 0: an epoch or 1,000 steps, but at most about 100 in all."""
    prime: Annotated[str, flags.Changeable, flags.EscapedText(may_be_file=True)] = ""
    """Text to continue, or @FILE to read it from, or @@ for @; \\n is a line end, \\\\ a backslash."""
    temperature: Annotated[float, flags.Between(0.0, 100.0), flags.Changeable] = 1.0
    """Divides the logits: below 1 safer, above 1 more varied; 0 always writes the most likely character."""
    top_k: Annotated[flags.Count, flags.Changeable] = 0
    """Choose among this many most likely characters only; 0 for all."""
    top_p: Annotated[float, flags.Between(1e-6, 1.0), flags.Changeable] = 1.0
    """Choose among the fewest most likely characters whose probabilities add up to this."""
    stop: Annotated[str, flags.Changeable, flags.EscapedText()] = ""
    """End the sample after this text; \\n is a line end, \\\\ a backslash."""
    score: Annotated[flags.Named, flags.Changeable, flags.UsesRun()] = ""
    """Write the surprisal of each character of this file, in bits, as coloured HTML."""
    classify: Annotated[flags.Named, flags.Changeable, flags.Excludes("resume", "sample", "score")] = ""
    """Train a network on each text of --train, and report which of them predicts this file best."""


def build_network(config: Config, characters: int, lstm_layer=lstm.LSTM) -> keras.Model:
    """Map character indices (batch, time) and states (batch, width) to logits (batch, time, characters) and states.

    The states before the first character go in, those after the last one come out. The GRU is that of Cho et al. 2014
    (arXiv:1406.1078). characters: size of the alphabet. lstm_layer: ours or Keras's own, which has the same weights.
    """
    if config.tied and config.embedding != config.width:
        raise UserError(f"--tied: needs --embedding {config.embedding} to equal --width {config.width}")
    layer_class = lstm_layer if config.cell == "lstm" else layers.GRU
    use_cudnn = "auto" if config.jit == "off" else False  # XLA does not compile cuDNN's kernels
    indices = keras.Input((None,), dtype="int64")  # int32 would leave a GPU's memory again and again
    states_before = [keras.Input((config.width,)) for _ in range(state_count(config))]
    states_after, per_layer = [], state_count(config) // config.layers
    embedding = layers.ReversibleEmbedding(characters, config.embedding, reverse_dtype="float32", name="embedding")
    x = embedding(indices)  # (batch, time, embedding)
    for layer in range(config.layers):
        options = {"return_sequences": True, "return_state": True, "use_cudnn": use_cudnn}
        recurrent = layer_class(config.width, name=f"recurrent_{layer}", **options)
        x, *own_states = recurrent(x, initial_state=states_before[layer * per_layer : (layer + 1) * per_layer])
        states_after += own_states
        # Drop the same units at all steps of the window (Gal and Ghahramani 2016, arXiv:1512.05287, section 4, who also
        # drop units within the recurrent layer).
        x = Dropout(config.dropout, noise_shape=(None, 1, config.width))(x)  # (batch, time, width)
    # Tied: multiply by the transposed weights of the embedding (Press and Wolf 2017, arXiv:1608.05859).
    logits = embedding(x, reverse=True) if config.tied else layers.Dense(characters, dtype="float32", name="logits")(x)
    return keras.Model([indices, *states_before], [logits, *states_after], name="network")


def state_count(config: Config) -> int:
    """Return the number of state tensors: two for an LSTM layer, the hidden and the cell state; one for a GRU layer."""
    return config.layers * (2 if config.cell == "lstm" else 1)


def mean_loss(logits, targets):
    """Return the mean of -log p(target), in nats per character (Graves, section 2); targets: (batch, time)."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.nn.compute_average_loss(tf.reduce_mean(losses, axis=-1))


def learning_rate(config: Config, step, progress):
    """Return Adam's step size for a step, counted from 0; progress: the finished fraction of the training, 0 to 1."""
    progress = progress if config.schedule == "cosine" else 0.0 * progress
    return cosine_by_progress(config.learning_rate, step, WARMUP_STEPS, progress)


def build(config: Config, characters: int) -> dict:
    """Return what is trained and saved, by name: the network, its moving average, the optimizer and the states."""
    network, averaged_network = (build_network(config, characters) for _ in range(2))
    averaged_network.set_weights(network.get_weights())
    optimizer = adam.Adam(config.learning_rate, beta_2=0.99)
    optimizer.build(network.trainable_variables)
    zeros = tf.zeros((config.batch_size, config.width))
    options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}  # all replicas agree
    states = {f"state_{index}": tf.Variable(zeros, **options) for index in range(state_count(config))}
    return {"network": network, "averaged_network": averaged_network, "optimizer": optimizer, **states}


def make_train_step(network, averaged_network, optimizer, config: Config, **states):
    """Return the training step: it updates the network, its moving average and the states, and returns the loss.

    Its arguments: characters, int32 (batch, window + 1); carried, float32 (batch,), 1 for rows that continue the text
    of the previous step, 0 where a text starts; the step's number; the fraction of the training that is over, float64.
    States (batch, width) are carried from window to window, gradients are not: truncated backpropagation through time.
    """
    states = list(states.values())

    def train_step(characters, carried, step, progress):
        inputs, targets = characters[:, :-1], characters[:, 1:]
        states_before = [devices.local_shard(state) * carried[:, None] for state in states]
        with tf.GradientTape() as tape, masks_of(config.seed, step, stream=1):
            logits, *states_after = network([inputs, *states_before], training=True)
            loss = mean_loss(logits, targets)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.learning_rate.assign(learning_rate(config, step, progress))
        optimizer.apply(devices.clip_by_global_norm(gradients, config.clip), network.trainable_variables)
        for state, value in zip(states, states_after, strict=True):
            state.assign(devices.all_gather(tf.cast(value, tf.float32)))
        update_average(averaged_network.trainable_variables, network.trainable_variables, config.average_decay, step)
        return {"loss": loss}

    return train_step


def make_reader(network, config: Config):
    """Return `read(indices, title="")`, which runs the network over texts and measures how well it predicts them.

    indices: int (rows, time), a text in each row. title: of a progress bar; "" shows none.
    `read` returns the losses, -log p of each character but the first, in nats, float32 (rows, time - 1), and the states
    (rows, width) before the last character, from which `write` continues.
    """

    @tf.function(reduce_retracing=True)
    def read_window(indices, states):
        logits, *states = network([indices[:, :-1], *states], training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(indices[:, 1:], logits)
        return losses, [tf.cast(state, tf.float32) for state in states]  # whatever type the layers compute in

    def read(indices, title: str = ""):
        states = [tf.zeros((len(indices), config.width))] * state_count(config)
        return surprisal.read_in_windows(read_window, indices, states, title)

    return read


def make_writer(network, config: Config, alphabet: text.Alphabet):
    """Return `write(last, states, position)`, which continues texts: let the network read, draw a character, repeat.

    last: the last character of each text, int64 (rows,), which the network has not read yet. states: those before it,
    from `read` or the previous call. position: the number of characters written so far, which seeds the draws.
    `write` returns the new characters, int64 (rows, 25), and the states before the last of them.
    """
    never_written = tf.one_hot(alphabet.unknown, len(alphabet), np.inf, 0.0)  # lowers that logit to -inf

    @tf.function(reduce_retracing=True)
    def write(last, states, position):
        def write_one(index, last, states, written):
            logits, states = one_step(network, config, last, states)
            seed = tf.stack([config.seed, position + index])
            last = decoding.choose(logits - never_written, config.temperature, config.top_k, config.top_p, seed)
            return index + 1, last, states, written.write(index, last)

        start = (0, last, states, tf.TensorArray(tf.int64, WRITTEN_PER_CALL))
        _, _, states, written = tf.while_loop(lambda index, *_: index < WRITTEN_PER_CALL, write_one, start)
        return tf.transpose(written.stack()), states

    return write


def one_step(network, config: Config, indices, states):
    """Read one character of each text, (rows,); return the logits of the next, (rows, characters), and the states.

    This calls the layers' cells directly: for a single character that is faster than the layers' loops over time.
    """
    embedding, per_layer = network.get_layer("embedding"), state_count(config) // config.layers
    x, states_after = embedding(indices), []
    for layer in range(config.layers):
        own_states = states[layer * per_layer : (layer + 1) * per_layer]
        x, own_states = network.get_layer(f"recurrent_{layer}").cell(x, own_states)
        states_after += [tf.cast(state, tf.float32) for state in own_states]
    return (embedding(x, reverse=True) if config.tied else network.get_layer("logits")(x)), states_after


def sample(read, write, alphabet: text.Alphabet, prime: np.ndarray, length: int) -> Iterator[str]:
    """Yield the `length` characters that continue `prime`, 25 at a time; prime: int32 (characters,), not empty."""
    _, states = read(prime[None])
    last = tf.constant(prime[-1:], tf.int64)
    for position in range(0, length, WRITTEN_PER_CALL):
        indices, states = write(last, states, tf.constant(position))
        last = indices[:, -1]
        yield alphabet.decode(indices.numpy()[0, : length - position])


def load(config: Config, alphabet: text.Alphabet | None = None) -> text.Text:
    """Return the text that `--train` names; alphabet: replaces the text's own, as that of a resumed run always does."""
    if config.train == ("arithmetic",):
        return arithmetic.Sums(config.digits, config.reverse)
    if config.resume:
        alphabet = text.Alphabet(saved_runs.SavedRun(config.resume).alphabet)
    folder = Path(config.output_dir) / cli.script_name(Config) / "texts"
    return text.load(config.train, config.encoding, config.min_count, folder, alphabet)


def train(config: Config, alphabet: text.Alphabet | None = None) -> dict[str, float]:
    """Train or resume a run and return its last row of metrics; alphabet: as for `load`."""
    data = load(config, alphabet)
    parts = lstm.most_parts(config.batch_size) if config.cell == "lstm" else 1
    device = devices.setup(config, side_by_side=parts)
    is_fine_tuning = fine_tuning.is_requested(config, data)
    prime = config.prime or data.alphabet.decode(data.validation[:30])
    prime_indices = data.alphabet.encode(data.alphabet.start + prime, config.map_unknown)

    with device.scope():
        networks = build(config, len(data.alphabet))
    network, averaged_network = networks["network"], networks["averaged_network"]
    if is_fine_tuning:
        config = fine_tuning.start(config, network, averaged_network)
    train_step = device.compile(make_train_step(**networks, config=config))
    read, write = make_reader(averaged_network, config), make_writer(averaged_network, config, data.alphabet)
    best = BestNetwork()

    def validate_and_sample() -> tuple[np.ndarray, str]:
        data.check_unchanged()
        loss = surprisal.validation_loss(read, data.validation)
        bits = loss / math.log(2)
        run.validated(validation_loss=loss, validation_bits=bits)
        best.update(run, loss, averaged_network=averaged_network)
        caption = f"step {run.step}: validation {loss:.3f} nats, {bits:.3f} bits per character"
        print(caption, flush=True)
        pieces = cli.progress(sample(read, write, data.alphabet, prime_indices, SAMPLE_LENGTH), "writing a sample")
        written = prime + "".join(generated.until(config.stop, pieces))
        return pictures.page(written, caption), written

    with runs.Run(config, device, data, DEFAULT_STEPS, keeps_start=is_fine_tuning, **networks, **best.variables) as run:
        for epoch in run.epochs():
            for characters, carried, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(*validate_and_sample())
                    if best.patience_is_over(run):
                        break
                run.log(train_step(characters, carried, step, run.progress))
        page, written = validate_and_sample()
        finished = build_network(config, len(data.alphabet), layers.LSTM)  # which any Keras program can load
        saved_runs.SavedRun(run.folder).restore("best", averaged_network=finished)
        run.finish(page, written, network=as_keras(finished))
    return run.metrics


def generate(config: Config) -> None:
    """Write a text with the run `config.run`, or score one; the results go into the run's folder generated/."""
    devices.setup(config, side_by_side=math.inf)  # a single text's matrix products are too small to be divided
    run = saved_runs.SavedRun(config.run, config.to)
    alphabet = text.Alphabet(run.alphabet)
    network = build_network(config, len(alphabet))
    run.restore("best", averaged_network=network)
    read, write = make_reader(network, config), make_writer(network, config, alphabet)
    if config.sample:
        alphabet.check_is_writable(config.stop, "--stop")
        prime = alphabet.encode(alphabet.start + config.prime, config.map_unknown)
        pieces = sample(read, write, alphabet, prime, config.sample)
        generated.stream_text(run, config.prime, generated.until(config.stop, pieces))
    if config.score:
        scored = text_files.read(config.score, config.encoding)
        run.write("score.html", surprisal.score, read, alphabet, scored, config.score, f"under {run.folder}")
    run.report()


def train_on_each(config: Config) -> tuple[text.Alphabet, dict]:
    """Train a network on each text of `--train`, unless that has been done; return the alphabet and readers by path."""
    alphabet, trained = train_once.train_on_each(config, load, train)
    readers = {}
    for path, run in trained.items():
        network = build_network(config, len(alphabet))
        run.restore("best", averaged_network=network)
        readers[path] = make_reader(network, config)
    return alphabet, readers


def classify(config: Config) -> None:
    """Print the mean surprisal of the file `config.classify` under the network of each text, the lowest first."""
    unknown_text = text_files.read(config.classify, config.encoding)
    alphabet, readers = train_on_each(config)
    bits = surprisal.by_mean_surprisal(readers, alphabet, unknown_text, config.classify)
    for path, mean in bits.items():
        print(f"{mean:8.4f} bits per character  {path}")
    print(f"{config.classify} is most like {next(iter(bits))}")


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = saved_runs.configure(Config, argv, __doc__)
    if config.classify:
        classify(config)
    elif config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
