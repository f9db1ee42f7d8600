# Sets AUTOGLM_WITH_NCCL, AUTOGLM_NCCL_INCLUDE and AUTOGLM_NCCL_LIBRARY.
#
# LibTorch's CUDA library is linked to NCCL too, and two copies in a process are one too many: so the one that
# the torch wheel depends on comes before any other.
set(AUTOGLM_WITH_NCCL OFF)
if(AUTOGLM_WITH_CUDA)
  get_filename_component(nccl_wheel "${AUTOGLM_TORCH_ROOT}/../nvidia/nccl" ABSOLUTE)
  find_path(AUTOGLM_NCCL_INCLUDE nccl.h
    HINTS "${nccl_wheel}/include" ${CMAKE_PREFIX_PATH} PATHS ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
  find_library(AUTOGLM_NCCL_LIBRARY NAMES libnccl.so.2 nccl
    HINTS "${nccl_wheel}/lib" ${CMAKE_PREFIX_PATH} PATHS ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib)
  if(AUTOGLM_NCCL_INCLUDE AND AUTOGLM_NCCL_LIBRARY)
    set(AUTOGLM_WITH_NCCL ON)
  endif()
endif()
message(STATUS "NCCL: ${AUTOGLM_WITH_NCCL} ${AUTOGLM_NCCL_LIBRARY}")
