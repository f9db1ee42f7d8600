"""Configurations as in model directories, and a whole tiny directory with chats to train it on."""

import json
import os
import random
import struct


def llama(hidden, ffn, layers, heads, key_heads, vocabulary, tied=False, head_dim=None):
    config = dict(model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=hidden, intermediate_size=ffn,
                  num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=key_heads,
                  vocab_size=vocabulary, max_position_embeddings=8192, rms_norm_eps=1e-5, hidden_act="silu",
                  tie_word_embeddings=tied)
    if head_dim:
        config["head_dim"] = head_dim
    return config


def glm4(hidden, ffn, layers, heads, key_heads, vocabulary, head_dim):
    return dict(model_type="glm4", architectures=["Glm4ForCausalLM"], hidden_size=hidden, intermediate_size=ffn,
                num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=key_heads,
                head_dim=head_dim, vocab_size=vocabulary, max_position_embeddings=32768, rms_norm_eps=1e-5,
                hidden_act="silu", attention_bias=False, partial_rotary_factor=0.5, tie_word_embeddings=False)


def glm4_9b(layers=40):
    """GLM-4-9B: 9.4 billion parameters."""
    return glm4(4096, 13696, layers, 32, 2, 151552, 128)


TINY_LLAMA = llama(36, 60, 4, 3, 1, 131, tied=True, head_dim=12)  # no extent that a vector or tensor core likes
TINY_GLM4 = glm4(64, 96, 4, 4, 2, 260, 16)


def byte_letters():
    """The letters that byte-level tokenizers write bytes with."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return [letters[byte] for byte in range(256)]


def write_tokenizer(folder):
    vocabulary = {letter: i for i, letter in enumerate(byte_letters())}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [dict(id=256 + i, content=token, single_word=False, lstrip=False, rstrip=False, normalized=False,
                  special=True) for i, token in enumerate(special)]
    step = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer = dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None,
                     pre_tokenizer=step, post_processor=None, decoder=step,
                     model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                                end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False,
                                vocab=vocabulary, merges=[]))
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|im_end|>", pad_token="<|endoftext|>"),
                  file)


def write_model(folder, seed=1):
    """A random LLaMA of half a million parameters over bytes, as a model directory of safetensors in fp32."""
    os.makedirs(folder, exist_ok=True)
    config = llama(128, 256, 3, 4, 2, 260, tied=True)
    config.update(torch_dtype="float32", bos_token_id=256, eos_token_id=258, pad_token_id=256)
    hidden, ffn, width = 128, 256, 32 * 2
    shapes = {"model.embed_tokens.weight": [260, hidden], "model.norm.weight": [hidden]}
    for i in range(3):
        layer = f"model.layers.{i}."
        shapes.update({layer + "self_attn.q_proj.weight": [hidden, hidden],
                       layer + "self_attn.k_proj.weight": [width, hidden],
                       layer + "self_attn.v_proj.weight": [width, hidden],
                       layer + "self_attn.o_proj.weight": [hidden, hidden],
                       layer + "mlp.gate_proj.weight": [ffn, hidden], layer + "mlp.up_proj.weight": [ffn, hidden],
                       layer + "mlp.down_proj.weight": [hidden, ffn], layer + "input_layernorm.weight": [hidden],
                       layer + "post_attention_layernorm.weight": [hidden]})
    numbers = random.Random(seed)
    header, data = {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * count if "norm" in name else [numbers.gauss(0, 0.06) for _ in range(count)]
        header[name] = dict(dtype="F32", shape=shape, data_offsets=[len(data), len(data) + 4 * count])
        data += struct.pack(f"<{count}f", *values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    write_tokenizer(folder)


def write_chats(path, count=64):
    topics = ["Paris", "a fox", "the park", "tea", "dogs", "the sea"]
    with open(path, "w", encoding="utf-8") as file:
        for i in range(count):
            topic = topics[i % len(topics)]
            chat = [dict(role="user", content=f"Tell me about {topic}."),
                    dict(role="assistant", content=f"{topic} is what you asked about, and {topic} it is.")]
            file.write(json.dumps(dict(messages=chat)) + "\n")
