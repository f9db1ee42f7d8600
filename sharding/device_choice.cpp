#include "sharding/device_choice.h"

#include <fstream>
#include <string>
#include <system_error>

#include "base/error.h"

namespace autoglm {
namespace {

std::string first_word(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

}  // namespace

bool choose_cuda(DeviceRequest request, const CudaProbe& probe) {
  if (request == DeviceRequest::cpu) return false;
  if (probe.built && probe.num_devices > 0) return true;
  const std::string problem = probe.problem.empty() ? "no device is visible" : probe.problem;
  if (request == DeviceRequest::cuda) {
    if (!probe.built) {
      fail(ExitCode::unavailable,
           "--device cuda: this program was built without CUDA; build it where nvcc is found "
           "(-DAUTOGLM_CUDA=ON)");
    }
    fail(ExitCode::unavailable,
         "--device cuda: no usable CUDA device ({}); check nvidia-smi and CUDA_VISIBLE_DEVICES", problem);
  }
  if (probe.built && probe.hardware) {
    fail(ExitCode::unavailable,
         "this host has an NVIDIA GPU that cannot be used ({}); check nvidia-smi and CUDA_VISIBLE_DEVICES, "
         "or say --device cpu to compute on the CPU",
         problem);
  }
  return false;
}

int choose_cuda_device(int local_rank, int local_size, int num_devices) {
  AUTOGLM_CHECK(0 <= local_rank && local_rank < local_size && num_devices > 0,
                "local rank {} of {}, {} devices", local_rank, local_size, num_devices);
  if (num_devices == 1) return 0;
  if (local_size > num_devices) {
    fail(ExitCode::unavailable,
         "{} ranks on this host, but only {} CUDA devices: start at most one rank per device", local_size,
         num_devices);
  }
  return local_rank;
}

bool nvidia_hardware_present(const std::filesystem::path& root) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // what cannot be read is not there
  if (fs::exists(root / "dev/nvidia0", ignored)) return true;
  for (const auto& device : fs::directory_iterator(root / "sys/bus/pci/devices", ignored)) {
    // Class 0x03: display controllers. The vendor also makes sound and network functions.
    if (first_word(device.path() / "vendor") == "0x10de" &&
        first_word(device.path() / "class").rfind("0x03", 0) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace autoglm
