#include "checkpoint/step_store/manifest.h"

#include <charconv>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/json_fields.h"
#include "checkpoint/file.h"
#include "checkpoint/safetensors_header.h"

namespace autoglm {
namespace {

constexpr std::string_view kFormat = "autoglm-train checkpoint";
constexpr std::int64_t kVersion = 1;
constexpr std::string_view kNoChecksum = "00000000";
constexpr std::uint64_t kLargestManifest = std::uint64_t{1} << 30;
constexpr std::size_t kRunDigits = 32;

std::string hexadecimal(std::uint32_t value) {
  return fmt::format("{:08x}", value);
}

std::optional<std::uint32_t> parse_hexadecimal(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size() || text != hexadecimal(value))
    return std::nullopt;
  return value;
}

bool is_hexadecimal(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Where the digits of the text's own checksum stand: before its last quote.
std::optional<std::size_t> checksum_place(std::string_view text) {
  constexpr std::string_view kEnd = "\"\n}\n", kKey = "\"checksum\": \"";
  const std::size_t after = kEnd.size() + kNoChecksum.size();
  if (text.size() < after + kKey.size() || !text.ends_with(kEnd)) return std::nullopt;
  const std::size_t place = text.size() - after;
  if (text.substr(place - kKey.size(), kKey.size()) != kKey) return std::nullopt;
  return place;
}

DType kind_dtype(const JsonFields& kinds, const std::string& kind) {
  const auto found = find_safetensors_dtype(kinds.text(kind));
  if (!found || (found->dtype != DType::float32 && found->dtype != DType::bfloat16))
    kinds.wrong(kind, "F32 or BF16");
  return *found->dtype;
}

Manifest::Parameter parse_parameter(const nlohmann::json& value, const std::string& where) {
  const JsonFields fields(value, where, "parameters.");
  Manifest::Parameter parameter{fields.text("name"), {}};
  const nlohmann::json& shape = value.contains("shape") ? value["shape"] : nlohmann::json();
  if (!shape.is_array() || shape.size() > 8) fields.wrong("shape", "a list of at most 8 sizes");
  std::int64_t elements = 1;
  for (const nlohmann::json& size : shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() == 0 ||
        size.get<std::uint64_t>() > std::uint64_t{1} << 40 ||
        __builtin_mul_overflow(elements, size.get<std::int64_t>(), &elements) ||
        elements > std::int64_t{1} << 56)
      fields.wrong("shape", "a list of sizes");
    parameter.shape.push_back(size.get<std::int64_t>());
  }
  return parameter;
}

StateFileRecord parse_file(const nlohmann::json& value, const std::string& where, const std::string& name) {
  const JsonFields fields(value, where, "files.");
  StateFileRecord record{fields.text("name"), static_cast<std::uint64_t>(fields.bytes("bytes")), {}};
  if (record.name != name) fields.wrong("name", name);
  for (const std::string& sum : fields.texts("crc32c")) {
    const auto parsed = parse_hexadecimal(sum);
    if (!parsed) fields.wrong("crc32c", "a list of 8 hexadecimal digits each");
    record.checksums.push_back(*parsed);
  }
  if (record.checksums.size() != (record.bytes + kChecksumBytes - 1) / kChecksumBytes)
    fields.wrong("crc32c", fmt::format("a list of one for each {} bytes", kChecksumBytes));
  return record;
}

const nlohmann::json& list(const nlohmann::json& value, const JsonFields& fields, const std::string& key) {
  if (!value.contains(key) || !value[key].is_array() || value[key].empty()) fields.wrong(key, "a list");
  return value[key];
}

}  // namespace

std::int64_t Manifest::Parameter::num_elements() const {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) elements *= size;
  return elements;
}

std::string manifest_text(const Manifest& manifest) {
  nlohmann::ordered_json kinds = nlohmann::ordered_json::object();
  for (const Manifest::Kind& kind : manifest.kinds) kinds[kind.name] = safetensors_dtype(kind.dtype).name;
  nlohmann::ordered_json parameters = nlohmann::ordered_json::array();
  for (const Manifest::Parameter& one : manifest.parameters)
    parameters.push_back({{"name", one.name}, {"shape", one.shape}});
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const StateFileRecord& file : manifest.files) {
    nlohmann::ordered_json sums = nlohmann::ordered_json::array();
    for (const std::uint32_t sum : file.checksums) sums.push_back(hexadecimal(sum));
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"crc32c", std::move(sums)}});
  }
  const nlohmann::ordered_json json = {{"format", kFormat},
                                       {"version", kVersion},
                                       {"run", manifest.run},
                                       {"step", manifest.step},
                                       {"written_at", manifest.written_at},
                                       {"kinds", std::move(kinds)},
                                       {"parameters", std::move(parameters)},
                                       {"files", std::move(files)},
                                       {"training", manifest.training},
                                       {"checksum", kNoChecksum}};
  std::string text = json.dump(1) + "\n";
  const auto place = checksum_place(text);
  AUTOGLM_CHECK(place, "no checksum at the end");
  return text.replace(*place, kNoChecksum.size(), hexadecimal(crc32c(as_bytes(text))));
}

Manifest parse_manifest(std::string text, std::string_view source) {
  const auto place = checksum_place(text);
  if (!place) fail(ExitCode::bad_data, "{}: is cut off, or no manifest of a checkpoint", source);
  const std::string written = text.substr(*place, kNoChecksum.size());
  text.replace(*place, kNoChecksum.size(), kNoChecksum);
  if (written != hexadecimal(crc32c(as_bytes(text))))
    fail(ExitCode::bad_data, "{}: is not as it was written: its checksum is another", source);
  const nlohmann::json json = parse_json(text, source);
  const JsonFields fields(json, std::string(source));
  if (fields.text("format") != kFormat || fields.count("version") != kVersion) {
    fail(ExitCode::bad_data, "{}: is of another format, or of version {} of it, where this program reads {}",
         source, fields.count("version"), kVersion);
  }
  Manifest manifest;
  manifest.run = fields.text("run");
  if (manifest.run.size() != kRunDigits || !is_hexadecimal(manifest.run))
    fields.wrong("run", "32 hexadecimal digits");
  manifest.step = fields.bytes("step");
  manifest.written_at = fields.text("written_at");
  const JsonFields kinds = fields.object("kinds");
  for (const char* const name : {"master", "moment1", "moment2"})
    if (kinds.has(name)) manifest.kinds.push_back({name, kind_dtype(kinds, name)});
  kinds.finish();
  std::set<std::string> names;
  for (const nlohmann::json& one : list(json, fields, "parameters")) {
    manifest.parameters.push_back(parse_parameter(one, std::string(source)));
    if (!names.insert(manifest.parameters.back().name).second)
      fields.wrong("parameters", fmt::format("a list without {} twice", manifest.parameters.back().name));
  }
  const nlohmann::json& files = list(json, fields, "files");
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto name = state_file_name(static_cast<int>(i), static_cast<int>(files.size()));
    manifest.files.push_back(parse_file(files[i], std::string(source), name));
  }
  manifest.training = nlohmann::ordered_json::parse(text)["training"];
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestName;
  return parse_manifest(read_text_file_within(folder, std::string(kManifestName), kLargestManifest),
                        path.string());
}

}  // namespace autoglm
