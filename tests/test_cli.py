"""The command line: values and flags that are refused, their spellings, and how errors are reported."""

import contextlib
import io
import os
import subprocess
import sys

import pytest
import tiny_script
from conftest import ROOT

import autoencoder
import deep_dream
from common import cli
from common.errors import UserError


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--batch_size 0", "--batch_size 0: must be at least 1"),
        ("--batch_size=0", "--batch_size 0: must be at least 1"),
        ("--batch-size 0", "--batch_size 0: must be at least 1"),
        ("--batch-size=0", "--batch_size 0: must be at least 1"),
        ("--epochs -1", "--epochs -1: must be at least 0"),
        ("--minutes nan", "--minutes nan: must be at least 0"),
        ("--learning_rate nan", "--learning_rate nan: must lie between 1e-07 and 1"),
        ("--learning_rate inf", "--learning_rate inf: must lie between"),
        ("--seed -1", "--seed -1: must lie between 0 and 2147483647"),
        ("--seed 99999999999", "must lie between 0 and 2147483647"),
        ("--epoch 3", "unknown flag --epoch; did you mean --epochs?"),
        ("--batch-sise=3", "unknown flag --batch-sise; did you mean --batch_size?"),
        ("--quixotic", "unknown flag --quixotic; --help lists them"),
        ("stray", "unexpected word 'stray': write flags as --name value"),
        ("--epochs 1 2", "unexpected word '2'"),
        ("--conditional True", "--conditional takes no value such as True; --no_conditional turns it off"),
        ("--conditional=yes", "--conditional takes no value such as yes; --no_conditional turns it off"),
        ("--resume=", "--resume '': needs a value"),
        ("--sample 0", "--sample 0: needs a value"),
    ],
)
def test_wrong_value_or_flag(refusal, flags, words):
    assert words in refusal(*flags.split())


class Terminal(io.StringIO):
    """Where tyro writes frames and colours."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--epochs", "--epochs: needs a value; write one that begins with a hyphen as --epochs=VALUE"),
        ("--precision float8", "--precision 'float8': must be one of 'auto', 'float32', 'mixed_bfloat16'"),
        ("--epochs 1.5", "--epochs '1.5': is not a whole number"),
        ("--learning_rate 0,1", "--learning_rate '0,1': is not a number such as 0.5"),
        ("--epochs=", "--epochs '': is not a whole number"),
        ("—epochs 3", "unknown flag —epochs; did you mean --epochs?"),
    ],
)
@pytest.mark.parametrize("output", [Terminal, io.StringIO])
def test_the_parsers_report_becomes_one_plain_line(refusal, monkeypatch, output, flags, line):
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stdout(output()):
        assert refusal(*flags.split()) == f"tiny_script.py: error: {line}\n"


def test_a_pair_of_numbers_that_are_none():
    for words, message in ((["3"], ": needs 2 values"), (["3", "0,5"], " '3', '0,5': are not numbers such as 0.5")):
        with pytest.raises(UserError, match=f"^--input_range{message}$"):
            cli.parse(deep_dream.Config, ["--input_range", *words], "")


def test_flags_are_read_in_every_spelling():
    flags = ["--batch-size", "8", "--learning_rate=0.01", "--sample-every=7", "--conditional", "--no_tensorboard"]
    config = cli.parse(tiny_script.Config, flags, "")
    wanted = tiny_script.Config(batch_size=8, learning_rate=0.01, sample_every=7, conditional=True)
    assert config == wanted


def test_bounds_themselves_are_allowed():
    config = cli.parse(tiny_script.Config, ["--seed", str(2**31 - 1), "--batch_size", "1", "--epochs", "0"], "")
    assert (config.seed, config.batch_size, config.epochs) == (2**31 - 1, 1, 0)


def test_an_error_of_several_lines_becomes_one(capsys):
    @cli.one_line_errors
    def main(argv):
        raise UserError("first\nsecond")

    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err.endswith("error: first second\n")


def test_an_interruption_outside_a_loop_has_no_traceback(capsys):
    @cli.one_line_errors
    def main(argv):
        raise KeyboardInterrupt

    with pytest.raises((SystemExit, KeyboardInterrupt)) as leaving:  # the latter would end pytest itself
        main([])
    assert isinstance(leaving.value, SystemExit)
    assert leaving.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_closed_pipe_ends_the_program_quietly(tmp_path):
    program = tmp_path / "writes.py"
    program.write_text(
        "from common import cli\n@cli.one_line_errors\ndef main(argv=None):\n"
        "    for _ in range(100_000):\n        print('a line', flush=True)\nmain()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_missing(tmp_path, closed):
    program = tmp_path / "writes.py"
    program.write_text(
        "import common.environment\nimport os, sys\nfrom common import cli\n"
        "@cli.one_line_errors\ndef main(argv=None):\n"
        "    print('printed', sys.stdout.isatty())\n    print('error', file=sys.stderr)\n"
        "    file = open('file', 'w')\n    assert file.fileno() > 2\n    os.write(1, b'more')\n"
        "    list(cli.progress(range(3), 'counting'))\nmain()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = f"{sys.executable} {program} {closed}"
    done = subprocess.run(shell, shell=True, capture_output=True, env=environment)
    assert done.returncode == 0
    assert done.stdout == (b"" if ">&-" in closed.split() else b"printed False\nmore") or b"more" in done.stdout
    assert (tmp_path / "work/file").read_text() == ""


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ["--data=~/pictures", "--output_dir=~", "--label=~/x", "--name=~", "--sample=3", "--run=~/runs/a"]
    config = cli.parse(tiny_script.Config, flags, "")
    paths = (config.data, config.output_dir, config.run)
    assert paths == (f"{tmp_path}/pictures", str(tmp_path), f"{tmp_path}/runs/a")
    assert (config.label, config.name) == ("~/x", "~")
    config = cli.parse(autoencoder.Config, ["--reconstruct", "~/a.png", "b~.png", "./~c.png"], "")
    assert config.reconstruct == (f"{tmp_path}/a.png", "b~.png", "./~c.png")
    for words in (
        ["--data=~no_such_user/c"],
        ["--output_dir", "~no_such_user"],
        ["--reconstruct", "a", "~no_such_user/c"],
    ):
        with pytest.raises(
            UserError, match=f"{words[0].split('=')[0]} ~no_such_user.*: there is no such user; a file of"
        ):
            cli.parse(autoencoder.Config, words, "")


@pytest.mark.parametrize("name", ["image_path", "guide", "input_folder", "model", "output_dir"])
def test_an_address_is_no_path(name):
    with pytest.raises(
        UserError, match=f"--{name} https://host/x.png: is an address; name a file or folder on this machine"
    ):
        cli.parse(deep_dream.Config, [f"--{name}=https://host/x.png"], "")


@pytest.mark.parametrize("name", ["image_path", "input_folder", "guide", "model", "resume", "output_dir"])
def test_a_tilde_in_the_paths_of_a_dream(monkeypatch, tmp_path, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert getattr(cli.parse(deep_dream.Config, [f"--{name}=~/x"], ""), name) == f"{tmp_path}/x"


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path):
    program = tmp_path / "writes.py"
    program.write_text(
        "import os\nfrom common import cli\nfrom common.errors import UserError\n"
        "@cli.one_line_errors\ndef main(argv=None):\n"
        "    print(os.fsdecode(b'caf\\xe9'))\n    raise UserError(os.fsdecode(b'caf\\xe9'))\nmain()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, program], capture_output=True, env=environment)
    assert done.returncode == 2
    assert done.stdout == b"caf\\udce9\n"
    assert done.stderr == b"writes.py: error: caf\\udce9\n"


def test_a_bug_keeps_its_traceback():
    @cli.one_line_errors
    def main(argv):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        main([])
