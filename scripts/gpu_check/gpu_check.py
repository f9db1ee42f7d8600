"""Checks a machine with a GPU, or with --cpu the same parts at toy sizes on the CPU. See gpu_check.sh --help."""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import threading
import time

import cards
import description
import models
import report

UNAVAILABLE = 69
# NCCL or the device says no; NCCL says that it is used wrongly; it came to nothing; nobody answered.
NO_TWO_RANKS = (UNAVAILABLE, 70, 76, -1)
LIMIT = 540  # seconds of the whole
GB = 1000 ** 3
MB = 1000 ** 2


class Machine:
    """Where the programs are, and what they are to run on."""

    TIMED_OUT = -1  # the code of an answer that did not come

    def __init__(self, arguments, folder):
        self.bin = pathlib.Path(arguments.bin)
        self.parity = pathlib.Path(arguments.parity)
        self.mpirun = arguments.mpirun
        self.device = "cpu" if arguments.cpu else "cuda"
        self.small = arguments.cpu or arguments.small
        self.ranks = 2 if arguments.cpu else 1  # of a job on all cards
        self.cards = 0
        self.problem = ""
        self.folder = pathlib.Path(folder)
        self.count = 0
        self.lock = threading.Lock()

    @property
    def cpu(self):
        return self.device == "cpu"

    def toy_limit(self, otherwise):
        """Bytes of the device's pool."""
        return (20 * MB if self.cpu else 2 * GB) if self.small else otherwise

    def find_cards(self):
        answer = self.engine_run(dict(mode="devices"), 60)
        self.cards = answer.get("devices", 0)
        self.problem = answer.get("error", "")
        self.ranks = max(1, min(self.cards, 8))

    def engine_run(self, request, seconds, ranks=1, environment=None):
        """The answer of engine_run, which holds "error" when there is none."""
        with self.lock:
            self.count += 1
            base = self.folder / f"run{self.count}"
        asked, answered = base.with_suffix(".request"), base.with_suffix(".answer")
        asked.write_text(json.dumps(dict(request, device=self.device)))
        command = [self.bin / "engine_run", asked, answered]
        if ranks > 1:
            command = [self.mpirun, "--oversubscribe", "--bind-to", "none", "-np", ranks] + command
        ended = report.run(command, seconds, environment)
        if answered.exists():
            answer = json.loads(answered.read_text())
            if "error" not in answer or not ended.timed_out:
                return answer
        return {"error": ended.last_lines(), "code": self.TIMED_OUT if ended.timed_out else ended.code}


def check_parity(part, machine, seconds):
    """Logits, gradients and losses of tiny random models beside transformers."""
    problem = description.transformers_problem()
    if problem:
        part.stop(report.SKIPPED, problem)
        return
    until = time.monotonic() + seconds
    cases = {"llama": "gqa,biases", "glm4": "bias"} if machine.cpu else \
            {"llama": "gqa,biases,head_dim", "glm4": "bias,no_bias,mqa_wide_heads"}
    for family, variants in cases.items():
        command = [sys.executable, machine.parity, machine.bin / "engine_dump", family, "--variants", variants]
        ended = report.run(command, until - time.monotonic(), {"AUTOGLM_PARITY_DEVICE": machine.device})
        lines = ended.output.strip().splitlines()
        part.figures[family] = lines
        good = sum(line.endswith(" ok") for line in lines)
        if ended.code != 0 or ended.timed_out or good == 0:
            part.break_off(f"{family}: {ended.last_lines()}", ended.timed_out)
        else:
            part.say(f"{family} ({variants}): {good} comparisons within their bounds")


def judge_matrix(part, title, answer, least):
    """Whether a matrix of strategies gave the same bits."""
    if "error" in answer:
        part.break_off(f"{title}: {answer['error']}", answer["code"] == Machine.TIMED_OUT)
        return
    part.figures[title] = answer
    part.say(f"{title}: {answer['compared']} of {answer['strategies']} strategies compared with the plain one, "
             f"{len(answer['different'])} differ")
    for one in answer["different"][:5]:
        kept = [name for name in ("losses", "norms", "weights") if one[name]]
        part.say(f"  {one['strategy']} (the same: {', '.join(kept) or 'nothing'})")
    if answer["different"]:
        part.fail(f"{title}: not the same bits under every strategy")
    if not answer["repeats"]:
        part.fail(f"{title}: the plain training repeated gave other bits")
    if not answer["learns"]:
        part.fail(f"{title}: the loss did not fall")
    if answer["compared"] < least:
        part.fail(f"{title}: only {answer['compared']} strategies in time")


def matrix_request(config, seconds, **changes):
    return dict(mode="matrix", config=config, seconds=seconds, steps=3, row_length=48, **changes)


def check_strategies(part, machine, seconds):
    """Every stage, recompute level, master, weight source and offload on one rank, to the bit."""
    cases = {"llama tied, bf16": (models.TINY_LLAMA, {}), "glm4, bf16": (models.TINY_GLM4, {})}
    if not machine.cpu:
        cases["glm4, fp32"] = (models.TINY_GLM4, dict(precision="fp32"))
    share = seconds / len(cases)
    for title, (config, changes) in cases.items():
        request = matrix_request(config, share * (0.5 if machine.cpu else 0.6), **changes)
        if not machine.cpu:
            request["memory_limit"] = 2 * GB
        judge_matrix(part, title, machine.engine_run(request, share), 3 if machine.cpu else 10)


def check_ranks(part, machine, seconds):
    """Strategies over several ranks: over MPI on the CPU, over NCCL on all cards, or on one if NCCL allows it."""
    limit = {} if machine.cpu else {"memory_limit": 2 * GB}
    if machine.cpu:
        request = matrix_request(models.TINY_GLM4, seconds * 0.4, **limit)
        judge_matrix(part, "two ranks, glm4", machine.engine_run(request, seconds, ranks=2), 2)
        return
    if machine.ranks > 1:
        check_all_cards(part, machine, seconds, limit)
        return
    # NCCL connects one rank of a card, but takes ranks for hosts of their own where they say so.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    environment = {"CUDA_VISIBLE_DEVICES": visible, "NCCL_MAX_CTAS": "4", "NCCL_NVLS_ENABLE": "0"}
    refused = machine.engine_run(matrix_request(models.TINY_GLM4, 1, **limit), seconds * 0.2, ranks=2,
                                 environment=environment)
    if refused.get("code") != UNAVAILABLE:
        part.fail(f"two ranks on one card were not refused with {UNAVAILABLE}: {refused}")
        return
    request = matrix_request(models.TINY_GLM4, 20, **limit, hosts="distinct")
    answer = machine.engine_run(request, seconds * 0.8, ranks=2, environment=environment)
    if answer.get("code") in NO_TWO_RANKS:
        part.stop(report.IMPOSSIBLE, f"NCCL does not take two ranks on one card: {answer['error']}")
    else:
        judge_matrix(part, "two ranks on one card, as hosts of their own", answer, 2)


def check_all_cards(part, machine, seconds, limit):
    """One rank more than there are cards is refused; one a card gives the same bits under every strategy."""
    refused = machine.engine_run(matrix_request(models.TINY_GLM4, 1, **limit), seconds * 0.25, ranks=machine.cards + 1)
    if refused.get("code") != UNAVAILABLE:
        part.fail(f"{machine.cards + 1} ranks on {machine.cards} cards were not refused with {UNAVAILABLE}: {refused}")
        return
    answer = machine.engine_run(matrix_request(models.TINY_GLM4, seconds * 0.4, **limit), seconds * 0.75,
                                ranks=machine.ranks)
    judge_matrix(part, f"{machine.ranks} ranks on as many cards", answer, 2)


def check_large(part, machine, seconds):
    """GLM-4-9B with random weights, all of it trained, under a cap with states on the host."""
    if machine.cpu:
        request = dict(config=models.glm4(96, 224, 6, 6, 2, 1024, 16), memory_limit=9 * MB, row_length=64, rows=4,
                       steps=3, fewest_layers=4)
    else:
        request = dict(config=models.glm4_9b(), memory_limit=40 * GB, row_length=2048, rows=16, steps=4,
                       fewest_layers=8)
    request.update(mode="training", plans=True, seconds=seconds * 0.85)
    answers = {}
    # Gradients in fp32 if the host can hold them, else in bf16, before any layer is left out.
    for dtype in ("fp32", "bf16"):
        exact = dict(request, pins=dict(gradient_dtype=dtype))
        if dtype == "fp32":
            exact["fewest_layers"] = None
        answers[dtype] = machine.engine_run(exact, seconds)
        if answers[dtype].get("code") != 78:
            break
        part.say(f"gradients in {dtype}: {answers[dtype]['error']}")
    answer = answers[dtype]
    part.figures["training"] = answer
    if "error" in answer:
        part.break_off(answer["error"], answer["code"] == machine.TIMED_OUT)
        return
    describe_training(part, answer)
    if answer["layers"] != answer["wanted_layers"]:
        part.say(f"the host's memory holds {answer['layers']} of {answer['wanted_layers']} layers of this width only")
    losses = [step["loss"] for step in answer["steps"]]
    if len(losses) < 2 or not losses[-1] < losses[0]:
        part.fail(f"the loss did not fall: {losses}")
    if answer["measured"]["host"]["peak"] == 0:
        part.fail("nothing lay on the host: the cap was no test")
    judge_memory(part, "under the cap", answer)


def describe_training(part, answer):
    last = answer["steps"][-1]
    part.say(f"{answer['parameters'] / 1e9:.2f} billion parameters, {answer['layers']} layers: {answer['strategy']}, "
             f"micro-batches of {answer['micro_batch']}, gradients in {answer['gradient_dtype']}")
    # Rates of an unknown device are guesses, so there is no share of its peak to speak of on a CPU.
    mfu = answer["model_flops_per_second"] / answer["peak_flops"]
    part.say(f"{answer['tokens_per_second']:.0f} tokens/s, {answer['model_flops_per_second'] / 1e12:.2f} TFLOP/s of the "
             f"model's arithmetic ({100 * mfu:.1f} % of the device's peak)" if answer["device"] != "cpu" else
             f"{answer['tokens_per_second']:.0f} tokens/s")
    part.say("a step's seconds: " + ", ".join(
        f"{name.replace('_', ' ')} {last[name]:.2f}"
        for name in ("forward_and_backward", "last_gradients_and_norm", "optimizer", "exposed", "seconds")) +
        f"; foreseen {answer['foreseen_step_seconds']:.2f}")
    # The first step's optimizer counts with the second one's waits, and so on.
    exposed, seconds = (sum(step[name] for step in answer["steps"]) for name in ("exposed", "seconds"))
    if exposed > seconds:
        part.fail(f"the steps waited for {exposed:.2f} of {seconds:.2f} seconds")
    part.say("before the first: " + ", ".join(f"{name} {value:.1f} s" for name, value in answer["seconds"].items()))


def judge_memory(part, title, answer):
    """The pool's peak must be foreseen to within a percent and never too low; the device's own count is told."""
    foreseen, measured = answer["foreseen"]["device"], answer["measured"]["device"]
    pool = foreseen["peak"] / measured["peak"] - 1
    whole = answer["foreseen_device_total"] / max(1, answer["measured_device_total"]) - 1
    host = answer["measured"]["host"]["peak"]
    part.say(f"{title}: pool {measured['peak'] / GB:.3f} GB, foreseen {100 * pool:+.2f} %; all of the device "
             f"{answer['measured_device_total'] / GB:.3f} GB, foreseen {100 * whole:+.2f} %; host {host / GB:.3f} GB")
    part.figures.setdefault("memory", []).append(dict(
        title=title, strategy=answer["strategy"], pool_error=pool, device_error=whole,
        pool_bytes=measured["peak"], foreseen_pool_bytes=foreseen["peak"],
        device_bytes=answer["measured_device_total"], foreseen_device_bytes=answer["foreseen_device_total"],
        host_bytes=host, foreseen_host_bytes=answer["foreseen"]["host"]["peak"]))
    if not 0 <= pool <= 0.01:
        part.fail(f"{title}: the pool's peak was foreseen {100 * pool:+.2f} % off, outside of [0, +1] %")
    if not -0.01 <= whole <= 0.01:
        part.fail(f"{title}: the device's bytes were foreseen {100 * whole:+.2f} % off, more than 1 %")
    if measured["extent"] > measured["limit"]:
        part.fail(f"{title}: {measured['extent']} bytes in a pool of {measured['limit']}")


def memory_cases(cpu):
    """Title and request of every run, the most telling ones first."""
    unit, length = (MB, 64) if cpu else (GB, 2048)
    if cpu:
        shapes = {"llama": models.llama(64, 160, 4, 4, 2, 512, tied=True), "glm4": models.glm4(96, 224, 4, 6, 2, 700, 16),
                  "wide llama": models.llama(128, 320, 3, 4, 4, 600)}
    else:
        shapes = {"llama": models.llama(960, 2560, 32, 15, 5, 49152, tied=True),
                  "glm4": models.glm4(4096, 13696, 2, 32, 2, 32000, 128),
                  "wide llama": models.llama(2048, 5632, 22, 32, 4, 32000)}
    cases = []
    for cap in (8, 16, 24, 40):
        for name, config in shapes.items():
            if cpu and cap == 8 and name == "glm4":  # one layer of it and a smaller head fit
                config = dict(config, num_hidden_layers=1, vocab_size=300)
            cases.append((f"{cap} {'MB' if cpu else 'GB'}, {name}",
                          dict(config=config, memory_limit=cap * unit, row_length=length, rows=8, plans=True)))
    cases.append(("fp32, plain master", dict(config=shapes["llama"], memory_limit=40 * unit, row_length=length, rows=4,
                                             precision="fp32", pins=dict(master="plain", recompute="full"))))
    cases.append(("zero3, weights on the host",
                  dict(config=shapes["glm4"], memory_limit=40 * unit, row_length=length, rows=4,
                       pins=dict(strategy="zero3", weights="host", recompute="full", offload_optimizer=0.5))))
    return cases


def check_memory(part, machine, seconds):
    """Predicted beside measured peaks of at least twelve runs, under caps of 8, 16, 24 and 40 GB."""
    until, done = time.monotonic() + seconds, 0
    for title, request in memory_cases(machine.cpu):
        left = until - time.monotonic()
        if left < 5:
            part.say(f"no time was left for {title}")
            continue
        answer = machine.engine_run(dict(request, mode="training", steps=2, seconds=left / 3), left)
        if answer.get("code") == -1:
            part.say(f"{title}: {answer['error']}")
        elif "error" in answer:
            part.fail(f"{title}: {answer['error']}")
        else:
            judge_memory(part, title, answer)
            done += 1
    part.figures["runs"] = done
    if done < 12:
        part.fail(f"only {done} runs in time")


def check_command(part, machine, seconds):
    """autoglm-train from a model directory to a model directory."""
    folder = machine.folder / "command"
    models.write_model(folder / "model")
    models.write_chats(folder / "chats.jsonl")
    ended = report.run([machine.bin / "autoglm-train", "--device", machine.device, "--model", folder / "model", "--data",
                        folder / "chats.jsonl", "--output", folder / "trained", "--sequence-length", 128,
                        "--global-batch", 4, "--steps", 12, "--learning-rate", 3e-3, "--validation", 0.1,
                        "--sample", "Tell me about tea.", "--template", "chatml"], seconds)
    if ended.code != 0:
        part.break_off(ended.last_lines(), ended.timed_out)
        return
    record = json.loads((folder / "trained" / "run.json").read_text())
    result, rank = record["result"], record["ranks"][0]
    part.figures["result"] = result
    part.say(f"{rank['device']}: loss {result['first_loss']:.3f} to {result['last_loss']:.3f}, validation "
             f"{result['first_validation_loss']:.3f} to {result['last_validation_loss']:.3f} in {result['steps']} steps")
    if not rank["device"].startswith(machine.device):
        part.fail(f"it was trained on {rank['device']}")
    if not result["last_validation_loss"] < result["first_validation_loss"]:
        part.fail("the validation loss did not fall")
    foreseen = record["plan"]["predicted_device_peak_bytes"]
    if not result["device_peak_bytes"] <= foreseen:
        part.fail(f"{result['device_peak_bytes']} bytes at the peak, foreseen {foreseen}")
    written = sorted(path.name for path in (folder / "trained").iterdir())
    if "model.safetensors" not in written or "tokenizer.json" not in written:
        part.fail(f"the trained model lacks files: {written}")


# Name, function, and seconds on one card, on several, and at toy sizes. Parts of one group run side by side.
GROUPS = [
    [("parity", check_parity, 85, 75, 100), ("strategies", check_strategies, 85, 75, 60)],
    [("command", check_command, 35, 35, 40), ("ranks", check_ranks, 60, 50, 40)],
    [("width", cards.check_width, 5, 30, 40)],
    [("cards", cards.check_cards, 5, 80, 60)],
    [("large", check_large, 195, 145, 40)],
    [("memory", check_memory, 160, 135, 120)],
]


def share_of(machine, on_one, on_several, small):
    return small if machine.small else on_several if machine.ranks > 1 else on_one


def run_parts(machine, wanted, until):
    """The parts, done. A part gets its share of the time, and never more than is left."""
    parts = []
    for group in GROUPS:
        chosen = [(report.Part(name), function, min(share_of(machine, *shares), until - time.monotonic()))
                  for name, function, *shares in group if not wanted or name in wanted]
        threads = [threading.Thread(target=report.timed, args=(function, part, machine, seconds))
                   for part, function, seconds in chosen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        parts += [part for part, *_ in chosen]
    return parts


def no_card(machine):
    part = report.Part("device")
    part.fail(machine.problem)
    print(report.text_of(part), flush=True)
    return [part]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output", default="gpu_check")
    parser.add_argument("--only", default="", help="names of parts, separated by commas")
    for name in ("bin", "parity", "mpirun"):
        parser.add_argument("--" + name, required=True)
    arguments = parser.parse_args()
    wanted = [name for name in arguments.only.split(",") if name]
    known = [name for group in GROUPS for name, *_ in group]
    if set(wanted) - set(known):
        parser.error(f"--only takes {', '.join(known)}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu_check.") as folder:
        machine = Machine(arguments, folder)
        report.Log.folder = machine.folder
        if not machine.cpu:
            machine.find_cards()
        found = description.describe_machine(machine)
        print("\n".join(f"{key}: {value}" for key, value in found.items()), flush=True)
        usable = machine.cpu or machine.cards > 0
        parts = run_parts(machine, wanted, start + LIMIT) if usable else no_card(machine)
        seconds = time.monotonic() - start
        good = report.write(parts, found, arguments.output, seconds)
        archive = report.pack(arguments.output, folder)
    print(f"\n{report.verdict(parts, seconds)}\nthis is what to send us: {archive}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
