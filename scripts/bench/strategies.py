#!/usr/bin/env python3
"""Called by strategies.sh: runs autoglm-train with different strategies and compares what run.json and metrics.jsonl say."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / ".cache/smollm2-135m-instruct"
DATA = ROOT / ".cache/data/alpaca_en_demo.json"
PLAIN = {"--strategy": "ddp", "--recompute": "none", "--offload-optimizer": "0", "--offload-activations": "0",
         "--master": "split", "--weights": "auto", "--head-chunks": "8"}
CONFIGURATIONS = {
    "ddp": [], "ddp again": [], "zero1": ["--strategy", "zero1"], "zero2": ["--strategy", "zero2"],
    "zero3": ["--strategy", "zero3"], "zero2 offloaded": ["--strategy", "zero2", "--offload-optimizer", "1"],
}
TARGETS = {"zero2": 1.05, "zero3": 1.15}  # step time over ddp's
MIB = 2**20


def train(ranks, folder, options, length, steps, micro_batches=1):
    output = pathlib.Path(folder) / "run"
    # What is not asked for is not left to the planner.
    plain = {name: value for name, value in PLAIN.items() if name not in options}
    command = ["mpirun", "-np", str(ranks), "--bind-to", "none", "--oversubscribe", ROOT / "build/bin/autoglm-train",
               "--model", MODEL, "--data", DATA, "--output", output, "--overwrite", "--device", "cpu", "--sequence-length",
               str(length), *(word for pair in plain.items() for word in pair), "--micro-batch", "1", "--global-batch", str(ranks * micro_batches), "--steps", str(steps)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    ended = subprocess.run(command + options, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=900)
    if ended.returncode != 0:
        sys.exit(f"autoglm-train ended with {ended.returncode}: {ended.stderr.strip()[-500:]}")
    metrics = [json.loads(line) for line in open(output / "metrics.jsonl", encoding="utf-8")]
    return [record for record in metrics if "loss" in record], json.load(open(output / "run.json", encoding="utf-8"))


def measure_time(options):
    seconds, exposed = {name: [] for name in CONFIGURATIONS}, {name: [] for name in CONFIGURATIONS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name, strategy in CONFIGURATIONS.items():
                steps, _ = train(2, folder, strategy, options.length, options.steps)
                seconds[name].append(statistics.median(step["step_seconds"] for step in steps[1:]))
                exposed[name].append(statistics.median(step["exposed_seconds"] for step in steps[1:]))
            print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()),
                  flush=True)
    base = statistics.median(seconds["ddp"])
    ratios = [b / a for a, b in zip(seconds["ddp"], seconds["ddp again"])]
    spread = max(max(ratios), 1 / min(ratios))
    print(f"\n{options.rounds} interleaved rounds, 2 ranks, rows of {options.length}; ddp against itself: up to {spread:.3f}")
    print(f"{'':<16} {'step s':>8} {'over ddp':>9} {'exposed s':>10}  target")
    for name, values in seconds.items():
        ratio = statistics.median(values) / base
        target = TARGETS.get(name)
        verdict = "" if target is None else f"{target} " + ("met" if ratio <= target else "missed" if ratio > target * spread
                                                            else "missed within the spread")
        print(f"{name:<16} {statistics.median(values):>8.2f} {ratio:>9.3f} {statistics.median(exposed[name]):>10.3f}  {verdict}")


def textbook(parameters, stage, ranks):
    """ZeRO's own count (Rajbhandari et al., 2020): 2 bytes of weights, 2 of gradients, 12 of optimizer state."""
    share = lambda sharded: parameters / (ranks if sharded else 1)
    return 2 * share(stage >= 3) + 2 * share(stage >= 2) + 12 * share(stage >= 1)


def measure_memory(options):
    categories, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        for ranks in options.ranks:
            for stage, name in enumerate(("ddp", "zero1", "zero2", "zero3")):
                _, run = train(ranks, folder, ["--strategy", name, "--recompute", "full"], 512, 1)
                plan, result = run["plan"], run["result"]
                predicted, measured = plan["predicted_device_bytes_at_peak"], result["device_bytes_at_peak"]
                categories = list(dict.fromkeys([*categories, *predicted, *measured]))
                rows.append((ranks, stage, plan["predicted_device_peak_bytes"], result["device_peak_bytes"], predicted,
                             measured, result["resident_peak_bytes"]))
    parameters = 134_515_008
    print("MiB per rank at the device's peak, measured (where rehearsed differs: measured/rehearsed); bf16, split master,")
    print("full recompute, rows of 512, micro-batch 1. textbook: 16 bytes per parameter sharded as the stage says, no activations.")
    print("| ranks | stage | " + " | ".join(categories) + " | peak | rehearsed over measured | textbook | resident: loading, step, saving |")
    print("|" + "---|" * (len(categories) + 6))
    failed = []
    for ranks, stage, foreseen, seen, predicted, measured, resident in rows:
        cells = []
        for category in categories:
            a, b = measured.get(category, 0), predicted.get(category, 0)
            cells.append(f"{a / MIB:.1f}" if a == b else f"{a / MIB:.1f}/{b / MIB:.1f}")
        excess = foreseen / seen - 1
        if not 0 <= excess <= 0.005:
            failed.append(f"{ranks} ranks, stage {stage}: rehearsed is {100 * excess:+.2f} % of measured")
        phases = ", ".join(f"{resident[phase] / MIB:.0f}" for phase in ("loading", "training", "saving"))
        if stage == 3 and max(resident["loading"], resident["saving"]) > resident["training"]:
            failed.append(f"{ranks} ranks, stage 3: loading or saving needs more resident memory than the step")
        print(f"| {ranks} | {stage} | " + " | ".join(cells) + f" | {seen / MIB:.1f} | {100 * excess:+.4f} % | "
              f"{textbook(parameters, stage, ranks) / MIB:.0f} | {phases} |")
    peaks = {(ranks, stage): seen for ranks, stage, _, seen, *_ in rows}
    for ranks in options.ranks:
        print(f"{ranks} ranks: stage 3 peaks at {peaks[ranks, 3] / peaks[ranks, 0]:.3f} of stage 0")
    if failed:
        sys.exit("\n".join(failed))


def at_least(least):
    def whole_number(word):
        if int(word) < least:
            raise argparse.ArgumentTypeError(f"{word} is below {least}")
        return int(word)
    return whole_number


def list_of_ranks(words):
    return [at_least(1)(word) for word in words.split(",")]


def main():
    parser = argparse.ArgumentParser(prog="strategies.sh", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    commands = parser.add_subparsers(required=True)
    time = commands.add_parser("time", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    time.add_argument("--rounds", type=at_least(1), default=7)
    time.add_argument("--steps", type=at_least(2), default=3, help="steps of a run; the first does not count")
    time.add_argument("--length", type=at_least(2), default=256, help="tokens of a row")
    time.set_defaults(run=measure_time)
    memory = commands.add_parser("memory", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    memory.add_argument("--ranks", type=list_of_ranks, default="1,2,4")
    memory.set_defaults(run=measure_memory)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
