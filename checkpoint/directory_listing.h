// Which files of a model directory go along to the trained model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

inline constexpr std::string_view kRunRecordName = "run.json";
inline constexpr std::string_view kMetricsName = "metrics.jsonl";
// Those of the run that wrote the model in the folder, while a later one is to replace it.
inline constexpr std::string_view kEarlierRecordName = "run.earlier.json";
inline constexpr std::string_view kEarlierMetricsName = "metrics.earlier.jsonl";

// A file that is no weight file of the model.
struct OtherFile {
  std::string name;  // relative to the directory, with '/'
  std::uint64_t bytes = 0;
};

// Why a file stays behind:
enum class SkipReason {
  other_weights,  // weights in another form, which training would leave stale: other *.safetensors,
                  // pytorch_model*.bin and its index, *.pt, *.gguf, *.onnx and the like, and the settings of
                  // quantized ones
  of_an_adapter,  // adapter_config.json, adapter_model.* and the like: loaders would take the adapter for the
                  // model, and put it on top of trained weights
  of_a_run,  // what a training run leaves beside its model: run.json, metrics.jsonl, checkpoint-*/, and a
             // Trainer's or DeepSpeed's states, arguments, results, logs and plots
  hidden_folder,  // a folder whose name starts with a dot (.git, .cache)
  folder_link,    // a symbolic link to a folder
  no_file,        // neither a folder nor a regular file (a pipe, a socket, a device, a dangling link)
};

struct SkippedFile {
  std::string name;  // relative to the directory; a folder is named once, with a '/' at its end
  SkipReason reason;
};

struct FilesBeside {
  std::vector<OtherFile> copied;  // every regular file else, symbolic links to one included
  std::vector<SkippedFile> skipped;
};

// Sorts every file of `directory` and its subfolders, `handled` (names in the directory itself) excepted; both
// lists are in the order of names. Throws Error(missing_input) when a folder cannot be listed.
FilesBeside list_files_beside(const std::filesystem::path& directory, const std::set<std::string>& handled);

// "a.gguf, b.gguf (weights in another form); .git/ (hidden folder)", every name of a kind up to a screenful.
std::string describe_skipped(std::span<const SkippedFile> files);

// "a, b, c and 2 more".
std::string few_names(std::span<const std::string> names, std::size_t most = 3);

// The first name in the folder, in their order, that ends so; none where the folder cannot be read.
std::optional<std::string> file_ending_in(const std::filesystem::path& folder, std::string_view ending);

}  // namespace autoglm
