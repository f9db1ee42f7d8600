// What is told of a checkpoint.
#pragma once

#include <cstdint>
#include <string>

namespace autoglm {

// One that was written, or could not be.
struct SaveReport {
  std::int64_t step = 0;
  std::uint64_t bytes = 0;       // of all ranks
  double stall_seconds = 0;      // in which training stood still for it, on the rank that stood longest
  double write_seconds = 0;      // from its begin until it was whole
  std::string failure = {};      // why there is none; empty: it is whole and durable
  std::string left_behind = {};  // why older ones that were to go are still there
  bool disk_full = false;        // what failed might not, with more room
  bool stops = false;            // the training ends with it
};

}  // namespace autoglm
