"""Runs the parts of a check one after the other or side by side, each bounded in time, and reports them."""

import json
import os
import signal
import subprocess
import time

PASSED, FAILED, SKIPPED, IMPOSSIBLE = "passed", "failed", "skipped", "not possible"


class Part:
    """What became of one part: a status, sentences for people, and figures for programs."""

    def __init__(self, name):
        self.name = name
        self.status = PASSED
        self.lines = []
        self.figures = {}
        self.seconds = 0.0

    def say(self, text):
        self.lines.append(text)

    def fail(self, text):
        self.status = FAILED
        self.lines.append("FAILED: " + text)

    def stop(self, status, reason):
        self.status = status
        self.lines.append(f"{status}: {reason}")


class Ended:
    def __init__(self, code, output, timed_out):
        self.code = code
        self.output = output
        self.timed_out = timed_out

    def last_lines(self, count=3):
        if self.timed_out:
            return "did not end in time"
        lines = [line for line in self.output.strip().splitlines() if line.strip()]
        return f"exit code {self.code}: " + " | ".join(lines[-count:])


def run(command, seconds, environment=None):
    """Runs a command with all that it starts; ends them together when the time is up."""
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


def write(parts, machine, folder, seconds):
    """Writes gpu_check.json and gpu_check.txt; returns whether nothing failed."""
    good = all(part.status != FAILED for part in parts)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "gpu_check.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "passed": good, "seconds": seconds,
                   "parts": {part.name: {"status": part.status, "seconds": part.seconds, "lines": part.lines,
                                         **part.figures} for part in parts}}, file, indent=1)
    text = "\n".join([f"{key}: {value}" for key, value in machine.items()] + [text_of(part) for part in parts] +
                     [f"{'passed' if good else 'FAILED'} in {seconds:.0f} s"])
    with open(os.path.join(folder, "gpu_check.txt"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return good
