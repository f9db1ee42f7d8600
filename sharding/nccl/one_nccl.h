// One NCCL in the process.
#pragma once

#include <string>
#include <vector>

#include "sharding/nccl/nccl_functions.h"

namespace autoglm {

// The paths of all copies of NCCL that are loaded.
std::vector<std::string> loaded_nccl_libraries();

// LibTorch's CUDA library is linked to NCCL as well. Where a program finds one copy and LibTorch another (the
// wheel's, CUDA's, the system's), both hold their own devices, memory and settings, and either may take calls
// meant for the other. Throws Error(unavailable) that names the copies unless `libraries` holds exactly one
// whose version, in NCCL's coding, has the major number of the header that this was compiled with and is no
// older.
void check_one_nccl(const std::vector<std::string>& libraries, int version, int header_version);

// The same for this process.
void check_one_nccl(const NcclFunctions& nccl);

}  // namespace autoglm
