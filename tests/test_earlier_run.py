"""A run of vae.py that commit c437156 wrote, tests/data/earlier_run/, is sampled by today's script, but not resumed.

It was made from the pictures below by `vae.py --data pictures --image_size 4 --network dense --latent_dim 1 --prior
normal --bound iwae --importance_samples 2 --backward_samples 1 --decay_from 3 --batch_size 8 --epochs 25 --precision
float32 --strategy one_device --name earlier`; then its weights were rounded to quarters, which keeps the file small.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import vae

RUN = Path("outputs/vae/earlier")
LINE = f"{RUN} was made by another version; ignoring its --backward_samples, --decay_from, --decay_steps"


@pytest.fixture
def earlier_run():
    shutil.copytree(ROOT / "tests/data/earlier_run", RUN)


@pytest.fixture
def same_pictures():
    """The folder of the pictures on which it was trained."""
    Path("pictures").mkdir()
    rows, columns = np.mgrid[:4, :4]
    for number in range(16):
        pixels = ((37 * number + 11 * columns + 5 * rows) % 256).astype(np.uint8)
        Image.fromarray(pixels).save(f"pictures/{number:02d}.png")


def test_it_is_sampled_with_one_line_about_the_settings_that_are_gone(earlier_run, capsys):
    vae.main(["--sample", "3", "--run", str(RUN)])
    assert capsys.readouterr().out.splitlines().count(LINE) == 1
    with np.load(RUN / "generated/samples.npz") as file:
        assert file["images"].shape == (3, 4, 4, 1)


def test_it_is_not_resumed_since_its_optimizer_kept_no_step_size(earlier_run, same_pictures, contents, refusal_of):
    before = contents(RUN)
    line = refusal_of(vae, "--resume", str(RUN), "--epochs", "26")
    assert f"{RUN}/checkpoints/step_00000050.npz was made for another network or by another version: optimizer/" in line
    assert {path: it for path, it in contents(RUN).items() if path in before} == before
