#include "sharding/nccl/nccl_functions.h"

#include "sharding/memory/out_of_memory.h"

namespace autoglm {

const NcclFunctions& linked_nccl() {
  static const NcclFunctions functions = {
      .get_version = ncclGetVersion,
      .get_unique_id = ncclGetUniqueId,
      .comm_init_rank_config = ncclCommInitRankConfig,
      .comm_finalize = ncclCommFinalize,
      .comm_destroy = ncclCommDestroy,
      .comm_abort = ncclCommAbort,
      .comm_get_async_error = ncclCommGetAsyncError,
      .get_error_string = ncclGetErrorString,
      .get_last_error = ncclGetLastError,
      .reduce_scatter = ncclReduceScatter,
      .all_gather = ncclAllGather,
      .broadcast = ncclBroadcast,
      .group_start = ncclGroupStart,
      .group_end = ncclGroupEnd,
      .send = ncclSend,
      .receive = ncclRecv,
  };
  return functions;
}

ExitCode nccl_exit_code(ncclResult_t result, std::string_view text) {
  switch (result) {
    case ncclUnhandledCudaError:
      return exit_code_of_device(text);
    case ncclSystemError:
    case ncclInternalError:
      return ExitCode::unavailable;
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return ExitCode::bug;
    default:
      return ExitCode::peer_lost;
  }
}

std::string nccl_error_text(const NcclFunctions& nccl, ncclResult_t result, ncclComm_t comm) {
  std::string text = fmt::format("NCCL reports: {}", nccl.get_error_string(result));
  const char* const last = nccl.get_last_error(comm);
  if (last != nullptr && *last != '\0') text += fmt::format(" ({})", last);
  if (result == ncclSystemError || result == ncclInternalError)
    text +=
        "; NCCL_DEBUG=WARN tells more: often /dev/shm is too small (docker run --shm-size) or ulimit -l too "
        "low";
  return text;
}

}  // namespace autoglm
