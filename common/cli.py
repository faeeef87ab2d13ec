"""A script's `Config` dataclass becomes its command line, and a user's mistake becomes one line."""

import contextlib
import dataclasses
import difflib
import functools
import io
import itertools
import os
import sys
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import track


class UserError(Exception):
    """Something that the user can put right: told in one line, with exit status 2 and no traceback."""


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """The smallest value that a number on the command line may have; used inside `Annotated`."""

    bound: float


@dataclasses.dataclass(frozen=True)
class Between:
    """The closed range that a number on the command line must lie in; used inside `Annotated`."""

    low: float
    high: float


class MayChange:
    """Marks a setting that a resumed or sampled run may have otherwise than when it was started."""


class OfTraining:
    """Marks a setting that a resumed run may have otherwise, and that says nothing to what is made with a run."""


class OfData:
    """Marks a setting that names data, for commands that read them: training, and measuring a run."""


class OfOneCommand:
    """Marks a setting that a resumed or sampled run does not take over from the command that started it."""


class GivenInFull:
    """Marks a setting that, if it is given at all, must not be empty or 0, as with an unset variable of the shell."""


Count = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
Named = Annotated[str, GivenInFull]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The flags that mean the same in every training script and that no paper would mention."""

    resume: Annotated[Named, OfOneCommand] = ""
    """Go on with a run that was interrupted: its folder, or "latest"."""
    sample: Annotated[Count, GivenInFull, OfOneCommand] = 0
    """Make this many samples with a trained run instead of training."""
    run: Annotated[Named, OfOneCommand] = "latest"
    """The run that --sample takes: its folder, or "latest"."""
    seed: Annotated[int, Between(0, 2**31 - 1)] = 0
    """Where all randomness starts; the same seed gives the same run, and with --sample the same samples."""
    output_dir: Annotated[str, MayChange] = "outputs"
    """Runs land in a folder of the script's name in here."""
    name: Annotated[str, OfTraining] = ""
    """The run's name; empty for a time stamp."""
    minutes: Annotated[float, AtLeast(0), OfTraining] = 0.0
    """Train for so many minutes, counted from the run's start, in place of --epochs 0; with another, until either is
    over. 0 for no limit."""
    sample_every: Annotated[Positive, OfTraining] = 200
    """Steps between two grids of samples."""
    checkpoint_every: Annotated[Positive, OfTraining] = 500
    """Steps between two checkpoints."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Arithmetic of the networks; auto takes mixed_bfloat16 where the hardware multiplies it."""
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = "auto"
    """tf.distribute: auto mirrors over several GPUs, and over several machines where TF_CONFIG is set."""
    jit: Literal["off", "on"] = "off"
    """Compile the training step with XLA; no faster on CPUs (docs/dcgan_mnist.md), not measured on GPUs."""
    tensorboard: Annotated[bool, OfTraining] = False
    """Write losses and grids for TensorBoard, too (needs the package tensorboard)."""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return self.sample > 0

    @property
    def reads_data(self) -> bool:
        """Whether this command reads the data that a run is trained on."""
        return not self.uses_trained_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureConfig(CommonConfig):
    """The flags of scripts that make pictures."""

    colors: Literal["auto", "grey", "rgb"] = "auto"
    """Channels of the images; auto is grey if all pictures are."""
    interpolate: Annotated[bool, MayChange] = False
    """Walk between latents of a trained run, as a grid and a GIF, instead of training."""

    @property
    def channels(self) -> int:
        """What `--colors` asks for: 1, 3, or 0 for as the pictures are."""
        return {"auto": 0, "grey": 1, "rgb": 3}[self.colors]

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return self.sample > 0 or self.interpolate


def script_name(config_class: type) -> str:
    """The name, without ending, of the file that defines a script's Config: dcgan_mnist, vae …"""
    return Path(sys.modules[config_class.__module__].__file__).stem


def one_line_errors(main):
    """Decorate a script's `main` so that errors which users can cause end it with one line and exit status 2."""

    @functools.wraps(main)
    def wrapper(argv=None):
        for stream in (sys.stdout, sys.stderr):  # which may know less than a file's name or a text has
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return main(argv)
        except UserError as error:
            message = " ".join(str(error).splitlines())
        except BrokenPipeError:  # of "| head": nobody is left to be told
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # as a shell tells of SIGPIPE
        except _out_of_memory():
            message = "out of memory; smaller pictures or batches need less: --help shows the settings"
        except KeyboardInterrupt:  # outside of a training loop, which ends in its own way
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        print(f"{Path(main.__globals__['__file__']).name}: error: {message}", file=sys.stderr)
        raise SystemExit(2)

    return wrapper


def _out_of_memory() -> tuple[type[Exception], ...]:
    """Return the exceptions that tell of it: TensorFlow's only where a script has imported it, which takes seconds."""
    tensorflow = sys.modules.get("tensorflow")
    return (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else (MemoryError,)


def parse(config_class: type, argv: list[str] | None, description: str, defaults=None):
    """Return a `config_class` made from the command line.

    argv: the words after the script's name; None for `sys.argv[1:]`.
    defaults: a config whose values stand for the flags that are not given.
    Raises UserError for an unknown flag (naming the nearest), a value of the wrong type or out of its bounds.
    """
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report):
            config, unknown = tyro.cli(
                config_class,
                prog=f"{script_name(config_class)}.py",
                description=description,
                args=argv,
                default=defaults,
                use_underscores=True,
                return_unknown_args=True,
            )
    except SystemExit as leaving:
        if leaving.code in (0, None):  # --help
            raise
        told = _first_sentence(report.getvalue())
        if told.startswith("Missing value"):
            told += " (one that begins with - is written --name=value)"
        raise UserError(told) from None
    words = sys.argv[1:] if argv is None else argv
    if unknown:
        raise UserError(_unknown_flag(config_class, unknown[0], words))
    rules = _rules(config_class)
    given = [_flag(word) for word in words if word.startswith("--")]
    for field in dataclasses.fields(config):
        value, times = getattr(config, field.name), given.count(field.name)
        if times and not value and GivenInFull in rules[field.name]:
            raise UserError(f"--{field.name} {value!r}: is nothing; leave it out, or say what")
        if value == () and times:
            raise UserError(f"--{field.name}: name at least one file")  # as where a shell's pattern fits none
        if isinstance(value, tuple) and times > 1:
            raise UserError(f"--{field.name}: give it once, with all files behind it; the last one would count alone")
    check_values(config)
    return config


def progress(items: Iterable, description: str, total: int | None = None) -> Iterable:
    """Yield `items` under a progress bar, which only a terminal shows, and which is gone at the end.

    total: how many there are, if `items` has no length.
    """
    return track(items, description, total, transient=True, disable=not sys.stdout.isatty())


def check_values(config) -> None:
    """Raise UserError for the first value of `config` that is no choice or outside the bounds in its type."""
    hints = typing.get_type_hints(type(config))
    for field, rules in _rules(type(config)).items():
        value = getattr(config, field)
        if typing.get_origin(hints[field]) is Literal and value not in typing.get_args(hints[field]):
            raise UserError(f"--{field} {value}: must be one of {', '.join(typing.get_args(hints[field]))}")
        for rule in rules:
            if isinstance(rule, AtLeast) and not value >= rule.bound:
                raise UserError(f"--{field} {value}: must be at least {rule.bound:g}")
            if isinstance(rule, Between) and not rule.low <= value <= rule.high:
                raise UserError(f"--{field} {value}: must lie between {rule.low:.10g} and {rule.high:.10g}")


def contradictions(config, stored) -> list[str]:
    """The flags in which `config` differs from a run's `stored` config though it must not."""
    free = {MayChange, OfOneCommand}
    if not config.uses_trained_run:
        free.add(OfTraining)
    if config.reads_data:
        free.add(OfData)
    return [
        f"--{field} {_typed(getattr(config, field))} (the run has {_typed(getattr(stored, field)) or 'none'})"
        for field, rules in _rules(type(config)).items()
        if free.isdisjoint(rules) and getattr(config, field) != getattr(stored, field)
        if not (field == "seed" and config.uses_trained_run)
    ]


def of_one_command(config_class: type) -> set[str]:
    """The fields that a resumed or sampled run does not take over."""
    return {field for field, rules in _rules(config_class).items() if OfOneCommand in rules}


def _typed(value) -> str:
    """A value as it would be typed."""
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _rules(config_class: type) -> dict[str, tuple]:
    hints = typing.get_type_hints(config_class, include_extras=True)
    return {field: getattr(hint, "__metadata__", ()) for field, hint in hints.items()}


def _unknown_flag(config_class: type, word: str, words: list[str]) -> str:
    if not word.startswith("-"):
        before = [first for first, second in itertools.pairwise(words) if second == word]
        before += [first.removesuffix(f"={word}") for first in words if first.endswith(f"={word}")]
        if before and typing.get_type_hints(config_class).get(_flag(before[0])) is bool:
            return f"{before[0]} takes no value such as {word}; --no_{_flag(before[0])} turns it off"
        return f"what is {word!r}? Settings are given as --name value; --help lists them"
    flag = _flag(word)
    flags = [field.name.rstrip("_") for field in dataclasses.fields(config_class)]  # from_ is --from
    nearest = difflib.get_close_matches(flag, flags, n=1)
    advice = f"did you mean --{nearest[0]}?" if nearest else "--help lists them"
    return f"unknown flag {word.split('=')[0]}; {advice}"


def _flag(word: str) -> str:
    """The flag in a word such as --image-size=28, as its field is called."""
    return word.lstrip("-").split("=")[0].replace("-", "_")


def _first_sentence(report: str) -> str:
    """What tyro's report says between its title and the next rule, as one line.

    Where the output is UTF-8 the report has a frame, with the title in its upper edge; else a rule below the title.
    """
    sections = [[]]
    for line in report.splitlines():
        line = line.strip("│╰╯ ")
        if line.startswith("╭") or (line and set(line) <= set("─-")):
            sections.append([])
        elif line:
            sections[-1].append(line)
    return " ".join(sections[1] if sections[1:] else sections[0]) or "cannot be read; --help shows what can be given"
