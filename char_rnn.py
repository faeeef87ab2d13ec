"""A recurrent network that writes, one character at a time, after any text that it was trained on.

The network reads a text character by character and gives each possible next one a probability. What it has read so far
it keeps in its state, a few hundred numbers. To write, a character is drawn from these probabilities and read in turn.

After Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015, and Graves, "Generating Sequences
With Recurrent Neural Networks", 2013 (arXiv:1308.0850). What differs from them, and why, stands in docs/char_rnn.md.

    python char_rnn.py --train corpus.txt                    train on a text, a quarter of an hour
    python char_rnn.py --sample 500 --prime "ROMEO:"         write with the newest run
    python char_rnn.py --score FILE                          how surprising is another text?
    python char_rnn.py --train arithmetic                    learn to add
"""

import collections
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, devices, files, pictures, recurrence, runs, stored, text

DEFAULT_STEPS = 8_000
SHOWN = 800  # characters of a sample during training
STREAMED = 25  # characters that are written at a time
PAST = 256  # characters that are read before those that count, where a text is validated in parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.CommonConfig):
    """Settings of char_rnn.py; where ours differ, the help gives those of Karpathy's program char-rnn."""

    sample: Annotated[cli.Count, cli.GivenInFull, cli.OfOneCommand] = 0
    """Write so many characters with a trained run instead of training."""
    train: Annotated[tuple[str, ...], cli.OfTraining] = ()
    """Files and folders of text, or "arithmetic" for sums; without it, Python's standard library. With --resume on
    another text: fine-tune, in a new run."""
    encoding: Annotated[str, cli.MayChange] = "utf-8"
    """Of the files; utf-16, latin-1, cp1252 …"""
    min_count: cli.Positive = 1
    """Characters that the text has more rarely than this are read as one, the unknown character."""
    map_unknown: Annotated[bool, cli.OfOneCommand] = False
    """Fine-tuning and --score: read characters that the run's alphabet lacks as unknown ones, instead of stopping."""
    digits: Annotated[int, cli.Between(1, 4)] = 3
    """Of the numbers that --train arithmetic adds up."""
    reverse: bool = False
    """With --train arithmetic: write answers from their last digit to their first."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Long short-term memory, or gated recurrent units."""
    layers: cli.Positive = 2
    """Recurrent layers, one on top of the other."""
    width: cli.Positive = 256
    """Units of each layer; char-rnn's 128."""
    embedding: cli.Positive = 64
    """Numbers that stand for a character; char-rnn has one for each kind of character, of which one is 1."""
    tied: bool = False
    """Use the embedding's weights for the output, too; --embedding must then be as --width."""
    dropout: Annotated[float, cli.Between(0.0, 0.9)] = 0.2
    """Share of each layer's outputs that are left out, the same through a window; char-rnn's 0."""
    window: cli.Positive = 32
    """Characters through which the gradient goes back; char-rnn's 50."""
    batch_size: cli.Positive = 32
    """Places of the text that are read at a time; char-rnn's 50."""
    epochs: Annotated[cli.Count, cli.OfTraining] = 0
    """Passes over the text; 0 for as many as make 8,000 steps."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0), cli.OfTraining] = 8e-3
    """Adam's step size after the first 200 steps; char-rnn has RMSProp with 2e-3."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the step size falls: to zero at the end of the training, along a cosine, or not at all."""
    clip: Annotated[float, cli.Between(1e-3, 1e9)] = 1.0
    """Longest gradient; longer ones are scaled down. char-rnn cuts each of its numbers at 5."""
    average_decay: Annotated[float, cli.Between(0.0, 0.99999)] = 0.998
    """How slowly the averaged network, which writes, follows the trained one; char-rnn has none: 0."""
    patience: Annotated[cli.Count, cli.OfTraining] = 0
    """End the training after this many validations without a better one; 0 for never."""
    sample_every: Annotated[cli.Count, cli.OfTraining] = 0
    """Steps between two validations, each with a sample; 0 for an epoch's, but at most 1,000, and about a hundred
    validations in all."""
    prime: Annotated[str, cli.MayChange] = ""
    """What the text goes on from: a text, or @FILE; \\n ends a line, @@ begins a text that begins with @."""
    temperature: Annotated[float, cli.Between(0.0, 100.0), cli.MayChange] = 1.0
    """Of what is written: above 1 more daring, below 1 more careful; 0 for the likeliest character each time."""
    top_k: Annotated[cli.Count, cli.MayChange] = 0
    """Draw each character among this many likeliest ones; 0 for all."""
    top_p: Annotated[float, cli.Between(1e-6, 1.0), cli.MayChange] = 1.0
    """Draw each character among the likeliest ones that together have this probability."""
    stop: Annotated[str, cli.MayChange] = ""
    """End a text when this has been written; \\n is the end of a line."""
    score: Annotated[cli.Named, cli.MayChange] = ""
    """Tell a trained run's surprise at each character of this file, in bits, and write it as coloured HTML."""
    classify: Annotated[cli.Named, cli.MayChange] = ""
    """Train a network on each text of --train, and tell which of them finds this file least surprising."""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return super().uses_trained_run or bool(self.score)

    @property
    def opening(self) -> str:
        """The text of `--prime`."""
        return self.prime[1:] if self.prime.startswith("@@") else self.prime


def build_network(config: Config, characters: int, lstm=recurrence.LSTM) -> keras.Model:
    """Map characters' numbers (batch, time) and states (batch, width) to logits (batch, time, characters) and states.

    characters: how many the alphabet has. lstm: the layer; Keras's own has the same weights.
    """
    if config.tied and config.embedding != config.width:
        raise cli.UserError(f"--tied: --embedding {config.embedding} must be as --width {config.width} then")
    numbers = keras.Input((None,), dtype="int32")
    before = [keras.Input((config.width,)) for _ in range(states_of(config))]
    after, each = [], states_of(config) // config.layers
    embedding = layers.ReversibleEmbedding(characters, config.embedding, reverse_dtype="float32", name="embedding")
    x = embedding(numbers)  # (batch, time, embedding)
    for layer in range(config.layers):
        recurrent = (lstm if config.cell == "lstm" else layers.GRU)(
            config.width, return_sequences=True, return_state=True, name=f"recurrent_{layer}"
        )
        x, *states = recurrent(x, initial_state=before[layer * each : (layer + 1) * each])  # (batch, time, width)
        after += states
        # The same units through the whole window: a network that loses others at each step cannot keep anything
        # (Gal and Ghahramani 2016, arXiv:1512.05287, section 4, there also within the layer).
        x = layers.Dropout(config.dropout, noise_shape=(None, 1, config.width))(x)
    # Tied: the embedding's own weights, transposed (Press and Wolf 2017, arXiv:1608.05859).
    output = layers.Dense(characters, dtype="float32", name="logits")
    logits = embedding(x, reverse=True) if config.tied else output(x)
    return keras.Model([numbers, *before], [logits, *after], name="network")


def as_prime(opening: str) -> str:
    """Return what `--prime` must be for a text, so that it is not taken for a file's name."""
    return f"@{opening}" if opening.startswith("@") else opening


def states_of(config: Config) -> int:
    """Return how many states the network has: an LSTM two for each layer, a GRU one."""
    return config.layers * (2 if config.cell == "lstm" else 1)


def mean_loss(logits, targets):
    """Cross-entropy in nats a character: the mean of -log p(target); targets (batch, time)."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.nn.compute_average_loss(tf.reduce_mean(losses, axis=-1))


def learning_rate(config: Config, step: int, progress: float) -> float:
    """Return the step size: rising over 200 steps, then falling as half a cosine does, to 0 where progress is 1.

    (Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts.)
    """
    rate = config.learning_rate * min(1.0, (step + 1) / 200)
    return rate * 0.5 * (1.0 + math.cos(math.pi * progress)) if config.schedule == "cosine" else rate


def build(config: Config, characters: int) -> dict:
    """Return all that is trained and saved, by name: the networks, the optimizer, the states, and what was measured."""
    network, averaged_network = (build_network(config, characters) for _ in range(2))
    averaged_network.set_weights(network.get_weights())
    optimizer = keras.optimizers.Adam(config.learning_rate, beta_2=0.99)
    optimizer.build(network.trainable_variables)
    every_replica = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
    states = {
        f"state_{index}": tf.Variable(tf.zeros((config.batch_size, config.width)), **every_replica)
        for index in range(states_of(config))
    }
    return {"network": network, "averaged_network": averaged_network, "optimizer": optimizer, **states}


def make_train_step(network, averaged_network, optimizer, config: Config, **states):
    """Return the step, which updates the network once and returns the loss in nats a character.

    Its arguments: characters, int32 (batch, window + 1); carried, float32 (batch,), 0 where a text begins; the step's
    number. The states, (batch, width), go on from window to window: truncated backpropagation through time.
    """
    states = list(states.values())

    def train_step(characters, carried, step):
        inputs, targets = characters[:, :-1], characters[:, 1:]
        before = [devices.part_of_batch(state) * carried[:, None] for state in states]
        with tf.GradientTape() as tape:
            logits, *after = network([inputs, *before], training=True)
            loss = mean_loss(logits, targets)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply(devices.clipped(gradients, config.clip), network.trainable_variables)
        for state, value in zip(states, after, strict=True):
            state.assign(devices.whole_batch(tf.cast(value, tf.float32)))

        # Exponential moving average of the weights (Polyak and Juditsky 1992); faster in the beginning, so that the
        # first, useless steps are soon forgotten.
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(config.average_decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(averaged_network.trainable_variables, network.trainable_variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
        return {"loss": loss}

    return train_step


def make_reader(network, config: Config):
    """Return a function that reads texts and tells how surprising each character was.

    It takes numbers (rows, time), each row a text of its own, and returns -log p of all but the first in each, in nats,
    float32 (rows, time - 1), and the states after the last but one. They are carried through all of the text.
    """

    @tf.function(reduce_retracing=True)
    def read_window(numbers, states):
        logits, *states = network([numbers[:, :-1], *states], training=False)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(numbers[:, 1:], logits), states

    def read(numbers, title: str = ""):
        numbers, losses, window = np.asarray(numbers, np.int32), [np.zeros((len(numbers), 0), np.float32)], 128
        states = [tf.zeros((len(numbers), config.width))] * states_of(config)
        starts = range(0, numbers.shape[1] - 1, window)
        for start in cli.progress(starts, title) if title else starts:
            window_losses, states = read_window(tf.constant(numbers[:, start : start + window + 1]), states)
            losses.append(window_losses.numpy())
        return np.concatenate(losses, axis=1), states

    return read


def one_step(network, config: Config, numbers, states):
    """Read one character each, numbers (batch,), and return the logits of the next, (batch, characters), and states."""
    embedding, each, after = network.get_layer("embedding"), states_of(config) // config.layers, []
    x = embedding(numbers)
    for layer in range(config.layers):
        x, new = network.get_layer(f"recurrent_{layer}").cell(x, states[layer * each : (layer + 1) * each])
        after += new
    return (embedding(x, reverse=True) if config.tied else network.get_layer("logits")(x)), after


def choose(logits, temperature, top_k, top_p, seeds):
    """Draw a character's number for each row of logits (batch, characters).

    temperature: divides the logits; 0 takes the likeliest. top_k: draw among so many of the likeliest (0: all), top_p:
    among the likeliest that together have this probability (Holtzman et al. 2020, arXiv:1904.09751, section 3.1).
    """
    likeliest = tf.argmax(logits, axis=-1, output_type=tf.int32)
    logits /= tf.maximum(temperature, 1e-6)
    ranked = tf.sort(logits, direction="DESCENDING", axis=-1)
    kept = tf.where(top_k > 0, tf.minimum(top_k, logits.shape[-1]), logits.shape[-1])
    before = tf.cumsum(tf.nn.softmax(ranked), axis=-1, exclusive=True)  # of those that are likelier
    is_kept = (before < top_p) & (tf.range(logits.shape[-1]) < kept)
    smallest = tf.reduce_min(tf.where(is_kept, ranked, np.inf), axis=-1, keepdims=True)
    drawn = tf.random.stateless_categorical(tf.where(logits >= smallest, logits, -np.inf), 1, seeds, tf.int32)[:, 0]
    return tf.where(temperature > 0, drawn, likeliest)


def make_writer(network, config: Config, alphabet: text.Alphabet):
    """Return a function that goes on with texts: many characters a call, as a call costs more than a character.

    It takes the last numbers read (rows,), the states before them, and how many characters were written so far; it
    returns 25 more, int32 (rows, 25), and the states. What it draws depends on `config.seed` and the place alone.
    """
    never = tf.one_hot(alphabet.unknown, len(alphabet), np.inf, 0.0)

    def in_float32(states):  # in which a loop must keep them, whatever the layers compute in
        return [tf.cast(state, tf.float32) for state in states]

    @tf.function(reduce_retracing=True)
    def write(numbers, states, place):
        def body(index, numbers, states, written):
            logits, states = one_step(network, config, numbers, states)
            states = in_float32(states)
            seeds = tf.stack([config.seed, place + index])
            numbers = choose(logits - never, config.temperature, config.top_k, config.top_p, seeds)
            return index + 1, numbers, states, written.write(index, numbers)

        start = (0, numbers, in_float32(states), tf.TensorArray(tf.int32, STREAMED))
        _, _, states, written = tf.while_loop(lambda index, *_: index < STREAMED, body, start)
        return tf.transpose(written.stack()), states

    return write


def sample(read, write, config: Config, alphabet: text.Alphabet, length: int) -> Iterator[str]:
    """Yield a text that goes on from `config.opening`, up to 25 characters at a time, `length` in all.

    It ends early, with `config.stop`, where that is written. read, write: of `make_reader` and `make_writer`.
    Raises UserError, which names them, if the prime has characters that the network never saw.
    """
    numbers = alphabet.encode(alphabet.opening + config.opening, config.map_unknown)
    _, states = read(numbers[None])
    last, written = tf.constant(numbers[-1:]), ""
    while len(written) < length:
        piece, states = write(last, states, tf.constant(len(written)))
        last, before = piece[:, -1], len(written)
        written = (written + alphabet.decode(piece.numpy()[0]))[:length]
        found = written.find(config.stop, max(before - len(config.stop) + 1, 0)) if config.stop else -1
        if found >= 0:
            length = found + len(config.stop)
        yield written[before:length]


def validate(read, numbers) -> float:
    """Return the mean loss on a text, in nats a character, its state carried along.

    So that this is soon done, it is cut into up to 32 parts, each of at least 2,000 characters, which are read at once.
    Each but the first is read from 256 characters before it, so that those it begins with have a past, too.
    """
    rows = max(1, min(32, len(numbers) // 2000))
    length = (len(numbers) - 1 - PAST) // rows
    losses, _ = read(np.stack([numbers[row * length : (row + 1) * length + PAST + 1] for row in range(rows)]))
    return float(np.concatenate([losses[0], losses[1:, PAST:].ravel()]).mean(dtype=np.float64))


def load(config: Config, alphabet: text.Alphabet | None = None, strict_unless: str | None = None) -> text.Text:
    """Return what `--train` names; alphabet, strict_unless: as for `text.load`."""
    if config.train == ("arithmetic",):
        return text.Sums(config.digits, config.reverse)
    folder = Path(config.output_dir) / cli.script_name(Config) / "texts"
    return text.load(config.train, config.encoding, config.min_count, folder, alphabet, strict_unless)


def train(config: Config, alphabet: text.Alphabet | None = None) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics.

    alphabet: to be used in place of the text's own.
    """
    if config.cell == "lstm":  # whose parts of a batch run side by side
        recurrence.share_cores(config.batch_size)
    device = devices.setup(config)
    earlier = stored.StoredRun(config.resume) if config.resume else None
    is_elsewhere = earlier is not None and list(config.train) != earlier.settings.get("train")
    if earlier:
        alphabet = text.Alphabet(earlier.alphabet)
    is_strict = is_elsewhere and not config.map_unknown
    data = load(config, alphabet, strict_unless=earlier.digest if is_strict else None)
    if earlier and data.alphabet != alphabet:
        raise cli.UserError(f"--train arithmetic: {config.resume} has another alphabet than sums; start a new run")
    is_fine_tuning = is_elsewhere and data.digest != earlier.digest  # and not the same text in another place
    shown = dataclasses.replace(config, prime=config.prime or as_prime(data.alphabet.decode(data.validation[:30])))
    data.steps(config)  # tells now if the text is too short,
    data.alphabet.encode(config.opening, config.map_unknown)  # or the prime strange

    with device.strategy.scope():
        networks = build(config, len(data.alphabet))
    network, averaged_network, optimizer = (networks[it] for it in ("network", "averaged_network", "optimizer"))
    if is_fine_tuning:
        earlier.restore("best", averaged_network=averaged_network)
        network.set_weights(averaged_network.get_weights())
        name = "" if config.name == earlier.settings["name"] else config.name
        config = dataclasses.replace(config, resume="", name=name)
    train_step = device.compile(make_train_step(**networks, config=config))
    read, write = make_reader(averaged_network, config), make_writer(averaged_network, config, data.alphabet)
    measured = {name: tf.Variable(1e9) for name in ("best_loss", "best_step")}

    def look() -> tuple[np.ndarray, str]:
        """Validate, keep the network if it is the best so far, and return a sample, as picture and text."""
        data.check_unchanged()
        loss, step = validate(read, data.validation), int(run.step.numpy())
        run.validated(validation_loss=loss, validation_bits=loss / math.log(2))
        if loss < measured["best_loss"].numpy():
            measured["best_loss"].assign(loss)
            measured["best_step"].assign(step)
            run.keep_best(averaged_network=averaged_network)
        caption = f"step {step}: validation {loss:.3f} nats, {loss / math.log(2):.3f} bits a character"
        print(caption, flush=True)
        written = shown.opening + "".join(sample(read, write, shown, data.alphabet, SHOWN))
        return pictures.page(written, caption), written

    saved = {**networks, **measured}
    with runs.Run(config, device, data, DEFAULT_STEPS, keeps_start=is_fine_tuning, **saved) as run:
        for epoch in run.epochs():
            for characters, carried in run.batches(epoch):
                step = int(run.step.numpy())
                if run.show_is_due:
                    run.show(*look())
                    best_step = int(measured["best_step"].numpy())
                    if 0 < config.patience <= (step - best_step) // run.show_every:
                        run.stop(f"no better validation in {config.patience}: the best was at step {best_step}")
                        break
                optimizer.learning_rate.assign(learning_rate(config, step, run.progress))
                run.log(train_step(characters, carried, run.step))
        page, written = look()
        finished = build_network(config, len(data.alphabet), lstm=layers.LSTM)
        stored.StoredRun(run.folder).restore("best", averaged_network=finished)
        run.finish(page, written, network=finished)
    return run.metrics


def generate(config: Config) -> None:
    """Write a text with the run in `config.run`, or score one, into its folder generated/."""
    devices.limit_threads(1)  # a single character's products are too small to be shared
    devices.setup(config)
    run = stored.StoredRun(config.run)
    alphabet = text.Alphabet(run.alphabet)
    network = build_network(config, len(alphabet))
    run.restore("best", averaged_network=network)
    read = make_reader(network, config)
    if config.sample:
        if missing := alphabet.missing(config.stop):
            raise cli.UserError(f"--stop: the network never writes {text.named(missing)}")
        write, written = make_writer(network, config, alphabet), config.opening
        alphabet.encode(config.opening, config.map_unknown)  # tells of a strange prime before anything is written
        print(written, end="")
        try:
            for piece in sample(read, write, config, alphabet, config.sample):
                written += piece
                print(piece, end="", flush=True)
            print()
        finally:  # also when the terminal's reader has seen enough
            with files.whole(run.generated / "sample.txt") as file:
                file.write(written.encode("utf-8", "replace"))
    if config.score:
        scored = text.read(config.score, config.encoding)
        bits = surprise(read, scored, alphabet, config)
        text.save_surprise(run.generated / "score.html", scored, bits, f"{config.score} under {run.folder}")
        print(f"{config.score}: {bits.mean():.4f} bits a character, {bits.mean() * math.log(2):.4f} nats")
    print(f"written to {run.generated}")


def surprise(read, scored: str, alphabet: text.Alphabet, config: Config) -> np.ndarray:
    """Return -log2 p of each character of a text, as if a line had ended before it: float32 (characters,)."""
    losses, _ = read(alphabet.encode(alphabet.opening + scored, config.map_unknown)[None], "reading")
    return losses[0] / math.log(2)


def train_rivals(config: Config) -> tuple[text.Alphabet, dict]:
    """Train a network on each text of `--train`, or to its end if it was interrupted, unless it is there already.

    Returns the alphabet of all texts, as only with one for all their figures can be compared, and the networks'
    readers, as of `make_reader`, by the texts' paths.
    """
    alphabet, readers = load(config).alphabet, {}
    names = collections.Counter(Path(path).stem for path in config.train)
    if len(names) < len(config.train):
        raise cli.UserError(f"--train: two of the texts have the same name, {max(names, key=names.get)}; rename one")
    for path in config.train:
        name = f"{config.name or 'classify'}-{Path(path).stem}"
        own = dataclasses.replace(config, train=(path,), classify="", name=name)
        folder = Path(config.output_dir) / cli.script_name(Config) / own.name
        if not files.exists(folder):
            print(f"training on {path}", flush=True)
            train(own, alphabet)
        run, kept = stored.StoredRun(folder), stored.read_config(Config, folder)
        if different := cli.contradictions(own, kept):
            raise cli.UserError(f"{', '.join(different)}: {folder} is there already; choose another --name")
        if run.digest != load(own, alphabet).digest:
            raise cli.UserError(f"{folder} was trained on another text, or one of other texts; choose another --name")
        if not (folder / "network.keras").exists():
            print(f"training on {path}, from where it was interrupted", flush=True)
            train(dataclasses.replace(own, resume=str(folder)), alphabet)
        network = build_network(own, len(alphabet))
        run.restore("best", averaged_network=network)
        readers[path] = make_reader(network, own)
    return alphabet, readers


def classify(config: Config) -> None:
    """Print which of the networks, one for each text of `--train`, finds `config.classify` least surprising."""
    if len(config.train) < 2 or "arithmetic" in config.train:
        raise cli.UserError("--classify: needs two texts or more, --train a.txt b.txt …")
    scored = text.read(config.classify, config.encoding)
    alphabet, readers = train_rivals(config)
    config = dataclasses.replace(config, map_unknown=True)
    results = {path: surprise(read, scored, alphabet, config).mean() for path, read in readers.items()}
    for path, bits in sorted(results.items(), key=lambda it: it[1]):
        print(f"{bits:8.4f} bits a character  {path}")
    print(f"{config.classify} is most like {min(results, key=results.get)}")


def unescaped(config: Config, kept: Config) -> Config:
    """Return the config with what was typed as \\n made the end of a line, and the file that `--prime` names read.

    kept: the settings of the run that is gone on with; what comes from there is as it should be.
    """
    prime, stop = config.prime, config.stop
    if stop != kept.stop:
        stop = stop.replace("\\n", "\n")  # which a shell leaves as it is
    if prime != kept.prime:
        if prime.startswith("@") and not prime.startswith("@@"):
            prime = as_prime(text.read(prime[1:], config.encoding).removesuffix("\n"))
        else:
            prime = prime.replace("\\n", "\n")
    return dataclasses.replace(config, prime=prime, stop=stop)


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = stored.configure(Config, argv, __doc__)
    if config.classify and (config.resume or config.uses_trained_run):
        raise cli.UserError("--classify: trains its own networks; leave out --resume, --sample and --score")
    folder = config.run if config.uses_trained_run else config.resume
    config = unescaped(config, stored.read_config(Config, Path(folder)) if folder else Config())
    if config.classify:
        classify(config)
    elif config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
