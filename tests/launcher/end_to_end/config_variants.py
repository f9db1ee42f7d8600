"""Compares how config.json, index and names of tensors are read with how transformers reads them.

config_variants.py TRAIN [NUMBER]: of every family's variants the program trains one step on a text, and its loss must
be that of transformers to 1e-5; what transformers refuses, or cannot fill with the files' weights, the program must
refuse with one sentence. With NUMBER only every NUMBER-th variant is run.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
import end_to_end
import model_templates
import tiny_tokenizers
import torch
from end_to_end import BAD_DATA, MISSING, VOCABULARY, edit_json, edit_tensors
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Glm4Config, LlamaConfig, OPTConfig, Qwen2Config

BOUND = 1e-5
TEXT = "Tell me about tea in Paris, please. " * 4
SIZES = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY, bos_token_id=1,
             eos_token_id=2, pad_token_id=0)
GATED = dict(intermediate_size=96, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, **SIZES)
FAMILIES = {
    "llama": lambda: LlamaConfig(**GATED),
    "llama_tied": lambda: LlamaConfig(tie_word_embeddings=True, **GATED),
    "llama_sharded": lambda: LlamaConfig(**GATED),
    "qwen2": lambda: Qwen2Config(**GATED),
    "glm4": lambda: Glm4Config(head_dim=16, attention_bias=True, **GATED),
    "opt": lambda: OPTConfig(ffn_dim=96, max_position_embeddings=256, dropout=0.0, init_std=0.2, **SIZES),
}
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


class Variant:
    """A change of config.json, of the tensors, or of the index."""

    def __init__(self, family, name, config=None, tensors=None, index=None):
        self.family, self.name, self.config, self.tensors, self.index = family, name, config, tensors, index


def having(**fields):
    return lambda config: config.update(fields)


def lacking(*names):
    return lambda config: [config.pop(name, None) for name in names]


def in_old_spelling(**fields):
    """Transformers 4's: nothing in "rope_parameters"."""

    def change(config):
        config.pop("rope_parameters", None)
        config.update(fields)

    return change


LINEAR = dict(rope_type="linear", factor=2.0)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = dict(rope_type="yarn", factor=4.0)


def rope_variants(family):
    spelled = {
        "theta of 4": in_old_spelling(rope_theta=5e5),
        "theta of 4, whole": in_old_spelling(rope_theta=10000),
        "theta of 5": having(rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        "theta of both": having(rope_theta=5e5),
        "theta null": in_old_spelling(rope_theta=None),
        "theta a text": in_old_spelling(rope_theta="10000"),
        "no rope at all": lacking("rope_parameters"),
        "scaling and parameters": having(rope_scaling=dict(type="linear", factor=2.0)),
        "scaling of 4 with type": in_old_spelling(rope_theta=5e5, rope_scaling=dict(type="linear", factor=2.0)),
        "scaling null": having(rope_scaling=None, rope_parameters=dict(LINEAR, rope_theta=5e5)),
        "scaling empty": having(rope_scaling={}, rope_parameters=dict(LINEAR, rope_theta=5e5)),
        "type and rope_type": in_old_spelling(rope_scaling=dict(LINEAR, type="linear", rope_type="default")),
        "rope_type null": in_old_spelling(rope_scaling=dict(LINEAR, rope_type=None)),
        "linear without factor": having(rope_parameters=dict(rope_type="linear", rope_theta=1e4)),
        "parameters a list": having(rope_parameters=[1]),
        "llama3 without context": in_old_spelling(rope_scaling=LLAMA3),
        "llama3 with two contexts": in_old_spelling(rope_scaling=dict(LLAMA3, original_max_position_embeddings=32),
                                                    original_max_position_embeddings=64),
        "yarn of 4": in_old_spelling(rope_scaling=dict(YARN, original_max_position_embeddings=32)),
        "yarn, context beside": in_old_spelling(rope_scaling=dict(YARN, original_max_position_embeddings=32),
                                                original_max_position_embeddings=64),
        "yarn without context": in_old_spelling(rope_scaling=YARN),
        "yarn, factor null": in_old_spelling(
            rope_scaling=dict(YARN, factor=None, original_max_position_embeddings=32)),
        "yarn, truncate 0": in_old_spelling(rope_scaling=dict(YARN, original_max_position_embeddings=32, truncate=0)),
        "yarn, beta 0": in_old_spelling(rope_scaling=dict(YARN, original_max_position_embeddings=32, beta_fast=None,
                                                          beta_slow=0)),
        "unknown type": in_old_spelling(rope_scaling=dict(rope_type="spiral", factor=2.0)),
        "share beside": having(partial_rotary_factor=0.25),
        "share within": having(rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.25)),
        "share beside, scaled": in_old_spelling(partial_rotary_factor=0.25, rope_theta=1e4, rope_scaling=LINEAR),
        "share null": in_old_spelling(partial_rotary_factor=None, rope_theta=1e4),
    }
    return [Variant(family, name, config=change) for name, change in spelled.items()]


def field_variants(family, nulls, absent):
    return ([Variant(family, f"{name} null", config=having(**{name: None})) for name in nulls] +
            [Variant(family, f"{name} absent", config=lacking(name)) for name in absent])


def with_head(factor=1.0, dtype=torch.float32):
    return lambda tensors: {**tensors, HEAD: (tensors[TABLE] * factor).to(dtype)}


def rename(change):
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def under_the_head(tensors):
    tensors[HEAD] = tensors.pop(TABLE)
    return tensors


def in_map(change):
    return lambda index: change(index["weight_map"])


def misplace(places):
    others = sorted(set(places.values()))
    places[TABLE] = next(file for file in others if file != places[TABLE])


VARIANTS = [
    *rope_variants("llama"),
    *[v for v in rope_variants("glm4") if "share" in v.name or "theta" in v.name or v.name == "yarn of 4"],
    *[v for v in rope_variants("qwen2")
      if v.name in ("theta of both", "scaling and parameters", "share beside, scaled")],
    *field_variants("llama", ["rms_norm_eps", "hidden_act", "max_position_embeddings", "tie_word_embeddings",
                              "attention_bias", "mlp_bias", "head_dim", "num_key_value_heads", "pad_token_id",
                              "eos_token_id"],
                    ["rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "head_dim",
                     "num_key_value_heads", "architectures", "model_type", "vocab_size"]),
    *field_variants("glm4", ["head_dim", "num_key_value_heads", "attention_bias"],
                    ["head_dim", "num_key_value_heads", "attention_bias", "rms_norm_eps"]),
    *field_variants("qwen2", ["num_key_value_heads", "sliding_window", "max_window_layers", "use_sliding_window",
                              "layer_types"],
                    ["num_key_value_heads", "sliding_window", "layer_types"]),
    *field_variants("opt", ["word_embed_proj_dim", "do_layer_norm_before", "dropout", "tie_word_embeddings"],
                    ["word_embed_proj_dim", "do_layer_norm_before", "tie_word_embeddings", "max_position_embeddings"]),
    Variant("llama", "swish", config=having(hidden_act="swish")),
    Variant("llama", "rms_norm_eps a text", config=having(rms_norm_eps="1e-5")),
    Variant("llama", "tie_word_embeddings 0", config=having(tie_word_embeddings=0)),
    Variant("llama", "vocab_size 512.0", config=having(vocab_size=512.0)),
    Variant("llama", "dtype and torch_dtype", config=having(dtype="float32", torch_dtype="float16")),
    Variant("llama", "other heads", config=having(head_dim=8)),
    Variant("qwen2", "a window without size", config=having(use_sliding_window=True, sliding_window=None)),
    Variant("qwen2", "a window of no layer", config=having(
        use_sliding_window=True, sliding_window=16, max_window_layers=2)),
    Variant("qwen2", "attention_bias false", config=having(attention_bias=False)),
    Variant("qwen2", "layer types too many", config=having(layer_types=["full_attention"] * 3)),
    Variant("llama_tied", "as saved"),
    Variant("llama_tied", "an equal head", tensors=with_head()),
    Variant("llama_tied", "another head", tensors=with_head(1.5)),
    Variant("llama_tied", "a rounded head", tensors=with_head(dtype=torch.bfloat16)),
    Variant("llama_tied", "a shorter head", tensors=lambda t: {**t, HEAD: t[TABLE][:300].clone()}),
    Variant("llama_tied", "only a head", tensors=under_the_head),
    Variant("llama_tied", "without its head", tensors=rename(lambda n: n.removeprefix("model."))),
    Variant("llama", "names without model.", tensors=rename(lambda n: n.removeprefix("model."))),
    Variant("llama", "names with two model.", tensors=rename(lambda n: "model." + n)),
    Variant("llama", "names with module.", tensors=rename(lambda n: "module." + n)),
    Variant("llama", "names with _orig_mod.", tensors=rename(lambda n: "_orig_mod." + n)),
    Variant("llama", "no head", tensors=lambda t: {n: v for n, v in t.items() if n != HEAD}),
    Variant("llama", "fp64", tensors=lambda t: {n: v.double() for n, v in t.items()}),
    Variant("llama", "rotary tensors", tensors=lambda t: {
        **t, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8), "model.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.1.self_attn.rotary_emb.cos_cached": torch.ones(4, 16)}),
    Variant("llama_sharded", "as saved", index=in_map(lambda places: None)),
    Variant("llama_sharded", "a rotary tensor that is not there",
            index=in_map(lambda p: p.update({"model.layers.0.self_attn.rotary_emb.inv_freq": p[TABLE]}))),
    Variant("llama_sharded", "a tensor that is not there", index=in_map(lambda p: p.update({"old.weight": p[TABLE]}))),
    Variant("llama_sharded", "a tensor that is not listed", index=in_map(lambda p: p.pop(TABLE))),
    Variant("llama_sharded", "a tensor in another file", index=in_map(misplace)),
    Variant("llama_sharded", "a file that is not there", index=in_map(
        lambda p: p.update({"old.weight": "gone.safetensors"}))),
    Variant("llama_sharded", "empty metadata", index=lambda index: index.update(metadata={})),
    Variant("opt", "its decoder alone", tensors=rename(lambda n: n.removeprefix("model."))),
    Variant("opt", "another head", tensors=lambda t: {**t, HEAD: 1.5 * t["model.decoder.embed_tokens.weight"]}),
]


def save_family(family, folder):
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, max_shard_size="100KB" if family.endswith("sharded") else "50GB")
    tiny_tokenizers.for_template("smollm2", model_templates.SMOLLM2).save_pretrained(folder)


def apply(variant, folder):
    if variant.config:
        edit_json(folder / "config.json", variant.config)
    if variant.tensors:
        edit_tensors(folder / "model.safetensors", variant.tensors)
    if variant.index:
        edit_json(folder / "model.safetensors.index.json", variant.index)


def their_loss(folder, ids):
    """None where transformers refuses the model, or would make weights up."""
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                              output_loading_info=True)
        if loading["missing_keys"]:
            return None
        with torch.no_grad():
            return float(model.eval()(input_ids=ids, labels=ids).loss)
    except Exception:  # of whatever kind it is
        return None


def our_loss(program, folder, data, output):
    """The loss, or None and the one sentence of the refusal."""
    ended = end_to_end.run_bounded([program, "--model", folder, "--data", data, "--output", output, "--steps", 1,
                                    "--precision", "fp32", "--sequence-length", 256, "--global-batch", 1])
    if ended.code == 0:
        return end_to_end.read_metrics(output)[0][0]["loss"], ""
    sentences = [line for line in ended.stderr.splitlines() if line.startswith("autoglm-train: ")]
    assert ended.code in (BAD_DATA, MISSING) and len(sentences) == 1, ended
    return None, sentences[0]


def compare(variant, program, good, data, folder):
    """Whether both say the same."""
    model = folder / "model"
    shutil.copytree(good, model)
    apply(variant, model)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    end = json.loads((model / "tokenizer_config.json").read_text())["eos_token"]
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids + [tokenizer.token_to_id(end)]
    assert 64 < len(ids) <= 250, len(ids)
    theirs = their_loss(model, torch.tensor([ids]))
    ours, sentence = our_loss(program, model, data, folder / "output")
    if theirs is None or ours is None:
        same = ours is None and theirs is None
    else:
        same = abs(ours - theirs) <= BOUND * abs(theirs)
    verdict = "ok" if same else "FAILED"
    print(f"{variant.family}, {variant.name}: transformers {theirs}, here {ours} {sentence} {verdict}", flush=True)
    return same


def main():
    program, every = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    failures = []
    with tempfile.TemporaryDirectory(prefix="autoglm-variants-") as root:
        root = pathlib.Path(root)
        data = end_to_end.write_lines(root / "text.jsonl", [{"text": TEXT}])
        for family in FAMILIES:
            save_family(family, root / family)
        chosen = VARIANTS[::every]
        for number, variant in enumerate(chosen):
            folder = root / str(number)
            folder.mkdir()
            if not compare(variant, program, root / variant.family, data, folder):
                failures.append(f"{variant.family}, {variant.name}")
            shutil.rmtree(folder)
    print(f"{len(chosen)} variants")
    if failures:
        sys.exit("failed: " + "; ".join(failures))


if __name__ == "__main__":
    main()
