// Checkpoints on disk, as a person names them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/step_store/checkpoint_reader.h"

namespace autoglm {

// The checkpoints that a path means, the newest first: itself, those in it, or those of the run whose folder it is,
// wherever --checkpoint-dir put them. Nothing of them is read. Throws Error(missing_input) where there is none.
std::vector<std::filesystem::path> find_checkpoints(const std::filesystem::path& path);

// Where the checkpoints of a run's folder are: in it, or where its record says; of a checkpoint, where it lies itself.
std::filesystem::path checkpoint_folder_of(const std::filesystem::path& path);

// Told of bytes that were read, of so many.
using BytesDone = std::function<void(std::uint64_t done, std::uint64_t total)>;

// Reads all of a checkpoint. Throws Error(bad_data) that names what is wrong, or Error(io_failed).
CheckpointReader open_verified(const std::filesystem::path& folder, const BytesDone& progress);

// The same without the states' bytes.
CheckpointReader open_checkpoint(const std::filesystem::path& folder);

// Bytes of a checkpoint's state files.
std::uint64_t state_bytes(const Manifest& manifest);

}  // namespace autoglm
