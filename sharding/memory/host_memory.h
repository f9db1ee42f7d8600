// How much memory the host has for this process, and how much of it is taken.
#pragma once

#include <cstdint>

namespace autoglm {

// Bytes of memory that this process may use: the machine's, or less where a control group limits it.
std::int64_t host_memory_limit();

// Bytes of addresses for a pool on the host: beyond its memory, which leaves room for holes between blocks. Only
// touched pages cost.
std::int64_t host_addresses();

// Resident memory of this process now, from the kernel.
std::int64_t resident_bytes();

}  // namespace autoglm
