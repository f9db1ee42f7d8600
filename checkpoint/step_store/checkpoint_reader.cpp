#include "checkpoint/step_store/checkpoint_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

std::string key_of(std::string_view kind, std::string_view parameter) {
  return fmt::format("{}/{}", kind, parameter);
}

}  // namespace

CheckpointReader::CheckpointReader(std::filesystem::path folder, Manifest manifest)
    : folder_(std::move(folder)), manifest_(std::move(manifest)) {}

CheckpointReader CheckpointReader::open(const std::filesystem::path& folder) {
  CheckpointReader reader(folder, read_manifest(folder));
  for (const Manifest::Kind& kind : reader.manifest_.kinds)
    for (const Manifest::Parameter& one : reader.manifest_.parameters)
      reader.pieces_[key_of(kind.name, one.name)];
  for (std::size_t i = 0; i < reader.manifest_.files.size(); ++i) reader.add_file(i);
  try {
    reader.check_coverage();
  } catch (const Error&) {
    // A header that somebody changed may say anything: its checksum names the file.
    reader.verify_headers();
    throw;
  }
  return reader;
}

void CheckpointReader::verify_headers() const {
  for (const StateFileRecord& record : manifest_.files) {
    const File file = File::open_within(folder_, record.name);
    if (file.size() == record.bytes) verify_state_file_part(file, record, 0);
  }
}

void CheckpointReader::add_file(std::size_t index) {
  const StateFileRecord& record = manifest_.files[index];
  const std::filesystem::path path = folder_ / record.name;
  const SafetensorsHeader& header =
      headers_.emplace_back(SafetensorsFile::open_within(folder_, record.name).header());
  if (header.file_bytes() != record.bytes) {
    fail(ExitCode::bad_data, "{}: has {} bytes, the manifest says {}", path.string(), header.file_bytes(),
         record.bytes);
  }
  const auto& metadata = header.metadata;
  const auto run = metadata.find("run"), step = metadata.find("step");
  if (run == metadata.end() || run->second != manifest_.run || step == metadata.end() ||
      step->second != std::to_string(manifest_.step)) {
    fail(ExitCode::bad_data, "{}: belongs to another checkpoint: run and step are not those of the manifest",
         path.string());
  }
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    const SafetensorsTensor& tensor = header.tensors[i];
    const auto name = parse_run_name(tensor.name);
    const auto found = name ? pieces_.find(key_of(name->kind, name->parameter)) : pieces_.end();
    if (found == pieces_.end() || tensor.shape.size() != 1 || tensor.dtype.dtype != dtype_of(name->kind))
      fail(ExitCode::bad_data, "{}: tensor {}: is none that the manifest has room for", path.string(),
           tensor.name);
    found->second.push_back({name->offset, tensor.shape[0], index, i});
  }
}

void CheckpointReader::check_coverage() {
  for (const Manifest::Kind& kind : manifest_.kinds) {
    for (const Manifest::Parameter& parameter : manifest_.parameters) {
      Pieces& pieces = pieces_.find(key_of(kind.name, parameter.name))->second;
      std::ranges::sort(pieces, {}, &Piece::offset);
      std::int64_t next = 0;
      bool gapless = true;
      for (const Piece& piece : pieces) {
        gapless = gapless && piece.offset == next;
        if (!gapless) break;  // whatever the offset is, nothing is added to it
        next += piece.count;
      }
      const std::int64_t all = parameter.num_elements();
      if (!gapless || next != all) {
        fail(ExitCode::bad_data, "{}: {} of {}: the files do not hold each of its {} elements once",
             folder_.string(), kind.name, parameter.name, all);
      }
    }
  }
}

void CheckpointReader::verify(int part, int parts) const {
  std::size_t index = 0;
  for (const StateFileRecord& record : manifest_.files) {
    const auto count = record.checksums.size(), step = static_cast<std::size_t>(parts);
    // Those before it in the other files count on, so that small files do not all fall to the first part.
    std::size_t first = (static_cast<std::size_t>(part) + step - index % step) % step;
    index += count;
    if (first >= count) continue;
    const File file = File::open_within(folder_, record.name);
    for (; first < count; first += step) verify_state_file_part(file, record, first);
  }
}

std::optional<DType> CheckpointReader::dtype_of(std::string_view kind) const {
  const auto found = std::ranges::find(manifest_.kinds, kind, &Manifest::Kind::name);
  return found == manifest_.kinds.end() ? std::nullopt : std::optional(found->dtype);
}

void CheckpointReader::read(std::string_view kind, const std::string& parameter, std::int64_t offset,
                            std::span<std::byte> bytes) const {
  const auto found = pieces_.find(key_of(kind, parameter));
  AUTOGLM_CHECK(found != pieces_.end(), "{} of {}", kind, parameter);
  const Pieces& pieces = found->second;
  const auto width = static_cast<std::int64_t>(dtype_size(*dtype_of(kind)));
  const auto above = [](std::int64_t value, const Piece& piece) { return value < piece.offset; };
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), offset, above);
  AUTOGLM_CHECK(piece != pieces.begin(), "{} of {} at {}", kind, parameter, offset);
  for (--piece; !bytes.empty(); ++piece) {
    AUTOGLM_CHECK(piece != pieces.end(), "{} of {} at {}", kind, parameter, offset);
    const std::int64_t skipped = offset - piece->offset;
    const std::int64_t count =
        std::min(piece->count - skipped, static_cast<std::int64_t>(bytes.size()) / width);
    const auto part = bytes.first(static_cast<std::size_t>(count * width));
    const SafetensorsHeader& header = headers_[piece->file];
    const std::uint64_t begin = header.data_offset() + header.tensors[piece->tensor].offset;
    File::open_within(folder_, manifest_.files[piece->file].name)
        .read_at(begin + static_cast<std::uint64_t>(skipped * width), part);
    offset += count;
    bytes = bytes.subspan(part.size());
  }
}

}  // namespace autoglm
