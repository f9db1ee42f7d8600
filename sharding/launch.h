// What started this process, how many ranks it promised, and which of them this is, as far as the environment
// tells.
#pragma once

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

namespace autoglm {

struct Launch {
  std::string variable;  // the environment variable that says so
  int num_ranks = 1;
};

// Looks a variable up; null when it is not set. std::getenv outside of tests.
using Environment = std::function<const char*(const char*)>;

// The promise of mpirun, of another PMI launcher, of srun, or of a Slurm batch job, in this order; none when
// nothing of that kind started the process, and MPI is not needed. To be read before MPI_Init, which sets
// such variables itself.
std::optional<Launch> detect_launch(const Environment& environment);

// Throws Error(unavailable) when MPI found another number of ranks: a launcher that does not speak to this
// MPI library starts N programs of one rank each, which would all train alone and write the same output.
void check_launch(const std::optional<Launch>& launch, int num_ranks);

// Throws Error(unavailable) when a launcher for PyTorch (torchrun, accelerate, deepspeed) has started this
// process as one of several: it starts N programs that MPI does not connect, as above. What mpirun or another
// PMI launcher has started is let pass, whatever such variables it was given.
void check_launcher(const Environment& environment);

// Who this process is before MPI is started.
struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  // The first of the ranks that were started with this very command line. Such ranks all find the same fault
  // in it, so one of them reports it.
  bool speaks_for_command_line = true;
};

// Without a launcher: rank 0 of 1. Only for deciding who prints before MPI is up; MPI's own answer counts
// later.
RankEnvironment rank_from_environment(const Environment& environment = [](const char* name) {
  return std::getenv(name);
});

}  // namespace autoglm
