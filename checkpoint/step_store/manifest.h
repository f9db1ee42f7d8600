// manifest.json: what a checkpoint holds, and by what to tell that all of it is there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/step_store/state_file.h"

namespace autoglm {

struct Manifest {
  struct Kind {
    std::string name;  // "master", "moment1", "moment2"
    DType dtype = DType::float32;

    bool operator==(const Kind&) const = default;
  };
  struct Parameter {
    std::string name;
    std::vector<std::int64_t> shape;

    bool operator==(const Parameter&) const = default;
    std::int64_t num_elements() const;
  };

  std::string run;  // 32 hexadecimal digits: checkpoints of one run share them
  std::int64_t step = 0;
  std::string written_at;              // "2026-03-01T12:34:56Z"
  std::vector<Kind> kinds;             // every parameter has all of them
  std::vector<Parameter> parameters;   // the trainable ones, in model order
  std::vector<StateFileRecord> files;  // one for each rank, in order
  nlohmann::ordered_json training;     // what a job needs to go on, which is the job's matter
};

inline constexpr std::string_view kManifestName = "manifest.json";

// The file's text. Its last value is the CRC32C of the text itself, taken with "00000000" in that place.
std::string manifest_text(const Manifest& manifest);

// Throws Error(bad_data) that names `source`: no JSON, another checksum, another format or version, or contents that
// manifest_text() does not write.
Manifest parse_manifest(std::string text, std::string_view source);

// The manifest in a checkpoint's folder. Throws as File::open does, and as parse_manifest().
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace autoglm
