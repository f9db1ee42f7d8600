# Tests mirror the folders. Every test is bounded in time and carries the name of its program as a label.

# Unoptimized code with sanitizers was seen to take thirty times as long; most tests need a small part of their time.
function(autoglm_stretch_timeout variable)
  if(AUTOGLM_SANITIZE)
    math(EXPR ${variable} "${${variable}} * 5")
    set(${variable} ${${variable}} PARENT_SCOPE)
  endif()
endfunction()

# autoglm_add_test(NAME SOURCES... [LIBS libraries...] [TIMEOUT seconds]): a GoogleTest program, one ctest
# entry per case.
include(GoogleTest)
function(autoglm_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  autoglm_stretch_timeout(ARG_TIMEOUT)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE autoglm_options ${ARG_LIBS} GTest::gtest GTest::gtest_main GTest::gmock)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS ${name} ENVIRONMENT "OMP_NUM_THREADS=1")
endfunction()

# autoglm_add_mpi_test(NAME RANKS "1;2;3" SOURCES... [LIBS ...] [TIMEOUT seconds] [ARGS ...]): one program run
# under mpirun, one ctest entry per number of ranks. The program brings its own main.
function(autoglm_add_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;RANKS;ARGS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  autoglm_stretch_timeout(ARG_TIMEOUT)
  if(ARG_SOURCES)
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE autoglm_options ${ARG_LIBS} GTest::gtest GTest::gmock)
  endif()
  # Slow but whole call stacks under AddressSanitizer: by them the leaks of MPI's libraries are known.
  foreach(ranks IN LISTS ARG_RANKS)
    add_test(NAME ${name}.np${ranks}
      COMMAND "${PROJECT_SOURCE_DIR}/scripts/mpirun_test.sh" ${ranks} $<TARGET_FILE:${name}> ${ARG_ARGS})
    set_tests_properties(${name}.np${ranks} PROPERTIES TIMEOUT ${ARG_TIMEOUT} PROCESSORS 2 LABELS ${name}
      ENVIRONMENT "OMP_NUM_THREADS=1;ASAN_OPTIONS=fast_unwind_on_malloc=0")
  endforeach()
endfunction()
