// How much memory the host has for this process, how much of it is taken, and how many addresses it may have.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace autoglm {

// `root` stands before /proc and /sys: another host's, in tests.

// Bytes of memory that this process may use: the machine's, or less where its own control group, or one above
// it, limits it.
std::int64_t host_memory_limit(const std::filesystem::path& root = "/");

// Bytes of it that nobody holds now, this process included: of the machine, and of every such group.
std::int64_t available_host_memory(const std::filesystem::path& root = "/");

// A limit on the addresses of this process.
struct AddressLimit {
  std::string name;        // how it is set: "ulimit -v"
  std::int64_t bytes = 0;  // the limit
  std::int64_t room = 0;   // what is left of it
};

// The limit that leaves the least, where there is one: on all addresses (ulimit -v), or on those that can be
// written to (ulimit -d).
std::optional<AddressLimit> address_limit();

// Whether the system maps so many bytes of addresses now; nothing stays mapped.
bool system_maps(std::int64_t bytes);

// Bytes of addresses for a pool on the host, of `wanted`: all, or half of what an address limit leaves, or of
// the most that `maps` grants (under vm.overcommit_memory 2 even pages that nobody touches count).
// Throws Error(unavailable) that says how much is needed when no model's would find a place there.
std::int64_t pool_addresses(std::int64_t wanted, const std::function<bool(std::int64_t)>& maps = system_maps);

// Bytes of addresses that a pool on the host should have: beyond its memory, which leaves room for holes
// between blocks. Only touched pages cost.
std::int64_t host_addresses();

// Resident memory of this process now, from the kernel.
std::int64_t resident_bytes();

}  // namespace autoglm
