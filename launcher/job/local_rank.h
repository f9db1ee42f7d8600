#pragma once

#include <string>

namespace autoglm {

// This rank among the ranks of its host, the MPI library that connects them (empty without one), how many of the
// host's processors are its own, and whether mpirun started it.
struct LocalRank {
  int rank = 0;
  int size = 1;
  std::string mpi_version;
  int num_processors = 1;
  bool of_mpirun = false;
};

}  // namespace autoglm
