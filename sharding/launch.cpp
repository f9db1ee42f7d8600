#include "sharding/launch.h"

#include <array>
#include <charconv>
#include <span>
#include <sstream>
#include <string_view>

#include "base/error.h"

namespace autoglm {
namespace {

// mpirun first: inside of a Slurm job the others describe Slurm's own daemons, not the ranks.
constexpr std::array sizes = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
constexpr std::array ranks = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};

struct Number {
  const char* variable;
  int value;
};

// The first of the variables that holds a whole number of at least `least`.
std::optional<Number> read_number(const Environment& environment, std::span<const char* const> variables,
                                  int least) {
  for (const char* variable : variables) {
    const char* value = environment(variable);
    if (!value) continue;
    const std::string_view text(value);
    int number = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status == std::errc() && end == text.data() + text.size() && number >= least)
      return Number{variable, number};
  }
  return std::nullopt;
}

// mpirun A : B starts several programs; the sizes of all of them are in one variable, in rank order.
int first_rank_of_program(const Environment& environment) {
  constexpr std::array number = {"OMPI_MCA_orte_app_num"};
  const std::optional<Number> program = read_number(environment, number, 0);
  const char* programs = environment("OMPI_APP_CTX_NUM_PROCS");
  std::istringstream stream(programs == nullptr ? "" : programs);
  int first = 0, size = 0;
  for (int i = 0; program && i < program->value && stream >> size; ++i) first += size;
  return first;
}

}  // namespace

std::optional<Launch> detect_launch(const Environment& environment) {
  const std::optional<Number> size = read_number(environment, sizes, 1);
  return size ? std::optional(Launch{size->variable, size->value}) : std::nullopt;
}

void check_launch(const std::optional<Launch>& launch, int num_ranks) {
  if (!launch || launch->num_ranks == num_ranks) return;
  fail(ExitCode::unavailable,
       "{}={} promises {} ranks, but MPI finds {}: start with the mpirun of this Open MPI, or with "
       "srun --mpi=pmix under Slurm (a single rank inside of a Slurm job: mpirun -np 1)",
       launch->variable, launch->num_ranks, launch->num_ranks, num_ranks);
}

RankEnvironment rank_from_environment(const Environment& environment) {
  RankEnvironment result;
  const std::optional<Number> rank = read_number(environment, ranks, 0);
  if (!rank) return result;
  result.rank = rank->value;
  if (const auto launch = detect_launch(environment)) result.world_size = launch->num_ranks;
  result.speaks_for_command_line = result.rank == first_rank_of_program(environment);
  return result;
}

}  // namespace autoglm
