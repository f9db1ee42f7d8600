#!/usr/bin/env python3
"""Called by cpu_peers.sh: makes the rows, runs every program in turns, prints medians and ratios.

All programs train the same rows in every step, 4 of 512 tokens without padding, each one chat of several turns: so
attention reaches over the whole row everywhere, and the loss of the first step must be the same everywhere.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RANKS, MICRO_BATCH, ROW = 2, 2, 512
GLOBAL_BATCH = RANKS * MICRO_BATCH
LEARNING_RATE = 1e-5
# What autoglm-train is started with besides: "ours" is compared with all peers, the stages with those that shard.
OURS = {"ours": [], "zero2": ["--strategy", "zero2"], "zero3": ["--strategy", "zero3"],
        "zero3cheap": ["--strategy", "zero3", "--recompute", "cheap"],
        "zero3full": ["--strategy", "zero3", "--recompute", "full"]}
SHARDING_PEERS = ("fsdp2", "deepspeed2", "deepspeed3")
SIDES = ("ours", "ddp", "fsdp2", "zero2", "zero3", "zero3cheap", "zero3full", "deepspeed2", "deepspeed3")
PROGRAMS = [f"{side}-{precision}" for precision in ("fp32", "bf16") for side in SIDES]
DEFAULT_PROGRAMS = [name for name in PROGRAMS if name.split("-")[0] in ("ours", "ddp", "fsdp2")]
STAGE_SPEED_TARGET, STAGE_MEMORY_TARGET = 1.9, 0.55  # bf16: of the sharding peer that needs the least memory
SPEED_TARGET = {"fp32": 1.5, "bf16": 2.2}  # times the best peer
MEMORY_TARGET = {"fp32": 0.6, "bf16": 0.65}  # of DDP's
FIRST_STEP_TARGET = 3.0  # seconds
LEAVING_SECONDS = 60  # between the ends of a run's processes
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}  # relative, of the first step's loss to a peer's


def parse_options():
    parser = argparse.ArgumentParser(prog="cpu_peers.sh", description="Training on 2 CPU ranks of one thread each beside "
                                     "torch DDP, FSDP2 and DeepSpeed.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="steps of a run; the first does not count for the speed")
    parser.add_argument("--peer-steps", type=int, help="steps of the peers' runs, where theirs take minutes; a single one "
                        "counts for the speed (default: --steps)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of every program")
    parser.add_argument("--only", default=",".join(DEFAULT_PROGRAMS),
                        help="programs (" + ", ".join(PROGRAMS) + "), or sides or precisions of them; deepspeed* need that "
                        "package, which setup.sh leaves out (docs/measurements.md says how to get it)")
    parser.add_argument("--loss-on", default="assistant,all", help="what is supervised: one measurement for each")
    parser.add_argument("--bucket-view", action="store_true", help="DDP keeps gradients in its buckets: less memory")
    parser.add_argument("--run-timeout", type=float, default=900, help="seconds after which a run is ended; the steps "
                        "done until then count")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--data-tool", type=pathlib.Path, help="autoglm-data, where it is not in the build folder")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / ".cache/smollm2-135m-instruct", help="model folder")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / ".cache/data/alpaca_en_demo.json",
                        help="alpaca file that the chats are made of")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where every run and the summary is written")
    options = parser.parse_args()
    if options.steps < 2 or options.rounds < 1:
        parser.error("--steps must be at least 2 and --rounds at least 1")
    wanted = options.only.split(",")
    options.programs = [name for name in PROGRAMS if name in wanted or name.split("-")[0] in wanted or
                        (name in DEFAULT_PROGRAMS and name.split("-")[1] in wanted)]
    unknown = [word for word in wanted if not any(word == name or word in name.split("-") for name in PROGRAMS)]
    if unknown:
        parser.error(f"--only {unknown[0]} is none of {', '.join(PROGRAMS)}, nor a part of one")
    options.peer_steps = options.peer_steps or options.steps
    options.loss_on = options.loss_on.split(",")
    if not set(options.loss_on) <= {"assistant", "all"}:
        parser.error("--loss-on takes assistant, all, or both with a comma")
    options.train = options.build / "bin/autoglm-train"
    options.data_tool = options.data_tool or options.build / "bin/autoglm-data"
    for path in (options.train, options.data_tool, options.model / "config.json", options.data):
        if not path.exists():
            parser.error(f"{path} is missing; run scripts/setup.sh and build first")
    return options


def tokenize(options, file, loss_on):
    command = [options.data_tool, "--model", options.model, "--data", file, "--sequence-length", str(ROW), "--loss-on",
               loss_on, "--json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
    return [json.loads(line) for line in out.splitlines()]


def supervised(rows):
    return sum(label != -100 for row in rows for label in row["labels"][1:])


def make_chats(options, folder):
    """Writes the chats of one step, and returns their file: samples joined until they fill a row, then the chats whose
    supervised share is nearest to the data's own."""
    samples = json.loads(options.data.read_text(encoding="utf-8"))
    chats, turns, size = [], [], 0
    for sample in samples:
        prompt = "\n".join(part for part in (sample["instruction"], sample.get("input", "")) if part)
        turns += [{"role": "user", "content": prompt}, {"role": "assistant", "content": sample["output"]}]
        size += len(prompt) + len(sample["output"])
        if size >= 8 * ROW:  # a token is under 5 characters of such text
            chats.append({"messages": turns})
            turns, size = [], 0
    file = folder / "chats.jsonl"
    file.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    rows = tokenize(options, file, "assistant")
    whole = tokenize(options, options.data, "assistant")
    share = supervised(whole) / sum(len(row["ids"]) for row in whole)
    full = [start for start in range(len(rows) - GLOBAL_BATCH + 1)
            if all(len(row["ids"]) == ROW for row in rows[start:start + GLOBAL_BATCH])]
    if len(rows) != len(chats) or not full:
        sys.exit(f"{options.data} holds too little text for {GLOBAL_BATCH} full rows of {ROW} tokens")
    start = min(full, key=lambda at: abs(supervised(rows[at:at + GLOBAL_BATCH]) / (GLOBAL_BATCH * ROW) - share))
    file.write_text("".join(json.dumps(chat) + "\n" for chat in chats[start:start + GLOBAL_BATCH]), encoding="utf-8")
    return file


def commands(options, program, loss_on, chats, rows, folder):
    """The processes to start, and the file in which they report steps."""
    side, precision = program.split("-")
    if side in OURS:
        metrics = folder / "out/metrics.jsonl"
        return [["mpirun", "-np", str(RANKS), "--bind-to", "none", "--oversubscribe", options.train, "--device", "cpu",
                 "--model", options.model, "--data", chats, "--output", metrics.parent, "--sequence-length", str(ROW),
                 "--micro-batch", str(MICRO_BATCH), "--global-batch", str(GLOBAL_BATCH), "--steps", str(options.steps),
                 "--precision", precision, "--loss-on", loss_on, "--learning-rate", str(LEARNING_RATE), "--schedule",
                 "constant", "--warmup", "0", "--log-every", "1", *OURS[side]]], metrics
    metrics = folder / "metrics.jsonl"
    shared = [sys.executable, ROOT / "scripts/bench/peer_rank.py", "--side", side, "--precision", precision, "--model",
              options.model, "--rows", rows, "--rendezvous", folder / "rendezvous", "--metrics", metrics,
              "--world-size", str(RANKS), "--steps", str(options.peer_steps), "--learning-rate", str(LEARNING_RATE)]
    shared += ["--bucket-view"] if options.bucket_view else []
    return [shared + ["--rank", str(rank)] for rank in range(RANKS)], metrics


def read_steps(metrics):
    try:
        lines = metrics.read_text(encoding="utf-8").split("\n")[:-1]  # the last one may be half written
    except FileNotFoundError:
        return []
    return [step for step in map(json.loads, lines) if "step_seconds" in step]


def reap(process):
    """Whether the process has ended; notes its status and the largest resident memory of it and its children."""
    if process.returncode is None:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            process.peak_bytes = usage.ru_maxrss * 1024
    return process.returncode is not None


def end(processes):
    """mpirun passes the signal on to its ranks; what does not heed it is killed."""
    for process in processes:
        if not reap(process):
            process.terminate()
    deadline = time.monotonic() + 15
    while not all([reap(process) for process in processes]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in processes:
        if not reap(process):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def watch(command_lines, metrics, timeout, log):
    """Runs the processes to their end. Returns the steps, each with the seconds from the start to its report, the
    largest resident memory of any process, and what went wrong."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
                                "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    begin, seen, size, problem, processes = time.monotonic(), [], 0, None, []
    try:
        for line in command_lines:
            processes.append(subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                              start_new_session=True))
        ended, none_ended_at = False, 0.0
        while not ended:
            time.sleep(0.01)
            ended = all([reap(process) for process in processes])
            now = time.monotonic() - begin
            grown = metrics.stat().st_size if metrics.exists() else 0
            if grown != size:
                size = grown
                seen += [now] * (len(read_steps(metrics)) - len(seen))
            if any(process.returncode for process in processes):
                problem = f"failed with status {next(p.returncode for p in processes if p.returncode)}"
                break
            if not any(process.returncode is not None for process in processes):
                none_ended_at = now
            elif not ended and now - none_ended_at > LEAVING_SECONDS:
                problem = "not all ranks ended"  # gloo was seen to hang once all steps were done
                break
            if not ended and now > timeout:
                problem = f"ended after {timeout:.0f} s and {len(seen)} steps"
                break
    finally:
        end(processes)
    steps = [step | {"reported_at": at} for step, at in zip(read_steps(metrics), seen)]
    return steps, max((getattr(process, "peak_bytes", 0) for process in processes), default=0), problem


def run(options, program, loss_on, chats, rows):
    """One run, as a record of what was measured; numbers that could not be are missing."""
    with tempfile.TemporaryDirectory(prefix="cpu_peers_") as name, open(f"{name}/log", "w+", encoding="utf-8") as log:
        command_lines, metrics = commands(options, program, loss_on, chats, rows, pathlib.Path(name))
        load = os.getloadavg()[0]
        steps, process_peak, problem = watch(command_lines, metrics, options.run_timeout, log)
        record = {"program": program, "loss_on": loss_on, "load_before": load, "steps": steps, "problem": problem,
                  "process_peak_bytes": process_peak}
        if problem and "failed" in problem:
            log.seek(0)
            record["log_end"] = log.read()[-3000:]
            print(record["log_end"], file=sys.stderr)
    if steps:
        # By the clock outside, so that time between the steps counts too.
        record["first_step_begins"] = steps[0]["reported_at"] - steps[0]["step_seconds"]
        record["peak_bytes"] = max(step["host_peak_bytes"] for step in steps)
    if len(steps) == 1 and options.peer_steps == 1:
        record["tokens_per_second"] = steps[0]["tokens"] / steps[0]["step_seconds"]
    if len(steps) > 1:
        record["tokens_per_second"] = (sum(step["tokens"] for step in steps[1:]) /
                                       (steps[-1]["reported_at"] - steps[0]["reported_at"]))
    return record


def summarize(runs):
    """Medians per program, of the runs that gave the number."""
    summary = {}
    for program in dict.fromkeys(one["program"] for one in runs):
        mine = [one for one in runs if one["program"] == program]
        entry = {"runs": len(mine), "problems": [one["problem"] for one in mine if one["problem"]]}
        for name in ("tokens_per_second", "peak_bytes", "process_peak_bytes", "first_step_begins"):
            values = [one[name] for one in mine if one.get(name)]
            entry[name] = statistics.median(values) if values else None
            entry[name + "_spread"] = [min(values), max(values)] if values else None
        losses = [one["steps"][0]["loss"] for one in mine if one["steps"]]
        entry["first_loss"] = losses[0] if losses else None
        summary[program] = entry
    return summary


def show(value, scale=1.0, digits=1):
    return "-" if value is None else f"{value / scale:.{digits}f}"


def print_table(summary):
    print(f"{'':12} {'tokens/s':>9} {'(min - max)':>15} {'per rank':>9} {'peak GiB':>9} {'with saving':>12} "
          f"{'first step s':>13} {'first loss':>11}  runs")
    for program, entry in summary.items():
        rate = entry["tokens_per_second"]
        spread = " - ".join(show(value) for value in entry["tokens_per_second_spread"] or [])
        print(f"{program:12} {show(rate):>9} {spread:>15} {show(rate, RANKS):>9} "
              f"{show(entry['peak_bytes'], 2**30, 2):>9} {show(entry['process_peak_bytes'], 2**30, 2):>12} "
              f"{show(entry['first_step_begins']):>13} {show(entry['first_loss'], 1, 5):>11}  {entry['runs']}"
              + "".join(f"; {problem}" for problem in entry["problems"]))


def verdict(met):
    return "met" if met else "missed"


def compare_stages(summary, precision):
    """Our stages beside the peer that shards and needs the least memory."""
    peers = {side: summary[f"{side}-{precision}"] for side in SHARDING_PEERS
             if summary.get(f"{side}-{precision}", {}).get("tokens_per_second")}
    result = {}
    if not peers:
        return result
    least = min(peers, key=lambda side: peers[side]["peak_bytes"])
    for side in OURS:
        mine = summary.get(f"{side}-{precision}")
        if side == "ours" or not mine or not mine["tokens_per_second"]:
            continue
        memory = mine["peak_bytes"] / peers[least]["peak_bytes"]
        speed = mine["tokens_per_second"] / peers[least]["tokens_per_second"]
        met = memory <= STAGE_MEMORY_TARGET and speed >= STAGE_SPEED_TARGET
        result[side] = {"peer": least, "memory": memory, "speed": speed, "met": met}
        print(f"{precision} {side}: {memory:.2f} of {least}'s memory at {speed:.2f} x its speed (target at most "
              f"{STAGE_MEMORY_TARGET} at no less than {STAGE_SPEED_TARGET}: {verdict(met)})")
    return result


def compare(summary, precision):
    """Our numbers beside the peers' and the targets, as far as both were measured."""
    ours = summary.get(f"ours-{precision}")
    peers = {side: summary[f"{side}-{precision}"] for side in ("ddp", "fsdp2") if f"{side}-{precision}" in summary}
    result = compare_stages(summary, precision)
    if not ours:
        return result
    rated = {side: peer for side, peer in peers.items() if peer["tokens_per_second"]}
    if rated and ours["tokens_per_second"]:
        best = max(rated, key=lambda side: rated[side]["tokens_per_second"])
        ratio = ours["tokens_per_second"] / rated[best]["tokens_per_second"]
        target = SPEED_TARGET[precision]
        result["speed"] = {"best_peer": best, "ratio": ratio, "target": target, "met": ratio >= target}
        print(f"{precision} speed: {ratio:.2f} x {best}, the faster peer (target at least {target}: "
              f"{verdict(ratio >= target)})")
    if ours["peak_bytes"]:
        for side, peer in peers.items():
            if not peer["peak_bytes"]:
                continue
            ratio = ours["peak_bytes"] / peer["peak_bytes"]
            result["memory_of_" + side] = {"ratio": ratio}
            note = ""
            if side == "ddp":
                target = MEMORY_TARGET[precision]
                result["memory_of_ddp"] |= {"target": target, "met": ratio <= target}
                note = f" (target at most {target}: {verdict(ratio <= target)})"
            print(f"{precision} memory: {ratio:.2f} of {side}'s{note}")
    if ours["first_step_begins"]:
        seconds = ours["first_step_begins"]
        result["first_step"] = {"seconds": seconds, "target": FIRST_STEP_TARGET, "met": seconds <= FIRST_STEP_TARGET}
        print(f"{precision} first step: begins after {seconds:.1f} s (target at most {FIRST_STEP_TARGET:.0f}: "
              f"{verdict(seconds <= FIRST_STEP_TARGET)})")
    return result


def differing_work(runs, rows):
    """Sentences about runs that did not train what the others trained."""
    complaints = []
    expected = (sum(len(row["ids"]) for row in rows), supervised(rows))
    losses = {}
    for one in runs:
        for step in one["steps"]:
            if (step["tokens"], step["supervised_tokens"]) != expected:
                complaints.append(f"{one['program']} trained {step['tokens']} tokens, {step['supervised_tokens']} of "
                                  f"them supervised, instead of {expected[0]} and {expected[1]}")
        if one["steps"]:
            losses.setdefault(one["program"], one["steps"][0]["loss"])
    for program, loss in losses.items():
        precision = program.split("-")[1]
        reference = losses.get(f"ddp-{precision}", loss)
        if abs(loss - reference) > LOSS_TOLERANCE[precision] * abs(reference):
            complaints.append(f"{program} has the loss {loss:.5f} in the first step and DDP {reference:.5f}")
    return list(dict.fromkeys(complaints))


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = file.read().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", "").split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {"cpu": fields.get("model name", platform.machine()), "cores": os.cpu_count(),
            "instructions": [flag for flag in wanted if flag in flags]}


def measure(options, loss_on, chats, folder):
    rows = tokenize(options, chats, loss_on)
    rows_file = folder / f"rows_{loss_on}.jsonl"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
    share = supervised(rows) / sum(len(row["ids"]) for row in rows)
    print(f"\nLoss on {loss_on}: {100 * share:.1f} % of the tokens supervised", flush=True)
    runs = []
    for number in range(options.rounds):
        # Every round begins with another program, so that none always follows the same one.
        turn = number % len(options.programs)
        for program in options.programs[turn:] + options.programs[:turn]:
            record = run(options, program, loss_on, chats, rows_file)
            runs.append(record)
            print(f"  round {number + 1} {program:10} {show(record.get('tokens_per_second')):>7} tokens/s, first step "
                  f"after {show(record.get('first_step_begins'))} s, {show(record.get('peak_bytes'), 2**30, 2)} GiB"
                  f"{', ' + record['problem'] if record['problem'] else ''}", flush=True)
    summary = summarize(runs)
    print_table(summary)
    ratios = {precision: compare(summary, precision) for precision in ("fp32", "bf16")}
    complaints = differing_work(runs, rows)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return {"loss_on": loss_on, "supervised_share": share, "summary": summary, "ratios": ratios,
            "differing_work": complaints, "runs": runs}


def main():
    options = parse_options()
    # Ended from outside, the programs it started end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    facts = machine()
    bound = options.run_timeout * options.rounds * len(options.programs) * len(options.loss_on)
    print(f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts['instructions'])}; load {os.getloadavg()[0]:.1f}\n"
          f"{RANKS} ranks of one thread, rows of {ROW}, micro-batch {MICRO_BATCH}, {options.steps} steps of {GLOBAL_BATCH} "
          f"rows, {options.rounds} rounds; ends within {bound / 60:.0f} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="cpu_peers_") as name:
        folder = pathlib.Path(name)
        chats = make_chats(options, folder)
        measurements = [measure(options, loss_on, chats, folder) for loss_on in options.loss_on]
    if options.json:
        settings = {"ranks": RANKS, "row": ROW, "micro_batch": MICRO_BATCH, "global_batch": GLOBAL_BATCH,
                    "steps": options.steps, "rounds": options.rounds, "bucket_view": options.bucket_view}
        report = {"machine": facts, "settings": settings, "measurements": measurements}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    failed = any(one["differing_work"] for one in measurements)
    failed |= any("failed" in (record["problem"] or "") for one in measurements for record in one["runs"])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
