#include "checkpoint/safetensors.h"

#include <array>
#include <string>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

using LengthBytes = std::array<std::byte, kSafetensorsLengthBytes>;

std::uint64_t decode_length(const LengthBytes& bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    length |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return length;
}

LengthBytes encode_length(std::uint64_t length) {
  LengthBytes bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(length >> (8 * i) & 0xFF);
  return bytes;
}

[[noreturn]] void fail_header_length(const std::filesystem::path& path, const LengthBytes& start,
                                     std::uint64_t length, std::uint64_t size) {
  if (std::string_view(reinterpret_cast<const char*>(start.data()), start.size()) == "version ") {
    fail(ExitCode::bad_data, "{}: is a Git LFS pointer, not the weights; fetch them with \"git lfs pull\"",
         path.string());
  }
  if (length <= kSafetensorsMaxHeader) {
    fail(ExitCode::bad_data, "{}: is truncated: its header has {} bytes, but the file ends after {}",
         path.string(), length, size);
  }
  fail(ExitCode::bad_data, "{}: claims a header of {} bytes, so it is not a safetensors file", path.string(),
       length);
}

}  // namespace

SafetensorsFile::SafetensorsFile(File file, SafetensorsHeader header)
    : file_(std::move(file)), header_(std::move(header)) {
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return read_header(File::open(path));
}

SafetensorsFile SafetensorsFile::open_within(const std::filesystem::path& folder, const std::string& name) {
  return read_header(File::open_within(folder, name));
}

SafetensorsFile SafetensorsFile::read_header(File file) {
  const std::filesystem::path path = file.path();
  const std::uint64_t size = file.size();
  if (size < kSafetensorsLengthBytes) {
    fail(ExitCode::bad_data, "{}: is truncated: it has {} bytes, fewer than any safetensors file",
         path.string(), size);
  }
  LengthBytes start{};
  file.read_at(0, start);
  const std::uint64_t length = decode_length(start);
  if (length > kSafetensorsMaxHeader || length > size - kSafetensorsLengthBytes) {
    fail_header_length(path, start, length, size);
  }
  std::string text(length, '\0');
  file.read_at(kSafetensorsLengthBytes, std::as_writable_bytes(std::span(text)));
  SafetensorsHeader header = parse_safetensors_header(std::move(text), path.string());
  if (header.file_bytes() != size) {
    fail(ExitCode::bad_data, "{}: has {} bytes, but its header describes {}: it {}; fetch it again",
         path.string(), size, header.file_bytes(),
         size < header.file_bytes() ? "is truncated" : "has bytes that belong to no tensor");
  }
  return {std::move(file), std::move(header)};
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::uint64_t byte_offset,
                           std::span<std::byte> bytes) const {
  AUTOGLM_CHECK(byte_offset <= tensor.bytes && bytes.size() <= tensor.bytes - byte_offset, "{}", tensor.name);
  file_.read_at(header_.data_offset() + tensor.offset + byte_offset, bytes);
}

bool ByteRanges::add(std::uint64_t begin, std::uint64_t end) {
  if (begin == end) return true;
  const auto next = ranges_.lower_bound(begin);
  if (next != ranges_.end() && next->first < end) return false;
  auto merged = ranges_.end();
  if (next != ranges_.begin()) {
    const auto previous = std::prev(next);
    if (previous->second > begin) return false;
    if (previous->second == begin) merged = previous;
  }
  if (merged == ranges_.end()) merged = ranges_.emplace(begin, end).first;
  merged->second = end;
  if (next != ranges_.end() && next->first == end) {
    merged->second = next->second;
    ranges_.erase(next);
  }
  return true;
}

std::uint64_t ByteRanges::first_missing(std::uint64_t end) const {
  if (ranges_.empty() || ranges_.begin()->first != 0) return 0;
  return std::min(ranges_.begin()->second, end);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, SafetensorsHeader header)
    : header_(std::move(header)),
      file_(File::create(path)),
      data_start_(kSafetensorsLengthBytes + header_.text.size()) {
  file_.reserve(header_.file_bytes());
  file_.write_at(0, encode_length(header_.text.size()));
  file_.write_at(kSafetensorsLengthBytes, as_bytes(header_.text));
}

void SafetensorsWriter::write(const SafetensorsTensor& tensor, std::uint64_t byte_offset,
                              std::span<const std::byte> bytes) {
  AUTOGLM_CHECK(byte_offset <= tensor.bytes && bytes.size() <= tensor.bytes - byte_offset, "{}", tensor.name);
  const std::uint64_t begin = tensor.offset + byte_offset;
  {
    const std::lock_guard lock(mutex_);
    AUTOGLM_CHECK(written_.add(begin, begin + bytes.size()), "tensor {} is written twice at byte {}",
                  tensor.name, byte_offset);
  }
  file_.write_at(data_start_ + begin, bytes);
}

void SafetensorsWriter::finish() {
  const std::uint64_t missing = written_.first_missing(header_.data_bytes);
  for (const SafetensorsTensor& tensor : header_.tensors) {
    AUTOGLM_CHECK(missing < tensor.offset || missing >= tensor.offset + tensor.bytes,
                  "tensor {} was never written at byte {}", tensor.name, missing - tensor.offset);
  }
  file_.sync_and_close();
}

}  // namespace autoglm
