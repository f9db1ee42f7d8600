#include "checkpoint/directory_listing.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<SkipReason, std::string_view> kReasons[] = {
    {SkipReason::other_weights, "weights in another form"}, {SkipReason::of_an_adapter, "of an adapter"},
    {SkipReason::of_a_run, "left by a training run"},       {SkipReason::hidden_folder, "hidden folder"},
    {SkipReason::folder_link, "link to a folder"},          {SkipReason::no_file, "no regular file"},
};

constexpr std::array kOtherWeights = {
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
    "*.onnx.data",
    "*.ot",
    "*.tflite",
    "*.npz",
    "*.ggml",
    "*.llamafile",
    "*.engine",
    "*.distcp",
    "model*.bin",
    "consolidated*.bin",
    "ggml*.bin",
    "openvino_*",
    "quantize_config.json",
    "quant_config.json",
    "quantization_config.json",
    "hf_quant_config.json",
};
constexpr std::array kAdapterFiles = {
    "adapter_config.json",     "adapter_model*", "adapter_*.bin",         "adapter_*.safetensors",
    "adapters.safetensors",    "adapters.npz",   "pytorch_lora_weights*", "lora_*.bin",
    "non_lora_trainables.bin", "value_head.bin", "value_head.safetensors"};
constexpr std::array kFilesOfARun = {"run.json",
                                     "run.earlier.json",
                                     "metrics.jsonl",
                                     "metrics.earlier.jsonl",
                                     "optimizer*.bin",
                                     "optimizer*.pt",
                                     "scheduler*.bin",
                                     "scheduler*.pt",
                                     "scaler*.pt",
                                     "rng_state*",
                                     "random_states_*",
                                     "trainer_state.json",
                                     "trainer_log.jsonl",
                                     "trainer_config.yaml",
                                     "training_args.bin",
                                     "training_args.json",
                                     "all_results.json",
                                     "train_results.json",
                                     "eval_results.json",
                                     "test_results.json",
                                     "predict_results.json",
                                     "generated_predictions.*",
                                     "training_loss.*",
                                     "training_eval_*",
                                     "training_rewards_*",
                                     "events.out.tfevents*",
                                     "zero_to_fp32.py",
                                     "zero_pp_rank_*",
                                     "latest",
                                     "latest_checkpointed_iteration.txt"};
constexpr std::array kFoldersOfARun = {
    "checkpoint-*", "global_step*", "optimizer_*", "pytorch_model_fsdp_*", "runs",
    "wandb",        "mlruns",       "tensorboard", "tensorboard_logs",     "iter_*"};

template <std::size_t N>
bool matches_any(const std::string& name, const std::array<const char*, N>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const char* pattern) { return ::fnmatch(pattern, name.c_str(), 0) == 0; });
}

std::optional<SkipReason> reason_to_skip(const fs::directory_entry& entry, const std::string& name) {
  std::error_code ignored;  // what cannot be looked at is no regular file
  if (entry.is_directory(ignored)) {
    if (entry.is_symlink(ignored)) return SkipReason::folder_link;
    if (name.starts_with('.')) return SkipReason::hidden_folder;
    if (matches_any(name, kFoldersOfARun)) return SkipReason::of_a_run;
    return std::nullopt;
  }
  if (!entry.is_regular_file(ignored)) return SkipReason::no_file;
  // The patterns of weights are the widest, so they come last; of a Trainer's states some are *.pt.
  if (matches_any(name, kAdapterFiles)) return SkipReason::of_an_adapter;
  if (matches_any(name, kFilesOfARun)) return SkipReason::of_a_run;
  if (matches_any(name, kOtherWeights)) return SkipReason::other_weights;
  return std::nullopt;
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
    std::sort(found_.skipped.begin(), found_.skipped.end(),
              [](const SkippedFile& left, const SkippedFile& right) { return left.name < right.name; });
    return std::move(found_);
  }

 private:
  void sort_entry(const fs::directory_entry& entry, const std::string& prefix, const std::string& name) {
    std::error_code ignored;
    const bool is_folder = entry.is_directory(ignored);
    const std::string path = prefix + name + (is_folder ? "/" : "");
    if (const auto reason = reason_to_skip(entry, name)) {
      found_.skipped.push_back({path, *reason});
    } else if (is_folder) {
      list(path);
    } else {
      found_.copied.push_back({path, entry.file_size(ignored)});
    }
  }

  const fs::path& directory_;
  const std::set<std::string>& handled_;
  FilesBeside found_;
};

}  // namespace

FilesBeside list_files_beside(const fs::path& directory, const std::set<std::string>& handled) {
  Lister lister(directory, handled);
  lister.list("");
  return lister.take();
}

std::string describe_skipped(std::span<const SkippedFile> files) {
  constexpr std::size_t kNamesShown = 30;
  std::string text;
  for (const auto& [reason, words] : kReasons) {
    std::vector<std::string> names;
    for (const SkippedFile& file : files) {
      if (file.reason == reason) names.push_back(file.name);
    }
    if (names.empty()) continue;
    text += fmt::format("{}{} ({})", text.empty() ? "" : "; ", few_names(names, kNamesShown), words);
  }
  return text;
}

std::string few_names(std::span<const std::string> names, std::size_t most) {
  const std::string first = fmt::format("{}", fmt::join(names.first(std::min(names.size(), most)), ", "));
  return names.size() > most ? fmt::format("{} and {} more", first, names.size() - most) : first;
}

std::optional<std::string> file_ending_in(const std::filesystem::path& folder, std::string_view ending) {
  std::optional<std::string> first;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(ending) && (!first || name < *first)) first = name;
  }
  return first;
}

}  // namespace autoglm
