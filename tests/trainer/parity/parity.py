"""Compares the engine with transformers: logits, gradients and training curves, in fp32 and bf16.

parity.py ENGINE_DUMP CASE [MODEL_DIR | --variants NAME,...]

CASE: llama, glm4, opt, qwen2 (random tiny models in all variants, or in those named) or a model directory's name. The engine computes
on the CPU, or on what AUTOGLM_PARITY_DEVICE says ("cuda").
"""

import copy
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
from transformers import AutoModelForCausalLM, Glm4Config, LlamaConfig, OPTConfig, Qwen2Config
from transformers.utils import logging

logging.disable_progress_bar()

torch.set_num_threads(1)
IGNORED = -100

LLAMA = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=260, max_position_embeddings=128, rms_norm_eps=1e-5, initializer_range=0.2)
LLAMA_VARIANTS = {
    "gqa": {},
    "mha_tied": dict(num_key_value_heads=4, tie_word_embeddings=True),
    "head_dim": dict(head_dim=24, num_key_value_heads=1),
    "biases": dict(attention_bias=True, mlp_bias=True),
    "theta": dict(rope_parameters=dict(rope_type="default", rope_theta=5e5)),
    "linear": dict(rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4)),
    "llama3": dict(rope_parameters=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                        original_max_position_embeddings=32, rope_theta=1e4)),
    "yarn": dict(rope_parameters=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32,
                                      rope_theta=1e4)),
}
GLM4 = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, vocab_size=260, max_position_embeddings=128, rms_norm_eps=1e-5, attention_bias=True,
            pad_token_id=0, eos_token_id=[1, 2], initializer_range=0.2)
GLM4_VARIANTS = {
    "bias": {},
    "no_bias": dict(attention_bias=False),
    "tied": dict(tie_word_embeddings=True),
    "whole_rotary": dict(rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=1.0)),
    "mqa_wide_heads": dict(num_key_value_heads=1, head_dim=32),
    "yarn": dict(rope_parameters=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32,
                                      rope_theta=1e4, partial_rotary_factor=0.5)),
}

# Few rectifiers and small steps: where an input is nearly 0, rounding decides on the side, and curves part.
OPT = dict(hidden_size=64, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, vocab_size=260,
           max_position_embeddings=64, dropout=0.0, init_std=0.2)
OPT_VARIANTS = {
    "norms_first": {},
    "untied": dict(tie_word_embeddings=False),
    "projections": dict(word_embed_proj_dim=40),
    "norms_last_projections": dict(word_embed_proj_dim=40, do_layer_norm_before=False),
    "norms_last_untied": dict(do_layer_norm_before=False, tie_word_embeddings=False),
}
QWEN2_VARIANTS = {
    "gqa": {},
    "tied": dict(num_key_value_heads=1, tie_word_embeddings=True),
    "theta": dict(rope_parameters=dict(rope_type="default", rope_theta=1e6)),
}
FAMILIES = dict(llama=(LLAMA_VARIANTS, LLAMA, LlamaConfig), glm4=(GLM4_VARIANTS, GLM4, Glm4Config),
                opt=(OPT_VARIANTS, OPT, OPTConfig), qwen2=(QWEN2_VARIANTS, LLAMA, Qwen2Config))


def make_documents(rng, vocabulary, length, count):
    """Documents of random lengths with about half of their tokens supervised."""
    documents = []
    for _ in range(count):
        size = int(rng.integers(3, length + 1))
        ids = rng.integers(3, vocabulary, size).astype(np.int64)
        labels = np.where(rng.random(size) < 0.6, ids, IGNORED)
        documents.append((ids, labels))
    return documents


def pack(documents, length):
    """Rows in the engine's form: first fit in order, padding as a document of its own."""
    rows, row = [], []
    for document in documents:
        if sum(len(d[0]) for d in row) + len(document[0]) > length:
            rows.append(row)
            row = []
        row.append(document)
    rows.append(row)
    packed = []
    for row in rows:
        ids, targets, positions, starts = [], [], [], []
        for document_ids, labels in row:
            starts.append(len(ids))
            ids += document_ids.tolist()
            targets += labels[1:].tolist() + [IGNORED]
            positions += list(range(len(document_ids)))
        rest = length - len(ids)
        if rest:
            starts.append(len(ids))
            ids += [0] * rest
            targets += [IGNORED] * rest
            positions += list(range(rest))
        packed.append(dict(ids=ids, targets=targets, positions=positions, starts=starts))
    return packed, rows


def run_engine(tool, model_dir, rows, length, folder, **request):
    out = os.path.join(folder, "out")
    request = dict(model=model_dir, length=length, rows=rows, out=out, device=os.environ.get("AUTOGLM_PARITY_DEVICE", "cpu"),
                   **request)
    path = os.path.join(folder, "request.json")
    with open(path, "w") as file:
        json.dump(request, file)
    subprocess.run([tool, path], check=True, timeout=600)
    with open(out + ".json") as file:
        summary = json.load(file)
    data = np.fromfile(out + ".bin", dtype=np.float32)
    summary["values"] = {t["name"]: data[t["offset"]:t["offset"] + t["count"]] for t in summary["tensors"]}
    return summary


def loss_sum(model, documents, autocast):
    total = 0.0
    for ids, labels in documents:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(input_ids=torch.tensor(ids)[None]).logits[0]
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        total = total + torch.nn.functional.cross_entropy(exact[:-1], torch.tensor(labels[1:]),
                                                          ignore_index=IGNORED, reduction="sum")
    return total


def first_row_logits(model, rows, length, autocast):
    """Logits of the first packed row's documents, as the engine lays them out; padding left out."""
    parts = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for ids, _ in rows[0]:
            parts.append(model(input_ids=torch.tensor(ids)[None]).logits[0].float())
    return torch.cat(parts).numpy()


def reference(model, documents, rows, length, steps, learning_rate, weight_decay, clip, autocast=False):
    """Plain PyTorch training of one global batch repeated; returns what the engine reports."""
    model = copy.deepcopy(model)
    supervised = sum(int((labels[1:] != IGNORED).sum()) for _, labels in documents)
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1]
    plain = [p for n, p in model.named_parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=weight_decay),
                                   dict(params=plain, weight_decay=0.0)], lr=learning_rate, betas=(0.9, 0.95), eps=1e-8)
    result = dict(losses=[], norms=[], values={}, rectified=[])
    result["values"]["logits"] = first_row_logits(model, rows, length, autocast)
    watch_rectifiers(model, result["rectified"])
    for step in range(steps):
        optimizer.zero_grad()
        result["rectified"].append(float("inf"))
        loss = loss_sum(model, documents, autocast) / supervised
        loss.backward()
        if step == 0:
            for name, parameter in model.named_parameters():
                result["values"]["grad." + name] = parameter.grad.float().numpy().ravel().copy()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        result["losses"].append(float(loss))
        result["norms"].append(float(norm))
        optimizer.step()
    return result


def watch_rectifiers(model, smallest):
    """Keeps in the last element of `smallest` how near to 0 a rectifier's input has come, over their mean."""
    def look(_, __, inputs):
        smallest[-1] = min(smallest[-1], float(inputs.detach().abs().min() / inputs.detach().abs().mean()))
    for name, module in model.named_modules():
        if name.endswith(".fc1"):  # OPT's
            module.register_forward_hook(look)


def relative(a, b):
    """Norm of the difference over the norm of the reference b."""
    return float(np.linalg.norm(a.ravel() - b.ravel()) / max(np.linalg.norm(b.ravel()), 1e-30))


def logits_of(summary, like):
    vocabulary = like.shape[1]
    return summary["values"]["logits"].reshape(-1, vocabulary)[: like.shape[0]]


def check(label, value, bound, failures):
    status = "ok" if value <= bound else "FAILED"
    print(f"  {label:<44} {value:.3e}  (bound {bound:.1e}) {status}", flush=True)
    if not value <= bound:
        failures.append(label)


def compare(tool, name, model_dir, length, num_documents, steps, failures, learning_rate=1e-3, in_fp64=False):
    """With `in_fp64` transformers computes in fp64, so that only one side rounds: over 20 steps two roundings part by more
    than the bounds allow one."""
    print(name, flush=True)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager")
    model.train()
    rng = np.random.default_rng(7)
    documents = make_documents(rng, model.config.vocab_size, length, num_documents)
    packed, rows = pack(documents, length)
    training = dict(steps=steps, learning_rate=learning_rate, weight_decay=0.1, clip=1.0)
    theirs = reference(model.double() if in_fp64 else model, documents, rows, length, **training)
    model.float()
    with tempfile.TemporaryDirectory() as folder:
        ours = run_engine(tool, model_dir, packed, length, folder, precision="fp32", **training)
        check("fp32 logits", relative(logits_of(ours, theirs["values"]["logits"]), theirs["values"]["logits"]), 1e-4,
              failures)
        gradients = [n for n in theirs["values"] if n.startswith("grad.")]
        assert set(gradients) == {n for n in ours["values"] if n.startswith("grad.")}, "other parameters"
        gradients = check_vanishing(ours["values"], theirs["values"], gradients, failures)
        worst = max(gradients, key=lambda n: relative(ours["values"][n], theirs["values"][n]))
        check(f"fp32 gradient, worst of {len(gradients)}",
              relative(ours["values"][worst], theirs["values"][worst]), 1e-4, failures)
        check("fp32 losses of %d steps" % steps,
              max(abs(a - b) / abs(b) for a, b in zip(ours["losses"], theirs["losses"])), 1e-4, failures)
        check_norms(ours["norms"], theirs["norms"], theirs["rectified"], failures)
        assert theirs["losses"][-1] < theirs["losses"][0], "the reference does not learn: a poor test"
        compare_bf16(tool, model, model_dir, documents, packed, rows, length, theirs, folder, failures)


def check_norms(ours, theirs, rectified, failures):
    """From the step on at which a rectifier's input is 0 up to rounding it may pass its gradient here and not there: curves
    part. `rectified` holds the smallest input of each step."""
    same = next((step for step, smallest in enumerate(rectified) if smallest < 3e-6), len(ours))
    assert same > 1, "a rectifier's input is 0 from the beginning: a poor test"
    distances = [abs(a - b) / abs(b) for a, b in zip(ours, theirs)]
    check("fp32 gradient norms of %d steps" % same, max(distances[:same]), 1e-3, failures)
    if same < len(ours):
        check("fp32 gradient norms of all steps", max(distances), 1e-2, failures)


def check_vanishing(ours, theirs, names, failures):
    """Returns the gradients but those that are zero up to rounding, which must be so here too: the biases of keys
    that are not rotated, which shift all scores of a query alike."""
    whole = np.sqrt(sum(np.linalg.norm(theirs[n]) ** 2 for n in names))
    vanishing = [n for n in names if np.linalg.norm(theirs[n]) < 1e-6 * whole]
    assert all(n.endswith("k_proj.bias") for n in vanishing), vanishing
    if vanishing:
        check(f"fp32 vanishing gradient, worst of {len(vanishing)}",
              max(np.linalg.norm(ours[n]) for n in vanishing) / whole, 1e-6, failures)
    return [n for n in names if n not in vanishing]


def compare_bf16(tool, model, model_dir, documents, packed, rows, length, fp32, folder, failures):
    """The engine in bf16 may be 2.5 times as far from fp32 as transformers under autocast is."""
    training = dict(steps=1, learning_rate=1e-3, weight_decay=0.0, clip=1.0)
    autocast = reference(model, documents, rows, length, autocast=True, **training)
    ours = run_engine(tool, model_dir, packed, length, folder, precision="bf16", **training)
    truth = fp32["values"]
    check("bf16 logits over autocast's distance",
          relative(logits_of(ours, truth["logits"]), truth["logits"]) /
          relative(autocast["values"]["logits"], truth["logits"]), 2.5, failures)
    names = [n for n in truth if n.startswith("grad.")]
    whole = lambda values: np.concatenate([values[n] for n in names])
    check("bf16 gradients over autocast's distance",
          relative(whole(ours["values"]), whole(truth)) / relative(whole(autocast["values"]), whole(truth)), 2.5,
          failures)


def save_tiny(config, folder):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # norms and biases away from 1 and 0, so that they matter
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)


def main():
    tool, case = sys.argv[1:3]
    failures = []
    if case in FAMILIES:
        variants, base, kind = FAMILIES[case]
        chosen = sys.argv[4].split(",") if sys.argv[3:4] == ["--variants"] else list(variants)
        for name in chosen:
            changes = variants[name]
            with tempfile.TemporaryDirectory() as folder:
                save_tiny(kind(**{**base, **changes}), folder)
                sizes = dict(num_documents=4, learning_rate=2e-4) if case == "opt" else dict(num_documents=7)
                compare(tool, f"{case} {name}", folder, 48, steps=20, failures=failures, in_fp64=True, **sizes)
    else:
        compare(tool, case, sys.argv[3], 64, 2, 3, failures, learning_rate=1e-4)
    if failures:
        sys.exit("failed: " + ", ".join(failures))


if __name__ == "__main__":
    main()
