// Trains a random model, and sets what was foreseen beside what was measured.
#pragma once

#include <nlohmann/json.hpp>

#include "launcher/job/job_device.h"
#include "scripts/gpu_check/run_request.h"

namespace autoglm {

// One training. The answer holds the strategy, bytes of device and host (foreseen and measured), seconds of
// every part of every step, losses, and the speed after the first step. Throws Error(does_not_fit) when the
// plan finds nothing, or memory runs out and no layers may be left out. Collective.
nlohmann::json run_training(const RunRequest& request, JobDevice& device);

// Trains under every legal strategy until request.seconds have passed, the plain one first, and compares
// losses, gradient norms and weights with it, to the bit; of request.pins what changes last bits is set in all of
// them. The answer counts them and names those that differ.
// Collective.
nlohmann::json run_matrix(const RunRequest& request, JobDevice& device);

// Times gathers and reduce-scatters among the ranks' devices, of `sizes` bytes over all ranks, until request.seconds
// have passed, and checks what arrives. The answer holds bytes per second that each rank sends, and what plans count
// with. Allocates the largest size from the device. Collective.
nlohmann::json run_width(const RunRequest& request, std::span<const std::int64_t> sizes, JobDevice& device);

}  // namespace autoglm
