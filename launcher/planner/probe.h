// What cannot be known on paper, measured in seconds on the device and the links that will be used.
#pragma once

#include <cstdint>
#include <optional>

#include "launcher/planner/time_model.h"
#include "sharding/communicator.h"

namespace autoglm {

struct ProbeResult {
  Rates rates;           // the slowest of all ranks
  double seconds = 0;    // that the probe took
  bool complete = true;  // false: out of memory on some rank; the rates are the guesses
};

// Trains one decoder layer of the model for two short micro-batches, and times its passes, AdamW, and
// collectives of 8 MB. `guess` gives what is not measured (overlap, latencies). Collective; allocates up to
// 20 bytes per parameter of a layer from `device` and frees them.
ProbeResult probe_rates(const MemoryQuestion& question, at::Device device, const Rates& guess,
                        Communicator& communicator);

}  // namespace autoglm
