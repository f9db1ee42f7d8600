// safetensors files: a reader that trusts nothing, and a writer that takes tensors in parts and in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/safetensors_header.h"

namespace autoglm {

// A validated file, open for reading. All functions may be called from several threads.
class SafetensorsFile {
 public:
  // Opens and validates: parse_safetensors_header's rules, a header of at most 100,000,000 bytes that lies
  // within the file, and data that ends exactly where the file ends. Reads the header only. Throws as
  // File::open does, and Error(bad_data).
  static SafetensorsFile open(const std::filesystem::path& path);

  // The same of a file that lies in the folder itself, as of File::open_within().
  static SafetensorsFile open_within(const std::filesystem::path& folder, const std::string& name);

  const std::filesystem::path& path() const { return file_.path(); }
  const SafetensorsHeader& header() const { return header_; }

  // In the order of their places in the file.
  const std::vector<SafetensorsTensor>& tensors() const { return header_.tensors; }

  // Null when there is no tensor of that name.
  const SafetensorsTensor* find(std::string_view name) const;

  // Fills `bytes` with a tensor's, from its byte `byte_offset` on. The range must lie within the tensor.
  // Throws Error(io_failed).
  void read(const SafetensorsTensor& tensor, std::uint64_t byte_offset, std::span<std::byte> bytes) const;

 private:
  SafetensorsFile(File file, SafetensorsHeader header);
  static SafetensorsFile read_header(File file);

  File file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, std::size_t> index_;  // views of the names in header_.tensors
};

// Which bytes of a file were written.
class ByteRanges {
 public:
  // Adds [begin, end). Returns false, adding nothing, when a byte of it is there already.
  bool add(std::uint64_t begin, std::uint64_t end);

  // The first byte of [0, end) that was not added, or `end`.
  std::uint64_t first_missing(std::uint64_t end) const;

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  // begin to end, neither touching nor overlapping
};

// Creates a file and fills it. write() may be called from several threads.
class SafetensorsWriter {
 public:
  // Creates `path`, which must not exist, reserves the space and writes the header.
  // Throws Error(cannot_create), or Error(io_failed), for example when the disk is full.
  SafetensorsWriter(const std::filesystem::path& path, SafetensorsHeader header);

  const SafetensorsHeader& header() const { return header_; }

  // Writes a part of a tensor of header() from its byte `byte_offset` on. Each byte is written exactly once;
  // parts come in any order. Throws Error(io_failed).
  void write(const SafetensorsTensor& tensor, std::uint64_t byte_offset, std::span<const std::byte> bytes);

  // Asserts that every byte was written, makes the file durable and closes it. Throws Error(io_failed).
  void finish();

 private:
  SafetensorsHeader header_;
  File file_;
  std::uint64_t data_start_;
  std::mutex mutex_;
  ByteRanges written_;
};

}  // namespace autoglm
