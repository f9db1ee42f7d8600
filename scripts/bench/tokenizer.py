#!/usr/bin/env python3
"""Called by tokenizer.sh: times both implementations in turn and prints medians."""

import argparse
import itertools
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import tokenizers
from tokenizers import Tokenizer

ROUNDS = 5
BYTES = 10_000_000
PIECE = 2000  # characters, about one conversation


def run_ours(tool, folder, records):
    """CPU seconds to load, of a first pass and of a second one, and the number of tokens."""
    out = subprocess.run([tool, folder, "encode", records, os.devnull, "2"], check=True, capture_output=True, text=True,
                         timeout=600).stdout
    lines = [line.split() for line in out.splitlines()]
    return float(lines[0][0]), float(lines[1][0]), float(lines[2][0]), int(lines[2][1])


def run_theirs(tokenizer, pieces):
    begin = time.process_time()
    encodings = tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
    seconds = time.process_time() - begin
    return seconds, sum(map(len, encodings))


def measure(tool, name, tokenizer, pieces, size):
    with tempfile.TemporaryDirectory() as folder:
        records = pathlib.Path(folder) / "records"
        records.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in map(str.encode, pieces)))
        tokenizer.save(folder + "/tokenizer.json")
        run_theirs(tokenizer, pieces)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(run_theirs(tokenizer, pieces))
            ours.append(run_ours(tool, folder, str(records)))
        assert {tokens for *_, tokens in ours} == {tokens for _, tokens in theirs}, "the numbers of tokens differ"
    load, first, second = (statistics.median(run[i] for run in ours) for i in range(3))
    package = statistics.median(seconds for seconds, _ in theirs)
    mb = size / 1e6
    print(f"{name:10} {mb / package:9.1f} {mb / first:9.1f} {mb / second:9.1f} {package / second:8.1f} "
          f"{theirs[0][1]:10d} {1000 * load:9.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", help="autoglm_tokenize_texts")
    parser.add_argument("root", type=pathlib.Path, help="the checkout")
    arguments = parser.parse_args()
    tool, root = arguments.tool, arguments.root
    sys.path.insert(0, str(root / "tests/trainer/data/tokenizer"))
    import shapes
    import texts
    long_pieces = texts.real([root / ".cache/data", root / ".venv/lib"], BYTES)
    random.Random(1).shuffle(long_pieces)
    pieces = [text[i:i + PIECE] for text in long_pieces for i in range(0, len(text), PIECE)]
    size = sum(len(piece.encode()) for piece in pieces)
    print(f"{size / 1e6:.1f} MB of text in {len(pieces)} pieces; one thread; medians of {ROUNDS} rounds in turn")
    print("MB per second of CPU time:")
    print(f"{'':10} {'package':>9} {'ours':>9} {'ours':>9} {'ours to':>8} {'tokens':>10} {'ms to':>9}")
    print(f"{'':10} {tokenizers.__version__:>9} {'cold':>9} {'warm':>9} {'package':>8} {'':>10} {'load':>9}")
    smollm2 = Tokenizer.from_file(str(root / ".cache/smollm2-135m-instruct/tokenizer.json"))
    measure(tool, "smollm2", smollm2, pieces, size)
    corpus = list(itertools.islice(long_pieces, 30))
    for shape in ("llama2", "llama3", "qwen"):
        measure(tool, shape, shapes.SHAPES[shape](corpus), pieces, size)


if __name__ == "__main__":
    main()
