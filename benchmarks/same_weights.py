"""Do the scripts still train bit for bit as they did at an earlier commit?

Each script trains at least 60 steps on bundled data, with its defaults and with each of its larger switches, in float32
on one thread, once at that commit and once in this folder. The checkpoints must be equal bit for bit; for
deep_dream.py, the pixels of its picture. The commit's results are kept in outputs/benchmarks/same_weights/.

    python -m benchmarks.same_weights c437156
    python -m benchmarks.same_weights c437156 --only vae

Prints a line for each case; exit status 1 if one differs.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path("outputs/benchmarks/same_weights")
TEXT = argparse.__file__  # a text that is the same for both
DIGITS = "--data digits --epochs"
PATCHES = "--data patches --epochs 1 --generator_width 16 --discriminator_width 16"
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
CASES = {
    "dcgan_mnist": f"{DIGITS} 2",
    "dcgan_mnist conditional": f"{DIGITS} 2 --conditional",
    "vanilla_gan": f"{DIGITS} 3",
    "vanilla_gan wasserstein": f"{DIGITS} 3 --loss wasserstein_gp",
    "vanilla_gan convolutions": f"{DIGITS} 3 --generator transposed_conv --loss hinge --latents sphere",
    "vanilla_gan tricks": f"{DIGITS} 3 --instance_noise 0.1 --label_smoothing 0.1 --latents uniform",
    "gan_cifar10": f"{PATCHES}",
    "gan_cifar10 conditional": f"{PATCHES} --conditional --augment --flip",
    "gan_cifar10 spectral": f"{PATCHES} --architecture resnet --normalization spectral --loss hinge",
    "gan_cifar10 penalty": f"{PATCHES} --normalization none --gradient_penalty 10 --schedule constant --balance 0",
    "autoencoder": f"{DIGITS} 6",
    "autoencoder denoising": f"{DIGITS} 6 --kind denoising",
    "autoencoder salt": f"{DIGITS} 6 --kind denoising --noise salt_and_pepper --contrast 0",
    "autoencoder binary": f"{DIGITS} 6 --code binary --network dense",
    "vae": f"{DIGITS} 6",
    "vae normal": f"{DIGITS} 6 --prior normal --network dense --latent_dim 2",
    "vae logistic": f"{DIGITS} 6 --likelihood discretized_logistic --beta 0.5",
    "vae conditional": f"{DIGITS} 6 --conditional --likelihood gaussian",
    "vae importance": f"{DIGITS} 6 --bound iwae --importance_samples 5 --binarization threshold",
    "char_rnn": f"--train {TEXT} --epochs 2 --width 64",
    "char_rnn gru": f"--train {TEXT} --epochs 2 --width 64 --cell gru --schedule constant",
    "char_rnn tied": f"--train {TEXT} --epochs 2 --width 64 --embedding 64 --tied --layers 1 --min_count 20",
    "char_rnn arithmetic": "--train arithmetic --epochs 1 --batch_size 256 --window 50 --width 64 --reverse",
    "deep_dream": "--max_size 256 --steps 3 --octaves 3",
    "deep_dream channels": "--max_size 256 --steps 3 --octaves 2 --layers block5 --channels 3,5-7",
}


def results(tree: Path, case: str) -> dict[str, str]:
    """Run a case with the scripts in `tree`; return a digest of each array of its newest checkpoint, or its picture."""
    script = case.split()[0]
    environment = {**os.environ, **ONE_THREAD, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as outputs:
        flags = f"{CASES[case]} --precision float32 --output_dir {outputs} --name run"
        command = [sys.executable, f"{script}.py", *flags.split()]
        pin = {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, **pin)
        if done.returncode:
            raise SystemExit(f"{case}: failed in {tree}:\n{done.stderr[-2000:]}")
        folder = Path(outputs, script, "run")
        if script == "deep_dream":
            with Image.open(folder / "dream.png", formats=["PNG"]) as image:
                return {"dream.png": hashlib.sha256(image.tobytes()).hexdigest()}
        newest = max((folder / "checkpoints").glob("step_*.npz"))
        with np.load(newest) as file:
            arrays = {name: file[name] for name in file.files if name != "seconds"}
        assert int(arrays["step/000"]) >= 60, f"{case}: {arrays['step/000']} steps"
        return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


def full_name(commit: str) -> str:
    """Return the whole name of a commit."""
    return subprocess.check_output(["git", "-C", ROOT, "rev-parse", commit], text=True).strip()


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """Yield a temporary folder that holds the project's files of a commit."""
    with tempfile.TemporaryDirectory() as tree:
        archive = subprocess.run(["git", "-C", ROOT, "archive", commit], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
        yield Path(tree)


def earlier_results(commit: str, case: str) -> dict[str, str]:
    """Return the `results` of a case at a commit; they are computed once and kept."""
    path = KEPT / commit / f"{case.replace(' ', '_')}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tree_of(commit) as tree:
            path.write_text(json.dumps(results(tree, case), indent=1))
    return json.loads(path.read_text())


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="to compare with")
    parser.add_argument("--only", default="", help="the cases whose names begin with this")
    options = parser.parse_args()
    commit, failures = full_name(options.commit), 0
    for case in filter(lambda name: name.startswith(options.only), CASES):
        before, now = earlier_results(commit, case), results(ROOT, case)
        different = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        failures += bool(different)
        print(
            f"{case:28} {'DIFFERS: ' + ', '.join(different[:5]) if different else f'{len(now)} arrays equal'}",
            flush=True,
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
