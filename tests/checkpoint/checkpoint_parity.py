"""Compares the checkpoint library with the safetensors, torch and transformers packages, in both directions.

Usage: checkpoint_parity.py CHECKPOINT_TOOL formats|models
"""
import json
import random
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

TOOL = sys.argv[1]


def run_tool(*arguments, code=0):
    result = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert result.returncode == code, (arguments, result.returncode, result.stderr)
    return result.stdout if code == 0 else result.stderr


def file_bytes(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def same(left, right):
    """Equal to the bit, except that a NaN may be any NaN."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.is_floating_point and left.dtype.itemsize > 1:
        nan = left.isnan()
        if not torch.equal(nan, right.isnan()):
            return False
        left, right = left.masked_fill(nan, 0), right.masked_fill(nan, 0)
    return left.contiguous().reshape(-1).view(torch.uint8).equal(right.contiguous().reshape(-1).view(torch.uint8))


def mutate(generator, header):
    """A header with something changed: mostly wrong, sometimes still right."""
    header = json.loads(json.dumps(header))
    names = [name for name in header if name != "__metadata__"]
    entry = header[generator.choice(names)]
    numbers = [-1, 0, 1, 2, 3, 4, 8, 16, 2**31, 2**62, 2**63, 2**64 - 1, 2**64, 1.5, "4", None, [], True]
    kind = generator.randrange(9)
    if kind == 0:
        entry["data_offsets"][generator.randrange(2)] += generator.choice([-8, -4, -1, 1, 4, 8])
    elif kind == 1:
        entry["data_offsets"][generator.randrange(2)] = generator.choice(numbers)
    elif kind == 2:
        entry["shape"] = [generator.choice(numbers) for _ in range(generator.randrange(4))]
    elif kind == 3:
        entry["dtype"] = generator.choice(["F4", "F6_E2M3", "F8_E8M0", "I8", "BF16", "F16", "U64", "C64", "f32", "F128", "", 4])
    elif kind == 4:
        del entry[generator.choice(list(entry))]
    elif kind == 5:
        header["__metadata__"] = generator.choice([{}, {"a": "b"}, {"a": 1}, [], None, "x", {"a": {}}, {"": ""}])
    elif kind == 6:
        other = header[generator.choice(names)]
        entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
    elif kind == 7:
        header[generator.choice(["new", "", "__metadata", "\u4f60"])] = generator.choice(
            [{"dtype": "F32", "shape": [0, 5], "data_offsets": [16, 16]}, {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}, {}, 5])
    else:
        entry["shape"] = entry["shape"][::-1] + [1]
    return header


def mutate_again(generator, header):
    """The same, up to three times; a change that has nothing to change any more is left out."""
    for _ in range(generator.randrange(1, 4)):
        try:
            header = mutate(generator, header)
        except (AttributeError, IndexError, KeyError, TypeError):
            break
    return header


def test_same_files_are_accepted(folder):
    """What the package refuses is refused; beyond that, only what the format's text forbids."""
    generator = random.Random(17)
    base = {"__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
            "s": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]}}
    data = bytes(range(32))
    contents = [file_bytes(base, data)]
    for _ in range(1500):
        contents.append(file_bytes(mutate(generator, base), data))
    for _ in range(3000):
        contents.append(file_bytes(mutate_again(generator, base), data))
    whole = file_bytes(base, data)
    for _ in range(3000):
        changed = bytearray(whole)
        for _ in range(generator.randrange(1, 3)):
            changed[generator.randrange(len(changed) - 32)] = generator.choice([generator.randrange(256), 0x22, 0x2C, 0x7D, 0x20, 0x30])
        contents.append(bytes(changed[: generator.choice([len(changed)] * 9 + [generator.randrange(len(changed))])]))
    contents.append(file_bytes(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))
    contents.append(file_bytes(b" {}", b""))
    contents.append(file_bytes(b"{}\n\t ", b""))

    paths = []
    for i, content in enumerate(contents):
        paths.append(folder / f"{i}.safetensors")
        paths[-1].write_bytes(content)
    answers = run_tool("check", *paths).splitlines()
    assert len(answers) == len(paths)
    accepted, stricter = 0, 0
    for path, answer in zip(paths, answers):
        try:
            with safe_open(path, "pt") as file:
                file.keys()
            theirs = True
        except (SafetensorError, OSError):
            theirs = False
        accepted += answer == "ok"
        if theirs and answer != "ok":
            stricter += 1
            assert any(reason in answer for reason in ("twice", "is not JSON", "is not a list of texts")), (path.read_bytes(), answer)
        assert theirs or answer != "ok", path.read_bytes()
    print(f"{len(paths)} files: both accept {accepted}, ours alone refuses {stricter}")
    assert accepted > 100 and stricter >= 2


def test_tensors_of_every_type(folder):
    generator = torch.Generator().manual_seed(3)
    names = ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16", "float32",
             "float64", "complex64", "float8_e4m3fn", "float8_e5m2"]
    tensors = {}
    for name in names:
        dtype = getattr(torch, name)
        raw = torch.randint(0, 2 if name == "bool" else 256, (6 * dtype.itemsize,), generator=generator, dtype=torch.uint8)
        tensors[name] = raw.view(dtype).reshape(2, 3)
    tensors["scalar"] = torch.tensor(1.5)
    tensors["empty"] = torch.zeros(0, 4)
    model = folder / "types"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    listed = json.loads(run_tool("list", model / "model.safetensors"))
    with safe_open(model / "model.safetensors", "pt") as file:
        theirs = {name: [file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()] for name in file.keys()}
    assert listed == theirs, (listed, theirs)
    run_tool("rewrite", model, folder / "types-out")
    written = load_file(folder / "types-out" / "model.safetensors")
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if name != "float64":  # goes through fp32
            assert same(written[name], tensor), name
    assert same(written["float64"], tensors["float64"].float().double())


def test_rounding(folder):
    generator = torch.Generator().manual_seed(5)
    bits = torch.randint(-2**31, 2**31, (1 << 20,), generator=generator, dtype=torch.int64).to(torch.int32)
    # Halves between two neighbours of bf16 and of fp16, where rounding has to choose the even one.
    bits[: 1 << 18] = bits[: 1 << 18] & ~0xFFFF | 0x8000
    bits[1 << 18 : 1 << 19] = bits[1 << 18 : 1 << 19] & ~0x1FFF | 0x1000
    values = bits.view(torch.float32)
    small = torch.randn(1 << 18, generator=generator) * 1e-4
    model = folder / "rounding"
    model.mkdir()
    (model / "config.json").write_text('{"dtype": "float32"}')
    tensors = {"any": values, "small": small, "double": torch.randn(1000, generator=generator, dtype=torch.float64)}
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    for name, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]:
        output = folder / f"rounding-{name}"
        lost = values.isfinite() & ~values.to(dtype).isfinite()
        if lost.any():
            sentence = run_tool("rewrite", model, output, name, code=77)
            assert "tensor any: at least " in sentence and not (output / "config.json").exists(), (name, sentence)
        tensors["any"] = values.masked_fill(lost, 1.0)
        save_file(tensors, model / "model.safetensors", {"format": "pt"})
        run_tool("rewrite", model, output, name)
        for key, tensor in load_file(output / "model.safetensors").items():
            assert same(tensor, tensors[key].float().to(dtype)), (name, key)
        assert json.loads((output / "config.json").read_text()) == {"dtype": str(dtype).removeprefix("torch.")}


def tiny_llama():
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, tie_word_embeddings=False)
    return LlamaForCausalLM(config)


def test_models_of_transformers(folder):
    from transformers import AutoModelForCausalLM
    original = tiny_llama()
    for name, size in [("single", "1GB"), ("sharded", "16KB")]:
        model = folder / name
        original.save_pretrained(model, max_shard_size=size)
        shards = sorted(path.name for path in model.glob("*.safetensors"))
        assert (len(shards) > 2) == (name == "sharded"), shards
        output = folder / f"{name}-out"
        run_tool("rewrite", model, output)
        for path in model.iterdir():
            assert path.read_bytes() == (output / path.name).read_bytes(), path
        assert {path.name for path in output.iterdir()} - {path.name for path in model.iterdir()} == {"run.json"}

        half = folder / f"{name}-bf16"
        run_tool("rewrite", model, half, "bf16")
        loaded = AutoModelForCausalLM.from_pretrained(half, dtype="auto")
        assert loaded.dtype == torch.bfloat16
        for key, value in loaded.state_dict().items():
            assert same(value, original.state_dict()[key].to(torch.bfloat16)), key
        if name == "sharded":
            index = json.loads((half / "model.safetensors.index.json").read_text())
            parameters = sum(tensor.numel() for tensor in original.parameters())
            assert index["metadata"]["total_size"] == 2 * parameters, index["metadata"]
            assert index["weight_map"] == json.loads((model / "model.safetensors.index.json").read_text())["weight_map"]
        # Back again through the written directory.
        run_tool("rewrite", half, folder / f"{name}-fp32", "fp32")
        loaded = AutoModelForCausalLM.from_pretrained(folder / f"{name}-fp32", dtype="auto")
        assert loaded.dtype == torch.float32
        for key, value in loaded.state_dict().items():
            assert same(value, original.state_dict()[key].to(torch.bfloat16).float()), key


def test_the_conversion_that_is_recommended(folder):
    model = folder / "pickled"
    original = tiny_llama()
    original.save_pretrained(model)
    (model / "model.safetensors").unlink()
    torch.save(original.state_dict(), model / "pytorch_model.bin")
    sentence = run_tool("rewrite", model, folder / "pickled-out", code=65)
    assert not (folder / "pickled-out").exists()
    command = shlex.split(sentence[sentence.index("python -c"):])
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True, timeout=120)
    run_tool("rewrite", model, folder / "pickled-out")
    written = load_file(folder / "pickled-out" / "model.safetensors")
    for key, value in original.state_dict().items():
        assert same(written[key], value), key


TESTS = {"formats": [test_same_files_are_accepted, test_tensors_of_every_type, test_rounding],
         "models": [test_models_of_transformers, test_the_conversion_that_is_recommended]}

if __name__ == "__main__":
    scratch = Path(tempfile.mkdtemp(prefix="checkpoint-parity-"))
    try:
        for test in TESTS[sys.argv[2]]:
            test(scratch)
            print("passed", test.__name__)
    finally:
        shutil.rmtree(scratch)
