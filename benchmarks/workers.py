"""Work in other processes: for contenders that take turns, and for calls that may end their process or never end.

TensorFlow reads some settings only when it starts, so a benchmark starts itself again for each contender, with
`--work NAME`. The processes exchange lines of JSON.
"""

import contextlib
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Worker:
    """The other process, as the benchmark sees it.

    failure: one line that says why it cannot take part; "" if it can.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str] | None = None):
        """Start it, and wait until it is ready.

        command: arguments of Python, without --work. environment: variables to set.
        """
        variables = {**os.environ, **(environment or {})}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, *command, "--work", name], env=variables, **pipes)
        answer = self._process.stdout.readline()
        self.failure = json.loads(answer) if answer else "its process ended"

    def turn(self, seconds: float):
        """Let it work for this number of seconds, and return its answer. Raises SystemExit if it cannot."""
        if self.failure:
            raise SystemExit(f"{' '.join(self._process.args)}: {self.failure}")
        print(json.dumps(seconds), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(self._process.args)} ended early")
        return json.loads(answer)

    def end(self) -> None:
        """End the process, which waits for its next turn."""
        self._process.stdin.close()
        self._process.wait()


class Substitute:
    """Another process that calls functions; a call that fails costs no more than this process, which is replaced."""

    def __init__(self, prepare: Callable):
        """prepare: what each new process calls first, which does not count towards the seconds of a call."""
        self._prepare, self._process = prepare, None

    def call(self, function: Callable, *arguments, seconds: float, until: float = math.inf):
        """Return the function's result; both are sent to the process and back as pickles.

        Raises RuntimeError, with a line that says why, if it raises an error, ends the process, takes more seconds, or
        is not over at the time `until` of `time.monotonic`.
        """
        if self._process is None:
            context = multiprocessing.get_context("spawn")  # a fork would share the GPU
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_answer_calls, args=(other,), daemon=True)
            self._process.start()
            other.close()
            self._ask(self._prepare, (), until - time.monotonic())
        return self._ask(function, arguments, min(seconds, until - time.monotonic()))

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _ask(self, function: Callable, arguments: tuple, seconds: float):
        failure, result = f"not over after {max(seconds, 0.0):.0f} s", None
        try:
            self._pipe.send((function, arguments))
            if self._pipe.poll(None if seconds == math.inf else max(seconds, 0.0)):
                failure, result = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            failure = f"its process ended with status {self._process.exitcode}"
        if failure:
            self.end()
            raise RuntimeError(failure)
        return result


def _answer_calls(pipe) -> None:
    """Be the process of a `Substitute`; what it prints is for nobody."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                answer = "", function(*arguments)
            except BaseException as error:
                answer = f"{type(error).__name__}: {reason(str(error))}", None
            pipe.send(answer)


def reason(message: str) -> str:
    """Return the first line of an error's message that is no part of TensorFlow's account of its call stack."""
    account = r"\s|$|Graph execution error|Detected at node|<stack traces|\[\[|Stack trace|The above|Traceback"
    return next((line[:200] for line in message.splitlines() if not re.match(account, line)), "")


def work(prepare: Callable[[], Callable[[float], object]]) -> None:
    """Be the other process: prepare, then take a turn for each line of standard input, which holds its seconds.

    prepare: returns the function that takes a turn and returns an answer for JSON; a RuntimeError in it is a failure.
    """
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what it prints is for the terminal
        try:
            turn = prepare()
        except RuntimeError as error:
            print(json.dumps(str(error).splitlines()[0]), file=answers, flush=True)
            return
        print(json.dumps(""), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(turn(json.loads(line))), file=answers, flush=True)


def timed(step: Callable) -> Callable[[float], tuple[float, float]]:
    """Take two steps, which build what is built once; return a function that takes steps for a number of seconds.

    It returns the seconds per step, of the clock and of the processor.
    """
    step(), step()

    def turn(seconds: float) -> tuple[float, float]:
        steps, start, processor_start = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            step()
            steps += 1
        return (time.perf_counter() - start) / steps, (time.process_time() - processor_start) / steps

    return turn
