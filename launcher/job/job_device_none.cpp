#include "base/error.h"
#include "launcher/job/job_device_steps.h"

namespace autoglm {
namespace {

[[noreturn]] void refuse() {
  fail(ExitCode::unavailable, "this program was built without CUDA");
}

}  // namespace

CudaProbe find_cuda() {
  return {};
}

StartedDevice start_cuda_device(int) {
  refuse();
}

void install_cuda_arenas(int, std::int64_t, int) {
  refuse();
}

DeviceConnection connect_cuda_device(int, Communicator&, ReduceScatter) {
  refuse();
}

void start_cuda_products(int) {
  refuse();
}

void start_cuda_collectives(int, Communicator&, Communicator&) {
  refuse();
}

DeviceBytes cuda_bytes_now() {
  refuse();
}

}  // namespace autoglm
