"""Does char_rnn.py learn to add? Exact answers on 10,000 sums of which its training has neither order.

Trains a run for each seed, or resumes the one of that name, then lets it answer each held-out question, character by
character, always with the most probable one. The best network is chosen on 10,000 other sums that are held out alike.
Writes outputs/benchmarks/arithmetic_char_rnn.json.

    python -m benchmarks.arithmetic_char_rnn                        three digits, 30 minutes, three seeds
    python -m benchmarks.arithmetic_char_rnn --reverse              answers from their last digit to the first
"""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

import char_rnn
from benchmarks import results
from blocks import arithmetic
from common import cli, saved_runs

NAME = "arithmetic_char_rnn"


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    order = "from the last digit to the first" if result["reverse"] else "in the usual order of digits"
    rows, asked = result["rows"], result["asked"]
    shares = results.spread([100 * row["right"] / asked for row in rows], ".2f")
    return results.opening(
        "Sums by char_rnn.py",
        f"benchmarks.arithmetic_char_rnn{' --reverse' if result['reverse'] else ''} --seeds {len(rows)}",
        f"Numbers below {10 ** result['digits']:,}, answers {order}, {result['minutes']:g} minutes of training: "
        f"{', '.join(format(row['right'], ',') for row in rows)} of {asked:,} held-out sums are right, {shares}%.",
    )


def exact_answers(network, config: char_rnn.Config, sums: arithmetic.Sums) -> tuple[int, list[str]]:
    """Return how many held-out questions are answered exactly, and the wrong lines as they were written."""
    config = dataclasses.replace(config, temperature=0.0)
    read, write = char_rnn.make_reader(network, config), char_rnn.make_writer(network, config, sums.alphabet)
    wrong = []
    pairs = sorted(map(tuple, sums.held_out.tolist()), key=lambda pair: len(sums.question(pair)))
    for _, alike in itertools.groupby(pairs, key=lambda pair: len(sums.question(pair))):  # of equal length
        alike = list(alike)
        numbers = np.stack([sums.alphabet.encode("\n" + sums.question(pair)) for pair in alike])
        _, states = read(numbers)
        written, _ = write(tf.constant(numbers[:, -1], tf.int64), states, tf.constant(0))
        for pair, row in zip(alike, written.numpy(), strict=True):
            answer = sums.alphabet.decode(row).partition("\n")[0]
            if answer != sums.answer(pair):
                wrong.append(sums.question(pair) + answer)
    return len(pairs) - len(wrong), wrong


def train_and_ask(seed: int, digits: int, reverse: bool, minutes: float) -> dict:
    """Train a run with this seed, or resume it; return how many sums it knows of how many, and wrong lines."""
    name = f"arithmetic_char_rnn_{digits}{'_reversed' * reverse}{f'_{seed}' * (seed > 0)}"
    folder = results.FOLDER / "char_rnn" / name
    if (folder / "config.json").exists():
        words = ["--resume", str(folder)]
    else:
        # Without dropout, since hardly a sum comes twice and none can be memorised; with 0.2, 98.8 % are right.
        words = ["--train", "arithmetic", "--dropout", "0", *(["--reverse"] if reverse else [])]
        words += ["--digits", str(digits), "--seed", str(seed), "--name", name]
    char_rnn.main([*words, "--minutes", str(minutes), "--output_dir", str(results.FOLDER)])
    run, config = saved_runs.SavedRun(folder), saved_runs.read_config(char_rnn.Config, folder)
    sums = arithmetic.Sums(config.digits, config.reverse)
    network = char_rnn.build_network(config, len(sums.alphabet))
    run.restore("best", averaged_network=network)
    right, wrong = exact_answers(network, config, sums)
    print("wrong: " + ", ".join(wrong[:10]))
    return {"seed": seed, "asked": len(sums.held_out), "right": right, "wrong": wrong[:20]}


@cli.one_line_errors
def main(argv=None):
    """Train, ask, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of training (%(default)s)")
    parser.add_argument("--digits", type=int, default=3, help="of the numbers (%(default)s)")
    parser.add_argument("--reverse", action="store_true", help="answers from the last digit to the first")
    parser.add_argument("--seeds", type=int, default=3, help="of the training (%(default)s)")
    arguments = parser.parse_args(argv)
    setting = {"digits": arguments.digits, "reverse": arguments.reverse, "minutes": arguments.minutes}
    rows = [train_and_ask(seed, **setting) for seed in range(arguments.seeds)]
    results.publish(NAME, {**setting, "seeds": len(rows), "asked": rows[0]["asked"], "rows": rows}, section)


if __name__ == "__main__":
    main()
