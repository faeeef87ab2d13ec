"""How well does char_rnn.py predict, measured as nanoGPT measures itself? Mean losses of trained runs, in two ways.

nanoGPT's transformer publishes its loss on random windows of 256 characters of tiny Shakespeare's last tenth, each read
by itself, so that a character has 1 to 256 others before it. char_rnn.py's validation gives every character at least
256, which makes its loss lower. Both are measured here with the best network of each run; only the first is compared.
Several runs, such as one for each seed, are also averaged. Writes outputs/benchmarks/nanogpt_char_rnn.json.

    python char_rnn.py --train tinyshakespeare.txt --minutes 10 --name seed0
    python -m benchmarks.nanogpt_char_rnn --runs outputs/char_rnn/seed0
"""

import dataclasses
from pathlib import Path

import numpy as np

import char_rnn
from benchmarks import results
from blocks import lstm
from common import cli, devices, saved_runs, tables
from common.errors import UserError
from evaluation import surprisal

NAME = "nanogpt_char_rnn"
PUBLISHED = 1.4697  # nats, the best of a transformer of 10.7 million weights on a GPU, by its README
TINY_SHAKESPEARE = "90458950a580fbccd31cd08b0c3cd334dbfd790e769fcdb11dd04391f6884871"  # of text and alphabet


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    rows = result["rows"]
    lines = results.opening(
        "char_rnn.py, measured as nanoGPT measures itself",
        f"benchmarks.{NAME} --runs {' '.join('outputs/char_rnn/' + row['run'] for row in rows)}",
        f"Mean loss on the last tenth of {rows[0]['text']}, in nats a character, of the best network of each run. "
        f"Windows: {result['windows']:,} random ones of {surprisal.NANOGPT_WINDOW} characters, each read by itself, as "
        "nanoGPT does; with the standard error of their draw. With a past: each character has at least "
        f"{surprisal.CONTEXT} before it, as in the validation of char_rnn.py.",
    )
    columns = {
        "run": "{run}",
        "seed": "{seed}",
        "minutes": "{minutes:.0f}",
        "windows": "{window_loss:.4f} ± {standard_error:.4f}",
        "with a past": "{validation_loss:.4f}",
    }
    lines += results.table_of(rows, columns)
    if len(rows) > 1:
        losses = [row["window_loss"] for row in rows]
        text = f"Windows, mean and standard deviation of the {len(rows)} runs: {np.mean(losses):.4f} ± "
        lines += ["", text + f"{np.std(losses, ddof=1):.4f}."]
    if all(row["digest"] == TINY_SHAKESPEARE for row in rows):
        lines += ["", f"nanoGPT publishes {PUBLISHED} on windows, for a transformer trained on a GPU."]
    return lines


def measure(reference: str) -> dict:
    """Return the row of a run, which is named by its folder or "latest"."""
    config = saved_runs.configure(char_rnn.Config, ["--run", reference, "--sample", "1"], "")
    run = saved_runs.SavedRun(config.run)
    data = char_rnn.load(dataclasses.replace(config, resume=config.run))
    run.check_data(data)
    if len(data.validation) <= surprisal.NANOGPT_WINDOW:
        raise UserError(f"--runs {reference}: its validation text holds only {len(data.validation)} characters")
    network = char_rnn.build_network(config, len(data.alphabet))
    run.restore("best", averaged_network=network)
    read = char_rnn.make_reader(network, config)
    losses = {"validation_loss": surprisal.validation_loss(read, data.validation)}
    losses |= surprisal.window_loss(read, data.validation)
    last = tables.read(run.folder / "validation.csv")[-1]
    setting = {"run": run.folder.name, "seed": config.seed, "minutes": float(last["seconds"]) / 60}
    setting["text"] = Path(data.name).name
    return {**setting, "digest": data.digest, **losses}


@cli.one_line_errors
def main(argv=None):
    """Measure the runs that the command line names."""
    parser = results.parser(__doc__)
    parser.add_argument("--runs", nargs="+", default=["latest"], help="of char_rnn.py (%(default)s)")
    references = parser.parse_args(argv).runs
    devices.setup(char_rnn.Config(precision="float32"), side_by_side=lstm.most_parts(surprisal.READ_AT_ONCE))
    rows = [measure(it) for it in references]
    seeds = len({row["seed"] for row in rows})
    results.publish(NAME, {"windows": surprisal.NANOGPT_WINDOWS, "seeds": seeds, "rows": rows}, section)


if __name__ == "__main__":
    main()
