#include "sharding/mpi/launch.h"

#include <array>
#include <charconv>
#include <string_view>

#include "base/error.h"

namespace autoglm {
namespace {

// mpirun first: inside of a Slurm job the others describe Slurm's own daemons, not the ranks.
constexpr std::array variables = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};

std::optional<int> parse_number(std::string_view text) {
  int number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || end != text.data() + text.size() || number < 1) return std::nullopt;
  return number;
}

}  // namespace

std::optional<Launch> detect_launch(const Environment& environment) {
  for (const char* variable : variables) {
    const char* text = environment(variable);
    if (!text) continue;
    if (const auto number = parse_number(text)) return Launch{variable, *number};
  }
  return std::nullopt;
}

void check_launch(const std::optional<Launch>& launch, int num_ranks) {
  if (!launch || launch->num_ranks == num_ranks) return;
  fail(ExitCode::unavailable,
       "{}={} promises {} ranks, but MPI finds {}: start with the mpirun of this Open MPI, or with "
       "srun --mpi=pmix under Slurm (a single rank inside of a Slurm job: mpirun -np 1)",
       launch->variable, launch->num_ranks, launch->num_ranks, num_ranks);
}

}  // namespace autoglm
