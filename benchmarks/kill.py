"""Kill a training at random moments, resume it each time, and check that it ends as if nothing had happened.

A small run of dcgan_mnist.py is trained once undisturbed. The same run is then killed `--kills` times with SIGKILL,
which no process can catch: while it starts, trains and saves. After each kill it is resumed, or started again if its
folder did not exist yet. At the end its checkpoints, its metrics (except times) and its grids of samples must equal
those of the undisturbed run bit for bit.

    python -m benchmarks.kill --kills 20

Prints a row for each kill and the verdict; exit status 1 if anything differs.
"""

import argparse
import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).resolve().parents[1] / "dcgan_mnist.py"
FLAGS = {
    "data": "digits",
    "image_size": 16,
    "generator_width": 8,
    "discriminator_width": 8,
    "latent_dim": 16,
    "batch_size": 16,
    "sample_every": 40,
    "checkpoint_every": 7,
    "precision": "float32",
}
TIMES = ("seconds", "images_per_second")


def start(outputs: Path, epochs: int, resume: bool) -> subprocess.Popen:
    """Start the training, or resume it, in a process of its own."""
    words = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
    where = ["--resume", str(run_folder(outputs))] if resume else ["--output_dir", str(outputs), "--name", "run"]
    with (outputs / "log.txt").open("ab") as log:
        command = [sys.executable, str(SCRIPT), *words, "--epochs", str(epochs), *where]
        return subprocess.Popen(command, stdout=log, stderr=log)


def run_folder(outputs: Path) -> Path:
    """Return the folder of the run."""
    return outputs / SCRIPT.stem / "run"


def finish(outputs: Path, epochs: int, resume: bool) -> float:
    """Train to the end; return the seconds it took."""
    begin = time.monotonic()
    if start(outputs, epochs, resume).wait() != 0:
        raise SystemExit(f"the training failed:\n{log_of(outputs)}")
    return time.monotonic() - begin


def log_of(outputs: Path) -> str:
    """Return the end of what the training printed."""
    return (outputs / "log.txt").read_text()[-2000:]


def last_step(outputs: Path) -> int:
    """Return the step of the newest checkpoint; 0 if there is none."""
    return max((int(path.stem[5:]) for path in (run_folder(outputs) / "checkpoints").glob("step_*.npz")), default=0)


def unfinished(outputs: Path) -> list[str]:
    """Return the names of files that a killed process was writing."""
    return [path.name for path in run_folder(outputs).rglob(".*.part*")]


def result(outputs: Path) -> dict[str, bytes]:
    """Return, by name, everything that must be equal at the end."""
    folder = run_folder(outputs)
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}
    del found["curves.png"]  # drawn from the metrics
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found[f"metrics.csv, step {row['step']}"] = repr([row[name] for name in row if name not in TIMES]).encode()
    for path in sorted((folder / "checkpoints").iterdir()):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if name != "seconds"}
        for name, array in arrays.items():
            found[f"{path.name}, {name}"] = f"{array.dtype} {array.shape} ".encode() + array.tobytes()
    return found


def measure_startup(temporary: Path) -> float:
    """Return the seconds from the start of a training to its first checkpoint, with TensorFlow's files cached."""
    outputs = temporary / "startup"
    outputs.mkdir()
    begin = time.monotonic()
    process = start(outputs, 1, resume=False)
    while not last_step(outputs) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    return time.monotonic() - begin


def kill_once(
    outputs: Path, epochs: int, delay: float | None, target: float, moments: random.Random
) -> tuple[int, str]:
    """Start or resume the training and kill it; return its last saved step and what it was doing.

    delay: seconds after which to kill it; None to wait until it has saved a step beyond `target`.
    """
    before = last_step(outputs)
    process = start(outputs, epochs, resume=run_folder(outputs).exists())
    if delay is None:
        while process.poll() is None and last_step(outputs) <= target:
            time.sleep(0.005)
        delay = moments.uniform(0, 0.2)
    time.sleep(delay)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"the training ended by itself:\n{log_of(outputs)}")
    after, half = last_step(outputs), unfinished(outputs)
    return after, f"writing {half[0]}" if half else "training" if after > before else "starting"


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many times to kill it (%(default)s)")
    parser.add_argument("--epochs", type=int, default=24, help="length of the run, 93 steps each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="start of the random moments (%(default)s)")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed, killed = Path(temporary, "undisturbed"), Path(temporary, "killed")
        undisturbed.mkdir()
        killed.mkdir()
        seconds = finish(undisturbed, options.epochs, resume=False)
        last = last_step(undisturbed)
        print(f"undisturbed: {last} steps in {seconds:.0f} seconds", flush=True)
        startup = measure_startup(Path(temporary))
        print(f"a start takes {startup:.1f} seconds up to its first checkpoint\n", flush=True)
        print("kill  after  checkpoint before  at the kill  state", flush=True)
        for number in range(1, options.kills + 1):
            # The first kill and a fifth of the others come during the start; the rest spread over the steps left.
            before, is_early = last_step(killed), number == 1 or moments.random() < 0.2
            ahead = moments.uniform(0, 1.5) * (last - before) / (options.kills - number + 1)
            delay = moments.uniform(0, startup) if is_early else None
            begin = time.monotonic()
            after, state = kill_once(killed, options.epochs, delay, min(before + ahead, last - 200), moments)
            print(f"{number:>4}  {time.monotonic() - begin:>4.1f}s  {before:>17}  {after:>11}  {state}", flush=True)
        finish(killed, options.epochs, resume=run_folder(killed).exists())
        want, got, left = result(undisturbed), result(killed), unfinished(killed)
    different = sorted(name for name in want.keys() | got.keys() if want.get(name) != got.get(name))
    print(f"\n{len(want)} arrays, rows and pictures compared after {options.kills} kills: ", end="")
    print(f"{len(different)} differ: {', '.join(different[:5])}" if different else "all equal, bit for bit")
    if left:
        print(f"left behind: {', '.join(left)}")
    return 1 if different or left else 0


if __name__ == "__main__":
    sys.exit(main())
