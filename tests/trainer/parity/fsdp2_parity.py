"""Compares the engine on two ranks, at every ZeRO stage and with offload, with torch's FSDP2 on two ranks.

fsdp2_parity.py MPIRUN_SCRIPT ENGINE_DUMP: 20 steps of tiny llama and glm4 models in fp32, two micro-batches of one row on
each rank, with clipping. The gradients of all parameters at the first step, the losses and norms of all steps and the
final weights must agree.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import parity
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, Glm4Config, LlamaConfig

RANKS, LENGTH, STEPS, RATE, DECAY, CLIP = 2, 48, 20, 1e-3, 0.1, 1.0
MICRO_BATCHES = 2  # of one row, on each rank
STRATEGIES = [dict(stage=0), dict(stage=1, offload=0.37), dict(stage=2), dict(stage=2, weights="host", offload=1.0),
              dict(stage=3), dict(stage=3, weights="host", offload=0.37, recompute="full")]


def peer(rank, folder, model_dir):
    """One rank of FSDP2; rank 0 saves what the engine reports."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").train()
    rows = torch.load(os.path.join(folder, "rows.pt"), weights_only=False)
    supervised = sum(int((labels[1:] != parity.IGNORED).sum()) for row in rows for _, labels in row)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    groups = [dict(params=[p for p in model.parameters() if p.dim() > 1], weight_decay=DECAY),
              dict(params=[p for p in model.parameters() if p.dim() <= 1], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-8)
    result = dict(losses=[], norms=[], values={})
    whole = lambda tensor: tensor.full_tensor().float().numpy().ravel().copy()
    for step in range(STEPS):
        optimizer.zero_grad()
        total = torch.zeros(())
        for micro_batch in range(MICRO_BATCHES):
            for ids, labels in rows[micro_batch * RANKS + rank]:
                loss = parity.loss_sum(model, [(ids, labels)], False) / supervised
                (loss * RANKS).backward()  # FSDP2 takes the mean over ranks
                total += loss.detach()
        dist.all_reduce(total)
        if step == 0:
            for name, parameter in model.named_parameters():
                result["values"]["grad." + name] = whole(parameter.grad)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        result["losses"].append(float(total))
        result["norms"].append(float(norm.full_tensor()))
        optimizer.step()
    for name, parameter in model.named_parameters():
        result["values"]["weight." + name] = whole(parameter.detach())
    if rank == 0:
        torch.save(result, os.path.join(folder, "peer.pt"))
    dist.destroy_process_group()
    # Gloo's threads may outlive the interpreter, which aborts then, long after everything is written.
    os._exit(0)


def run_engine(mpirun, tool, model_dir, packed, folder, strategy):
    out = os.path.join(folder, "out")
    request = dict(model=model_dir, length=LENGTH, rows=packed, out=out, precision="fp32", steps=STEPS,
                   learning_rate=RATE, weight_decay=DECAY, clip=CLIP, **strategy)
    path = os.path.join(folder, "request.json")
    with open(path, "w") as file:
        json.dump(request, file)
    subprocess.run([mpirun, str(RANKS), tool, path], check=True, timeout=300)
    with open(out + ".json") as file:
        summary = json.load(file)
    data = np.fromfile(out + ".bin", dtype=np.float32)
    summary["values"] = {t["name"]: data[t["offset"]:t["offset"] + t["count"]] for t in summary["tensors"]}
    return summary


def compare(mpirun, tool, name, config, failures):
    print(name, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model_dir = os.path.join(folder, "model")
        parity.save_tiny(config, model_dir)
        documents = parity.make_documents(np.random.default_rng(11), config.vocab_size, LENGTH, 30)
        packed, rows = parity.pack(documents, LENGTH)
        count = RANKS * MICRO_BATCHES
        assert len(rows) >= count
        packed, rows = packed[:count], rows[:count]
        torch.save(rows, os.path.join(folder, "rows.pt"))
        torch.multiprocessing.spawn(peer, (folder, model_dir), nprocs=RANKS)
        theirs = torch.load(os.path.join(folder, "peer.pt"), weights_only=False)
        assert theirs["losses"][-1] < theirs["losses"][0] and max(theirs["norms"]) > CLIP, "a poor test"
        for strategy in STRATEGIES:
            ours = run_engine(mpirun, tool, model_dir, packed, folder, strategy)
            names = {kind: [n for n in theirs["values"] if n.startswith(kind)] for kind in ("grad.", "weight.")}
            for kind, expected in names.items():
                assert set(expected) == {n for n in ours["values"] if n.startswith(kind)}, "other parameters"
            worst = max(parity.relative(ours["values"][n], theirs["values"][n]) for n in names["grad."])
            # All weights as one: where a gradient is zero but for rounding (a key's bias moves all scores alike), AdamW
            # turns that rounding into steps of its own size.
            whole = lambda values: np.concatenate([values[n] for n in names["weight."]])
            weights = parity.relative(whole(ours["values"]), whole(theirs["values"]))
            label = " ".join(f"{key} {value}" for key, value in strategy.items())
            parity.check(f"{label}: gradients", worst, 1e-4, failures)
            parity.check(f"{label}: losses", max(abs(a / b - 1) for a, b in zip(ours["losses"], theirs["losses"])), 1e-4,
                         failures)
            parity.check(f"{label}: norms", max(abs(a / b - 1) for a, b in zip(ours["norms"], theirs["norms"])), 1e-3,
                         failures)
            parity.check(f"{label}: weights", weights, 1e-4, failures)


def main():
    mpirun, tool = sys.argv[1:3]
    failures = []
    compare(mpirun, tool, "llama, tied", LlamaConfig(**{**parity.LLAMA, "tie_word_embeddings": True}), failures)
    compare(mpirun, tool, "glm4", Glm4Config(**parity.GLM4), failures)
    if failures:
        sys.exit("failed: " + ", ".join(failures))


if __name__ == "__main__":
    main()
