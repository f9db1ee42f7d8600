#include "launcher/report/rank_environment.h"

#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <string_view>

namespace autoglm {
namespace {

// The first of `names` that is set to a whole number of at least 0.
std::optional<int> read_number(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* value = std::getenv(name);
    if (value == nullptr) continue;
    const std::string_view text(value);
    int number = 0;
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status == std::errc() && rest == text.data() + text.size() && number >= 0) return number;
  }
  return std::nullopt;
}

// mpirun A : B starts several programs; the sizes of all of them are in one variable, in rank order.
int first_rank_of_program() {
  const int program = read_number({"OMPI_MCA_orte_app_num"}).value_or(0);
  const char* sizes = std::getenv("OMPI_APP_CTX_NUM_PROCS");
  std::istringstream stream(sizes == nullptr ? "" : sizes);
  int first = 0, size = 0;
  for (int i = 0; i < program && stream >> size; ++i) first += size;
  return first;
}

}  // namespace

RankEnvironment rank_from_environment() {
  RankEnvironment result;
  const std::optional<int> rank = read_number({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"});
  if (!rank) return result;
  result.rank = *rank;
  result.world_size = read_number({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}).value_or(1);
  result.speaks_for_command_line = result.rank == first_rank_of_program();
  return result;
}

}  // namespace autoglm
