// One rank's file of a checkpoint: flat runs of states, written from front to back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/step_store/checksum.h"
#include "checkpoint/step_store/state_run.h"

namespace autoglm {

// What the manifest says of a file.
struct StateFileRecord {
  std::string name;
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> checksums;  // one for every kChecksumBytes

  bool operator==(const StateFileRecord&) const = default;
};

// "states-00002-of-00008.safetensors", for rank 2 of 8.
std::string state_file_name(int rank, int num_ranks);

// A safetensors file (readable with the format's own package) whose tensors are runs, in the order given.
class StateFileWriter {
 public:
  // Creates folder / name, which must not exist, reserves its space and writes the header. Throws
  // Error(cannot_create), Error(io_failed) or DiskFull.
  StateFileWriter(const std::filesystem::path& folder, std::string name, const std::vector<StateRun>& runs,
                  const std::map<std::string, std::string>& metadata);

  // The next bytes of the runs. Throws Error(io_failed) or DiskFull. One thread at a time.
  void append(std::span<const std::byte> bytes);

  // Asserts that all bytes were appended, makes them durable, and reads them back from the disk. Throws
  // Error(io_failed), also where other bytes are read than were written, or DiskFull.
  StateFileRecord finish();

 private:
  void write(std::span<const std::byte> bytes);

  std::filesystem::path folder_;
  std::string name_;
  std::uint64_t total_ = 0;
  File file_;
  ChecksumSeries sums_;
};

// Asserts that a file is what its record says. Reads it whole. Throws Error(bad_data) that names the file and the
// first bytes that are wrong, or what File::open throws.
void verify_state_file(const std::filesystem::path& folder, const StateFileRecord& record);

// The same for one of the record's checksums.
void verify_state_file_part(const File& file, const StateFileRecord& record, std::size_t checksum);

}  // namespace autoglm
