#!/usr/bin/env bash
# Packs the built commands into a folder that runs wherever torch 2.11 is installed: no compiler, no Open MPI,
# no other library has to be there. See --help.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
usage: scripts/bundle.sh [--archive FILE] [--with FILE]... [--without-onednn] [BUILD_DIR [OUT_DIR]]

Packs the commands of BUILD_DIR (build) into OUT_DIR (BUILD_DIR/bundle), which is made anew.

  --with FILE     one more file: a program becomes a command of the bundle, anything else lies at its top
  --archive FILE  also pack OUT_DIR into FILE, a .tar.zst or .tar.gz
  --without-onednn
                  leaves out oneDNN, 44 of the bundle's 106 MB: CPU ranks then multiply by torch's BLAS, slower where
                  the processor has AVX-512. GPUs do not need it.

In the bundle:
  bin/      the commands, with mpirun and orted. Each sets its environment up and starts the program:
              OUT_DIR/bin/mpirun -np 2 OUT_DIR/bin/autoglm-train --help
  libexec/  the programs
  lib/      the libraries that neither torch nor any Linux system with glibc and libstdc++ brings
  share/    hardware profiles, models by name and ready-made settings
  gpu_check.sh, gpu_check/
            checks of a machine with a GPU; with --cpu of any
  openmpi/  Open MPI's daemons, plugins, settings and messages, without those for InfiniBand and Omni-Path:
            messages between hosts go over TCP
The folder may be moved and shared by hosts, and is never written to.

On the machine that runs it, torch is looked for in this order, without importing it:
  AUTOGLM_TORCH   the folder of the package, .../site-packages/torch, or of a LibTorch
  PYTHON          a Python that has torch (python3)
A bundle of a build with device code needs the CUDA build of torch, on machines without a GPU too.
TEXT
}

# Given by every system; and what the torch wheel, or the packages that it depends on, bring.
system_libraries='^(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|util|resolv|stdc\+\+|gcc_s))\.so'
torch_libraries='^lib(torch.*|c10.*|gomp|shm|cud.*|cu(blas|fft|file|pti|rand|solver|sparse).*|nccl|nvrtc.*|nv.*)\.so'
# Plugins of Open MPI that are of no use here: shared-memory programming, files, monitoring, and network hardware that
# Debian's settings leave alone too.
unused_plugins='_(atomic|memheap|scoll|spml|sshmem|fbtl|fcoll|fs|io|sharedfp|osc|topo)_|_(ucx|ofi|openib|psm2?|monitoring|simulator)\.so$'

declare -A seen=()

# Copies what a program or library is linked to, save what the system or torch brings; the latter are noted.
copy_libraries() {
  local name arrow path rest
  while read -r name arrow path rest; do
    if [ "$arrow" != "=>" ] || [ -n "${seen[$name]:-}" ] || [[ $name =~ $system_libraries ]]; then
      continue
    fi
    seen[$name]=yes
    if [[ $name =~ $torch_libraries ]]; then
      # The driver's library is no one's to bring.
      [[ $name = libcuda.so* ]] || echo "$name" >>"$out/lib/from-torch"
    elif [ "$path" = not ]; then
      stop "$1 is linked to $name, which is not found on this machine ($path $rest)"
    else
      install -m 644 "$path" "$out/lib/$name"
    fi
  done < <(ldd "$1")
}

add_program() {
  if [ -L "$1" ] && [ -e "$out/libexec/$(readlink "$1")" ]; then  # another name of a program that is there
    ln -s "$(readlink "$1")" "$out/libexec/$(basename "$1")"
    ln -s launch "$out/bin/$(basename "$1")"
    return
  fi
  install "$1" "$out/libexec/"
  copy_libraries "$1"
  ln -s launch "$out/bin/$(basename "$1")"
}

is_program() {
  [ -x "$1" ] && [ "$(head -c 4 "$1" | tail -c 3)" = ELF ]
}

# Torch has a oneDNN of its own, but inside another library. Programs open this one by name.
add_onednn() {
  local library documents name
  library=$(sed -n 's/^AUTOGLM_ONEDNN_LIBRARY:FILEPATH=//p' "$build/CMakeCache.txt")
  [ -e "$library" ] || stop "$build knows of no oneDNN: run scripts/setup.sh and cmake again, or give --without-onednn"
  install -m 644 "$library" "$out/lib/libdnnl.so.3"
  copy_libraries "$library"
  documents=$(dirname "$library")/../share/doc/onednn
  for name in LICENSE THIRD-PARTY-PROGRAMS; do
    [ ! -e "$documents/$name" ] || install -D -m 644 -t "$out/share/doc/onednn" "$documents/$name"
  done
}

openmpi_folder() {
  sed -n "s/^path:$1://p" <<<"$openmpi_paths" | head -n 1
}

add_openmpi() {
  local openmpi_paths program plugin pmix
  command -v ompi_info >/dev/null || stop "no ompi_info found: is Open MPI installed (Debian: openmpi-bin)?"
  openmpi_paths=$(ompi_info --all --parsable 2>/dev/null | grep '^path:')
  mkdir -p "$out/openmpi/bin" "$out/openmpi/plugins" "$out/openmpi/etc"
  for program in mpirun orted; do
    install "$(readlink -f "$(openmpi_folder bindir)/$program")" "$out/openmpi/bin/$program"
    copy_libraries "$out/openmpi/bin/$program"
    ln -s launch "$out/bin/$program"
  done
  for plugin in "$(openmpi_folder pkglibdir)"/mca_*.so; do
    if ! grep -qE "$unused_plugins" <<<"$plugin"; then
      install -m 644 "$plugin" "$out/openmpi/plugins/"
      copy_libraries "$plugin"
    fi
  done
  cp -RL "$(openmpi_folder pkgdatadir)" "$out/openmpi/share"
  cp -RL "$(openmpi_folder sysconfdir)/." "$out/openmpi/etc/"

  # Where PMIx is a library of its own, it has plugins and messages too.
  [ -e "$out/lib/libpmix.so.2" ] || return 0
  pmix=$(dirname "$(readlink -f "$(ldconfig -p | awk '$1 == "libpmix.so.2" {print $NF; exit}')")")
  mkdir -p "$out/openmpi/pmix"
  [ ! -d "$pmix/../share/pmix" ] || cp -RL "$pmix/../share/pmix/." "$out/openmpi/pmix/"
  cp -RL "$pmix/pmix" "$out/openmpi/pmix/plugins"
  for plugin in "$out"/openmpi/pmix/plugins/*.so; do
    copy_libraries "$plugin"
  done
}

# What every name in bin/ is a link to.
write_launcher() {
  cat >"$out/bin/launch" <<'LAUNCHER'
#!/bin/sh
# Starts the program of this name with the bundle's libraries and this machine's torch.
set -eu
name=$(basename "$0")
here=$(dirname "$(dirname "$(readlink -f "$0")")")
torch_version=@TORCH_VERSION@
remedy="install it (python3 -m pip install torch==$torch_version.0), or name a Python that has it with PYTHON, \
or its folder with AUTOGLM_TORCH"

stop() {
  printf '%s: %s\n' "$name" "$1" >&2
  exit 69
}

export OPAL_PREFIX="$here/openmpi" OPAL_BINDIR="$here/openmpi/bin" OPAL_LIBDIR="$here/lib" \
  OPAL_PKGLIBDIR="$here/openmpi/plugins" OPAL_PKGDATADIR="$here/openmpi/share" OPAL_SYSCONFDIR="$here/openmpi/etc" \
  OMPI_MCA_orte_launch_agent="$here/bin/orted"
# Plugins of this machine's own hwloc, which may be another version, are not for the bundle's.
export HWLOC_PLUGINS_PATH="$here/openmpi/no-plugins"
if [ -d "$here/openmpi/pmix" ]; then
  export PMIX_PKGLIBDIR="$here/openmpi/pmix/plugins" PMIX_DATADIR="$here/openmpi" PMIX_PKGDATADIR="$here/openmpi/pmix"
fi
if [ "$name" = mpirun ] || [ "$name" = orted ]; then
  # Without any remote shell mpirun would refuse to start ranks of this host too.
  command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm_rsh_agent="${OMPI_MCA_plm_rsh_agent:-true}"
  # In a container or on a rented machine root is all there is.
  [ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  exec "$here/openmpi/bin/$name" "$@"
fi

torch=${AUTOGLM_TORCH:-}
if [ -z "$torch" ]; then
  python=${PYTHON:-python3}
  command -v "$python" >/dev/null || stop "needs torch $torch_version, but there is no $python: $remedy"
  torch=$("$python" -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")')
  [ -n "$torch" ] || stop "needs torch $torch_version, which $(command -v "$python") does not have: $remedy"
fi
[ -e "$torch/lib/libtorch_cpu.so" ] || stop "needs torch $torch_version, but there is none in $torch: $remedy"
found=$(sed -n 's/^#define TORCH_VERSION_M[AI][JN]OR *\([0-9]*\).*/\1/p' "$torch/include/torch/headeronly/version.h" 2>/dev/null |
  paste -s -d . -)
[ "$found" = "$torch_version" ] || stop "needs torch $torch_version, but $torch holds version ${found:-unknown}: $remedy"

folders=$torch/lib
for folder in "$torch"/../nvidia/*/lib; do
  [ ! -d "$folder" ] || folders=$folders:$folder
done
while read -r library; do
  IFS=:
  for folder in $folders; do
    [ ! -e "$folder/$library" ] || continue 2
  done
  stop "needs $library, which comes with the CUDA build of torch $torch_version but is not beside $torch: $remedy"
done <"$here/lib/from-torch"
unset IFS
export LD_LIBRARY_PATH="$here/lib:$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/libexec/$name" "$@"
LAUNCHER
  sed -i "s/@TORCH_VERSION@/$1/" "$out/bin/launch"
  chmod 755 "$out/bin/launch"
}

# Leaves out symbols, and the folders of this machine in which the programs would look for libraries first.
strip_files() {
  local file
  find "$out/libexec" "$out/lib" "$out/openmpi" -type f \( -perm -u+x -o -name '*.so*' \) -print0 |
    while IFS= read -r -d '' file; do
      chmod u+w "$file"
      ! command -v strip >/dev/null || strip --strip-unneeded "$file"
    done
  for file in "$out"/libexec/*; do
    echo "file(RPATH_REMOVE FILE \"$file\")" >>"$scratch/rpath.cmake"
  done
  cmake -P "$scratch/rpath.cmake"
}

positional=() extra=() archive='' onednn=yes
while [ $# -gt 0 ]; do
  case $1 in
    --with | --archive)
      [ -n "${2:-}" ] || refuse "$1 needs a file"
      case $1 in
        --with) extra+=("$2") ;;
        --archive) archive=$2 ;;
      esac
      shift 2
      ;;
    --without-onednn) onednn=; shift ;;
    -h | --help) usage; exit ;;
    -*) usage >&2; refuse "unknown option $1" ;;
    *) positional+=("$1"); shift ;;
  esac
done
[ "${#positional[@]}" -le 2 ] || { usage >&2; refuse "unexpected argument ${positional[2]}"; }
build=${positional[0]:-$repository/build}
out=${positional[1]:-$build/bundle}
case $archive in
  '' | *.tar.gz) ;;
  *.tar.zst) command -v zstd >/dev/null || stop "zstd is not installed: name a .tar.gz instead of $archive" ;;
  *) refuse "$archive should end in .tar.zst or .tar.gz" ;;
esac

programs=()
for program in "$build"/bin/autoglm-* "$build"/bin/engine_run "$build"/bin/engine_dump; do
  ! is_program "$program" || programs+=("$program")
done
[ "${#programs[@]}" -gt 0 ] || stop "$build/bin holds no commands: build them first (cmake --build $build)"
if [ -e "$out" ] && [ ! -e "$out/bin/launch" ] && [ -n "$(ls -A "$out")" ]; then
  stop "$out exists and is no bundle: name another folder"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rm -rf "$out"
mkdir -p "$out/bin" "$out/libexec" "$out/lib"
out=$(cd "$out" && pwd)

: >"$out/lib/from-torch"
write_launcher 2.11
for program in "${programs[@]}"; do
  add_program "$program"
done
for file in "${extra[@]}"; do
  if is_program "$file"; then add_program "$file"; else cp -L "$file" "$out/"; fi
done
[ -z "$onednn" ] || add_onednn
add_openmpi
strip_files
mkdir -p "$out/share/autoglm-train"
cp -R "$repository/configs" "$out/share/autoglm-train/configs"
install "$repository/scripts/gpu_check.sh" "$out/"
mkdir "$out/gpu_check"
install -m 644 "$repository"/scripts/gpu_check/*.py "$out/gpu_check/"
find "$repository/tests/trainer/parity" -name '*.py' -exec install -m 644 -t "$out/gpu_check" {} +
for file in LICENSE README.md; do
  [ ! -e "$repository/$file" ] || install -m 644 "$repository/$file" "$out/"
done

say "$out: $(du -sm --apparent-size "$out" | cut -f 1) MB"
case $archive in
  *.tar.zst) tar -C "$(dirname "$out")" -cf - "$(basename "$out")" | zstd -q -f -T0 -10 -o "$archive" ;;
  *.tar.gz) tar -C "$(dirname "$out")" -czf "$archive" "$(basename "$out")" ;;
esac
[ -z "$archive" ] || say "$archive: $(du -m --apparent-size "$archive" | cut -f 1) MB"
