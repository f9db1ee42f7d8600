"""Jobs on pretend cards: the programs in a folder run there, and what the cards complain of fails a test."""

import atexit
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "scripts" / "gpu_check"))
import models  # noqa: E402

COMPLAINTS = ("REFUSED", "is not emulated", "work on a stream failed", "calls differ", "does not lie in memory",
              "outside of memory", "WARNING: ThreadSanitizer")


class Failure(Exception):
    """What a test found."""


def require(holds, text):
    if not holds:
        raise Failure(text)


def complaints(text):
    return [line for line in text.splitlines() if any(complaint in line for complaint in COMPLAINTS)]


def prepare_folder():
    """A folder with a tiny model, and chats to train it on."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cuda_on_host."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    models.write_model(folder / "model")
    models.write_chats(folder / "chats.jsonl")
    return folder


# Ranks that find their peers by TCP, on hosts that this machine plays.
MPIRUN_ON_HOSTS = ("mpirun", "--mca", "plm", "rsh", "--mca", "plm_rsh_agent",
                   pathlib.Path(__file__).with_name("other_host.sh"), "--mca", "plm_rsh_no_tree_spawn", 1, "--mca", "btl",
                   "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo", "--mca", "oob_tcp_if_include", "lo", "--mca",
                   "btl_vader_single_copy_mechanism", "none", "--mca", "mpi_yield_when_idle", 1, "--bind-to", "none")


def command_of(programs, folder, name, ranks, options, settings, hosts=()):
    """The words of a training, and its environment; options are names and values, settings those of run.sh, hosts more words
    for an mpirun over several."""
    chosen = {"--device": "cuda", "--model": folder / "model", "--data": folder / "chats.jsonl",
              "--output": folder / name, "--template": "chatml", "--sequence-length": 64, "--global-batch": 4,
              "--learning-rate": 3e-3, **dict(zip(options[::2], options[1::2]))}
    command = [programs / "autoglm-train", *(word for pair in chosen.items() for word in pair)]
    if hosts:
        command = [*MPIRUN_ON_HOSTS, "-np", ranks, *hosts, *command]
    elif ranks > 1:
        command = [REPOSITORY / "scripts" / "mpirun_test.sh", ranks, *command]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       CUDA_ON_HOST_CARDS=str(ranks), CUDA_ON_HOST_MISUSE="stop")
    environment.update({"CUDA_ON_HOST_" + key: str(value) for key, value in settings.items()})
    return [str(word) for word in command], environment


class Job:
    """One run of autoglm-train, on a card a rank."""

    def __init__(self, programs, folder, name, ranks=1, options=(), environment=None, seconds=120, hosts=()):
        self.output = folder / name
        command, settings = command_of(programs, folder, name, ranks, options, environment or {}, hosts)
        ended = subprocess.run(command, env=settings, timeout=seconds, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
        self.code, self.text = ended.returncode, ended.stdout

    def succeed(self):
        require(self.code == 0, f"{self.output.name} ended with {self.code}:\n{self.text}")
        found = complaints(self.text)
        require(not found, f"{self.output.name}: " + "\n".join(found))
        return self

    @property
    def record(self):
        return json.loads((self.output / "run.json").read_text())

    def metric(self, key):
        """Its value in every step that has it."""
        lines = [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]
        return [line[key] for line in lines if key in line]

    @property
    def losses(self):
        return self.metric("loss")

    @property
    def weights(self):
        return hashlib.sha256((self.output / "model.safetensors").read_bytes()).hexdigest()


def run_tests(tests):
    """Calls every test, and ends with 1 if one fails."""
    failed = 0
    for test in tests:
        try:
            test()
            print(f"{test.__name__}: ok", flush=True)
        except (Failure, subprocess.TimeoutExpired) as failure:
            print(f"{test.__name__}: FAILED: {failure}", flush=True)
            failed = 1
    sys.exit(failed)
