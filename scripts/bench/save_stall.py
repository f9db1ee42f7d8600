#!/usr/bin/env python3
"""For how long a save stops the training: with none and with a save every few steps in turns, medians over the rounds.

What a save of a rank may cost is max(1 s, 1.2 x bytes / copy rate), where the copy rate is that of one file of as many bytes,
written to the same folder and made durable. At an interval of ten minutes the stall must stay below 1 % of the time.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
INTERVAL = 600  # seconds


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / ".cache/smollm2-135m-instruct", help="model folder")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / ".cache/data/alpaca_en_demo.json", help="data file")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()), help="where checkpoints go")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--every", type=int, default=4, help="steps from save to save")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in ("ranks", "steps", "every", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} takes a whole number of at least 1")
    if options.every >= options.steps:
        parser.error("--every must be smaller than --steps, or nothing is saved")
    for path in (options.model, options.data, options.folder, options.build / "bin/autoglm-train"):
        if not path.exists():
            parser.error(f"{path}: is not there")
    return options


def processor():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.machine()


def train(options, folder, save_every):
    """Seconds of each step but the first, and the events of saves."""
    output = folder / "out"
    command = ["mpirun", "-np", options.ranks, "--bind-to", "none", "--oversubscribe", options.build / "bin/autoglm-train",
               "--model", options.model, "--data", options.data, "--output", output, "--steps", options.steps,
               "--global-batch", 2 * options.ranks, "--sequence-length", 512, "--learning-rate", 1e-5,
               "--save-every", save_every]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, os.cpu_count() // options.ranks))}
    subprocess.run([str(part) for part in command], check=True, env=environment, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(output)
    return ([line["step_seconds"] for line in lines if "learning_rate" in line][1:],
            [line for line in lines if line.get("event") == "checkpoint"])


def copy_rate(folder, size):
    """Bytes a second of one durable file."""
    piece, path = os.urandom(1 << 22), folder / "copied"
    start = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)
        os.fsync(file.fileno())
    rate = size / (time.monotonic() - start)
    path.unlink()
    return rate


def main():
    options = parse_options()
    plain, saving, stalls, writes, rates, size = [], [], [], [], [], 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = pathlib.Path(name)
        for _ in range(options.rounds):
            plain.append(statistics.median(train(options, folder, "never")[0]))
            steps, saves = train(options, folder, options.every)
            saving.append(statistics.mean(steps))
            stalls += [one["stall_seconds"] for one in saves]
            writes += [one["write_seconds"] for one in saves]
            size = saves[0]["bytes"] // options.ranks
            rates.append(copy_rate(folder, size))
    stall, rate = statistics.median(stalls), statistics.median(rates)
    bound = max(1.0, 1.2 * size / rate)
    print(f"{processor()}; {options.ranks} ranks, {size / 1e9:.2f} GB each a save, {len(stalls)} saves")
    print(f"stall a save: median {stall:.3f} s, longest {max(stalls):.3f} s; bound {bound:.2f} s (copy {rate / 1e9:.2f} GB/s)")
    print(f"written in: median {statistics.median(writes):.2f} s; a step: {statistics.median(plain):.2f} s without, "
          f"{statistics.median(saving):.2f} s on average with a save every {options.every}")
    print(f"at an interval of {INTERVAL} s: {100 * max(stalls) / INTERVAL:.3f} % of the time")
    return 0 if max(stalls) <= bound and max(stalls) < INTERVAL / 100 else 1


sys.exit(main())
