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

// What a rank should do about the processors near its card, those of the socket that its bus belongs to.
struct NearCard {
  std::optional<ProcessorSet> run_on;  // instead of where it runs now
  std::string sentence;                // a warning; empty where there is nothing to say
};

// For a rank on a card at `bus_id` of the PCI bus ("0000:3B:00.0") that may run on `mine`, one of `local_size`
// on its host. A rank alone stays on all sockets, whose memory and cores its work on the host can use; several
// stand apart. What a person has chosen is narrowed at most.
NearCard near_card(const ProcessorSet& mine, const std::string& bus_id, int local_size,
                   const LookUp& environment, const std::filesystem::path& root = "/");

// Does that for all threads of this process, and returns the sentence.
std::string bind_near_card(const std::string& bus_id, int local_size, const LookUp& environment);

}  // namespace autoglm
