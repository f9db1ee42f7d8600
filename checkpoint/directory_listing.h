// Which files of a model directory go along to the trained model.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/model_directory.h"

namespace autoglm {

inline constexpr std::string_view kRunRecordName = "run.json";
inline constexpr std::string_view kMetricsName = "metrics.jsonl";

struct FilesBeside {
  std::vector<OtherFile> copied;     // sorted by name
  std::vector<std::string> skipped;  // sorted; a folder is named once, with a '/' at its end
};

// Sorts every file of `directory` and its subfolders, `handled` (names in the directory itself) excepted.
//
// Copied is every regular file, symbolic links to one included, but
// - weights in another form, which training would leave stale: other *.safetensors, pytorch_model*.bin and
// its index,
//   and *.pt, *.pth, *.ckpt, *.h5, *.msgpack, *.gguf, *.onnx, *.onnx_data;
// - what a training run leaves beside its model: run.json, metrics.jsonl, folders checkpoint-* and a
// Trainer's
//   optimizer.bin, scheduler.bin, rng_state*;
// - folders whose name starts with a dot (.git, .cache), and symbolic links to folders;
// - everything that is no regular file (pipes, sockets, devices, dangling links).
// Throws Error(missing_input) when a folder cannot be listed.
FilesBeside list_files_beside(const std::filesystem::path& directory, const std::set<std::string>& handled);

// Every file of the model directory that a trained model consists of, relative to its folder; config.json is
// last, because a folder without it is no model to any program.
std::vector<std::string> model_file_names(const ModelDirectory& model);

}  // namespace autoglm
