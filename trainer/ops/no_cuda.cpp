// What the CUDA routes call when the build has no CUDA: there is no device that could run it.
#include "trainer/ops/cuda_launch.h"

namespace autoglm::ops::cuda {
namespace {

[[noreturn]] void no_cuda() {
  fail(ExitCode::unavailable, "this build has no CUDA; use --device cpu");
}

}  // namespace

template <typename Kernel>
const char* launch(const Kernel&, std::int64_t, void*) {
  no_cuda();
}

#define AUTOGLM_INSTANTIATE(...) template const char* launch(const __VA_ARGS__&, std::int64_t, void*);
AUTOGLM_EACH_CUDA_KERNEL(AUTOGLM_INSTANTIATE)

void* current_stream() {
  no_cuda();
}

int current_multiprocessors() {
  no_cuda();
}

}  // namespace autoglm::ops::cuda
