"""What notices when something does not wait where it should: every place of a job is left out in turn.

waits.py PROGRAMS LIBRARIES [--jobs NAME,...] [--places REGULAR_EXPRESSION] [--least N] [--table FILE] [--seconds N]
  [--in NAME,...] [--list] [--races]

LIBRARIES are those of the sanitizer. A place is where the program makes a stream wait for another one or for the host, or
a thread of the host for a stream. With all waits a job must have no races. Those of a place are left out under
ThreadSanitizer, which sees work that is not ordered any more, and then under random delays, where a job fails or the
trained model has other bits; one of the jobs must notice. FILE keeps a line a run: what it holds is not run again. Exit
code 1 where a place is noticed by nothing, unless KNOWN says why that must be so.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

from running import Job, prepare_folder

ALL_ON_HOST = ("--weights", "host", "--offload-optimizer", 1, "--offload-activations", 1, "--recompute", "full")
JOBS = {
    "one": (1, ("--strategy", "zero3", *ALL_ON_HOST)),
    "resident": (1, ("--strategy", "zero1", "--weights", "resident", "--offload-optimizer", 1, "--offload-activations", 1,
                     "--recompute", "full")),
    "plain": (1, ("--strategy", "zero1", "--weights", "resident", "--offload-optimizer", 1, "--master", "plain")),
    "stored": (1, ("--strategy", "zero1", "--weights", "host", "--offload-optimizer", 0)),
    "peers": (2, ("--strategy", "zero3", "--weights", "peers", "--offload-optimizer", 0.5, "--offload-activations", 1,
                  "--recompute", "full")),
    "host": (2, ("--strategy", "zero1", "--weights", "host", "--offload-optimizer", 0, "--master", "plain")),
    "ddp": (2, ("--strategy", "ddp", "--weights", "resident", "--offload-optimizer", 0.5)),
    "ddp_host": (2, ("--strategy", "ddp", "--weights", "resident", "--offload-optimizer", 1, "--master", "split")),
    "host_all": (2, ("--strategy", "zero1", "--weights", "host", "--offload-optimizer", 1)),
    "gathered": (2, ("--strategy", "zero3", "--weights", "peers", "--offload-optimizer", 0)),
    "zero2": (2, ("--strategy", "zero2", "--weights", "resident", "--offload-optimizer", 0, "--reduce-dtype", "bf16")),
    "two": (2, ("--strategy", "zero3", *ALL_ON_HOST)),
}
COMMON = ("--steps", 2, "--global-batch", 4, "--micro-batch", 1, "--sequence-length", 64)
# Events are late, so that no wait is left out by chance because its event was ready.
SANITIZED, DELAYED = {"QUERIES": "late"}, {"QUERIES": "late", "DELAY_US": 2000}

# Functions that only pass a wait on: its place is the first caller that is none of them.
PASSING_ON = re.compile(r"^(CudaStream|CudaEvent|EventStopwatch|DeviceWaitClock|HostWait|Event)::|^EngineStreams::wait|"
                        r"^(Self|Nccl|Ring|Rehearsal)Communicator::|^NcclConnection::start|^std::|^wait_quietly")
# Lines of two ranks may run into each other; what one loses the other still says.
WAIT = re.compile(r"^cuda_on_host: wait at (\w+(?: [\w.-]+\+0x[0-9a-f]+)+)$", re.MULTILINE)
# Why nothing needs to notice some of them.
KNOWN = (
    (r"^stream: Engine::(acquire_head|backward_layer|train_micro_batch) ",
     "a copy of WeightSource::acquire(), made by the compiler for resident weights: the forward pass has waited already"),
    (r"^stream: SelfCommunicator::all_reduce < Engine::finish_accumulation ",
     "a rank alone adds numbers of the host, and the norm has waited for those of the device"),
    (r"^stream: SelfCommunicator::reduce_scatter < start_cuda_collectives ", "a rank alone copies nothing"),
    (r"^stream: OptimizerStep::load #2$",
     "gathered gradients are loaded over what the piece before the last one stored; where each block is one piece, as in "
     "models this small, their gather has waited for that"),
    (r"^host: (Engine::finish_accumulation #1|SelfCommunicator::all_reduce < Engine::finish_accumulation)",
     "a rank alone adds numbers of the host, and the norm has waited for those of the device"),
    (r"^host: SelfCommunicator::reduce_scatter < GradientReducer::start ",
     "of the probe's engine alone, whose sums nobody reads"),
    (r"^host: OptimizerStep::update #1$",
     "gathered gradients that the host updates from are copied to it first, by a stream that has waited for their gather; "
     "the next wait is for that copy"),
    (r"^host: time_of ", "the probe's clock: what it times is zeros that nobody reads, so that only times would be wrong"),
    (r"^host: train_and_write ", "a destructor as below, of the last micro-batch's ids"),
    (r"^host: .*::~", "what an exception left under way; a job that ends well has waited for all of it"),
)


def arguments_of():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("libraries", type=pathlib.Path)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--places", type=re.compile, default=re.compile(""))
    parser.add_argument("--in", dest="tried", help="leave waits out in these jobs alone")
    parser.add_argument("--least", type=int, default=1, help="fail where fewer places are found")
    parser.add_argument("--table", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=36000)
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("--races", action="store_true", help="only see that the jobs have none with all of their waits")
    return parser.parse_args()


arguments = arguments_of()
# Thousands of reports of one wait take minutes. Open MPI takes its own locks in several orders.
os.environ["TSAN_OPTIONS"] = "halt_on_error=1:detect_deadlocks=0"
folder = prepare_folder()
until = time.monotonic() + arguments.seconds
counter = iter(range(1000000))


def train(which, settings, seconds=120):
    """The ended job, or None where it did not end: a wait that is missing may also make a job stand."""
    ranks, options = JOBS[which]
    try:
        return Job(arguments.programs, folder, f"job{next(counter)}", ranks=ranks, options=(*COMMON, *options),
                   environment=settings, seconds=seconds)
    except subprocess.TimeoutExpired:
        return None


def functions():
    """Addresses and names of the program's functions, in order."""
    program = arguments.programs.parent.parent / "bin" / "autoglm-train"
    listed = subprocess.run(["nm", "-C", "--defined-only", program], stdout=subprocess.PIPE, text=True, check=True)
    found = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
    return sorted((int(parts[0], 16), parts[2]) for parts in found if len(parts) == 3 and parts[1] in "tTwW")


def plain(name):
    for noise in ("(anonymous namespace)::", "autoglm::", "[clone .cold]", "[clone .isra.0]"):
        name = name.replace(noise, "")
    handler = re.match(r"std::_Function_handler<.*\), (\w.*)>::_M_invoke", name)
    return re.sub(r"[(<].*", "", handler.group(1) if handler else name).strip()


def named(frame, table):
    """(name, offset) of a caller; a function's name, or that of the library."""
    file, offset = frame.rsplit("+", 1)
    if file != "autoglm-train":
        return file, frame
    address = int(offset, 16)
    held = [text for at, text in table if at < address]
    return plain(held[-1] if held else file), frame


def places_of(which, table):
    """The trained model's sum, and the job's places: {(what waits, caller, collective): (names of callers, stacks)}."""
    job = train(which, dict(SANITIZED, LIST_WAITS="yes")).succeed()
    places = {}
    for stack in sorted(set(WAIT.findall(job.text))):
        kind, *frames = stack.split()
        callers = [named(frame, table) for frame in frames]
        own = next((i for i, (name, _) in enumerate(callers) if not PASSING_ON.match(name)), len(callers) - 1)
        collective = next((name for name, _ in callers[:own] if "Communicator::" in name), "")
        names, stacks = places.setdefault((kind, callers[own][1], collective), (set(), []))
        names.add(" < ".join(name for name, _ in callers[own:own + 3]))
        stacks.append(stack)
    return job.weights, places


class Place:
    """Stacks by job, and who calls."""

    def __init__(self, kind, name):
        self.kind, self.name, self.callers, self.stacks = kind, name, set(), {}


def all_places(jobs):
    """The places of all jobs, under names that a build with other addresses keeps."""
    found = {}
    for which, (_, places) in jobs.items():
        for (kind, frame, collective), (names, stacks) in places.items():
            file, offset = frame.rsplit("+", 1)
            inner = min(names, key=len).split(" < ")[0]
            key = (f"{collective} < {inner}" if collective else inner, kind, file, int(offset, 16))
            place = found.setdefault(key, Place(kind, key[0]))
            place.callers |= {name.split(" < ", 1)[-1] for name in names}
            place.stacks[which] = stacks
    counts = {}
    for key in sorted(found):
        place = found[key]
        counts[place.name, place.kind] = number = counts.get((place.name, place.kind), 0) + 1
        place.name = f"{place.kind}: {place.name} #{number}"
    return [found[key] for key in sorted(found)]


def what_notices(which, stacks, expected):
    left_out = {"LEAVE_OUT_WAIT": ";".join(stacks)}
    job = train(which, dict(SANITIZED, LIBRARIES=arguments.libraries.resolve(), **left_out), 300)
    if job is None:
        return "does not end"
    if "WARNING: ThreadSanitizer: data race" in job.text:
        return "sanitizer"
    if job.code != 0:
        return f"exit code {job.code}"
    job = train(which, dict(DELAYED, **left_out))
    if job is None:
        return "does not end"
    if job.code != 0:
        return f"exit code {job.code}"
    return "other bits" if job.weights != expected else "nothing"


def kept():
    lines = arguments.table.read_text().splitlines() if arguments.table and arguments.table.exists() else []
    return {tuple(parts[:2]): parts[2] for parts in (line.split(" | ") for line in lines) if len(parts) == 3}


def sweep(place, jobs, tried, done):
    """What notices in one of the place's jobs; what is done already is not done again."""
    seen = "nothing"
    for which in (which for which in tried if which in place.stacks):
        stacks = place.stacks[which]
        seen = done.get((place.name, which))
        if seen is None:
            seen = what_notices(which, stacks, jobs[which][0])
            line = f"{place.name} | {which} | {seen}"
            print(line, flush=True)
            if arguments.table:
                with arguments.table.open("a") as file:
                    file.write(line + "\n")
        if seen != "nothing":
            break
    return seen


def main():
    table, done = functions(), kept()
    tried = (arguments.tried or arguments.jobs).split(",")
    for which in () if arguments.list else tried:
        train(which, dict(SANITIZED, LIBRARIES=arguments.libraries.resolve()), 300).succeed()
        print(f"{which}: no races", flush=True)
    if arguments.races:
        return 0
    jobs = {which: places_of(which, table) for which in arguments.jobs.split(",")}
    places = [place for place in all_places(jobs)
              if arguments.places.search(place.name) and set(tried) & set(place.stacks)]
    print(f"{len(places)} places in {len(jobs)} jobs", flush=True)
    if arguments.list:
        for place in places:
            print(f"{place.name} | {','.join(place.stacks)} | {'; '.join(sorted(place.callers))}")
        return 0
    unnoticed = []
    for place in places:
        if time.monotonic() > until:
            print("no time was left", flush=True)
            return 1
        if sweep(place, jobs, tried, done) == "nothing":
            unnoticed.append(place.name)
    reasons = {name: next((why for form, why in KNOWN if re.search(form, name)), None) for name in unnoticed}
    for name, why in reasons.items():
        print(f"noticed by nothing: {name}{': ' + why if why else ''}", flush=True)
    return 1 if None in reasons.values() or len(places) < arguments.least else 0


sys.exit(main())
