// Bytes of NCCL's types; 0 for one that is not known here.
#pragma once

#include <nccl.h>

#include <cstddef>

namespace cuda_on_host {

inline std::size_t width(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 0;
  }
}

}  // namespace cuda_on_host
