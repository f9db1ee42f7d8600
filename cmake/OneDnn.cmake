# oneDNN's header, and its library, which programs open at run time: scripts/setup.sh puts both into .venv. Nothing is
# linked to it, so that a program also runs without, on LibTorch's BLAS.
find_path(AUTOGLM_ONEDNN_INCLUDE oneapi/dnnl/dnnl.h
  HINTS "${PROJECT_SOURCE_DIR}/.venv/include" PATH_SUFFIXES include)
if(NOT AUTOGLM_ONEDNN_INCLUDE)
  message(FATAL_ERROR "No oneDNN found. Run scripts/setup.sh, or name a folder that holds oneapi/dnnl/dnnl.h "
    "with -DAUTOGLM_ONEDNN_INCLUDE=DIR.")
endif()
get_filename_component(onednn_root "${AUTOGLM_ONEDNN_INCLUDE}" DIRECTORY)
find_library(AUTOGLM_ONEDNN_LIBRARY NAMES libdnnl.so.3 HINTS "${onednn_root}/lib")
if(AUTOGLM_ONEDNN_LIBRARY)
  get_filename_component(onednn_folder "${AUTOGLM_ONEDNN_LIBRARY}" DIRECTORY)
  list(APPEND CMAKE_BUILD_RPATH "${onednn_folder}")
endif()
message(STATUS "oneDNN: ${AUTOGLM_ONEDNN_LIBRARY}")
