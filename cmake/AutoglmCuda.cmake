# Sets AUTOGLM_WITH_CUDA. Device code is compiled for A100 (sm_80) and H100/H200 (sm_90).
set(AUTOGLM_WITH_CUDA OFF)
if(NOT AUTOGLM_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
    enable_language(CUDA)
    # Older CMake does not know that nvcc takes C++20, and would take the standard of C++ here.
    set(CMAKE_CUDA_STANDARD 17)
    find_package(CUDAToolkit REQUIRED)
    set(AUTOGLM_WITH_CUDA ON)
  elseif(AUTOGLM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "AUTOGLM_CUDA=ON, but no nvcc was found. Put it on PATH or set CUDACXX.")
  endif()
endif()
if(AUTOGLM_WITH_CUDA)
  # Streams and the allocator's interface. libtorch_cuda.so, which holds the kernels, is loaded when a job computes on
  # CUDA: that takes a second and gigabytes of address space, which nothing else should pay for.
  add_library(torch_c10_cuda SHARED IMPORTED GLOBAL)
  set_target_properties(torch_c10_cuda PROPERTIES IMPORTED_LOCATION "${AUTOGLM_TORCH_LIB}/libc10_cuda.so")
endif()
message(STATUS "Device code: ${AUTOGLM_WITH_CUDA}")
include(Nccl)
