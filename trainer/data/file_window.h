// A moving window over a file, read forwards in chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/regular_file.h"

namespace autoglm {

// Bytes before `keep_from` may be dropped when the window grows.
class FileWindow {
 public:
  // Throws Error(missing_input) when the file is absent, a folder, or cannot be opened.
  explicit FileWindow(const std::filesystem::path& path, std::uint64_t begin = 0);

  std::uint64_t file_size() const { return file_size_; }
  const std::string& bytes() const { return bytes_; }
  // Offset in the file of bytes()[0].
  std::uint64_t offset() const { return offset_; }

  // Drops the first `keep_from` bytes of the window and reads one chunk more. False, with nothing dropped, at
  // the end of the file. Throws Error(io_failed).
  bool extend(std::size_t keep_from);

 private:
  std::filesystem::path path_;
  RegularFile file_;
  std::uint64_t file_size_ = 0;
  std::uint64_t offset_ = 0;
  std::string bytes_;
};

}  // namespace autoglm
