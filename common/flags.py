"""Markers in the type of a setting: its bounds, the commands it belongs to, the flags it needs or excludes.

They are written inside `Annotated` in a script's Config and checked here, so that scripts contain no such checks.
"""

import dataclasses
import glob
import math
import os
import typing
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from common.errors import UserError

SHELL_EXPANDS = os.name != "nt"  # patterns such as *.png; Windows leaves that to the program


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """The smallest allowed value of a number."""

    low: float


@dataclasses.dataclass(frozen=True)
class AtMost:
    """The largest allowed value of a number."""

    high: float


@dataclasses.dataclass(frozen=True)
class Between:
    """The closed range of allowed values of a number."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Exactly:
    """The number of values that a flag takes; the flag itself may be left out."""

    count: int


class NotEmpty:
    """A flag that is given needs a value other than 0 and "", to which an unset shell variable expands."""


class IsPath:
    """Names a file or folder: ~ at its start is the user's home. So do `NamesData` and all tuples of texts."""


class Changeable:
    """May change when a run is resumed or sampled."""


class TrainingOnly:
    """May change when a run is resumed; is irrelevant to a command that uses a trained run."""


class NamesData:
    """Names the data; may change in every command that reads data, because these are compared by their digest."""


class PerCommand:
    """Belongs to one command; its value is not taken from the run that a command resumes or samples."""


class NeedsUse:
    """Has no effect without a flag that makes the command use a trained run."""


@dataclasses.dataclass(frozen=True)
class UsesRun:
    """Makes a command use a trained run instead of training one; reads_data: it reads the run's data, too."""

    reads_data: bool = False


class Needs:
    """Has no effect unless one of the conditions holds: "sample" (that setting differs from its default) or "a=b"."""

    def __init__(self, *conditions: str, above: float = -math.inf):
        """above: only larger values need the condition."""
        self.conditions, self.above = conditions, above


class Excludes:
    """Cannot be combined with any of the conditions, written as for `Needs`."""

    def __init__(self, *conditions: str, reason: str = ""):
        """reason: why not, or what to do instead."""
        self.conditions, self.reason = conditions, reason


class MultipleOf:
    """Must be a multiple of `number` whenever one of the conditions holds, written as for `Needs`."""

    def __init__(self, number: int, *conditions: str):
        self.number, self.conditions = number, conditions


@dataclasses.dataclass(frozen=True)
class EscapedText:
    """A text in which \\n is a line end and \\\\ a backslash.

    may_be_file: @FILE is the text of that file, and a leading @@ is @.
    """

    may_be_file: bool = False


MOST = 10**9  # of anything that is counted: more than a machine holds, and no overflow in TensorFlow

Count = Annotated[int, AtLeast(0), AtMost(MOST)]
Positive = Annotated[int, AtLeast(1), AtMost(MOST)]
Named = Annotated[str, NotEmpty, IsPath]


def markers_of(config_class: type) -> dict[str, tuple]:
    """Return the markers in the type of each field of a Config."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    return {field.name: getattr(hints[field.name], "__metadata__", ()) for field in dataclasses.fields(config_class)}


def fields_with(config_class: type, *kinds: type) -> set[str]:
    """Return the fields that have a marker of any of these classes."""
    return {
        field
        for field, markers in markers_of(config_class).items()
        if any(marker in kinds or isinstance(marker, kinds) for marker in markers)
    }


def active_uses(config) -> list[UsesRun]:
    """Return the `UsesRun` of each flag that is set; without any, the command trains."""
    return [
        marker
        for field, markers in markers_of(type(config)).items()
        for marker in markers
        if isinstance(marker, UsesRun) and getattr(config, field)
    ]


def expand_paths(config):
    """Return the config with ~ and ~user at the start of each path replaced by the home folder, if it is known.

    On Windows, where no shell does it, patterns in lists of paths are replaced by the paths that they match.
    """
    paths, changed = fields_with(type(config), IsPath, NamesData), {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, str) and field.name in paths:
            changed[field.name] = os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser raises for unknown users
        elif isinstance(value, tuple) and all(isinstance(it, str) for it in value):
            changed[field.name] = tuple(path for it in map(os.path.expanduser, value) for path in _matching(it))
    return dataclasses.replace(config, **changed)


def _matching(path: str) -> list[str]:
    is_pattern = not SHELL_EXPANDS and glob.has_magic(path) and not os.access(path, os.F_OK)
    return (is_pattern and sorted(glob.glob(path))) or [path]  # noqa: PTH207 - Path.glob takes no absolute pattern


def has_type(value, hint) -> bool:
    """Whether a value has the type `hint` of a setting; a whole number is a float, too, a bool is no number."""
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str)
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if not isinstance(value, tuple):
            return False
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return len(kinds) == len(value) and all(map(has_type, value, kinds))
    return type(value) is hint or (type(value), hint) == (int, float)


def check_values(config, given: Sequence[str] = ()) -> None:
    """Raise UserError for the first value of `config` that is not among its choices or outside its bounds.

    given: the fields of the flags on the command line. Other settings without what they need have no effect, so their
    bounds are not checked: a run that an earlier version saved may hold any value there.
    """
    hints = typing.get_type_hints(type(config))
    for field, markers in markers_of(type(config)).items():
        value = getattr(config, field)
        if typing.get_origin(hints[field]) is Literal and value not in typing.get_args(hints[field]):
            raise UserError(f"--{field} {value}: must be one of {', '.join(typing.get_args(hints[field]))}")
        if field not in given and any(_is_idle(config, marker) for marker in markers):
            continue
        for marker in markers:
            if isinstance(marker, AtLeast) and not value >= marker.low:
                raise UserError(f"--{field} {value}: must be at least {marker.low:g}")
            if isinstance(marker, AtMost) and not value <= marker.high:
                raise UserError(f"--{field} {value}: must be at most {marker.high:,}")
            if isinstance(marker, Between) and not marker.low <= value <= marker.high:
                raise UserError(f"--{field} {value}: must lie between {marker.low:.10g} and {marker.high:.10g}")


def check_given(config, given: list[str]) -> None:
    """Raise UserError for the first flag that is empty, repeated, or has the wrong number of values.

    given: the fields of the flags on the command line, each as often as it occurs there.
    """
    markers = markers_of(type(config))
    for field in dataclasses.fields(config):
        value, times = getattr(config, field.name), given.count(field.name.rstrip("_"))  # from_ is --from
        if times and not value and NotEmpty in markers[field.name]:
            raise UserError(f"--{field.name.rstrip('_')} {value!r}: needs a value")
        if times and value == ():
            raise UserError(f"--{field.name}: name at least one file")  # a shell's pattern may match none
        if times > 1 and isinstance(value, tuple):
            raise UserError(f"--{field.name}: give it once, with all files after it; only the last would count")
        for marker in markers[field.name]:
            if times and isinstance(marker, Exactly) and len(value) != marker.count:
                raise UserError(f"--{field.name}: takes {marker.count} files, not {len(value)}")


def check_relations(config, given: list[str], is_complete: bool = True) -> None:
    """Raise UserError for the first flag that lacks one it needs, or does not fit another.

    given: the fields of the flags on the command line; the needs of a run's stored settings are not checked again.
    is_complete: whether the other settings have their final values; if not, they are not compared with anything.
    """
    known = markers_of(type(config)).keys() if is_complete else set(given)
    for field, markers in markers_of(type(config)).items():
        value = getattr(config, field)
        for marker in markers if field in known else ():
            if isinstance(marker, Needs) and is_complete and field in given and value != _default(config, field):
                is_above = marker.above == -math.inf or value > marker.above
                if is_above and not any(_holds(config, condition) for condition in marker.conditions):
                    raise UserError(f"{as_typed(field, value)}: needs {' or '.join(map(_flag, marker.conditions))}")
            if isinstance(marker, Excludes) and value:
                for condition in _conditions_that_hold(config, marker, known):
                    reason = f"; {marker.reason}" if marker.reason else ""
                    raise UserError(f"{as_typed(field, value)}: cannot be combined with {_flag(condition)}{reason}")
            if isinstance(marker, MultipleOf) and value % marker.number:
                for condition in _conditions_that_hold(config, marker, known):
                    needed = f"must be a multiple of {marker.number} for {_flag(condition)}"
                    raise UserError(f"{as_typed(field, value)}: {needed}")


def contradictions(config, saved) -> list[str]:
    """Return the flags that differ from the `saved` config of a run and must not."""
    free = fields_with(type(config), Changeable, PerCommand, UsesRun)
    if config.uses_trained_run:
        free.add("seed")  # here it selects the samples
    else:
        free |= fields_with(type(config), TrainingOnly)
    if config.reads_data:
        free |= fields_with(type(config), NamesData)
    return [
        f"{as_typed(field, getattr(config, field))} (the run has {_of_run(field, getattr(saved, field))})"
        for field in markers_of(type(config))
        if field not in free and getattr(config, field) != getattr(saved, field)
    ]


def as_typed(field: str, value) -> str:
    """Return a flag and its value as a user types them: "--label 7", "--flip", "--no_flip", "--name ''"."""
    if isinstance(value, bool):
        return f"--{field}" if value else f"--no_{field}"
    return f"--{field} {_typed(value) or repr('')}"


def _of_run(field: str, value) -> str:
    return as_typed(field, value) if isinstance(value, bool) else _typed(value) or "none"


def _typed(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _flag(condition: str) -> str:
    """Return a condition such as "kind=denoising" as a user types it."""
    return f"--{condition.replace('=', ' ')}"


def _is_idle(config, marker) -> bool:
    """Whether a setting has no effect, because of this marker."""
    is_condition = isinstance(marker, Needs) and marker.above == -math.inf
    return is_condition and not any(_holds(config, condition) for condition in marker.conditions)


def _conditions_that_hold(config, marker, known: Collection[str]) -> list[str]:
    """Return the conditions of a marker that hold, among those on a setting in `known`."""
    return [it for it in marker.conditions if it.partition("=")[0] in known and _holds(config, it)]


def _holds(config, condition: str) -> bool:
    name, _, wanted = condition.partition("=")
    value = getattr(config, name)
    return _typed(value) == wanted if wanted else value != _default(config, name)


def _default(config, name: str):
    return next(field.default for field in dataclasses.fields(config) if field.name == name)
