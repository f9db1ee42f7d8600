// The main function of several ranks' tests that allocate from the CPU arena.
#pragma once

#include "sharding/memory/job_memory.h"
#include "tests/sharding/mpi_test_main.h"

namespace autoglm::testing {

// Sets `session`, which the tests use, while they run.
inline int run_engine_tests(int argc, char** argv, MpiSession*& session) {
  ::testing::InitGoogleTest(&argc, argv);
  MpiSession opened;
  session = &opened;
  install_job_memory();
  return run_all_tests_on_ranks(opened);
}

}  // namespace autoglm::testing
