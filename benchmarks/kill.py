"""Kill each script at random moments, resume it each time, and check that it ends as if nothing had happened.

A small run of a script is made once undisturbed. The same run is then killed `--kills` times with SIGKILL, which no
process can catch: while it starts, trains, saves, and writes its last files. After each kill it is resumed, or started
again if its folder did not exist yet. At the end every file in its output folder must equal that of the undisturbed
run, except for times; nothing else may be left there.

    python -m benchmarks.kill
    python -m benchmarks.kill --script vae --kills 20

Prints a row for each kill and a verdict for each script; exit status 1 if anything differs.
"""

import argparse
import csv
import io
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DIGITS = "--data digits --image_size 16 --batch_size 16 --sample_every 40 --checkpoint_every 7"
PATCHES = "--data patches --image_size 16 --batch_size 64 --sample_every 40 --checkpoint_every 7"
TEXT = f"--train {shlex.join([str(ROOT / 'README.md'), str(ROOT / 'docs')])}"
SCRIPTS = {
    "dcgan_mnist": f"{DIGITS} --epochs 12 --generator_width 8 --discriminator_width 8 --latent_dim 16",
    "vanilla_gan": f"{DIGITS} --epochs 12 --width 32 --latent_dim 16",
    "autoencoder": f"{DIGITS} --epochs 8 --width 4 --code_size 16",
    "vae": f"{DIGITS} --epochs 4 --network dense --latent_dim 4",
    "gan_cifar10": f"{PATCHES} --epochs 2 --generator_width 8 --discriminator_width 8",
    "char_rnn": f"{TEXT} --epochs 2 --width 32 --sample_every 40 --checkpoint_every 7",
    "deep_dream": "--zoom 40 --max_size 160 --steps 8 --octaves 3 --model bundled",
}
TIMES = ("seconds", "images_per_second", "characters_per_second")


class Phases(NamedTuple):
    """The seconds from the start of an undisturbed run to its first and last checkpoint, and to its end."""

    first: float
    last: float
    end: float


class Trial:
    """A run of a script in the folder `outputs`."""

    def __init__(self, script: str, outputs: Path):
        """Create the folder `outputs`."""
        self.script, self.outputs, self.folder = script, outputs, outputs / script / "run"
        outputs.mkdir()

    def start(self) -> subprocess.Popen:
        """Start the run in a process of its own, or resume it if its folder exists."""
        where = f"--resume {self.script}/run" if self.folder.exists() else "--output_dir . --name run"
        flags = shlex.split(f"{SCRIPTS[self.script]} --precision float32 {where}")
        command = [sys.executable, ROOT / f"{self.script}.py", *flags]
        with (self.outputs / "log.txt").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.outputs)

    def finish(self) -> Phases:
        """Start or resume the run, and wait for its end."""
        begin, process, moments = time.monotonic(), self.start(), {}
        while process.poll() is None:
            moments.setdefault(self.done(), time.monotonic() - begin)
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(self.failure())
        moments.pop(0, None)  # before the first checkpoint
        end = time.monotonic() - begin
        return Phases(min(moments.values(), default=end), max(moments.values(), default=end), end)

    def done(self) -> int:
        """Return the step of the newest checkpoint, or the number of frames of a zoom; 0 if there is none."""
        steps = [int(path.stem.removeprefix("step_")) for path in self.folder.glob("checkpoints/step_*.npz")]
        return max(steps, default=len(list(self.folder.glob("zoom/frame_*.png"))))

    def unfinished(self) -> set[str]:
        """Return the names of the files that a process is writing, or was writing when it was killed."""
        return {path.name for path in self.outputs.rglob(".*.part*")}

    def failure(self) -> str:
        """Return the end of what the script has printed."""
        return f"{self.script} failed:\n{(self.outputs / 'log.txt').read_text()[-2000:]}"

    def result(self) -> dict[str, bytes]:
        """Return, by name, all contents of the output folder that must be equal."""
        found = {}
        for path in sorted(self.outputs.rglob("*")):
            if path.is_file() and path.name not in ("log.txt", "curves.png"):  # the curves are drawn over time
                name = str(path.relative_to(self.outputs))
                found.update({f"{name}, {part}": content for part, content in contents(path).items()})
        return found


def contents(path: Path) -> dict[str, bytes]:
    """Return the parts of a file by name, without times: arrays, rows, members of a Keras file, or all its bytes."""
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return {row["step"]: repr([row[name] for name in row if name not in TIMES]).encode() for row in rows}
    if path.suffix == ".npz":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if name not in TIMES}
        return {name: f"{it.dtype} {it.shape} ".encode() + it.tobytes() for name, it in arrays.items()}
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist() if name != "metadata.json"}  # it has the date
        return {name: re.sub(rb'"shared_object_id": \d+', b"", it) for name, it in members.items()}  # memory addresses
    return {"": path.read_bytes()}


def kill(trial: Trial, phase: str, target: float, phases: Phases, moments: random.Random) -> str:
    """Start or resume the run, kill it in a phase, and return a row of the table.

    phase: "starting"; "training", "saving" or "finishing" once it has done `target` steps or frames.
    """
    config, saved, left_behind = trial.folder / "config.json", trial.done(), trial.unfinished()
    before = config.stat().st_mtime_ns if config.exists() else 0
    begin, process = time.monotonic(), trial.start()

    def is_writing() -> set[str]:
        return trial.unfinished() - left_behind

    def is_ready() -> bool:
        return config.exists() and config.stat().st_mtime_ns != before and trial.done() >= target

    if phase != "starting":
        while process.poll() is None and not is_ready():
            time.sleep(0.005)
        while phase == "saving" and process.poll() is None and not is_writing():
            pass
    if phase != "saving":
        longest = {"starting": phases.first, "training": 0.2, "finishing": phases.end - phases.last}
        time.sleep(moments.uniform(0, longest[phase]))
    process.kill()
    if process.wait() not in (0, -signal.SIGKILL):
        raise SystemExit(trial.failure())
    if phase == "starting" and trial.done() > saved:
        phase = "training"  # it started faster than the undisturbed run, which found no files in the memory
    state = f"writing {min(is_writing())}" if is_writing() else "has ended" if process.returncode == 0 else phase
    return f"{time.monotonic() - begin:>6.1f}s  {trial.done():>5}  {state}"


def check(script: str, kills: int, moments: random.Random) -> bool:
    """Compare a run that is killed with an undisturbed one; return whether they are equal."""
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed, killed = (Trial(script, Path(temporary, name)) for name in ("undisturbed", "killed"))
        phases, last = undisturbed.finish(), undisturbed.done()
        print(f"\n{script}: undisturbed, step {last} is saved after {phases.last:.0f} seconds, ", end="")
        print(f"the end comes after {phases.end:.0f}\n  killed  saved", flush=True)
        middle = kills - 1 - -(-kills // 4)  # the first is early, a quarter late; these are spread over the steps
        for number in range(kills):
            phase = ("saving", "training", "starting")[(number - 1) % 3] if number <= middle else "finishing"
            target = last * (number - moments.random()) / (middle + 0.5) if number <= middle else last
            print(kill(killed, phase if number else "starting", target, phases, moments), flush=True)
        killed.finish()
        want, got = undisturbed.result(), killed.result()
    different = sorted(name for name in want.keys() | got.keys() if want.get(name) != got.get(name))
    verdict = f"{len(different)} differ: {'; '.join(different[:5])}" if different else "all equal, bit for bit"
    print(f"{script}: {len(want)} arrays, rows and files compared after {kills} kills: {verdict}", flush=True)
    return not different


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", choices=SCRIPTS, help="the only one to kill; otherwise all of them")
    parser.add_argument("--kills", type=int, default=4, help="how many times to kill each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="start of the random moments (%(default)s)")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    scripts = [options.script] if options.script else SCRIPTS
    are_equal = [check(script, options.kills, moments) for script in scripts]
    return 0 if all(are_equal) else 1


if __name__ == "__main__":
    sys.exit(main())
