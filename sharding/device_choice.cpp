#include "sharding/device_choice.h"

#include <algorithm>
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

// The oldest driver for a version of CUDA; empty where it is not known.
std::string least_driver(int runtime) {
  switch (runtime / 1000) {
    case 12:
      return "525";
    case 13:
      return "580";
    default:
      return "";
  }
}

// Why no device can be used, and what to do.
std::string problem_of(const CudaProbe& probe) {
  const auto version = [](int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); };
  const std::string driver = least_driver(probe.runtime);
  if (probe.driver > 0 && probe.driver / 1000 < probe.runtime / 1000 && !driver.empty()) {
    return fmt::format(
        "its driver can run CUDA {}, but this program needs CUDA {}: install driver {} or newer, "
        "or on data-centre cards the package cuda-compat-{}",
        version(probe.driver), version(probe.runtime), driver, probe.runtime / 1000);
  }
  return (probe.problem.empty() ? "no device is visible" : probe.problem) +
         ": check nvidia-smi and CUDA_VISIBLE_DEVICES";
}

}  // namespace

bool choose_cuda(DeviceRequest request, const CudaProbe& probe) {
  if (request == DeviceRequest::cpu) return false;
  if (probe.built && probe.num_devices > 0) return true;
  const std::string problem = problem_of(probe);
  if (request == DeviceRequest::cuda) {
    if (!probe.built) {
      fail(ExitCode::unavailable,
           "--device cuda: this program was built without CUDA; build it where nvcc is found "
           "(-DAUTOGLM_CUDA=ON)");
    }
    fail(ExitCode::unavailable, "--device cuda: no usable CUDA device ({})", problem);
  }
  if (probe.built && probe.hardware) {
    fail(ExitCode::unavailable,
         "this host has an NVIDIA GPU that cannot be used ({}), or say --device cpu to compute on the CPU",
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

DeviceSharers count_sharers(std::span<const DevicePlace> all, std::size_t mine) {
  const DevicePlace& own = all[mine];
  const auto ranks_with = [&](std::string DevicePlace::*place) {
    return static_cast<int>(std::ranges::count_if(
        all, [&](const DevicePlace& one) { return one.host == own.host && one.*place == own.*place; }));
  };
  return {ranks_with(&DevicePlace::card), ranks_with(&DevicePlace::device)};
}

void check_sharers(const DeviceSharers& sharers, const std::string& host, const std::string& name,
                   bool apart) {
  if (sharers.of_card == 1 || apart) return;
  fail(ExitCode::unavailable,
       "{} ranks on {} share one card ({}), and NCCL connects one rank of a card: start as many ranks as "
       "there are cards, each of which CUDA_VISIBLE_DEVICES must let them see",
       sharers.of_card, host, name);
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
