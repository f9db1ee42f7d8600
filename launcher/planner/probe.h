// What cannot be known on paper, measured in seconds on the device and the links that will be used.
#pragma once

#include "launcher/planner/probe_times.h"

namespace autoglm {

struct ProbeResult {
  Rates rates;           // the slowest of all ranks
  double seconds = 0;    // that the probe took
  bool complete = true;  // false: out of memory on some rank; the rates are the guesses
};

// Times one decoder layer of the model, AdamW, and the links between ranks, device and host, and tells from that how
// fast they are; `guess` gives what is not measured (overlap, latencies). Collective; allocates up to 20 bytes per
// parameter of a layer from `device`, what 4096 tokens take in that layer, and messages of 256 MB, and frees them.
ProbeResult probe_rates(const MemoryQuestion& question, at::Device device, const Rates& guess,
                        Communicator& communicator);

// Speeds at which a step takes as long as was timed. What was not timed stays as in `guess`, and so does the speed of
// products where most of a layer's time was something else, as in a micro-batch of few tokens.
Rates explain(const ProbeTimes& times, const MemoryQuestion& question, const Rates& guess);

}  // namespace autoglm
