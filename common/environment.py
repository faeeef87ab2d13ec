"""What must happen before anything else is imported; every script imports this module first.

By default TensorFlow enables oneDNN's operations only on processors with AVX512-VNNI or AMX. On other processors, such
as most laptops', they make training up to 1.7 times as fast, and no script slower.
"""

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

from common import late_import, streams

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
REQUIRED = ("numpy", "PIL", "rich", "tyro", "keras", "tensorflow")


def is_command() -> bool:
    """Whether the process runs a script of this project as its main program, not a test, a notebook or a worker."""
    root = Path(__file__).resolve().parents[1]
    main = Path(getattr(sys.modules["__main__"], "__file__", None) or os.devnull).resolve()
    return root in (main.parent, main.parent.parent)


def begin_command() -> None:
    """Check what TensorFlow needs, have it imported late, and let Ctrl-C end the imports without a traceback.

    `errors.one_line_errors` restores Ctrl-C for the command itself.
    """
    check_machine()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    late_import.begin()


def check_machine() -> None:
    """End the process with one line if a package or an instruction is missing, or Keras's settings are damaged."""
    fault = ""
    if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
        advice = "activate the virtual environment, or run: pip install -r requirements.txt"
        fault = f"{sys.executable} lacks the package {missing[0]}; {advice}"
    elif (
        "sse2" in (flags := cpu_flags()) and "avx" not in flags
    ):  # sse2: an x86 processor; TensorFlow would end without a message
        fault = "this processor lacks the AVX instructions, without which TensorFlow's package does not run"
    elif not _is_read_by_keras(settings := Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"):
        fault = f"{settings} does not hold Keras's settings, a JSON object; delete it or mend it"
    if fault:
        name = Path(sys.argv[0]).name.replace("-m", "benchmarks")  # -m, while Python still looks for the module
        print(f"{name}: error: {fault}", file=sys.stderr)
        raise SystemExit(2)


def _is_read_by_keras(settings: Path) -> bool:
    """Whether Keras can be imported with this file of settings: it overlooks text that is not JSON, but not a list."""
    try:
        return isinstance(json.loads(settings.read_text()), dict)
    except (OSError, ValueError):
        return True


def cpu_flags() -> set[str]:
    """Return the words of /proc/cpuinfo, the processor's extensions among them; none where that file is missing."""
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


streams.ensure()  # before TensorFlow opens files
os.environ.setdefault(ONEDNN, "1")  # a value set by the user stays
os.environ["KERAS_BACKEND"] = "tensorflow"  # the scripts are TensorFlow programs, whatever keras.json says
if is_command():
    begin_command()
