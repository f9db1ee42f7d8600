#!/usr/bin/env bash
# Installs what building needs: Debian or Ubuntu packages, and a Python environment in .venv that holds LibTorch.
# Running it again takes no time when nothing is missing.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--tests] [--check] [--no-system-packages]

  --tests               also what the tests need: GoogleTest, and the Python packages they compare with
  --check               change nothing; list what is missing and exit with 1 if anything is
  --no-system-packages  leave the system's packages alone (compiler and libraries come from elsewhere,
                        such as environment modules)

Environment:
  CMAKE_PREFIX_PATH     a LibTorch 2.11 named here is used instead of installing the one from PyPI
  AUTOGLM_CUDA=AUTO     device code where there is an nvcc, or an NVIDIA driver or card. Where nvcc is missing, or is of
                        another CUDA than LibTorch, it comes from PyPI into .venv. OFF: leave device code out, and
                        its large libraries; ON: also where there is neither, such as for another machine
  CUDACXX               the nvcc to use
  PYTHON                the Python 3.10 or newer that .venv is made with (python3)
TEXT
}

tests=no check=no system_packages=yes
for argument in "$@"; do
  case $argument in
    --tests) tests=yes ;;
    --check) check=yes ;;
    --no-system-packages) system_packages=no ;;
    -h | --help) usage; exit ;;
    *) usage >&2; refuse "unknown option $argument" ;;
  esac
done
python=${PYTHON:-python3}
venv=$repository/.venv
cuda_home=${CUDA_HOME:-/usr/local/cuda}

dpkg_installed() {
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need PACKAGE COMMAND...: counts the package as missing if the command fails.
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing_packages+=("$package")
}

# What makes .venv, and what compiles. Programs count wherever they come from.
find_missing_python() {
  missing_packages=()
  need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
  if [ "$python" = python3 ]; then
    need python3 command -v python3
    need python3-venv python3 -c 'import ensurepip, venv'
  else
    command -v "$python" >/dev/null || stop "PYTHON names $python, but there is no such command"
  fi
}

find_missing_tools() {
  local package libraries=(libopenmpi-dev libboost-program-options-dev nlohmann-json3-dev libonig-dev libicu-dev libisal-dev
    libfmt-dev libspdlog-dev)
  missing_packages=()
  need g++ command -v g++
  need cmake command -v cmake
  need ninja-build command -v ninja
  need ccache command -v ccache
  need openmpi-bin command -v mpirun
  [ "$tests" = no ] || libraries+=(libgtest-dev libgmock-dev)
  for package in "${libraries[@]}"; do
    need "$package" dpkg_installed "$package"
  done
}

# Finds how to install as root: sets as_root to nothing or sudo, or stops with what to ask an administrator for.
become_able_to_install() {
  local command="apt-get install --no-install-recommends $*"
  command -v apt-get >/dev/null || stop "this system has no apt-get. Install what these Debian packages hold, then" \
    "run setup.sh --no-system-packages: $*"
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    # Without a terminal sudo cannot ask for a password.
    if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
      stop "packages are missing and only root may install them. Ask for: $command"
    fi
    sudo -v || stop "packages are missing and sudo does not let you install them. Ask for: $command"
    as_root=(sudo)
  fi
}

apt_get() {
  retry 2 run_logged "$cache/setup-apt-$1.log" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -y -o Acquire::Retries=3 "$@" || stop "apt-get $1 failed"
}

install_system_packages() {
  [ $# -gt 0 ] || return 0
  say "system packages: installing $*"
  apt_get install --no-install-recommends "$@"
  hash -r
}

# A LibTorch that CMAKE_PREFIX_PATH names, as CMake will find it.
named_libtorch() {
  local folders folder
  IFS=: read -ra folders <<<"${CMAKE_PREFIX_PATH:-}"
  for folder in "${folders[@]}"; do
    if [ -e "$folder/include/ATen/core/Tensor.h" ]; then
      echo "$folder"
      return
    fi
  done
}

# The major version of CUDA that LibTorch is built for: 13 in the wheel, anything in one that was named.
cuda_of_torch() {
  local libtorch
  libtorch=$(named_libtorch)
  [ -n "$libtorch" ] || { echo 13; return; }
  grep -aom 1 'libcudart\.so\.[0-9]*' "$libtorch/lib/libc10_cuda.so" 2>/dev/null | grep -om 1 '[0-9]*$' || true
}

# Decides where device code comes from. nvcc: the compiler, or nothing; nvcc_from_pypi: yes where it is to be installed.
# cmake/CudaVersion.cmake looks at the same places in the same order.
choose_device_code() {
  local candidate cuda words
  device_code=no nvcc="" nvcc_from_pypi=no
  [ "${AUTOGLM_CUDA:-AUTO}" != OFF ] || return 0
  cuda=$(cuda_of_torch)
  [ -n "$cuda" ] || return 0
  if [ -n "${CUDACXX:-}" ]; then
    read -ra words <<<"$CUDACXX"
    nvcc=${words[0]} device_code=yes
    return
  fi
  for candidate in "$(command -v nvcc || true)" "${CUDA_PATH:+$CUDA_PATH/bin/nvcc}" "$cuda_home/bin/nvcc"; do
    if [ ! -x "$candidate" ]; then continue; fi
    if [ "$(release_of "$candidate")" = "$cuda" ]; then
      nvcc=$candidate device_code=yes
      return
    fi
    say "$candidate is of CUDA $(release_of "$candidate"), but LibTorch needs device code by CUDA $cuda: not taken"
  done
  if [ "$cuda" = 13 ] && { [ "${AUTOGLM_CUDA:-AUTO}" = ON ] || has_nvidia_driver; }; then
    device_code=yes nvcc_from_pypi=yes
    return
  fi
  [ "${AUTOGLM_CUDA:-AUTO}" != ON ] || stop "AUTOGLM_CUDA=ON, but there is no nvcc of CUDA $cuda: name one in CUDACXX"
}

# The major version of the CUDA that an nvcc is of.
release_of() {
  local release
  release=$("$1" --version 2>/dev/null | grep -o 'release [0-9]*' || true)
  echo "${release#release }"
}

# Says what a driver too old for LibTorch's CUDA will lead to; building is possible all the same.
check_driver() {
  local driver
  command -v nvidia-smi >/dev/null || return 0
  driver=$(timeout 30 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || true
  if [[ $driver =~ ^([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" -lt 580 ] && [ "$(cuda_of_torch)" = 13 ]; then
    say "the NVIDIA driver is $driver, but CUDA 13 needs 580 or newer, or on data-centre cards the package" \
      "cuda-compat-13: until then training on the GPU will end with exit code 69"
  fi
}

# The requirements files that fit what will be built; each one includes the smaller ones.
choose_requirements() {
  if [ "$tests" = yes ]; then
    echo requirements-test.txt
  elif [ -n "$(named_libtorch)" ]; then
    echo requirements-assets.txt
  elif [ "$device_code" = yes ]; then
    echo requirements-cuda.txt
  else
    echo requirements.txt
  fi
  [ "$nvcc_from_pypi" = no ] || echo requirements-nvcc.txt
}

make_venv() {
  say "Python packages: making .venv"
  rm -rf "$venv"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    stop "$python is older than 3.10. Name a newer one: PYTHON=python3.11 scripts/setup.sh"
  run_logged "$cache/setup-venv.log" "$python" -m venv "$venv" ||
    stop "$python -m venv failed; is its venv module installed?"
}

install_python_packages() {
  local requirements missing file files=()
  for file in $(choose_requirements); do
    files+=("$repository/scripts/$file")
  done
  requirements=$(choose_requirements | paste -sd ' ')
  if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    if [ "$check" = yes ]; then
      say "Python packages missing: all of scripts/$requirements; they would go into .venv"
      incomplete=yes
      return
    fi
    make_venv
  fi
  missing=$("$venv/bin/python" "$repository/scripts/missing_packages.py" "${files[@]}")
  if [ -z "$missing" ]; then
    say "Python packages: all there (scripts/$requirements)"
    return
  fi
  if [ "$check" = yes ]; then
    say "Python packages missing; they would go into .venv: ${missing//$'\n'/ }"
    incomplete=yes
    return
  fi
  say "Python packages: installing $(wc -l <<<"$missing") of scripts/$requirements into .venv"
  printf '%s\n' "$missing" >"$cache/setup-missing.txt"
  retry 3 run_logged "$cache/setup-pip.log" "$venv/bin/python" -m pip install --no-deps \
    --no-compile --disable-pip-version-check -r "$cache/setup-missing.txt" ||
    stop "the Python packages could not be installed. Check the network and pip's configuration, then run this again."
}

# Two runs at once would write the same .venv.
exec 9>"$cache/setup.lock"
flock --nonblock 9 || { say "waiting for another run of setup.sh"; flock 9; }

choose_device_code
[ "$device_code" = no ] || check_driver
for_python=() for_building=() incomplete=no
if [ "$system_packages" = yes ]; then
  find_missing_python
  for_python=("${missing_packages[@]}")
  find_missing_tools
  for_building=("${missing_packages[@]}")
fi
missing_packages=("${for_python[@]}" "${for_building[@]}")
if [ "${#missing_packages[@]}" -eq 0 ]; then
  [ "$system_packages" = no ] || say "system packages: all there"
elif [ "$check" = yes ]; then
  say "system packages missing; as root: apt-get install --no-install-recommends ${missing_packages[*]}"
  incomplete=yes
else
  become_able_to_install "${missing_packages[@]}"
  say "system packages: updating apt's lists"
  apt_get update
  install_system_packages "${for_python[@]}"
fi

if [ "$check" = yes ] || [ "${#for_building[@]}" -eq 0 ]; then
  install_python_packages
else
  # The largest download runs beside the largest installation.
  in_background install_python_packages
  install_system_packages "${for_building[@]}"
  await_background || exit 1
fi

if [ "$incomplete" = yes ]; then
  exit 1
elif [ "$nvcc_from_pypi" = yes ]; then
  say "set up; device code will be built with the nvcc of PyPI in .venv"
elif [ "$device_code" = yes ]; then
  say "set up; device code will be built with $nvcc"
else
  say "set up; device code will not be built (neither an NVIDIA driver nor an nvcc, or AUTOGLM_CUDA=OFF)"
fi
