#include "sharding/cuda/cuda_devices.h"

#include <cuda_runtime_api.h>

#include <array>

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
  probe.hardware = probe.num_devices > 0 || nvidia_hardware_present();
  return probe;
}

CudaDeviceInfo cuda_device_info(int device) {
  cudaDeviceProp properties{};
  AUTOGLM_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  std::array<char, 32> bus_id{};
  AUTOGLM_CUDA_CHECK(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), device));
  return {properties.name, bus_id.data()};
}

void use_cuda_device(int device) {
  AUTOGLM_CUDA_CHECK(cudaSetDevice(device));
}

}  // namespace autoglm
