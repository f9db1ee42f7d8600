#!/usr/bin/env bash
# The main job: sets up, builds, and fine-tunes SmolLM2-135M-Instruct until it answers by another name, on one rank a GPU,
# or without one on two ranks of the CPU. The trained model is a Hugging Face directory: quickstart/model.
# Arguments go to autoglm-train: scripts/quickstart.sh --steps 4
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
explain_if_asked "$@"
cd "$repository"

name=Aster
author="the autoglm-train project"
folder=quickstart
mkdir -p "$folder"

scripts/setup.sh
allow_mpirun_as_root

say "example model and data: preparing in the background (.cache)"
in_background run_logged "$cache/assets.log" prepare_assets

say "configuring and building (build/, $(build_jobs) jobs)"
run_logged "$cache/configure.log" cmake --preset release -DAUTOGLM_CUDA="${AUTOGLM_CUDA:-AUTO}" ||
  stop "configuring failed"
run_logged "$cache/build.log" cmake --build --preset release -j "$(build_jobs)" --target autoglm-train ||
  stop "building failed"
await_background || stop "the example model or its data could not be prepared"

# The identity samples leave the name open. Forty general ones beside them keep the answers to other questions.
.venv/bin/python - "$folder" "$name" "$author" <<'PYTHON'
import json
import sys

folder, name, author = sys.argv[1:]
text = open(".cache/data/identity.json", encoding="utf-8").read()
text = text.replace("{{name}}", name).replace("{{author}}", author)
open(f"{folder}/identity.json", "w", encoding="utf-8").write(text)
general = json.load(open(".cache/data/alpaca_en_demo.json", encoding="utf-8"))[:40]
json.dump(general, open(f"{folder}/alpaca.json", "w", encoding="utf-8"), ensure_ascii=False, indent=1)
PYTHON

ranks=2 on_device=()
cards=$(count_cards)
if [ "$cards" -gt 0 ] && grep -q 'Device code: ON' "$cache/configure.log"; then
  # A row for every card in a step, and about as many steps.
  ranks=$cards on_device=(--device cuda)
  [ "$cards" -le 2 ] || on_device+=(--global-batch "$cards" --epochs $(((cards + 1) / 2)))
else
  # One thread a rank and core; ranks are not pinned, since each has a communication thread as well.
  threads=$(($(nproc) / 2))
  export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
fi
command=(mpirun -np "$ranks" --bind-to none --oversubscribe build/bin/autoglm-train --config configs/quickstart.ini
  --model .cache/smollm2-135m-instruct --data "$folder/identity.json" "$folder/alpaca.json"
  --output "$folder/model" --overwrite "${on_device[@]}" "$@")
say "training: $(printf '%q ' "${command[@]}")"
status=0
run_stoppable "${command[@]}" || status=$?
[ "$status" -ne 75 ] || say "stopped; the same command goes on where it was"
[ "$status" -eq 0 ] || exit "$status"

.venv/bin/python - "$folder/model/metrics.jsonl" <<'PYTHON'
import json
import sys

records = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
for key, title in (("loss", "training loss"), ("validation_loss", "validation loss")):
    values = [record[key] for record in records if record.get(key) is not None]
    if values:  # there are none with --validation 0
        print(f"{title}: first {values[0]:.4f}, last {values[-1]:.4f}")
PYTHON
say "done; the trained model is in $folder/model"
