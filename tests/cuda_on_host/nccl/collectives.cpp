// Collectives copy through the ranks' slots of shared memory, piece by piece.
#include <algorithm>
#include <cstring>

#include "tests/cuda_on_host/nccl/communicator.h"
#include "tests/cuda_on_host/nccl/width.h"
#include "tests/cuda_on_host/runtime/interface.h"

using namespace cuda_on_host;

namespace {

ncclResult_t outside(ncclComm_t comm) {
  comm->fail(ncclInvalidArgument, "an operand does not lie in memory of the card");
  return ncclInvalidArgument;
}

bool lies(ncclComm_t comm, const void* at, std::size_t bytes) {
  return cuda_on_host_covers(at, bytes, comm->card);
}

void add_or_set(float& sum, float value, bool first) {
  sum = first ? value : sum + value;
}

}  // namespace

extern "C" {

ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * width(type);
  if (!lies(comm, from, bytes) || !lies(comm, to, bytes * comm->size)) return outside(comm);
  const auto* const source = static_cast<const char*>(cuda_on_host_view(from));
  auto* const target = static_cast<char*>(cuda_on_host_view(to));
  return comm->queue({'g', count, type, 0}, stream, [=] {
    for (std::size_t at = 0; at < bytes; at += Meeting::kSlot) {
      const std::size_t piece = std::min(Meeting::kSlot, bytes - at);
      std::memcpy(comm->meeting.slot(comm->rank), source + at, piece);
      if (!comm->barrier()) return false;
      for (int rank = 0; rank < comm->size; ++rank) {
        std::memcpy(target + rank * bytes + at, comm->meeting.slot(rank), piece);
      }
      if (!comm->barrier()) return false;
    }
    return true;
  });
}

ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * width(type);
  const bool sends = comm->rank == root;
  if ((sends && !lies(comm, from, bytes)) || !lies(comm, to, bytes)) return outside(comm);
  const auto* const source = static_cast<const char*>(cuda_on_host_view(from));
  auto* const target = static_cast<char*>(cuda_on_host_view(to));
  return comm->queue({'b', count, type, root}, stream, [=] {
    for (std::size_t at = 0; at < bytes; at += Meeting::kSlot) {
      const std::size_t piece = std::min(Meeting::kSlot, bytes - at);
      if (sends) std::memcpy(comm->meeting.slot(root), source + at, piece);
      if (!comm->barrier()) return false;
      std::memcpy(target + at, comm->meeting.slot(root), piece);
      if (!comm->barrier()) return false;
    }
    return true;
  });
}

// Shard r is summed from rank r + 1 around the ring to rank r.
ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || op != ncclSum) {
    cuda_on_host_refuse("a ncclReduceScatter that is no sum in fp32");
    return ncclInvalidArgument;
  }
  const std::size_t shard_bytes = count * sizeof(float);
  if (!lies(comm, from, shard_bytes * comm->size) || !lies(comm, to, shard_bytes)) return outside(comm);
  const auto* const source = static_cast<const float*>(cuda_on_host_view(from));
  auto* const target = static_cast<float*>(cuda_on_host_view(to));
  const std::size_t most = Meeting::kSlot / sizeof(float) / static_cast<std::size_t>(comm->size);
  return comm->queue({'r', count, type, op}, stream, [=] {
    const auto slot = [&](int rank) { return reinterpret_cast<float*>(comm->meeting.slot(rank)); };
    for (std::size_t at = 0; at < count; at += most) {
      const std::size_t piece = std::min(most, count - at);
      for (int shard = 0; shard < comm->size; ++shard) {
        std::memcpy(slot(comm->rank) + shard * most, source + shard * count + at, piece * sizeof(float));
      }
      if (!comm->barrier()) return false;
      for (int turn = 1; turn <= comm->size; ++turn) {
        const float* const values = slot((comm->rank + turn) % comm->size) + comm->rank * most;
        for (std::size_t i = 0; i < piece; ++i) add_or_set(target[at + i], values[i], turn == 1);
      }
      if (!comm->barrier()) return false;
    }
    return true;
  });
}

}  // extern "C"
