"""Which jobs are compared with what was foreseen: families, stages, offload and cards of 8 to 80 GB."""

import json
import pathlib

MODELS = pathlib.Path(__file__).resolve().parents[3] / "configs" / "models"
GB = 1000 ** 3
A100_40GB = 42298834944  # what the pretended card has
HOST = 2048 * GB
LONGEST_SECONDS = 600  # of one case


def model(name, layers=None):
    if name == "Qwen2.5-0.5B":
        config = dict(model("Qwen2.5-7B"), hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                      num_attention_heads=14, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True)
    else:
        config = json.loads((MODELS / f"{name}.json").read_text())
    if layers:
        config["num_hidden_layers"] = layers
    return config


# By family, what is trained on cards of so many GB.
SHAPES = {
    "llama": {8: ("SmolLM2-135M", None), 16: ("TinyLlama-1.1B", None), 24: ("SmolLM2-1.7B", None),
              40: ("LLaMA-7B", 8), 80: ("LLaMA-7B", 8)},
    "opt": {8: ("OPT-125M", None), 16: ("OPT-350M", None), 24: ("OPT-1.3B", None), 40: ("OPT-1.3B", None),
            80: ("OPT-6.7B", 4)},
    "qwen2": {8: ("Qwen2.5-0.5B", None), 16: ("Qwen2.5-0.5B", None), 24: ("Qwen2.5-0.5B", None),
              40: ("Qwen2.5-7B", 2), 80: ("Qwen2.5-7B", 4)},
    "glm4": {8: ("GLM-4-9B-0414", 1), 16: ("GLM-4-9B-0414", 1), 24: ("GLM-4-9B-0414", 1), 40: ("GLM-4-9B-0414", 2),
             80: ("GLM-4-9B-0414", 4)},
}
STAGES = ("ddp", "zero1", "zero2", "zero3")
OFFLOADS = {"nothing": {"offload_optimizer": 0, "weights": {"zero3": "peers"}},
            "optimizer": {"offload_optimizer": 0.63},
            "weights": {"weights": "host"},
            "activations": {"recompute": "full", "offload_activations": 1},
            "all": {"weights": "host", "offload_optimizer": 1, "recompute": "full", "offload_activations": 1}}
CAPS = (8, 16, 24, 40, 80)


class Case:
    """One job: its title, its ranks, its cards' bytes, the request, and the pool's limits, the wanted one first."""

    def __init__(self, title, config, ranks, card, limits, pins, rows=4):
        self.title, self.ranks, self.card, self.limits = title, ranks, card, limits
        self.request = dict(mode="training", bytes_only=True, config=config, steps=2, seconds=LONGEST_SECONDS, row_length=2048,
                            rows=rows * ranks, plans=True, pins=pins)


def pins_of(stage, offload):
    pins = dict(OFFLOADS[offload], strategy=stage)
    if isinstance(pins.get("weights"), dict):
        pins["weights"] = pins["weights"].get(stage, "resident")
    return pins


def matrix():
    """Every family under every stage; offloads and caps walk beside them, so that each pair of them is met."""
    for f, family in enumerate(SHAPES):
        for s, stage in enumerate(STAGES):
            for turn in range(3):
                offload = list(OFFLOADS)[(f + s + 2 * turn) % len(OFFLOADS)]
                cap = CAPS[(2 * f + 3 * s + turn) % len(CAPS)]
                name, layers = SHAPES[family][cap]
                yield Case(f"{name}{f' ({layers} layers)' if layers else ''}, {stage}, offloads {offload}, {cap} GB",
                           model(name, layers), 2, 82 * GB, [larger for larger in CAPS if larger >= cap],
                           pins_of(stage, offload))


def whole_models():
    """As planned, with nothing pinned, on as much of each card as is left."""
    for ranks in (8, 4, 2, 1):
        yield Case(f"GLM-4-9B-0414, {ranks} x A100-40GB", model("GLM-4-9B-0414"), ranks, A100_40GB, [None], {})
    yield Case("LLaMA-7B, 1 x 24 GB", model("LLaMA-7B"), 1, 24 * GB, [None], {})
