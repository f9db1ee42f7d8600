#include "checkpoint/directory_listing.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "base/error.h"
#include "checkpoint/file.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::array kSkippedFiles = {
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "run.json",
    "metrics.jsonl",
    "optimizer.bin",
    "scheduler.bin",
    "rng_state*",
};
constexpr std::array kSkippedFolders = {".*", "checkpoint-*"};

template <std::size_t N>
bool matches_any(const std::string& name, const std::array<const char*, N>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const char* pattern) { return ::fnmatch(pattern, name.c_str(), 0) == 0; });
}

class Lister {
 public:
  Lister(const fs::path& directory, const std::set<std::string>& handled)
      : directory_(directory), handled_(handled) {}

  // `prefix` is "" or ends with '/'.
  void list(const std::string& prefix) {
    std::error_code error;
    for (fs::directory_iterator entry(directory_ / prefix, error), end; !error && entry != end;
         entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (prefix.empty() && handled_.contains(name)) continue;
      sort_entry(*entry, prefix, name);
    }
    if (error) {
      fail(ExitCode::missing_input, "{}: the folder cannot be listed: {}", (directory_ / prefix).string(),
           error.message());
    }
  }

  FilesBeside take() {
    std::sort(found_.copied.begin(), found_.copied.end(),
              [](const OtherFile& left, const OtherFile& right) { return left.name < right.name; });
    std::sort(found_.skipped.begin(), found_.skipped.end());
    return std::move(found_);
  }

 private:
  void sort_entry(const fs::directory_entry& entry, const std::string& prefix, const std::string& name) {
    std::error_code ignored;  // what cannot be looked at is no regular file
    if (entry.is_directory(ignored)) {
      if (entry.is_symlink(ignored) || matches_any(name, kSkippedFolders)) {
        found_.skipped.push_back(prefix + name + '/');
      } else {
        list(prefix + name + '/');
      }
    } else if (entry.is_regular_file(ignored) && !matches_any(name, kSkippedFiles)) {
      found_.copied.push_back({prefix + name, entry.file_size(ignored)});
    } else {
      found_.skipped.push_back(prefix + name);
    }
  }

  const fs::path& directory_;
  const std::set<std::string>& handled_;
  FilesBeside found_;
};

}  // namespace

std::vector<std::string> model_file_names(const ModelDirectory& model) {
  std::vector<std::string> names;
  for (const SafetensorsFile& file : model.weight_files()) names.push_back(file.path().filename().string());
  if (model.index()) names.emplace_back(kIndexName);
  for (const OtherFile& file : model.other_files()) names.push_back(file.name);
  names.emplace_back(kConfigName);
  return names;
}

FilesBeside list_files_beside(const fs::path& directory, const std::set<std::string>& handled) {
  Lister lister(directory, handled);
  lister.list("");
  return lister.take();
}

}  // namespace autoglm
