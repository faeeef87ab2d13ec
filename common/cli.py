"""Turn a script's `Config` dataclass into its command line."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common import command_help, flags, folders, text_files
from common.errors import UserError, one_line_errors
from common.progress import phase, progress

__all__ = [
    "CommandConfig",
    "CommonConfig",
    "PictureConfig",
    "one_line_errors",
    "parse",
    "phase",
    "progress",
    "script_name",
]

DASHES = ("-", "\N{EN DASH}", "\N{EM DASH}")  # some web pages and word processors turn two hyphens into a dash
PLAIN = {  # what tyro reports, as a regular expression, and what we say
    r"Missing value for argument '(\S+)'. Expected 1 values.": (
        r"\1: needs a value; write one that begins with a hyphen as \1=VALUE"
    ),
    r"Missing value for argument '(\S+)'. Expected (\d+) values.": r"\1: needs \2 values",
    r"invalid choice '(.*)' for argument '(\S+)'. Expected one of \((.*)\).": r"\2 '\1': must be one of \3",
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)": r"\1 \2: is not a whole number",
    r"Error parsing (\S+): could not convert string to float: (.*)": r"\1 \2: is not a number such as 0.5",
    r"Error parsing (\S+): Could not parse arguments \[(.*)\] into tuple .*": r"\1 \2: are not numbers such as 0.5",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """The flags that every script with a network has, whether it trains one or not."""

    resume: Annotated[flags.Named, flags.PerCommand] = ""
    """Continue a run: its folder, or "latest"."""
    output_dir: Annotated[str, flags.IsPath, flags.Changeable] = "outputs"
    """Runs are written to <output_dir>/<script>/<name>."""
    name: Annotated[str, flags.TrainingOnly] = ""
    """The run's name; a time stamp if empty."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Arithmetic of the networks; auto takes mixed_bfloat16 where the hardware multiplies it."""
    verbose: Annotated[bool, flags.PerCommand] = False
    """Show what TensorFlow and Keras report."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonConfig(CommandConfig):
    """The flags that every training script has and no paper would mention."""

    sample: Annotated[flags.Count, flags.NotEmpty, flags.PerCommand, flags.UsesRun()] = 0
    """Draw this many samples from a trained run instead of training."""
    run: Annotated[flags.Named, flags.PerCommand, flags.NeedsUse] = "latest"
    """The trained run to use, for --sample and the like: its folder, or "latest"."""
    to: Annotated[flags.Named, flags.PerCommand, flags.NeedsUse] = ""
    """Folder for the results of --sample and the like; the run's own generated/ if empty."""
    seed: Annotated[int, flags.Between(0, 2**31 - 1)] = 0
    """Start of all randomness: the same seed gives the same run and, with --sample, the same samples."""
    minutes: Annotated[float, flags.AtLeast(0), flags.AtMost(10**7), flags.TrainingOnly] = 0.0
    """Stop after this many minutes of training; with --epochs too, whichever comes first. 0 for no limit."""
    sample_every: Annotated[flags.Positive, flags.TrainingOnly] = 200
    """Steps between two grids of samples."""
    checkpoint_every: Annotated[flags.Positive, flags.TrainingOnly] = 500
    """Steps between two checkpoints."""
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = "auto"
    """tf.distribute: auto mirrors over several GPUs, and over several machines where TF_CONFIG is set."""
    jit: Literal["off", "on"] = "off"
    """Compile the training step with XLA; no faster on CPUs (docs/dcgan_mnist.md), not measured on GPUs."""
    tensorboard: Annotated[bool, flags.TrainingOnly] = False
    """Also write losses and grids for TensorBoard (needs the package tensorboard)."""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command uses a trained run instead of training one."""
        return bool(flags.active_uses(self))

    @property
    def reads_data(self) -> bool:
        """Whether this command reads the data that a run is trained on."""
        uses = flags.active_uses(self)
        return not uses or any(use.reads_data for use in uses)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureConfig(CommonConfig):
    """The flags of scripts that generate images."""

    colors: Literal["auto", "grey", "rgb"] = "auto"
    """Channels of the images; auto is grey if all pictures are."""
    interpolate: Annotated[bool, flags.UsesRun()] = False
    """Walk between latents of a trained run, as a grid and a GIF, instead of training."""

    @property
    def channels(self) -> int:
        """The number of channels that `--colors` requests: 1, 3, or 0 for that of the pictures."""
        return {"auto": 0, "grey": 1, "rgb": 3}[self.colors]


def script_name(config_class: type) -> str:
    """Return the name of the script that defines a Config, without its ending: dcgan_mnist, vae …"""
    return Path(sys.modules[config_class.__module__].__file__).stem


def parse(config_class: type, argv: list[str] | None, description: str, defaults=None):
    """Return a `config_class` made from the command line; with --help, print the help and exit.

    argv: the words after the script's name; None for `sys.argv[1:]`.
    defaults: a config with the values of the flags that are not given.
    Raises UserError for an unknown flag (naming the nearest), a wrong type, a value out of bounds, a flag that lacks
    one it needs or is combined with one it excludes, and a text file that cannot be read. If the command reads a run,
    what a flag needs is checked only with `defaults`, the run's settings, and so are its relations to flags not given.
    """
    words = sys.argv[1:] if argv is None else argv
    program = f"{script_name(config_class)}.py"
    if {"-h", "--help"} & set(words):
        command_help.show(config_class, program, description)
        raise SystemExit(0)
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report), contextlib.redirect_stdout(report):  # no colours for a terminal
            config, unknown = tyro.cli(
                config_class,
                prog=program,
                args=words,
                default=defaults,
                use_underscores=True,
                return_unknown_args=True,
            )
    except SystemExit:
        raise UserError(_plain(report.getvalue())) from None
    if unknown:
        raise UserError(_unknown_flag(config_class, unknown[0], words))
    given = [_field(word) for word in words if word.startswith("--")]
    config = flags.expand_paths(config)
    _check_paths(config, given)
    flags.check_given(config, given)
    flags.check_values(config, given)
    reads_run = getattr(config, "resume", "") or getattr(config, "uses_trained_run", False)
    is_complete = defaults is not None or not reads_run  # otherwise the run's settings are still missing
    flags.check_relations(config, given, is_complete)
    folders.leave_out(getattr(config, "output_dir", "outputs"))
    return text_files.unescape(config, given)


def _check_paths(config, given: Sequence[str]) -> None:
    """Raise UserError for an address where a file or folder is needed, and for the home of an unknown user."""
    paths = flags.fields_with(type(config), flags.IsPath, flags.NamesData)
    for field in given:
        value = getattr(config, field, None)
        for path in value if isinstance(value, tuple) else [value] if field in paths else []:
            if re.match(r"\w\w+://", str(path)):
                raise UserError(f"--{field} {path}: is an address; name a file or folder on this machine")
            if str(path).startswith("~"):  # otherwise `flags.expand_paths` has replaced it
                raise UserError(f"--{field} {path}: there is no such user; a file of this name is ./{path}")


def _unknown_flag(config_class: type, word: str, words: list[str]) -> str:
    if not word.startswith(DASHES):
        before = [first for first, second in itertools.pairwise(words) if second == word]
        before += [first.removesuffix(f"={word}") for first in words if first.endswith(f"={word}")]
        if before and typing.get_type_hints(config_class).get(_field(before[0])) is bool:
            return f"{before[0]} takes no value such as {word}; --no_{_field(before[0])} turns it off"
        return (
            f"unexpected word {word!r}: write flags as --name value, a value with spaces in quotes; --help lists them"
        )
    names = [field.name.rstrip("_") for field in dataclasses.fields(config_class)]  # from_ is --from
    nearest = difflib.get_close_matches(_field(word), names, n=1)
    advice = f"did you mean --{nearest[0]}?" if nearest else "--help lists them"
    return f"unknown flag {word.split('=')[0]}; {advice}"


def _field(word: str) -> str:
    """Return the name of the field that a word such as --image-size=28 sets."""
    return word.lstrip("".join(DASHES)).split("=")[0].replace("-", "_")


def _plain(report: str) -> str:
    """Return what tyro's report says between its first two lines of hyphens, in our words and as one line."""
    sections = [[]]
    for line in map(str.strip, report.splitlines()):
        if line and set(line) == {"-"}:
            sections.append([])
        elif line:
            sections[-1].append(line)
    message = " ".join(sections[1] if sections[1:] else sections[0])
    for pattern, replacement in PLAIN.items():
        message = re.sub(pattern, replacement, message)
    return message or "unreadable command line; --help lists the flags"
