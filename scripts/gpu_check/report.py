"""Runs the parts of a check one after the other or side by side, each bounded in time, and reports them."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import tarfile
import time

PASSED, FAILED, SKIPPED, IMPOSSIBLE = "passed", "failed", "skipped", "not possible"
UNFINISHED = "not finished in its time"
LARGEST_FILE = 4 << 20  # of what is to be sent


class Part:
    """What became of one part: a status, sentences for people, and figures for programs."""

    def __init__(self, name):
        self.name = name
        self.status = PASSED
        self.lines = []
        self.figures = {}
        self.seconds = 0.0
        self.differences = []

    def say(self, text):
        self.lines.append(text)

    def fail(self, text):
        self.status = FAILED
        self.lines.append("FAILED: " + text)

    def break_off(self, text, timed_out):
        """Something did not come to its end: by itself, which is a failure, or because its time was up."""
        if not timed_out:
            self.fail(text)
        elif self.status != FAILED:
            self.stop(UNFINISHED, text)
        else:
            self.say(text)

    def stop(self, status, reason):
        self.status = status
        self.lines.append(f"{status}: {reason}")

    def differ(self, text):
        """Not as planned, which is no failure."""
        self.differences.append(text)
        self.lines.append("differs from the plan: " + text)

    def reason(self):
        """The first line that says why the part did not pass."""
        marks = (f"{self.status}: ", "FAILED: ")
        return next((line[len(mark):] for line in self.lines for mark in marks if line.startswith(mark)), "")


class Ended:
    def __init__(self, code, output, timed_out):
        self.code = code
        self.output = output
        self.timed_out = timed_out

    def last_lines(self, count=3):
        if self.timed_out:
            return UNFINISHED
        lines = [line for line in self.output.strip().splitlines() if line.strip()]
        return f"exit code {self.code}: " + " | ".join(lines[-count:])


class Log:
    """Keeps what programs said, in files of a folder, to be sent."""

    folder = None
    numbers = itertools.count(1)

    @classmethod
    def keep(cls, command, ended):
        if cls.folder is None:
            return
        name = f"{next(cls.numbers):03}-{pathlib.Path(str(command[0])).name}.log"
        end = "ended when its time was up" if ended.timed_out else f"exit code {ended.code}"
        text = f"$ {' '.join(map(str, command))}\n{end}\n"
        (cls.folder / name).write_text(text + ended.output[-LARGEST_FILE // 2:], encoding="utf-8")


def run(command, seconds, environment=None):
    """Runs a command with all that it starts; ends them together when the time is up."""
    ended = run_bounded(command, seconds, environment)
    Log.keep(command, ended)
    return ended


def run_bounded(command, seconds, environment):
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", start_new_session=True,
                               env={**os.environ, **(environment or {})})
    try:
        output, _ = process.communicate(timeout=max(1.0, seconds))
        return Ended(process.returncode, output, False)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Ended(process.returncode, output, True)


def timed(function, part, *arguments):
    """Fills `part` by calling the function; whatever goes wrong in it is the part's failure."""
    start = time.monotonic()
    try:
        function(part, *arguments)
    except Exception as error:  # a broken answer of a program must not keep the report from being written
        part.fail(f"{type(error).__name__}: {error}")
    part.seconds = time.monotonic() - start
    print(text_of(part), flush=True)
    return part


def text_of(part):
    title = f"{part.name}: {part.status} ({part.seconds:.0f} s)"
    return "\n".join([title] + ["  " + line for line in part.lines])


def verdict(parts, seconds):
    """What a person wants to know: what passed, what did not and why, and what differs from the plan."""
    lines = ["verdict"]
    passed = [part.name for part in parts if part.status == PASSED]
    lines.append(f"  passed: {', '.join(passed) or 'nothing'}")
    for status in (FAILED, UNFINISHED, SKIPPED, IMPOSSIBLE):
        lines += [f"  {status}: {part.name}: {part.reason()}" for part in parts if part.status == status]
    for part in parts:
        lines += [f"  differs from the plan: {part.name}: {text}" for text in part.differences]
    lines.append(f"{'passed' if is_good(parts) else 'FAILED'} in {seconds:.0f} s")
    return "\n".join(lines)


def is_good(parts):
    return bool(parts) and all(part.status not in (FAILED, UNFINISHED) for part in parts)


def pack(folder, logs):
    """One file of the report and of all that programs said and were asked; returns its path."""
    archive = pathlib.Path(folder).resolve() / "gpu_check.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("gpu_check.txt", "gpu_check.json"):
            packed.add(os.path.join(folder, name), f"gpu_check/{name}")
        for path in sorted(pathlib.Path(logs).glob("*")):
            if path.suffix in (".request", ".answer", ".log") and path.stat().st_size <= LARGEST_FILE:
                packed.add(path, f"gpu_check/logs/{path.name}")
    return archive


def write(parts, machine, folder, seconds):
    """Writes gpu_check.json and gpu_check.txt; returns whether nothing failed."""
    good = is_good(parts)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "gpu_check.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "passed": good, "seconds": seconds,
                   "parts": {part.name: {"status": part.status, "seconds": part.seconds, "lines": part.lines,
                                         "differences": part.differences, **part.figures}
                             for part in parts}}, file, indent=1)
    text = "\n".join([f"{key}: {value}" for key, value in machine.items()] + [text_of(part) for part in parts] +
                     [verdict(parts, seconds)])
    with open(os.path.join(folder, "gpu_check.txt"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return good
