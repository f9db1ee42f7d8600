// Reads a checkpoint on any number of ranks, whatever number wrote it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/step_store/manifest.h"

namespace autoglm {

// All functions may be called from several threads. No file stays open between them: of thousands of ranks there are
// thousands of files, and one that is open could not be removed everywhere.
class CheckpointReader {
 public:
  // Reads the manifest and the headers of all files, and asserts that these are what the manifest says: their
  // sizes, and that together they hold every element of every kind of every parameter once. Throws
  // Error(bad_data), Error(missing_input) or Error(io_failed), naming the file.
  static CheckpointReader open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }

  // Compares bytes with their checksums: those of every `parts`-th one, from `part` on, so that ranks divide the
  // work. Throws Error(bad_data) that names the file and the bytes, or Error(io_failed).
  void verify(int part, int parts) const;

  // The type of a kind's elements; none where the checkpoint has no such kind (moments, before the first step).
  std::optional<DType> dtype_of(std::string_view kind) const;

  // Fills `bytes` with elements of a parameter from element `offset` on, as they lie in the files. Such a parameter
  // and kind must be there, and the elements. Throws Error(io_failed).
  void read(std::string_view kind, const std::string& parameter, std::int64_t offset,
            std::span<std::byte> bytes) const;

 private:
  struct Piece {
    std::int64_t offset = 0;  // of the first element within the parameter
    std::int64_t count = 0;
    std::size_t file = 0;
    std::size_t tensor = 0;  // of the file
  };
  // Of one kind of one parameter, in order of their offsets.
  using Pieces = std::vector<Piece>;

  CheckpointReader(std::filesystem::path folder, Manifest manifest);
  void add_file(std::size_t index);
  void check_coverage();
  void verify_headers() const;

  std::filesystem::path folder_;
  Manifest manifest_;
  std::vector<SafetensorsHeader> headers_;             // of the files
  std::map<std::string, Pieces, std::less<>> pieces_;  // by "kind/parameter"
};

}  // namespace autoglm
