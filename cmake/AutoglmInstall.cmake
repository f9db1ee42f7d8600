# cmake --install gives a tree that runs wherever it is moved: bin/ finds its libraries in ../lib.
#
# LibTorch is copied into that lib/. A build with device code leaves it where it is instead, since it loads
# further libraries by name that a copy would have to guess, and its commands look there for it.
set(copy_libtorch ON)
if(AUTOGLM_WITH_CUDA)
  set(copy_libtorch OFF)
endif()

set(install_rpath "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
if(NOT copy_libtorch)
  list(APPEND install_rpath "${AUTOGLM_TORCH_LIB}" ${AUTOGLM_CUDART_FOLDER})
  if(AUTOGLM_WITH_NCCL)
    get_filename_component(nccl_folder "${AUTOGLM_NCCL_LIBRARY}" DIRECTORY)
    list(APPEND install_rpath "${nccl_folder}")
  endif()
endif()

foreach(command IN ITEMS autoglm-train autoglm-plan autoglm-data autoglm-export autoglm-doctor)
  if(TARGET ${command})
    set_target_properties(${command} PROPERTIES INSTALL_RPATH "${install_rpath}")
    install(TARGETS ${command} RUNTIME_DEPENDENCY_SET autoglm_libraries
      RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
if(copy_libtorch)
  # Only what lies outside the system's folders: LibTorch and the CUDA libraries that it is linked to.
  install(RUNTIME_DEPENDENCY_SET autoglm_libraries
    POST_EXCLUDE_REGEXES "^/lib" "^/usr/lib"
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
# No command is linked to oneDNN: it is opened by name, in the lib/ beside bin/ too.
if(AUTOGLM_ONEDNN_LIBRARY)
  get_filename_component(onednn_file "${AUTOGLM_ONEDNN_LIBRARY}" REALPATH)
  install(FILES "${onednn_file}" DESTINATION "${CMAKE_INSTALL_LIBDIR}" RENAME libdnnl.so.3)
  install(FILES "${onednn_root}/share/doc/onednn/LICENSE" "${onednn_root}/share/doc/onednn/THIRD-PARTY-PROGRAMS"
    DESTINATION "${CMAKE_INSTALL_DOCDIR}/onednn" OPTIONAL)
endif()
# Commands look for their settings in share/autoglm-train/configs above them (launcher/planner/configs_folder.h), which
# is why these paths follow no variable.
install(DIRECTORY configs/ DESTINATION share/autoglm-train/configs)
file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/share/autoglm-train")
file(CREATE_LINK "${PROJECT_SOURCE_DIR}/configs" "${PROJECT_BINARY_DIR}/share/autoglm-train/configs" SYMBOLIC)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}" OPTIONAL)
