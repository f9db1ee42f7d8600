// The processors that mpirun has bound a rank to. Open MPI binds each of one or two ranks to a single core
// unless it is told otherwise, and all of a rank's threads would share it.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "sharding/host/processors.h"

namespace autoglm {

// Where a rank may run, and what could be done about it.
struct Binding {
  ProcessorSet bound;    // by the launcher
  ProcessorSet allowed;  // to the launcher itself
  bool asked = false;    // a person chose it
};

// Looks a variable up; null when it is not set. std::getenv outside of tests.
using LookUp = std::function<const char*(const char*)>;

// The binding of this process, where mpirun has started it, has bound it to a single core, and may itself use
// more. `mine` are the processors that it may run on; `root` stands before /proc and /sys: another host's, in
// tests.
std::optional<Binding> one_core_binding(const ProcessorSet& mine, const LookUp& environment,
                                        const std::filesystem::path& root = "/");

// The sentence for a rank that srun has started on a single core of a host with more; none where there is
// nothing to say, as where OMP_NUM_THREADS says that it is known.
std::optional<std::string> one_core_of_slurm(const ProcessorSet& mine, const LookUp& environment,
                                             const std::filesystem::path& root = "/");

// Lets the calling thread, and those that it starts from now on, run on all processors that mpirun may use,
// where Open MPI's default has bound it to one core. Returns the sentence that says so, or how another
// binding to one core could be widened; none where there is nothing to say.
std::optional<std::string> widen_binding(const LookUp& environment);

}  // namespace autoglm
