"""What flags declare is checked; each script's own declarations make sense; the help lists every flag."""

import dataclasses
import importlib
import typing
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tiny_script

from common import cli, flags, saved_runs
from common.errors import UserError

SCRIPTS = (
    *("autoencoder", "char_rnn", "dcgan_mnist", "deep_dream", "gan_cifar10", "get_ckpt", "tiny_script", "vae"),
    *("vanilla_gan",),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.CommonConfig):
    """Made-up settings, with a marker of each kind."""

    kind: Literal["plain", "denoising"] = "plain"
    noise: Annotated[Literal["gaussian", "masking"], flags.Needs("kind=denoising")] = "gaussian"
    level: Annotated[float, flags.Between(0.0, 2.0), flags.Needs("noise=gaussian", above=1.0)] = 0.5
    label: Annotated[str, flags.Changeable, flags.Needs("sample", "score")] = ""
    smooth: Annotated[
        float, flags.Excludes("kind=denoising", "tensorboard", reason="nothing is left to smooth"), flags.AtLeast(0)
    ] = 0.0
    size: Annotated[flags.Positive, flags.MultipleOf(4, "kind=denoising")] = 28
    pair: Annotated[tuple[str, ...], flags.Exactly(2), flags.UsesRun()] = ()
    score: Annotated[flags.Named, flags.UsesRun(reads_data=True)] = ""
    data: Annotated[str, flags.NamesData] = "auto"
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    width: flags.Positive = 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--noise masking", "--noise masking: needs --kind denoising"),
        ("--level 1.5 --noise masking --kind denoising", "--level 1.5: needs --noise gaussian"),
        ("--level 2.5", "--level 2.5: must lie between 0 and 2"),
        ("--label 7", "--label 7: needs --sample or --score"),
        (
            "--smooth 0.5 --kind denoising",
            "--smooth 0.5: cannot be combined with --kind denoising; nothing is left to smooth",
        ),
        (
            "--smooth 0.5 --tensorboard",
            "--smooth 0.5: cannot be combined with --tensorboard; nothing is left to smooth",
        ),
        ("--smooth -1", "--smooth -1.0: must be at least 0"),
        ("--size 30 --kind denoising", "--size 30: must be a multiple of 4 for --kind denoising"),
        ("--size 0", "--size 0: must be at least 1"),
        ("--size 1000000001", "--size 1000000001: must be at most 1,000,000,000"),
        ("--minutes inf", "--minutes inf: must be at most 10,000,000"),
        ("--pair a.png", "--pair: takes 2 files, not 1"),
        ("--pair", "--pair: name at least one file"),
        ("--pair a.png b.png --pair c.png d.png", "--pair: give it once, with all files after it"),
        ("--score=", "--score '': needs a value"),
        ("--kind noisy", "--kind 'noisy': must be one of 'plain', "),
    ],
)
def test_what_is_refused(words, message):
    with pytest.raises(UserError) as refused:
        cli.parse(Config, words.split(), "")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        "--noise gaussian",  # the default value needs nothing
        "--noise masking --kind denoising",
        "--level 0.9 --noise masking --kind denoising",  # only larger levels need Gaussian noise
        "--label 7 --sample 3",
        "--label 7 --score x",
        "--smooth 0 --kind denoising",
        "--size 30",
        "--size 28 --kind denoising",
        "--pair a.png b.png",
    ],
)
def test_what_is_allowed(words):
    cli.parse(Config, words.split(), "")


def test_the_needs_of_a_runs_stored_settings_are_not_checked_again():
    saved = Config(noise="masking", label="7")
    assert cli.parse(Config, [], "", defaults=saved) == saved
    with pytest.raises(UserError, match="needs --kind denoising"):
        cli.parse(Config, ["--noise", "masking"], "", defaults=saved)


def test_relations_are_checked_with_the_settings_of_the_run_not_with_the_defaults():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Related(Config):
        penalty: Annotated[float, flags.Excludes("kind=plain")] = 0.0

    for command in (["--resume", "x"], ["--sample", "3"]):
        words = [*command, "--penalty", "1"]
        cli.parse(Related, words, "")  # the default kind is plain, but that of the run is not known yet
        cli.parse(Related, words, "", defaults=Related(kind="denoising", penalty=1.0))
        with pytest.raises(UserError, match=r"--penalty 1\.0: cannot be combined with --kind plain"):
            cli.parse(Related, words, "", defaults=Related())
        with pytest.raises(UserError, match=r"--penalty 1\.0: cannot be combined with --kind plain"):
            cli.parse(Related, [*words, "--kind", "plain"], "")  # both are given: no run can change that


def test_bounds_of_a_stored_setting_are_checked_unless_it_has_no_effect():
    with pytest.raises(UserError, match="--width 0"):
        flags.check_values(Config(width=0))

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Idle(Config):
        share: Annotated[int, flags.Between(1, 9), flags.Needs("score")] = 3

    flags.check_values(Idle(share=0))
    for config in (Idle(share=0, score="x"), Idle(share=0)):
        with pytest.raises(UserError, match="--share 0: must lie between 1 and 9"):
            flags.check_values(config, ["share"])


@pytest.mark.parametrize(
    ("config", "uses_run", "reads_data"),
    [
        (Config(), False, True),
        (Config(sample=3), True, False),
        (Config(pair=("a", "b")), True, False),
        (Config(score="x"), True, True),
        (Config(score="x", sample=3), True, True),
    ],
)
def test_what_a_command_does(config, uses_run, reads_data):
    assert (config.uses_trained_run, config.reads_data) == (uses_run, reads_data)


@pytest.mark.parametrize(
    ("changes", "contradiction"),
    [
        ({"width": 5}, "--width 5 (the run has 4)"),
        ({"epochs": 3}, None),  # training may continue
        ({"data": "elsewhere"}, None),  # compared by its digest
        ({"output_dir": "elsewhere"}, None),
        ({"seed": 1}, "--seed 1 (the run has 0)"),
        ({"sample": 3, "seed": 1, "label": "7"}, None),
        ({"sample": 3, "epochs": 3}, "--epochs 3 (the run has 0)"),
        ({"sample": 3, "data": "elsewhere"}, "--data elsewhere (the run has auto)"),
        ({"score": "x", "data": "elsewhere"}, None),
        ({"score": "x", "tensorboard": True}, "--tensorboard (the run has --no_tensorboard)"),
    ],
)
def test_what_may_differ_from_a_run(changes, contradiction):
    found = flags.contradictions(Config(**changes), Config())
    assert found == ([contradiction] if contradiction else [])


def test_a_contradiction_names_a_switch_that_is_off_and_an_empty_value_as_they_are_typed():
    found = flags.contradictions(Config(sample=3), Config(tensorboard=True, name="a"))
    assert found == ["--name '' (the run has a)", "--no_tensorboard (the run has --tensorboard)"]


# The scripts' own declarations


@pytest.fixture(params=SCRIPTS)
def script(request):
    return importlib.import_module(request.param)


def test_each_condition_names_a_setting_and_a_value_that_it_can_have(script):
    hints = typing.get_type_hints(script.Config)
    for field, markers in flags.markers_of(script.Config).items():
        for marker in markers:
            for condition in getattr(marker, "conditions", ()):
                name, _, value = condition.partition("=")
                assert name in hints, f"--{field}: no setting {name}"
                assert name != field
                if value and typing.get_origin(hints[name]) is Literal:
                    assert value in typing.get_args(hints[name]), f"--{field}: {condition}"


def test_each_marker_suits_the_type_of_its_setting(script):
    hints = typing.get_type_hints(script.Config)
    for field, markers in flags.markers_of(script.Config).items():
        for marker in markers:
            if isinstance(marker, flags.AtLeast | flags.AtMost | flags.Between | flags.MultipleOf):
                assert hints[field] in (int, float), field
            if isinstance(marker, flags.Exactly):
                assert typing.get_origin(hints[field]) is tuple, field
            if isinstance(marker, flags.UsesRun):  # a set value must be distinguishable from none
                assert not next(it for it in dataclasses.fields(script.Config) if it.name == field).default, field


def test_each_number_has_a_lower_and_an_upper_bound(script):
    hints = typing.get_type_hints(script.Config)
    for field, markers in flags.markers_of(script.Config).items():
        if hints[field] in (int, float):
            low = [marker.low for marker in markers if isinstance(marker, flags.AtLeast | flags.Between)]
            high = [marker.high for marker in markers if isinstance(marker, flags.AtMost | flags.Between)]
            assert low and high, field
            assert 0 <= min(low) <= min(high) < 2**31, field


def test_the_defaults_are_allowed(script):
    config = script.Config()
    flags.check_values(config)
    flags.check_relations(config, [])


def test_the_help_lists_each_flag_once_with_a_text(script, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.parse(script.Config, ["--help"], script.__doc__)
    assert leaving.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out[len(script.__doc__) :].splitlines()
    entries = [line.split() for line in lines if line.startswith("  --")]
    names = [f"--{field.name.rstrip('_')}" for field in dataclasses.fields(script.Config)]
    assert sorted(words[0] for words in entries) == sorted(names)
    for words in entries:
        assert any(word[0].isalpha() and not word.isupper() for word in words[1:]), words


def test_the_help_names_choices_and_defaults_and_begins_with_what_a_newcomer_needs(capsys):
    with pytest.raises(SystemExit):
        cli.parse(tiny_script.Config, ["--help"], tiny_script.__doc__)
    printed = capsys.readouterr().out
    assert "(one of auto, grey, rgb; default: auto)" in " ".join(printed.split())
    order = [
        "Start here",
        "--data",
        "--epochs",
        "--resume",
        "--interpolate",
        "Using a trained run",
        "--run",
        "Training",
    ]
    order += ["--batch_size", "Method", "--latent_dim", "Device and files", "--output_dir"]
    lines = [line for line in printed.splitlines() if line[:1].isalpha() or line.startswith("  --")]
    starts = [line.split()[0] if line.startswith("  --") else line.strip() for line in lines]
    assert [start for start in starts if start in order] == order


def test_the_commands_in_the_readme_and_the_docs_have_only_flags_that_exist():
    root = Path(saved_runs.__file__).parents[1]
    unknown = []
    for page in (root / "README.md", *(root / "docs").glob("*.md")):
        for line in page.read_text().splitlines():
            for name in set(SCRIPTS) - {"tiny_script"}:
                _, found, command = line.partition(f"python {name}.py ")
                if found:
                    command = command.split("`")[0].split("#")[0].split("    ")[0].split("|")[0]
                    config = importlib.import_module(name).Config
                    known = {field.name.rstrip("_") for field in dataclasses.fields(config)}
                    words = [word.split("=")[0] for word in command.split() if word.startswith("--")]
                    unknown += [
                        f"{page.name}: {word} of {name}.py"
                        for word in words
                        if word[2:].removeprefix("no_").strip(".,;:)") not in known | {"help"}
                    ]
    assert not unknown


def test_a_tuple_of_numbers_is_shown_as_typed():
    assert flags.as_typed("input_range", (-1.0, 1.0)) == "--input_range -1.0 1.0"
