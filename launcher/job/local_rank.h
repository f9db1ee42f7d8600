#pragma once

#include <string>

namespace autoglm {

// This rank among the ranks of its host, and the MPI library that connects them (empty without one).
struct LocalRank {
  int rank = 0;
  int size = 1;
  std::string mpi_version;
};

}  // namespace autoglm
