#!/usr/bin/env bash
# The README's first command on a bare Debian 12 that has an NVIDIA driver and no toolkit, pretended: the driver's
# library is the one of pretend cards, and so is what NVIDIA's other libraries compute (docs/cuda_on_host.md).
#
#   driver_only_machine.sh ROOT LIBRARIES [OPTION...]
#
# ROOT is the folder that the machine is made in, and stays there (about 10 GB); LIBRARIES is cuda_on_host/lib of a
# build. Options go to autoglm-train. Needs root, debootstrap, and the network that packages come from. The checkout's
# last commit is cloned; compiler, nvcc, LibTorch and the example model are all fetched inside.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,9p' "$0" >&2; exit 64; }
root=$1 libraries=$(cd "$2" && pwd)
shift 2
checkout=$(cd "$(dirname "$0")/../.." && pwd)
num_cards=2

wrong() {
  echo "driver_only_machine.sh: wrong: $*" >&2
  exit 1
}

# A minimal system with git, and with this machine's package sources, certificates and pip settings.
make_machine() {
  command -v debootstrap >/dev/null || wrong "debootstrap is missing"
  local mirror
  mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\).*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | sed -n 1p || true)
  mkdir -p "$root"
  debootstrap --variant=minbase --include=ca-certificates,git bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
    wrong "debootstrap: $(tail -n 5 "$root.log")"
  cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
  if [ -f /etc/apt/sources.list.d/debian.sources ]; then
    rm -f "$root/etc/apt/sources.list"
    cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/"
  fi
  cp -a /usr/local/share/ca-certificates "$root/usr/local/share/" 2>/dev/null || true
  chroot "$root" update-ca-certificates >/dev/null 2>&1 || true
  cp /etc/pip.conf "$root/etc/pip.conf" 2>/dev/null || true
}

# What a driver brings: its library where the loader finds it, and nvidia-smi.
install_driver() {
  mkdir -p "$root/pretend"
  cp "$libraries"/lib*.so.* "$root/pretend/"
  mv "$root/pretend/libcuda.so.1" "$root/usr/lib/x86_64-linux-gnu/libcuda.so.1"
  cat >"$root/usr/bin/nvidia-smi" <<TEXT
#!/bin/sh
case \$1 in
  -L) for i in \$(seq 0 $((num_cards - 1))); do echo "GPU \$i: pretended (UUID: GPU-\$i)"; done ;;
  *) for i in \$(seq $num_cards); do echo 580.95.05; done ;;
esac
TEXT
  chmod +x "$root/usr/bin/nvidia-smi"
  chroot "$root" /sbin/ldconfig
}

# inside COMMAND: with a process tree, mounts and environment of its own, which end with it.
inside() {
  local preload=/pretend/libcudart.so.13:/pretend/libcublasLt.so.13:/pretend/libcublas.so.13:/pretend/libnccl.so.2
  # shellcheck disable=SC2016  # expanded inside
  root=$root of_ranks="LD_PRELOAD=$preload;CUDA_ON_HOST_CARDS=$num_cards;OMP_NUM_THREADS=1" \
    unshare --mount --pid --fork --kill-child --mount-proc bash -c '
    mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
    exec chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
      OMPI_MCA_mca_base_env_list="$of_ranks" "$@"' -- "$@"
}

[ -x "$root/usr/bin/git" ] || make_machine
install_driver
cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
for absent in nvcc gcc python3; do
  [ -e "$root/project" ] || ! chroot "$root" sh -c "command -v $absent" || wrong "a bare machine has $absent"
done
[ ! -e "$root/usr/local/cuda" ] || wrong "a bare machine has a toolkit"
if [ ! -e "$root/project" ]; then
  git clone -q "$checkout" "$root/project"
else
  git -C "$root/project" pull -q --ff-only "$checkout" HEAD
fi

inside sh -c 'cd /project && exec scripts/quickstart.sh "$@"' - "$@" | tee "$root.said"
grep -q "device code will be built with the nvcc of PyPI" "$root.said" || wrong "nvcc does not come from PyPI"
grep -q -- "-- Device code: ON" "$root/project/.cache/configure.log" || wrong "no device code"
grep -q "mpirun -np $num_cards .*--device cuda" "$root.said" || wrong "not one rank a card"
inside /project/.venv/bin/python - "$num_cards" <<'PYTHON'
import json
import math
import sys

record = json.load(open("/project/quickstart/model/run.json", encoding="utf-8"))
devices = [rank["device"] for rank in record["ranks"]]
print("ranks:", devices)
assert len(devices) == int(sys.argv[1]) and all(device.startswith("cuda") for device in devices), devices
result = record["result"]
assert result["steps"] > 0 and math.isfinite(result["last_loss"]), result
assert result["device_peak_bytes"] <= record["plan"]["predicted_device_peak_bytes"], result
PYTHON
echo "driver_only_machine.sh: device code by PyPI's nvcc, and trained on $num_cards pretend cards"
