"""Write docs/results.md from the results of the benchmarks.

Results in outputs/benchmarks/ are first copied to docs/measured/, and their plots to docs/. So a figure stays, with the
machine that it was measured on, until its benchmark is run again.

    python -m benchmarks.report
"""

import json
import re
import shutil
from pathlib import Path

from benchmarks import (
    abc_char_rnn,
    ablate_dcgan,
    arithmetic_char_rnn,
    classify_char_rnn,
    codes_autoencoder,
    compare_char_rnn,
    compare_cifar10,
    compare_dcgan,
    compare_deep_dream,
    compare_vae,
    gpu,
    nanogpt_char_rnn,
    onednn,
    reproduce_iwae,
    results,
    speed,
    speed_char_rnn,
    speed_since,
    startup,
    tricks_vanilla,
)

DOCS = Path("docs")
INTRODUCTION = """
`python -m benchmarks.report` makes this page from the figures in [measured/](measured/). Fréchet distances are in the
features of a small classifier of the same data set
([evaluation/frechet_distance.py](../evaluation/frechet_distance.py)), so they compare the runs on this page with one
another, not with published figures. The peers are in [benchmarks/peers.py](../benchmarks/peers.py).
"""
SECTIONS = {
    "compare_dcgan": compare_dcgan.section,
    "ablate_dcgan": ablate_dcgan.section,
    "speed": speed.section,
    "speed_since": speed_since.section,
    "speed_since_avx2": speed_since.section,
    "onednn": onednn.section,
    "onednn_avx2": onednn.section,
    "gpu": gpu.section,
    "startup": startup.section,
    "tricks_vanilla": tricks_vanilla.section,
    "compare_cifar10": compare_cifar10.section,
    "codes_autoencoder": codes_autoencoder.section,
    "compare_deep_dream": compare_deep_dream.section,
    "compare_vae": compare_vae.section,
    "reproduce_iwae": reproduce_iwae.section,
    "compare_char_rnn_10": compare_char_rnn.section,
    "compare_char_rnn_60": compare_char_rnn.section,
    "nanogpt_char_rnn": nanogpt_char_rnn.section,
    "speed_char_rnn_256": speed_char_rnn.section,
    "speed_char_rnn_512": speed_char_rnn.section,
    "arithmetic_char_rnn": arithmetic_char_rnn.section,
    "abc_char_rnn": abc_char_rnn.section,
    "classify_char_rnn": classify_char_rnn.section,
}


def main():
    """Write docs/results.md from all results that are there."""
    lines = ["# Results", "", *results.paragraph(INTRODUCTION)]
    (DOCS / "measured").mkdir(parents=True, exist_ok=True)
    for name, section in SECTIONS.items():
        kept, fresh = (folder / f"{name}.json" for folder in (DOCS / "measured", results.FOLDER))
        if fresh.exists():
            shutil.copyfile(fresh, kept)
        if kept.exists():
            result = json.loads(kept.read_text())
            lines += ["", *section(result), "", *results.paragraph(results.closing(result))]
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", "\n".join(lines)):
        if (results.FOLDER / picture).exists():
            shutil.copyfile(results.FOLDER / picture, DOCS / picture)
    (DOCS / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
