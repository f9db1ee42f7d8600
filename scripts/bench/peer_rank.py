#!/usr/bin/env python3
"""One rank of a peer: a plain training loop of `transformers` in torch DDP, FSDP2 or DeepSpeed over gloo.

Rank 0 appends one JSON object per step to --metrics, with the field names of autoglm-train's metrics.jsonl.
"""

import argparse
import contextlib
import json
import os
import time

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

IGNORED = -100


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=("ddp", "fsdp2", "deepspeed2", "deepspeed3"), required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--bucket-view", action="store_true")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--rendezvous", required=True)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    return parser.parse_args()


def peak_resident_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def wrap(model, options):
    if options.side == "ddp":
        return DistributedDataParallel(model, gradient_as_bucket_view=options.bucket_view)
    policy = MixedPrecisionPolicy()
    if options.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = init_device_mesh("cpu", (options.world_size,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


class Plain:
    """The steps of a plain training loop."""

    def __init__(self, model, options):
        self.model = wrap(model, options)
        self.ranks = options.world_size
        # The fused form is the fastest that torch has here.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.learning_rate, betas=(0.9, 0.95), eps=1e-8,
                                           weight_decay=0, fused=True)
        autocasts = options.side == "ddp" and options.precision == "bf16"
        self.autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=autocasts)

    def update(self, loss):
        # Both wrappers average gradients over the ranks; the product makes a sum of it.
        (loss * self.ranks).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


class DeepSpeed:
    """The same under DeepSpeed's engine."""

    def __init__(self, model, options):
        import deepspeed
        config = {"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1, "gradient_clipping": 1.0,
                  "bf16": {"enabled": options.precision == "bf16"}, "zero_allow_untested_optimizer": True,
                  "zero_optimization": {"stage": int(options.side[-1])}}
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.95), eps=1e-8,
                                      weight_decay=0, fused=True)
        self.ranks = options.world_size
        self.model, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.autocast = contextlib.nullcontext

    def update(self, loss):
        self.model.backward(loss * self.ranks)
        self.model.step()


def main():
    options = parse_options()
    torch.set_num_threads(1)
    os.environ.update(RANK=str(options.rank), LOCAL_RANK=str(options.rank), WORLD_SIZE=str(options.world_size),
                      DS_ACCELERATOR="cpu")
    dist.init_process_group("gloo", init_method=f"file://{options.rendezvous}", rank=options.rank,
                            world_size=options.world_size)
    with open(options.rows, encoding="ascii") as file:
        rows = [json.loads(line) for line in file]
    supervised = sum(label != IGNORED for row in rows for label in row["labels"][1:])
    share = len(rows) // options.world_size
    mine = rows[options.rank * share:(options.rank + 1) * share]
    ids, labels = (torch.tensor([row[name] for row in mine]) for name in ("ids", "labels"))

    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    model.config.use_cache = False
    kind = DeepSpeed if options.side.startswith("deepspeed") else Plain
    trainer = kind(model.train(), options)

    for step in range(1, options.steps + 1):
        begin = time.monotonic()
        with trainer.autocast():
            # The sum over this rank's tokens divided by the number of all ranks' tokens.
            loss = trainer.model(input_ids=ids, labels=labels, num_items_in_batch=supervised).loss
        trainer.update(loss)
        total = loss.detach().float()
        dist.all_reduce(total)
        seconds = time.monotonic() - begin
        peak = torch.tensor(peak_resident_bytes())
        dist.all_reduce(peak, dist.ReduceOp.MAX)
        if options.rank == 0:
            line = {"step": step, "loss": total.item(), "tokens": sum(len(row["ids"]) for row in rows),
                    "supervised_tokens": supervised, "step_seconds": seconds, "host_peak_bytes": peak.item()}
            with open(options.metrics, "a", encoding="ascii") as file:
                file.write(json.dumps(line) + "\n")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
