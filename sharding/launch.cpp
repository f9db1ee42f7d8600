#include "sharding/launch.h"

#include <array>
#include <charconv>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

// mpirun first: inside of a Slurm job the others describe Slurm's own daemons, not the ranks.
constexpr std::array sizes = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
                              "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
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

// Variables that only one launcher for PyTorch sets; accelerate goes through torchrun's code.
constexpr std::array torch_launchers = {std::pair("ACCELERATE_MIXED_PRECISION", "accelerate launch"),
                                        std::pair("TORCHELASTIC_RUN_ID", "torchrun"),
                                        std::pair("CROSS_SIZE", "deepspeed")};
constexpr std::array torch_sizes = {"WORLD_SIZE", "LOCAL_WORLD_SIZE"};
constexpr std::array torch_ranks = {"RANK", "LOCAL_RANK"};

std::string name_torch_launcher(const Environment& environment) {
  for (const auto& [variable, name] : torch_launchers) {
    if (environment(variable) != nullptr) return name;
  }
  return "a launcher for PyTorch (torchrun, accelerate or deepspeed)";
}

// How to start as many ranks, where they are spread over hosts likewise.
std::string mpirun_for(const Environment& environment, int num_ranks) {
  constexpr std::array local_sizes = {"LOCAL_WORLD_SIZE", "LOCAL_SIZE"};
  const std::optional<Number> local = read_number(environment, local_sizes, 1);
  if (!local || local->value >= num_ranks) return fmt::format("mpirun -np {}", num_ranks);
  return fmt::format("mpirun -np {} --hostfile FILE --map-by ppr:{}:node", num_ranks, local->value);
}

}  // namespace

void check_launcher(const Environment& environment) {
  const std::optional<Number> size = read_number(environment, torch_sizes, 2);
  const std::optional<Number> rank = read_number(environment, torch_ranks, 0);
  if (!size || !rank) return;
  if (const auto launch = detect_launch(environment)) {
    // Within a Slurm job these may be its own numbers under other names, or those of a launcher that it has
    // started.
    const bool of_slurm = std::string_view(launch->variable).starts_with("SLURM_");
    const bool renamed = launch->num_ranks == size->value && environment("TORCHELASTIC_RUN_ID") == nullptr;
    if (!of_slurm || renamed) return;
  }
  fail(ExitCode::unavailable,
       "{}={} and {}={} say that {} has started this process as one of {}; autoglm-train takes its ranks "
       "from MPI, and each would train alone: start it with {} autoglm-train ... instead",
       size->variable, size->value, rank->variable, rank->value, name_torch_launcher(environment),
       size->value, mpirun_for(environment, size->value));
}

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
