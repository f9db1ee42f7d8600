#include "sharding/host/binding.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <vector>

#include "sharding/host/control_groups.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// Whoever starts ranks on a host, under Open MPI 4 and 5.
constexpr std::array launchers = {"mpirun", "mpiexec", "orterun", "orted", "prte", "prted", "prterun"};
// How mpirun passes on what it was told about binding (--bind-to, --cpu-set, --rankfile).
constexpr std::array choices = {
    "OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_hwloc_base_cpu_set",
    "OMPI_MCA_hwloc_base_cpu_list",       "OMPI_MCA_orte_rankfile",
    "OMPI_MCA_rmaps_rank_file_path",      "PRTE_MCA_hwloc_default_binding_policy",
    "PRTE_MCA_hwloc_default_cpu_list",    "PRTE_MCA_rmaps_default_mapping_policy"};
constexpr int kMostGenerations = 32;  // of wrapper scripts between mpirun and this process

bool chosen_by_a_person(const LookUp& environment) {
  if (std::ranges::any_of(choices, [&](const char* name) { return environment(name) != nullptr; }))
    return true;
  // --map-by slot:PE=4 binds too.
  const char* mapping = environment("OMPI_MCA_rmaps_base_mapping_policy");
  if (mapping == nullptr) return false;
  std::string text(mapping);
  std::ranges::transform(text, text.begin(), [](char c) { return 'a' <= c && c <= 'z' ? c - 'a' + 'A' : c; });
  return text.find("PE=") != std::string::npos;
}

// "Name:\tmpirun" gives "mpirun".
std::string status_value(const fs::path& status, std::string_view key) {
  std::ifstream file(status);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) == 0 && line.size() > key.size() && line[key.size()] == ':')
      return line.substr(std::min(line.find_first_not_of(" \t", key.size() + 1), line.size()));
  }
  return {};
}

// The processors of the launcher among the ancestors of this process; none when it is not to be seen.
ProcessorSet processors_of_launcher(const fs::path& root) {
  std::string process = "self";
  for (int i = 0; i < kMostGenerations; ++i) {
    const std::string parent = status_value(root / "proc" / process / "status", "PPid");
    if (parent.empty() || parent == "0") return {};
    process = parent;
    const fs::path status = root / "proc" / process / "status";
    if (std::ranges::count(launchers, status_value(status, "Name")) > 0)
      return parse_processors(status_value(status, "Cpus_allowed_list"));
  }
  return {};
}

ProcessorSet read_processors(const fs::path& file) {
  return parse_processors(read_kernel_line(file).value_or(""));
}

// Whether all are threads of one core.
bool one_core(const ProcessorSet& processors, const fs::path& root) {
  if (processors.count() <= 1) return true;
  const fs::path folder =
      root / "sys/devices/system/cpu" / fmt::format("cpu{}", processors._Find_first()) / "topology";
  const ProcessorSet siblings = read_processors(folder / "thread_siblings_list");
  return (processors & ~siblings).none();
}

ProcessorSet online_processors(const fs::path& root) {
  return read_processors(root / "sys/devices/system/cpu/online");
}

// All of the socket that a place on the PCI bus belongs to; none where the kernel does not say.
ProcessorSet processors_near(std::string bus_id, const fs::path& root) {
  std::ranges::transform(bus_id, bus_id.begin(),
                         [](char c) { return 'A' <= c && c <= 'Z' ? c - 'A' + 'a' : c; });
  const ProcessorSet local = read_processors(root / "sys/bus/pci/devices" / bus_id / "local_cpulist");
  if (local.none()) return local;
  const fs::path folder = root / "sys/devices/system/cpu" / fmt::format("cpu{}", local._Find_first());
  return local | read_processors(folder / "topology/core_siblings_list");
}

bool run_on(const ProcessorSet& processors, pid_t thread = 0) {
  std::vector<cpu_set_t> mask(processors.size() / CPU_SETSIZE);
  const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
  for (std::size_t i = 0; i < processors.size(); ++i) {
    if (processors[i]) CPU_SET_S(i, bytes, mask.data());
  }
  return sched_setaffinity(thread, bytes, mask.data()) == 0;
}

}  // namespace

std::optional<Binding> one_core_binding(const ProcessorSet& mine, const LookUp& environment,
                                        const fs::path& root) {
  if (environment("OMPI_COMM_WORLD_SIZE") == nullptr || !one_core(mine, root)) return std::nullopt;
  const ProcessorSet allowed = processors_of_launcher(root);
  if ((allowed & ~mine).none()) return std::nullopt;
  return Binding{mine, allowed | mine, chosen_by_a_person(environment)};
}

std::optional<std::string> one_core_of_slurm(const ProcessorSet& mine, const LookUp& environment,
                                             const fs::path& root) {
  const bool of_step =
      environment("SLURM_STEP_ID") != nullptr && environment("OMPI_COMM_WORLD_SIZE") == nullptr;
  if (!of_step || environment("OMP_NUM_THREADS") != nullptr || !one_core(mine, root)) return std::nullopt;
  if ((online_processors(root) & ~mine).none()) return std::nullopt;
  return fmt::format(
      "Slurm gives this rank one core (processor {}) of its host's, which all threads of the rank share: "
      "srun --cpus-per-task N gives it more",
      format_processors(mine));
}

std::optional<std::string> widen_binding(const LookUp& environment) {
  const ProcessorSet mine = allowed_processors();
  const std::optional<Binding> binding = one_core_binding(mine, environment);
  if (!binding) return one_core_of_slurm(mine, environment);
  const std::string bound = format_processors(binding->bound), allowed = format_processors(binding->allowed);
  if (!binding->asked && run_on(binding->allowed)) {
    return fmt::format(
        "mpirun has bound this rank to one core (processor {}): it runs on all that mpirun may use ({}) "
        "instead; mpirun --bind-to core keeps it there",
        bound, format_processors(allowed_processors()));
  }
  return fmt::format(
      "mpirun has bound this rank to one core (processor {}) of those that it may use ({}): all threads of "
      "the rank share it; mpirun --bind-to none gives them all",
      bound, allowed);
}

NearCard near_card(const ProcessorSet& mine, const std::string& bus_id, int local_size,
                   const LookUp& environment, const fs::path& root) {
  NearCard result;
  const ProcessorSet near = processors_near(bus_id, root), shared = mine & near;
  const bool by_mpirun = environment("OMPI_COMM_WORLD_SIZE") != nullptr;
  if (shared.any()) {
    if (local_size > 1 && shared != mine) result.run_on = shared;
  } else if (near.any()) {
    const bool free = by_mpirun && !chosen_by_a_person(environment);
    const ProcessorSet allowed = free ? processors_of_launcher(root) & near : ProcessorSet();
    if (allowed.any()) {
      result.run_on = allowed;
    } else {
      result.sentence = fmt::format(
          "this rank is bound to processors {}, but its card belongs to the socket of {}: all that it moves "
          "crosses between sockets; {} lets it run there",
          format_processors(mine), format_processors(near),
          by_mpirun ? "mpirun --bind-to none"
                    : "another choice of processors (taskset, numactl, --cpu-bind)");
    }
  }
  // Of mpirun's and Slurm's choice of one core, more is said elsewhere.
  const ProcessorSet now = result.run_on.value_or(mine);
  const bool said =
      by_mpirun || environment("SLURM_STEP_ID") != nullptr || environment("OMP_NUM_THREADS") != nullptr;
  if (!said && one_core(now, root) && (online_processors(root) & ~now).any()) {
    result.sentence += fmt::format(
        "{}this program may run on one core (processor {}) of its host's, which all of its threads share: "
        "what it computes on the host is slow; let it run on more (taskset, cpuset)",
        result.sentence.empty() ? "" : "; ", format_processors(now));
  }
  return result;
}

std::string bind_near_card(const std::string& bus_id, int local_size, const LookUp& environment) {
  const NearCard found = near_card(allowed_processors(), bus_id, local_size, environment);
  if (!found.run_on) return found.sentence;
  std::error_code ignored;
  for (const auto& thread : fs::directory_iterator("/proc/self/task", ignored)) {
    // One that has ended meanwhile needs no processors.
    run_on(*found.run_on, static_cast<pid_t>(std::stol(thread.path().filename().string())));
  }
  return found.sentence;
}

}  // namespace autoglm
