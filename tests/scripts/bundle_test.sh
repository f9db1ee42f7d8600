#!/usr/bin/env bash
# A bundle runs after it was moved, and takes nothing from this machine but torch, glibc and libstdc++.
#   bundle_test.sh BUILD_FOLDER TORCH_FOLDER COMMAND...
set -euo pipefail
build=$1 torch=$2
shift 2
repository=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/scripts/route_of_products.sh
. "$repository/tests/scripts/route_of_products.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$repository/scripts/bundle.sh" --with "$0" "$build" "$scratch/first" >"$scratch/log" 2>&1 ||
  { cat "$scratch/log"; exit 1; }
mv "$scratch/first" "$scratch/moved"
bundle=$scratch/moved
status=0

wrong() {
  echo "wrong: $*"
  status=1
}

# bare COMMAND...: with an environment that holds nothing but the place of torch.
bare() {
  env -i PATH=/usr/bin:/bin AUTOGLM_TORCH="$torch" "$@"
}

takes_route "$(best_route)" bare "$bundle/bin/autoglm-train" || wrong "the route of products"
# Without oneDNN a bundle is small enough for where 64 MB are allowed.
"$repository/scripts/bundle.sh" --without-onednn "$build" "$scratch/small" >"$scratch/log" 2>&1 ||
  { cat "$scratch/log"; exit 1; }
bytes=$(du -s --apparent-size --block-size=1 "$scratch/small" | cut -f 1)
echo "$(du -s --apparent-size --block-size=1 "$bundle" | cut -f 1) bytes, without oneDNN $bytes"
[ "$bytes" -lt 64000000 ] || wrong "the bundle without oneDNN has $bytes bytes"
takes_route mkl bare "$scratch/small/bin/autoglm-train" || wrong "the route of products without oneDNN"
[ -e "$bundle/$(basename "$0")" ] || wrong "the file that --with names is not in the bundle"
for file in gpu_check.sh gpu_check/gpu_check.py gpu_check/parity.py bin/engine_run bin/engine_dump; do
  [ -e "$bundle/$file" ] || wrong "$file is not in the bundle"
done
bare "$bundle/gpu_check.sh" --help >/dev/null || wrong "gpu_check.sh does not start from the bundle"
diff -r "$repository/configs" "$bundle/share/autoglm-train/configs" || wrong "the bundle holds other settings"
[ -z "$(find "$bundle" -xtype l)" ] || wrong "dangling links"

# Where every library of every program and plugin comes from.
folders=$bundle/lib:$torch/lib
for folder in "$torch"/../nvidia/*/lib; do
  folders=$folders:$folder
done
wheels=$(cd "$torch/.." && pwd)
number=0
while read -r file; do
  number=$((number + 1))
  while read -r name arrow path _; do
    [ "$arrow" = "=>" ] || continue
    case $path in
      "$bundle"/* | "$wheels"/*) continue ;;
      /*)
        case $name in
          libc.so.6 | libm.so.6 | libdl.so.2 | librt.so.1 | libpthread.so.0 | libutil.so.1 | libresolv.so.2) continue ;;
          libstdc++.so.6 | libgcc_s.so.1) continue ;;
        esac
        ;;
    esac
    wrong "${file#"$bundle"/} takes $name from $path"
  done < <(env -i LD_LIBRARY_PATH="$folders" ldd "$file")
done < <(find "$bundle/libexec" "$bundle/openmpi/bin" "$bundle/lib" "$bundle/openmpi" -type f \
  \( -name '*.so*' -o -path '*/libexec/*' -o -path '*/openmpi/bin/*' \) | sort -u)
echo "$number programs and libraries"
[ "$number" -gt 50 ] || wrong "only $number programs and libraries: are Open MPI's plugins missing?"

for command in "$@"; do
  bare "$bundle/bin/$command" --version || wrong "$command --version"
  ! readelf --dynamic "$bundle/libexec/$command" | grep -E 'R(UN)?PATH' || wrong "$command has a path of this machine"
done
ranks=$(bare "$bundle/bin/mpirun" -np 2 --oversubscribe printenv OMPI_COMM_WORLD_RANK 2>&1 | sort)
[ "$ranks" = $'0\n1' ] || wrong "mpirun started the ranks '$ranks'"
while read -r path; do
  wrong "mpirun has loaded $path"
done < <(bare "$bundle/bin/mpirun" -np 1 sh -c "cat /proc/\$PPID/maps" 2>&1 | grep -oE '/[^ ]*\.so[^ ]*' | sort -u |
  grep -vE "^$bundle/|/(ld-linux-.*|lib(c|m|dl|rt|pthread|util|resolv|nss_.*|stdc\+\+|gcc_s))\.so")
bare "$bundle/bin/mpirun" -np 2 --oversubscribe "$bundle/bin/$1" --version || wrong "$1 under mpirun"

# refuses SENTENCE NAME=VALUE...: the command ends with 69 and says so.
refuses() {
  local sentence=$1 code=0
  shift
  bare env "$@" "$bundle/bin/$command" --version >"$scratch/said" 2>&1 || code=$?
  if [ "$code" != 69 ] || [ "$(wc -l <"$scratch/said")" != 1 ] || ! grep -qF "$sentence" "$scratch/said"; then
    wrong "exit code $code instead of 69, or not '$sentence': $(cat "$scratch/said")"
  fi
}
mkdir -p "$scratch/old/lib" "$scratch/old/include/torch/headeronly"
printf '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 9\n' >"$scratch/old/include/torch/headeronly/version.h"
touch "$scratch/old/lib/libtorch_cpu.so"
refuses "there is none in /nowhere" AUTOGLM_TORCH=/nowhere
refuses "there is no no-such-python" AUTOGLM_TORCH= PYTHON=no-such-python
refuses "needs torch 2.11, but $scratch/old holds version 2.9" AUTOGLM_TORCH="$scratch/old"
exit "$status"
