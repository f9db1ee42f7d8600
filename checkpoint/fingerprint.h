// What tells a file from another of its name, without reading all of a large one.
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/model_directory.h"
#include "checkpoint/safetensors.h"

namespace autoglm {

// "19532 bytes, fingerprint 1f0a...": of all bytes of a file up to 64 MiB, of evenly spaced blocks of a
// larger one. Throws as File::open does, and Error(io_failed).
std::string fingerprint_of(const std::filesystem::path& path);

// The same of weights: in a large file, of the header, and of blocks of every tensor.
std::string fingerprint_of(const SafetensorsFile& weights);

// 16 hexadecimal digits, of config.json, its spacing and the order of its keys apart.
std::string fingerprint_of_config(const ModelDirectory& model);

// 16 hexadecimal digits, of the fingerprints of all weight files of a model.
std::string fingerprint_of_weights(const ModelDirectory& model);

}  // namespace autoglm
