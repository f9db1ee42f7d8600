// Who this process is before MPI is started, from what mpirun or srun left in the environment.
#pragma once

namespace autoglm {

struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  // The first of the ranks that were started with this very command line. Such ranks all find the same fault
  // in it, so one of them reports it.
  bool speaks_for_command_line = true;
};

// Without a launcher: rank 0 of 1. Only for deciding who prints before MPI is up; MPI's own answer counts
// later.
RankEnvironment rank_from_environment();

}  // namespace autoglm
