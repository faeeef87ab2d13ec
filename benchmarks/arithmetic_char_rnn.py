"""Does char_rnn.py learn to add? Exact answers on the 10,000 sums that its training held out.

Trains a run, or goes on with the one of the same name, then lets it answer each held-out question character by
character, always the likeliest. Writes outputs/benchmarks/arithmetic_char_rnn.json.

    python -m benchmarks.arithmetic_char_rnn                        three digits, 30 minutes
    python -m benchmarks.arithmetic_char_rnn --reverse              answers from their last digit to the first
"""

import argparse
import dataclasses
import itertools

import numpy as np
import tensorflow as tf

import char_rnn
from benchmarks import quality
from common import cli, stored, text


def exact_answers(network, config: char_rnn.Config, sums: text.Sums) -> tuple[int, list[str]]:
    """Return how many held-out questions are answered exactly, and the lines that are wrong, as they were written."""
    config = dataclasses.replace(config, temperature=0.0)
    read, write = char_rnn.make_reader(network, config), char_rnn.make_writer(network, config, sums.alphabet)
    wrong = []
    pairs = sorted(map(tuple, sums.held_out.tolist()), key=lambda pair: len(sums.question(pair)))
    for _, alike in itertools.groupby(pairs, key=lambda pair: len(sums.question(pair))):  # of equal length
        alike = list(alike)
        numbers = np.stack([sums.alphabet.encode("\n" + sums.question(pair)) for pair in alike])
        _, states = read(numbers)
        written, _ = write(tf.constant(numbers[:, -1]), states, tf.constant(0))
        for pair, row in zip(alike, written.numpy(), strict=True):
            answer = sums.alphabet.decode(row).partition("\n")[0]
            if answer != sums.answer(pair):
                wrong.append(sums.question(pair) + answer)
    return len(pairs) - len(wrong), wrong


@cli.one_line_errors
def main(argv=None):
    """Train, ask, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of training (%(default)s)")
    parser.add_argument("--digits", type=int, default=3, help="of the numbers (%(default)s)")
    parser.add_argument("--reverse", action="store_true", help="answers from the last digit to the first")
    arguments = parser.parse_args(argv)
    name = f"arithmetic_char_rnn_{arguments.digits}{'_reversed' if arguments.reverse else ''}"
    folder = quality.FOLDER / "char_rnn" / name
    flags = ["--resume", str(folder)] if (folder / "config.json").exists() else ["--train", "arithmetic"]
    if not folder.exists():
        # Without dropout, as hardly a sum comes twice and none can be learnt by heart; with 0.2 98.8 % are right.
        flags += ["--dropout", "0", *(["--reverse"] if arguments.reverse else [])]
        flags += ["--digits", str(arguments.digits), "--name", name]
    char_rnn.main([*flags, "--minutes", str(arguments.minutes), "--output_dir", str(quality.FOLDER)])
    run, config = stored.StoredRun(folder), stored.read_config(char_rnn.Config, folder)
    sums = text.Sums(config.digits, config.reverse)
    network = char_rnn.build_network(config, len(sums.alphabet))
    run.restore("best", averaged_network=network)
    right, wrong = exact_answers(network, config, sums)
    asked = len(sums.held_out)
    print(f"{right:,} of {asked:,} held-out sums are right: {right / asked:.2%}")
    print("wrong: " + ", ".join(wrong[:10]))
    result = {"digits": config.digits, "reverse": config.reverse, "minutes": arguments.minutes}
    quality.write_json("arithmetic_char_rnn", {**result, "asked": asked, "right": right, "wrong": wrong[:20]})


if __name__ == "__main__":
    main()
