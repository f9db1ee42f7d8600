#!/usr/bin/env bash
# cuda_version_test.sh CMAKE CMAKE_FOLDER: which CUDA compilers a build with device code takes, by pretended ones.
set -euo pipefail
cmake=$1 modules=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/CMakeLists.txt" <<'TEXT'
cmake_minimum_required(VERSION 3.22)
project(cuda_version NONE)
include(AutoglmCuda)
message(STATUS "taken: ${nvcc}.")
TEXT
mkdir "$folder/torch" "$folder/cpu_torch"

# toolkit VERSION: an nvcc that says its version, and compiles nothing.
toolkit() {
  printf '#!/bin/sh\necho "nvcc: NVIDIA (R) Cuda compiler driver"\necho "Cuda compilation tools, release %s, V%s.1"\n' \
    "$1" "$1" >"$folder/nvcc"
  chmod +x "$folder/nvcc"
}

# configure TORCH OPTION...: what CMake says, on one line.
configure() {
  local torch=$1
  shift
  rm -rf "$folder/build"
  CUDACXX="$folder/nvcc" "$cmake" -S "$folder" -B "$folder/build" "-DCMAKE_MODULE_PATH=$modules" \
    "-DAUTOGLM_TORCH_LIB=$folder/$torch" "$@" 2>&1 | tr -s ' \n' ' ' || true
}

# expect TEXT SAID
expect() {
  case $2 in
    *"$1"*) ;;
    *) echo "expected: $1"; echo "said: $2"; exit 1 ;;
  esac
}

printf 'symbols\0libcudart.so.13\0more\0' >"$folder/torch/libc10_cuda.so"
for way in AUTO ON; do
  toolkit 11.8
  said=$(configure torch -DAUTOGLM_CUDA=$way)
  expect "is of CUDA 11.8, but LibTorch needs device code by CUDA 13: name such an nvcc in CUDACXX, let AUTOGLM_CUDA" "$said"
  toolkit 12.9
  expect "is of CUDA 12.9, but LibTorch needs device code by CUDA 13" "$(configure torch -DAUTOGLM_CUDA=$way)"
done
expect "Device code: OFF" "$(configure torch -DAUTOGLM_CUDA=OFF)"
toolkit 13.0
expect "Device code: OFF" "$(configure torch -DAUTOGLM_CUDA=AUTO)"  # this nvcc compiles nothing

printf 'symbols\0libcudart.so.12\0more\0' >"$folder/torch/libc10_cuda.so"
toolkit 12.4
expect "is of CUDA 12.4, but LibTorch needs device code by CUDA 12.5 or a later 12" \
  "$(configure torch -DAUTOGLM_CUDA=AUTO)"
toolkit 12.8
expect "Device code: OFF" "$(configure torch -DAUTOGLM_CUDA=AUTO)"

expect "was built without CUDA" "$(configure cpu_torch -DAUTOGLM_CUDA=ON)"
expect "Device code: OFF" "$(configure cpu_torch -DAUTOGLM_CUDA=AUTO)"

# Without a name: the first of LibTorch's CUDA, on PATH, in CUDA_HOME, then what setup.sh put into .venv.
printf 'symbols\0libcudart.so.13\0more\0' >"$folder/torch/libc10_cuda.so"
mkdir -p "$folder/path" "$folder/home/bin"
find_by_itself() {
  rm -rf "$folder/build"
  PATH=$folder/path:/usr/bin:/bin CUDA_PATH="" CUDACXX="" CUDA_HOME="$folder/home" "$cmake" -S "$folder" \
    -B "$folder/build" -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF "-DCMAKE_MODULE_PATH=$modules" "-DAUTOGLM_TORCH_LIB=$folder/torch" "$@" 2>&1 | tr -s ' \n' ' ' || true
}
if [ ! -e /usr/bin/nvcc ] && [ ! -e /usr/local/bin/nvcc ]; then
  expect "taken: ." "$(find_by_itself)"
  expect "no nvcc was found that compiles: let AUTOGLM_CUDA=ON scripts/setup.sh bring one" \
    "$(find_by_itself -DAUTOGLM_CUDA=ON)"
fi
wheels=$folder/.venv/lib/python3.12/site-packages/nvidia/cu13
mkdir -p "$wheels/bin" "$wheels/include" "$wheels/nvvm" "$wheels/lib"
touch "$wheels/lib/libcudart.so.13" "$wheels/bin/nvcc.profile"
toolkit 13.0
cp "$folder/nvcc" "$wheels/bin/nvcc"
expect "taken: $folder/build/cuda_toolkit/bin/nvcc." "$(find_by_itself)"
for file in bin/nvcc.profile lib64/libcudart.so include nvvm; do
  [ -e "$folder/build/cuda_toolkit/$file" ] || { echo "the toolkit of wheels has no $file"; exit 1; }
done
toolkit 11.8
cp "$folder/nvcc" "$folder/path/nvcc"
cp "$folder/nvcc" "$folder/home/bin/nvcc"
expect "taken: $folder/build/cuda_toolkit/bin/nvcc." "$(find_by_itself)"
toolkit 13.1
cp "$folder/nvcc" "$folder/home/bin/nvcc"
expect "taken: $folder/home/bin/nvcc." "$(find_by_itself)"
cp "$folder/nvcc" "$folder/path/nvcc"
expect "taken: $folder/path/nvcc." "$(find_by_itself)"
