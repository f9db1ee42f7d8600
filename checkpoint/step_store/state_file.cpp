#include "checkpoint/step_store/state_file.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

SafetensorsHeader header_of(const std::vector<StateRun>& runs,
                            const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsSpec> specs;
  specs.reserve(runs.size());
  for (const StateRun& run : runs)
    specs.push_back({run_name(run), safetensors_dtype(run.dtype), {run.count}});
  return make_safetensors_header(specs, metadata);
}

}  // namespace

std::string state_file_name(int rank, int num_ranks) {
  return fmt::format("states-{:05}-of-{:05}.safetensors", rank, num_ranks);
}

StateFileWriter::StateFileWriter(const std::filesystem::path& folder, std::string name,
                                 const std::vector<StateRun>& runs,
                                 const std::map<std::string, std::string>& metadata)
    : folder_(folder), name_(std::move(name)), file_(File::create(folder / name_)) {
  const SafetensorsHeader header = header_of(runs, metadata);
  total_ = header.file_bytes();
  file_.reserve(total_);
  std::string length(kSafetensorsLengthBytes, '\0');
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<char>(static_cast<std::uint64_t>(header.text.size()) >> (8 * i) & 0xff);
  write(as_bytes(length));
  write(as_bytes(header.text));
}

void StateFileWriter::write(std::span<const std::byte> bytes) {
  AUTOGLM_CHECK(sums_.bytes() + bytes.size() <= total_, "more bytes than the runs of {} have", name_);
  file_.write_at(sums_.bytes(), bytes);
  sums_.add(bytes);
}

void StateFileWriter::append(std::span<const std::byte> bytes) {
  write(bytes);
}

StateFileRecord StateFileWriter::finish() {
  AUTOGLM_CHECK(sums_.bytes() == total_, "{} of {} bytes of {}", sums_.bytes(), total_, name_);
  file_.sync_and_close();
  StateFileRecord record{name_, total_, sums_.finish()};
  try {
    verify_state_file(folder_, record);
  } catch (const Error& error) {
    fail(ExitCode::io_failed, "{}, though they were written a moment ago", error.what());
  }
  return record;
}

void verify_state_file_part(const File& file, const StateFileRecord& record, std::size_t checksum) {
  const std::uint64_t begin = checksum * kChecksumBytes, end = std::min(begin + kChecksumBytes, record.bytes);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kReadBytes);
  std::uint32_t sum = 0;
  for (std::uint64_t at = begin; at < end; at += kReadBytes) {
    const std::span<std::byte> part(buffer.get(), std::min<std::uint64_t>(kReadBytes, end - at));
    file.read_at(at, part);
    sum = crc32c(part, sum);
  }
  if (sum == record.checksums[checksum]) return;
  fail(ExitCode::bad_data, "{}: bytes {} to {} are not those that were written", file.path().string(), begin,
       end);
}

void verify_state_file(const std::filesystem::path& folder, const StateFileRecord& record) {
  const File file = File::open_within(folder, record.name);
  if (const std::uint64_t size = file.size(); size != record.bytes) {
    fail(ExitCode::bad_data, "{}: has {} bytes, {} were written", file.path().string(), size, record.bytes);
  }
  file.forget_cached();
  for (std::size_t i = 0; i < record.checksums.size(); ++i) verify_state_file_part(file, record, i);
  file.forget_cached();
}

}  // namespace autoglm
