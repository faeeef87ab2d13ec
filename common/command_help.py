"""The help of a script: its flags in groups, with those that a newcomer needs first."""

import dataclasses
import typing
from typing import Literal

import docstring_parser
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from common import flags

# The flags that a newcomer needs, in this order; a script has at most ten of them.
START = (
    *("image_path", "zoom", "list_layers", "train", "data", "image_size", "conditional", "minutes", "epochs"),
    *("resume", "sample", "interpolate", "prime", "temperature", "label", "model", "seed"),
)
TRAINING = {"batch_size", "learning_rate", "schedule"}  # besides those that a resumed run may change
DEVICE_AND_FILES = {"output_dir", "name", "precision"}  # also of scripts whose own Config declares them
FLAG_WIDTH = 29  # the same in all groups


def show(config_class: type, program: str, description: str) -> None:
    """Print the help of the script `program`, whose flags are the fields of `config_class`."""
    console, texts = Console(highlight=False), _texts(config_class)
    console.print(f"usage: {program} [flags]", markup=False)
    for paragraph in description.strip().split("\n\n"):
        is_table = paragraph.startswith(" ")  # of commands, whose lines must stay apart
        console.print("\n" + (paragraph if is_table else " ".join(paragraph.split())), markup=False, soft_wrap=is_table)
    for title, fields in _groups(config_class).items():
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=FLAG_WIDTH)
        table.add_column()
        for field in fields:
            table.add_row(_flag(config_class, field), _text(config_class, field, texts[field.name]))
        console.print(f"\n{title}", style="bold")
        console.print(Padding(table, (0, 0, 0, 2)))


def _groups(config_class: type) -> dict[str, list[dataclasses.Field]]:
    """Return the fields by the title of their group; each field belongs to one group."""
    own = config_class.__annotations__.keys() - DEVICE_AND_FILES
    uses_run = flags.fields_with(config_class, flags.UsesRun)
    for field, markers in flags.markers_of(config_class).items():
        needed = [it.conditions for it in markers if isinstance(it, flags.Needs)]
        if any(uses_run.issuperset(conditions) for conditions in needed):
            uses_run.add(field)
    uses_run |= flags.fields_with(config_class, flags.NeedsUse)
    uses_run |= flags.fields_with(config_class, flags.Changeable) & own
    training = (flags.fields_with(config_class, flags.TrainingOnly) | TRAINING) - DEVICE_AND_FILES
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    groups = {"Start here": [fields.pop(name) for name in START if name in fields]}
    for title, belongs in (
        ("Using a trained run", uses_run.__contains__),
        ("Training", training.__contains__),
        ("Method", own.__contains__),
        ("Device and files", lambda name: True),
    ):
        groups[title] = [fields.pop(name) for name in list(fields) if belongs(name)]
    return {title: members for title, members in groups.items() if members}


def _texts(config_class: type) -> dict[str, str]:
    """Return the help of each field, which is the docstring below it."""
    classes = filter(dataclasses.is_dataclass, reversed(config_class.__mro__))
    parameters = (parameter for it in classes for parameter in docstring_parser.parse_from_object(it).params)
    return {parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in parameters}


def _flag(config_class: type, field: dataclasses.Field) -> Text:
    """Return a flag and the type of its value: "--layers INT", "--train STR …", "--flip"."""
    kind = typing.get_type_hints(config_class)[field.name]
    if kind is bool:
        value = ""
    elif typing.get_origin(kind) is Literal:
        value = " NAME"
    elif typing.get_origin(kind) is tuple:
        value = f" {typing.get_args(kind)[0].__name__.upper()} …"
    else:
        value = f" {kind.__name__.upper()}"
    return Text(f"--{field.name.rstrip('_')}{value}")


def _text(config_class: type, field: dataclasses.Field, text: str) -> Text:
    """Return the help of a flag, its choices, and its default."""
    kind = typing.get_type_hints(config_class)[field.name]
    notes = [f"one of {', '.join(typing.get_args(kind))}"] if typing.get_origin(kind) is Literal else []
    has_default = field.name not in flags.fields_with(config_class, flags.NotEmpty) or field.default
    if has_default and field.default is not False and field.default not in ("", ()):
        notes.append(f"default: {field.default}")
    return Text(f"{text} ({'; '.join(notes)})" if notes else text)
