#include "sharding/cuda/cuda_devices.h"

#include <cuda_runtime_api.h>

#include <array>
#include <iterator>

#include "sharding/cuda/cuda_check.h"

namespace autoglm {

CudaProbe probe_cuda() {
  CudaProbe probe;
  probe.built = true;
  int count = 0;  // left unset by the call when there is no driver
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) {
    probe.num_devices = count;
  } else {
    probe.problem = cudaGetErrorString(status);
    static_cast<void>(cudaGetLastError());  // clears it: a host without a driver is no error
  }
  // Neither starts anything.
  static_cast<void>(cudaRuntimeGetVersion(&probe.runtime));
  static_cast<void>(cudaDriverGetVersion(&probe.driver));
  probe.hardware = probe.num_devices > 0 || nvidia_hardware_present();
  return probe;
}

CudaDeviceInfo cuda_device_info(int device) {
  cudaDeviceProp properties{};
  AUTOGLM_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  std::array<char, 32> bus_id{};
  AUTOGLM_CUDA_CHECK(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), device));
  std::string uuid;
  for (const char byte : properties.uuid.bytes) {
    fmt::format_to(std::back_inserter(uuid), "{:02x}", static_cast<unsigned char>(byte));
  }
  int reads_host = 0;
  AUTOGLM_CUDA_CHECK(
      cudaDeviceGetAttribute(&reads_host, cudaDevAttrPageableMemoryAccessUsesHostPageTables, device));
  return {properties.name,
          bus_id.data(),
          uuid,
          properties.multiProcessorCount,
          reads_host != 0,
          properties.major * 10 + properties.minor};
}

void use_cuda_device(int device) {
  AUTOGLM_CUDA_CHECK(cudaSetDevice(device));
}

}  // namespace autoglm
