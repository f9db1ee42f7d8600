"""Two hosts of two cards each, which one machine plays, beside one host of four: the same bits, and what travels between hosts.

hosts_test.py PROGRAMS
"""

import pathlib
import re
import subprocess
import sys

from running import Job, prepare_folder, require, run_tests

SKIPPED = 77
programs = pathlib.Path(sys.argv[1])
folder = prepare_folder()
HOSTS = ("--host", "alpha:2,beta:2")


def train(name, stage, hosts=()):
    pins = ("--steps", 2, "--strategy", stage, "--micro-batch", 1, "--recompute", "none")
    settings = {"CARDS": 2 if hosts else 4, "COUNT_MESSAGES": "yes"}
    return Job(programs, folder, f"{name}-{stage}", 4, pins, settings, hosts=hosts).succeed()


def messages_of(job):
    """Bytes that NCCL's messages moved within hosts, and between them."""
    found = re.findall(r"messages of rank \d: (\d+) bytes within its host, (\d+) bytes to others", job.text)
    require(found, f"nothing was counted:\n{job.text}")
    return tuple(sum(int(one[i]) for one in found) for i in (0, 1))


def hosts_of(job):
    return [rank["host"] for rank in job.record["ranks"]]


def require_same(job, plain):
    require(job.losses == plain.losses and job.weights == plain.weights,
            f"{job.output.name}: losses {job.losses}, on one host {plain.losses}")


def two_hosts_add_like_one():
    """On one host a shard's owner is sent three messages. Where each host has two ranks in a row, half as much goes between
    hosts, as around a ring, and two thirds within them, since an owner also adds what its host adds first. Where ranks take
    turns, a sum changes hosts three times."""
    for stage in ("zero2", "zero3"):
        plain = train("one", stage)
        within, between = messages_of(plain)
        require(within > 0 and between == 0, f"on one host: {within} and {between} bytes")
        rows = train("rows", stage, HOSTS)
        require(hosts_of(rows) == ["alpha", "alpha", "beta", "beta"], f"hosts: {hosts_of(rows)}")
        require_same(rows, plain)
        require(messages_of(rows) == (within * 2 / 3, within / 2), f"{messages_of(rows)} bytes, on one host {within}")
        require("--map-by slot" not in rows.text, f"warned of ranks that are in order:\n{rows.text}")
    turns = train("turns", "zero3", (*HOSTS, "--map-by", "node"))
    require(hosts_of(turns) == ["alpha", "beta", "alpha", "beta"], f"hosts: {hosts_of(turns)}")
    require_same(turns, plain)
    require(messages_of(turns) == (within / 3, within), f"{messages_of(turns)} bytes, on one host {within}")
    require("2.0 times as often" in turns.text and "--map-by slot" in turns.text, f"no warning:\n{turns.text}")


if subprocess.run(["unshare", "--uts", "true"], stderr=subprocess.DEVNULL).returncode != 0:
    print("left out: this machine may not play others")
    sys.exit(SKIPPED)
run_tests([two_hosts_add_like_one])
