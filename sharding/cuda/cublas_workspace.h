// cuBLAS's workspace on a CUDA device, which lies in the device's arena and is rehearsed with it.
#pragma once

#include <cstdint>

namespace autoglm {

// LibTorch would take 32 MiB on sm_90 and 8 MiB before it; here it is the same on all, so that plans for one
// hold for the others.
inline constexpr std::int64_t kCublasWorkspaceBytes = std::int64_t{32} << 20;

}  // namespace autoglm
