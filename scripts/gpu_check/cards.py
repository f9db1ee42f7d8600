"""Several cards: how wide NCCL is between them, and the same training on one and on all of them."""

import models
import report

GB = 1000 ** 3
MB = 1000 ** 2
MUCH = 0.25  # of what was foreseen: a larger difference in speed is told


def check_width(part, machine, seconds):
    """Bytes per second of gathers and of sums in the order of ranks, by size."""
    if machine.ranks < 2:
        part.stop(report.SKIPPED, "there is one card")
        return
    sizes = [MB, 4 * MB, 16 * MB] if machine.small else [MB, 16 * MB, 64 * MB, 256 * MB, 1024 * MB]
    request = dict(mode="width", config={}, sizes=sizes, seconds=seconds * 0.5, memory_limit=machine.toy_limit(4 * GB))
    # What NCCL says of channels and rings is kept in the log.
    answer = machine.engine_run(request, seconds, ranks=machine.ranks,
                                environment={"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,GRAPH"})
    if "error" in answer:
        part.break_off(answer["error"], answer["code"] == machine.TIMED_OUT)
        return
    part.figures["width"] = answer
    for one in answer["sizes"]:
        part.say(f"{one['bytes'] / MB:.0f} MB over {answer['ranks']} ranks: gathers {one['all_gather'] / GB:.2f} GB/s, "
                 f"sums in rank order {one['reduce_scatter'] / GB:.2f} GB/s, of what each rank sends")
    if machine.small:
        return
    for kind, title in (("all_gather", "gathers"), ("reduce_scatter", "sums in rank order")):
        best, foreseen = max(one[kind] for one in answer["sizes"]), answer["foreseen"][kind]
        if abs(best / foreseen - 1) > MUCH:
            part.differ(f"{title} reach {best / GB:.1f} GB/s, plans count with {foreseen / GB:.1f}")


def training_request(machine, seconds):
    if machine.small:
        return dict(mode="training", config=models.glm4(64, 96, 2, 4, 2, 260, 16), row_length=64, rows=4, steps=2,
                    plans=True, seconds=seconds, memory_limit=machine.toy_limit(None))
    # As many rows for every number of cards that divides 16, so that losses can be compared.
    return dict(mode="training", config=models.llama(2048, 5632, 22, 32, 4, 32000), row_length=2048, rows=16, steps=4,
                plans=True, seconds=seconds)


def check_cards(part, machine, seconds):
    """One training on one card and on all: speed, what waiting costs, bytes, losses."""
    if machine.ranks < 2:
        part.stop(report.SKIPPED, "there is one card")
        return
    answers = {}
    for ranks in (1, machine.ranks):
        request = {key: value for key, value in training_request(machine, seconds * 0.3).items() if value is not None}
        answer = machine.engine_run(request, seconds / 2, ranks=ranks)
        if "error" in answer:
            part.break_off(f"{ranks} ranks: {answer['error']}", answer["code"] == machine.TIMED_OUT)
            return
        answers[ranks] = part.figures[f"ranks_{ranks}"] = answer
        describe(part, machine, ranks, answer)
    compare(part, answers[1], answers[machine.ranks], machine.ranks)


def describe(part, machine, ranks, answer):
    title = "one card" if ranks == 1 else f"{ranks} cards"
    best = min(answer["steps"][1:] or answer["steps"], key=lambda step: step["seconds"])
    mfu = answer["model_flops_per_second"] / answer["peak_flops"] / ranks
    exposed = best["exposed"] / best["seconds"]
    foreseen, measured = answer["foreseen"]["device"], answer["measured"]["device"]
    part.say(f"{title}: {answer['strategy']}")
    part.say(f"{title}: {answer['tokens_per_second']:.0f} tokens/s, " +
             (f"{100 * mfu:.1f} % MFU, " if machine.device == "cuda" else "") +
             f"{100 * exposed:.1f} % of a step waits for messages; {best['seconds']:.3f} s a step, foreseen "
             f"{answer['foreseen_step_seconds']:.3f}")
    part.say(f"{title}: {measured['peak'] / GB:.3f} GB used, {foreseen['peak'] / GB:.3f} GB foreseen")
    part.figures.setdefault("summary", []).append(dict(
        ranks=ranks, tokens_per_second=answer["tokens_per_second"], mfu=mfu, exposed=exposed,
        used=measured["peak"], foreseen=foreseen["peak"]))
    if measured["peak"] > foreseen["peak"]:
        part.fail(f"{title}: more bytes were used than foreseen")
    slower = best["seconds"] / answer["foreseen_step_seconds"] - 1
    if not machine.small and abs(slower) > MUCH:
        part.differ(f"{title}: a step took {best['seconds']:.2f} s, foreseen {answer['foreseen_step_seconds']:.2f} "
                    f"({100 * slower:+.0f} %)")


def compare(part, one, several, ranks):
    gain = several["tokens_per_second"] / one["tokens_per_second"]
    part.say(f"{ranks} cards are {gain:.2f} times as fast as one: {100 * gain / ranks:.0f} % of {ranks} times")
    part.figures["gain"] = gain
    if one["tokens_per_step"] != several["tokens_per_step"]:
        part.say("losses are not compared: steps are of different sizes")
        return
    first, other = one["steps"][0]["loss"], several["steps"][0]["loss"]
    part.say(f"loss of the first step: {first:.6f} on one card, {other:.6f} on {ranks}")
    if not abs(first - other) <= 1e-3 * abs(first):
        part.fail(f"the first step's loss is {first} on one card and {other} on {ranks}")
