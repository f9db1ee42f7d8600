#!/usr/bin/env python3
"""The README's table of what fits where, from autoglm-plan: scripts/what_fits.py [PROGRAM] prints it, with --check README it
ends with 1 unless the file holds it."""

import json
import subprocess
import sys

import plan_tables

MODELS = ("GLM-4-9B-0414", "LLaMA-7B", "OPT-13B")
GIB = 2**30


def plan(program, model, ranks):
    ended = subprocess.run([program, "--model", model, "--gpu", "a100-40gb", "--ranks", str(ranks), "--host-memory", "512GiB",
                            "--json"], capture_output=True, text=True, timeout=60)
    if not ended.stdout:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout)


def row(model, ranks, answer):
    if not answer["fits"]:
        return f"| {model} | {ranks} | nothing fits | | | |"
    chosen = answer["chosen"]
    recompute = chosen["recompute"]
    if recompute != "none" and chosen["recompute_layers"] > 0:
        recompute += f" in {chosen['recompute_layers']} layers"
    on_host = []
    if chosen["offload_optimizer"] > 0:
        on_host.append(f"{100 * chosen['offload_optimizer']:.0f} % of the optimizer")
    if chosen["weights"] == "host":
        on_host.append("weights")
    if chosen["offload_activations"] > 0:
        on_host.append("saved inputs")
    host = answer["predicted_host_peak_bytes"] / GIB
    where = f"{host:.1f} GiB: {', '.join(on_host)}" if on_host else ""
    return (f"| {model} | {ranks} | {chosen['strategy']}, micro-batch {chosen['micro_batch']}, recompute {recompute} | "
            f"{answer['predicted_device_peak_bytes'] / GIB:.1f} GiB | {where} | "
            f"{chosen['estimated_tokens_per_second']:,.0f} |")


def table(program):
    lines = ["| model | cards | chosen | device | host, per card | tokens/s, estimated |", "|---|---|---|---|---|---|"]
    for model in MODELS:
        lines += [row(model, ranks, plan(program, model, ranks)) for ranks in (1, 2, 4, 8)]
    return "\n".join(lines)


def main():
    program, readme = plan_tables.parse_arguments("The README's table of what fits where.")
    text = table(program)
    if readme is None:
        print(text)
    elif text not in readme:
        sys.exit("the README's table is not what autoglm-plan says now:\n" + text)


if __name__ == "__main__":
    main()
