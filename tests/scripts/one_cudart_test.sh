#!/usr/bin/env bash
# one_cudart_test.sh BUILD LIBRARY PROGRAM...: every program loads one CUDA runtime, LIBRARY (libcudart.so.13), and
# has none inside. A second one would have devices and contexts of its own.
set -euo pipefail
build=$1 library=$2
shift 2
if grep -q cudart_static "$build/build.ninja"; then
  echo "something is linked to cudart_static:"
  grep -m 3 cudart_static "$build/build.ninja"
  exit 1
fi
for program in "$@"; do
  needed=$(readelf -d "$program" | grep -o 'libcudart\.so[.0-9]*' || true)
  if [ "$needed" != "$library" ]; then
    echo "$program needs ${needed:-no libcudart} instead of $library"
    exit 1
  fi
  if nm --defined-only "$program" | grep -E ' [TtWw] (cudaMalloc|cudaGetDeviceCount)$|libcudart_static'; then
    echo "$program has a CUDA runtime inside"
    exit 1
  fi
done
