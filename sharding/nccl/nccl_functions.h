// The functions of NCCL that the communicator calls, as a table: tests put others in their place.
#pragma once

#include <nccl.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace autoglm {

// Each means what nccl.h says of the function whose name it carries. `stream` is null where the collectives
// run on a host stream.
struct NcclFunctions {
  ncclResult_t (*get_version)(int* version);
  ncclResult_t (*get_unique_id)(ncclUniqueId* id);
  ncclResult_t (*comm_init_rank_config)(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                        ncclConfig_t* config);
  ncclResult_t (*comm_finalize)(ncclComm_t comm);
  ncclResult_t (*comm_destroy)(ncclComm_t comm);
  ncclResult_t (*comm_abort)(ncclComm_t comm);
  ncclResult_t (*comm_get_async_error)(ncclComm_t comm, ncclResult_t* state);
  const char* (*get_error_string)(ncclResult_t result);
  const char* (*get_last_error)(ncclComm_t comm);
  ncclResult_t (*reduce_scatter)(const void* input, void* output, std::size_t count, ncclDataType_t type,
                                 ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream);
  ncclResult_t (*all_gather)(const void* shard, void* whole, std::size_t count, ncclDataType_t type,
                             ncclComm_t comm, cudaStream_t stream);
  ncclResult_t (*broadcast)(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                            ncclComm_t comm, cudaStream_t stream);
  ncclResult_t (*group_start)();
  ncclResult_t (*group_end)();
  ncclResult_t (*send)(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                       cudaStream_t stream);
  ncclResult_t (*receive)(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                          cudaStream_t stream);
};

// NCCL itself.
const NcclFunctions& linked_nccl();

// The exit code for a failure that NCCL reports with this text: a peer, a link or a process that is gone is
// peer_lost, a device that fails is unavailable, or does_not_fit for want of memory, a call that makes no sense is
// a bug.
ExitCode nccl_exit_code(ncclResult_t result, std::string_view text = {});

// "NCCL reports: remote process exited or there was a network error (last message)"; comm may be null.
std::string nccl_error_text(const NcclFunctions& nccl, ncclResult_t result, ncclComm_t comm);

}  // namespace autoglm
