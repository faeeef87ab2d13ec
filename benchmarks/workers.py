"""Contenders in processes of their own that take turns, for settings that TensorFlow reads only when it starts.

A benchmark starts itself again for each contender, with `--work NAME`. The processes exchange lines of JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable


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
