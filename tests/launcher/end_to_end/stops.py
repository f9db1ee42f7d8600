"""Ways to stop a training at some moment, and what its checkpoints hold."""

import contextlib
import hashlib
import json
import os
import signal
import time

import torch
from safetensors import safe_open

STOPPED = 75


def processes_of(job):
    """The processes of its session that live, mpirun's ranks among them: (id, name)."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
            name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            state, _, _, session = rest.split()[:4]
            if int(session) == job.pid and state not in "ZX":
                yield int(entry), name


def ranks_of(job):
    return sorted(number for number, name in processes_of(job) if name == "autoglm-train")


def send(number, what):
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, what)


def kill_all(job):
    """At once: a process that starts others is stopped before these are looked for."""
    send(job.pid, signal.SIGSTOP)
    for _ in range(2):
        for number, _ in list(processes_of(job)):
            send(number, signal.SIGKILL)


def wait_until_gone(job, seconds):
    end = time.monotonic() + seconds
    while any(True for _ in processes_of(job)):
        if time.monotonic() > end:
            kill_all(job)
            raise AssertionError(f"ranks are still there after {seconds} s")
        time.sleep(0.02)


def read_checkpoint(folder):
    """As docs/checkpoints.md has it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    dtypes = {"F32": torch.float32, "BF16": torch.bfloat16}
    tensors = {f"{kind}/{one['name']}": torch.empty(one["shape"], dtype=dtypes[dtype])
               for kind, dtype in manifest["kinds"].items() for one in manifest["parameters"]}
    for file in manifest["files"]:
        with safe_open(folder / file["name"], "pt") as states:
            for name in states.keys():
                whole, offset = name.rsplit("/", 1)
                run = states.get_tensor(name)
                tensors[whole].view(-1)[int(offset):int(offset) + len(run)] = run
    return manifest, tensors


def digest_of(folder):
    """Of weights, moments, and the place in the data."""
    manifest, tensors = read_checkpoint(folder)
    sum_ = hashlib.sha256(json.dumps([manifest["training"][key] for key in ("num_steps", "data")]).encode())
    for name in sorted(tensors):
        sum_.update(name.encode())
        sum_.update(tensors[name].view(torch.uint8).numpy().tobytes())
    return sum_.hexdigest()


def checkpoints_in(folder):
    """Step and path of each that is in place."""
    for path in folder.glob("checkpoint-*"):
        if path.name.removeprefix("checkpoint-").isdigit():
            yield int(path.name.removeprefix("checkpoint-")), path


def steps_done(output):
    """The last step in the metrics."""
    with contextlib.suppress(OSError):
        whole = (output / "metrics.jsonl").read_text().rpartition("\n")[0]
        return max((json.loads(line)["step"] for line in whole.splitlines() if '"loss"' in line), default=0)
    return 0


def saves_begun(checkpoints):
    with contextlib.suppress(OSError):
        return {name for name in os.listdir(checkpoints) if ".tmp-" in name and name.startswith("checkpoint-")}
    return set()
