#!/usr/bin/env bash
# The installed tree runs after it was moved, and takes nothing from the folders that it was built in.
#   install_test.sh BUILD_FOLDER LIBTORCH_FOLDER COPIES_LIBTORCH(ON|OFF) COMMAND...
set -euo pipefail
# shellcheck source=tests/scripts/route_of_products.sh
. "$(dirname "$0")/route_of_products.sh"
build=$1 libtorch=$2 copies=$3
shift 3

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build" --prefix "$scratch/first" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
mv "$scratch/first" "$scratch/moved"

status=0
diff -r "$(dirname "$0")/../../configs" "$scratch/moved/share/autoglm-train/configs" || status=1
for command in "$@"; do
  program=$scratch/moved/bin/$command
  echo "== $command"
  env -i PATH=/usr/bin:/bin HOME="$scratch" "$program" --version || status=1
  env -i PATH=/usr/bin:/bin HOME="$scratch" "$program" --help >/dev/null || status=1
  libraries=$(env -i PATH=/usr/bin:/bin ldd "$program")
  for folder in "$build" "$scratch/first"; do
    grep -F "$folder/" <<<"$libraries" && status=1
  done
  if [ "$copies" = ON ] && grep -F "$libtorch/" <<<"$libraries"; then
    status=1
  fi
  if grep -F "not found" <<<"$libraries"; then
    status=1
  fi
done
takes_route "$(best_route)" env -i PATH=/usr/bin:/bin HOME="$scratch" "$scratch/moved/bin/autoglm-train" || status=1
exit "$status"
