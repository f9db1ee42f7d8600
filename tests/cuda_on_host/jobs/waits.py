"""What notices when a stream does not wait where it should: every place of a job is left out in turn.

waits.py PROGRAMS LIBRARIES [--sample N] [--table FILE] [--jobs one,two] [--seconds N] [--without-sanitizer]

LIBRARIES are those of the sanitizer. A place is where the program makes a stream wait for an event. Its waits are left
out under threads and under random delays, where other bits of the trained model, or a job that fails, show it, and
under ThreadSanitizer, which sees work that is not ordered any more. FILE keeps a line a place: what it holds is not run
again. Exit code 1 where a place is noticed by nothing.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import time

from running import Job, prepare_folder

EVERYTHING = ("--strategy", "zero3", "--weights", "host", "--offload-optimizer", 1, "--offload-activations", 1,
              "--recompute", "full", "--global-batch", 4, "--micro-batch", 1, "--sequence-length", 64)
JOBS = {"one": (1, EVERYTHING), "two": (2, EVERYTHING)}
SCHEDULES = {"threads": {}, "delays": {"DELAY_US": 2000}}
STEPS, SANITIZED_STEPS = ("--steps", 2), ("--steps", 1, "--global-batch", 2)

parser = argparse.ArgumentParser()
parser.add_argument("programs", type=pathlib.Path)
parser.add_argument("libraries", type=pathlib.Path)
parser.add_argument("--sample", type=int, default=0)
parser.add_argument("--table", type=pathlib.Path)
parser.add_argument("--jobs", default="one,two")
parser.add_argument("--seconds", type=float, default=3600)
parser.add_argument("--without-sanitizer", action="store_true")
arguments = parser.parse_args()
folder = prepare_folder()
until = time.monotonic() + arguments.seconds
counter = iter(range(1000000))


def train(which, more, settings, seconds=120):
    """The ended job, or None where it did not end: a wait that is missing may also make a job stand."""
    ranks, options = JOBS[which]
    try:
        return Job(arguments.programs, folder, f"job{next(counter)}", ranks=ranks, options=(*options, *more),
                   environment=settings, seconds=seconds)
    except subprocess.TimeoutExpired:
        return None


def places_of(which):
    """The waits of a job, each once, and the functions that they are in."""
    job = train(which, STEPS, {"LIST_WAITS": "yes"}).succeed()
    return job.weights, sorted(set(re.findall(r"cuda_on_host: wait at (.*)", job.text)))


def symbols():
    """Addresses and names of the program's functions, in order."""
    program = arguments.programs.parent.parent / "bin" / "autoglm-train"
    listed = subprocess.run(["nm", "-C", "--defined-only", program], stdout=subprocess.PIPE, text=True, check=True)
    found = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
    return sorted((int(parts[0], 16), parts[2]) for parts in found if len(parts) == 3 and parts[1] in "tTwW")


def name_of(place, table):
    """The nearest callers, by name; the first is the stream's own function."""
    names = []
    for frame in place.split():
        file, offset = frame.rsplit("+", 1)
        name = file
        if file == "autoglm-train":
            address = int(offset, 16)
            held = [text for at, text in table if at < address]
            name = re.sub(r"\(.*", "", (held[-1] if held else file).replace("(anonymous namespace)::", ""))
            name = name.replace("autoglm::", "")
        names.append(f"{name}+{offset}")
    return " < ".join(names[1:] or names)


def noticed_by_bits(which, place, expected):
    for name, settings in SCHEDULES.items():
        job = train(which, STEPS, dict(settings, LEAVE_OUT_WAIT=place))
        if job is None:
            return f"does not end ({name})"
        if job.code != 0:
            return f"exit code {job.code} ({name})"
        if job.weights != expected:
            return f"other bits ({name})"
    return None


def noticed_by_sanitizer(which, place):
    job = train(which, SANITIZED_STEPS, {"LEAVE_OUT_WAIT": place, "LIBRARIES": arguments.libraries.resolve()}, 400)
    if job is None:
        return "does not end (sanitizer)"
    found = [line for line in job.text.splitlines() if "WARNING: ThreadSanitizer" in line]
    return f"sanitizer, {len(found)} reports" if found else (f"exit code {job.code} (sanitizer)" if job.code else None)


def kept():
    lines = arguments.table.read_text().splitlines() if arguments.table and arguments.table.exists() else []
    return {(parts[0], parts[1]): parts[3] for parts in (line.split(" | ") for line in lines) if len(parts) == 4}


def sweep(which, table, done):
    """Lines of (job, place, name, what noticed); what is done already is not done again."""
    expected, places = places_of(which)
    print(f"{which}: {len(places)} places", flush=True)
    if arguments.sample:
        places = places[::max(1, len(places) // arguments.sample)][:arguments.sample]
    for place in places:
        if (which, place) in done:
            yield which, place, name_of(place, table), done[which, place]
            continue
        if time.monotonic() > until:
            print("no time was left", flush=True)
            return
        seen = noticed_by_bits(which, place, expected)
        if seen is None:
            seen = "not by bits" if arguments.without_sanitizer else noticed_by_sanitizer(which, place) or "nothing"
        line = (which, place, name_of(place, table), seen)
        print(" | ".join(line), flush=True)
        if arguments.table:
            with arguments.table.open("a") as file:
                file.write(" | ".join(line) + "\n")
        yield line


def main():
    table, done = symbols(), kept()
    lines = [line for which in arguments.jobs.split(",") for line in sweep(which, table, done)]
    unnoticed = [line for line in lines if line[3] == "nothing"]
    print(f"{len(lines)} places, {len(unnoticed)} of them noticed by nothing", flush=True)
    return 1 if unnoticed and not arguments.sample or not lines else 0


sys.exit(main())
