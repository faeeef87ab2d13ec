"""Report a mistake that the user can correct in one line; all other errors keep their traceback."""

import errno
import functools
import io
import os
import re
import signal
import sys
import threading
from pathlib import Path

from common import late_import

# What TensorFlow, CUDA and cuDNN report when memory does not suffice, and where it may be another program's.
OUT_OF_MEMORY = r"MemoryError|ResourceExhausted|out[ _]of[ _]memory|failed to allocate|_ALLOC_FAILED"
OF_GPU = r"GPU|CUDA|CUDNN|CUBLAS|cuMem"
GPU_DOES_NOT_START = (
    r"cu(DNN|BLAS) handle|CU(DNN|BLAS)_STATUS_(NOT_INITIALIZED|INTERNAL_ERROR)|no (DNN|BLAS) "
    r"|DNN library initialization failed|no algorithm worked|DEVICE_UNAVAILABLE|devices are busy or unavailable"
)
GPU_ADVICE = "close other programs that use the GPU, or set CUDA_VISIBLE_DEVICES=-1 to compute on the CPU"


def reason_of(error: OSError) -> str:
    """Return why an operation on a file failed, in the system's words: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def printable(text: str) -> str:
    """Return a text in which line ends and control characters, which a file's name may have, are escaped."""
    return "".join(it if it.isprintable() else repr(it)[1:-1] for it in text)


class UserError(Exception):
    """A mistake that the user can correct: reported in one line, with exit status 2 and no traceback."""

    ag_pass_through = True  # TensorFlow adds no account of its call stack to the message


def one_line_errors(main):
    """Decorate a script's `main`: a user's mistake ends it with one line and exit status 2."""

    @functools.wraps(main)
    def wrapper(argv=None):
        for stream in (sys.stdout, sys.stderr):  # file names and texts may hold characters that the terminal lacks
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        _restore_interrupt()
        try:
            return main(argv)
        except UserError as error:
            message = printable(" ".join(str(error).splitlines()))
        except BrokenPipeError:  # the reader, for example "| head", has closed the pipe
            _drop_standard_output()
            raise SystemExit(141) from None  # the shell's status for SIGPIPE
        except OSError as error:
            if error.filename or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _drop_standard_output()  # the only file that is written without its name in the error
            message = f"standard output cannot be written: {reason_of(error)}"
        except (MemoryError, RuntimeError, *_of_tensorflow()) as error:
            message = _advice_on_memory(error)
            if not message:
                raise
        except KeyboardInterrupt:  # outside a training loop, which handles it
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        print(f"{Path(main.__globals__['__file__']).name}: error: {message}", file=sys.stderr)
        raise SystemExit(2)

    return wrapper


def _drop_standard_output() -> None:
    """Point standard output to os.devnull, so that what is left in its buffer raises no error at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_tensorflow() -> tuple[type[Exception], ...]:
    """Return the base of TensorFlow's exceptions, only if it is already imported."""
    tensorflow = None if late_import.is_pending() else sys.modules.get("tensorflow")
    return (tensorflow.errors.OpError,) if tensorflow else ()


def _advice_on_memory(error: Exception) -> str:
    """Return what is wrong and what to do if memory, the host's or a GPU's, does not suffice; "" for other errors."""
    text = f"{type(error).__name__}: {error}"
    if re.search(GPU_DOES_NOT_START, text, re.IGNORECASE):
        return f"the GPU's libraries do not start, most often because its memory is in use: {GPU_ADVICE}"
    if not re.search(OUT_OF_MEMORY, text, re.IGNORECASE):
        return ""
    if re.search(OF_GPU, text):
        return f"the GPU is out of memory; use smaller images or batches (--help lists the flags), {GPU_ADVICE}"
    return "out of memory; use smaller images or batches: --help lists the flags"


def _restore_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, which common.environment suspended during the imports."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    if is_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
