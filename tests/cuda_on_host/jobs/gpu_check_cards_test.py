"""The verdict and exit code of gpu_check.sh on two pretend cards, a full one, and where the driver is too old."""

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

from running import REPOSITORY, Failure, complaints, require


def check(folder, parts, expected, **settings):
    """What gpu_check.sh says, which must end with the exit code."""
    environment = dict(os.environ, BUILD_DIR=str(programs.parent), CUDA_ON_HOST_MISUSE="stop",
                       **{"CUDA_ON_HOST_" + name: str(value) for name, value in settings.items()})
    ended = subprocess.run([REPOSITORY / "scripts/gpu_check.sh", "--small", "--only", parts, "--output", folder],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, env=environment)
    require(ended.returncode == expected, f"exit code {ended.returncode} instead of {expected}:\n{ended.stdout}")
    require(f"this is what to send us: {folder / 'gpu_check.tar.gz'}" in ended.stdout, ended.stdout)
    with tarfile.open(folder / "gpu_check.tar.gz") as packed:
        names = packed.getnames()
        logs = "".join(packed.extractfile(name).read().decode() for name in names if name.endswith(".log"))
    require("gpu_check/gpu_check.txt" in names and "engine_run" in logs, f"what is to be sent holds {names}")
    return ended.stdout, logs


def says(text, *all_of):
    for words in all_of:
        require(words in text, f"no '{words}' in:\n{text}")


def test_two_cards(folder):
    said, logs = check(folder, "width,cards", 0, CARDS=2)
    says(said, "usable cards: 2", "passed: width, cards", "passed in ", "16 MB over 2 ranks: gathers ",
         "sums in rank order ", "one card: ", "2 cards: ", "% MFU", "of a step waits for messages", "GB foreseen", "loss of the first step: ")
    require(not complaints(logs), f"the cards complain: {complaints(logs)}")


def test_a_full_card(folder):
    said, _ = check(folder, "command", 1, CARDS=1, CARD_BYTES=600 << 20)
    says(said, "passed: nothing", "failed: command: exit code 78", "FAILED in ")


def test_a_driver_that_is_too_old(folder):
    said, _ = check(folder, "width", 1, CARDS=2, DRIVER=12040)
    says(said, "usable cards: 0", "failed: device: --device cuda: no usable CUDA device", "driver 580 or newer")


programs = pathlib.Path(sys.argv[1])
failures = 0
for test in (test_two_cards, test_a_full_card, test_a_driver_that_is_too_old):
    with tempfile.TemporaryDirectory(prefix="cuda_on_host.") as made:
        try:
            test(pathlib.Path(made).resolve())
            print(f"{test.__name__}: ok")
        except Failure as failure:
            failures += 1
            print(f"{test.__name__}: FAILED: {failure}")
sys.exit(failures > 0)
