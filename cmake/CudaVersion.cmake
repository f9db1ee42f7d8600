# Device code shares a process with LibTorch's, so its compiler must be of LibTorch's CUDA.

# The CUDA compiler that CMake would take, or an empty text.
function(autoglm_find_nvcc variable)
  set(nvcc "${CMAKE_CUDA_COMPILER}")
  if(NOT nvcc AND NOT "$ENV{CUDACXX}" STREQUAL "")
    separate_arguments(words UNIX_COMMAND "$ENV{CUDACXX}")
    list(GET words 0 nvcc)
  endif()
  if(NOT nvcc)
    find_program(found NAMES nvcc PATHS ENV CUDA_PATH ENV CUDA_BIN PATH_SUFFIXES bin NO_CACHE)
    set(nvcc "${found}")
  endif()
  if(NOT nvcc)
    set(nvcc "")
  endif()
  set(${variable} "${nvcc}" PARENT_SCOPE)
endfunction()

# The major version of the CUDA runtime that LibTorch in folder `lib` loads; empty for a build without CUDA.
function(autoglm_cuda_of_torch lib variable)
  set(needed "")
  if(EXISTS "${lib}/libc10_cuda.so")
    file(STRINGS "${lib}/libc10_cuda.so" needed REGEX "^libcudart\\.so\\.[0-9]+" LIMIT_COUNT 1)
  endif()
  string(REGEX REPLACE "^libcudart\\.so\\.([0-9]+).*$" "\\1" major "${needed}")
  set(${variable} "${major}" PARENT_SCOPE)
endfunction()

# Ends with one sentence when `nvcc` is not of CUDA `major`, or is older than 12.5, whose interface is used.
function(autoglm_check_nvcc nvcc major)
  execute_process(COMMAND "${nvcc}" --version OUTPUT_VARIABLE text ERROR_QUIET)
  if(NOT text MATCHES "release ([0-9]+)\\.([0-9]+)")
    return()  # another compiler; it will say what it cannot do
  endif()
  set(version "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")
  set(wanted "CUDA ${major}")
  if(major EQUAL 12)
    set(wanted "CUDA 12.5 or a later 12")
  endif()
  if(NOT CMAKE_MATCH_1 EQUAL major OR version VERSION_LESS 12.5)
    message(FATAL_ERROR "${nvcc} is of CUDA ${version}, but LibTorch needs device code by ${wanted}: name such an "
      "nvcc in CUDACXX, or leave device code out with -DAUTOGLM_CUDA=OFF.")
  endif()
endfunction()
