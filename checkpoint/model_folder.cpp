#include "checkpoint/model_folder.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "checkpoint/directory_listing.h"
#include "checkpoint/file.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr std::string_view kCachePrefix = "models--";

bool holds_config(const fs::path& folder) {
  return name_exists(folder / kConfig);
}

// The folders in `folder` that are models, by name.
std::vector<std::string> models_in(const fs::path& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (holds_config(entry->path())) found.push_back(entry->path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// "org/name": two parts of the characters that the hub's names have, neither of which is "." or "..".
bool looks_like_hub_name(std::string_view text) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
  const std::size_t slash = text.find('/');
  return slash != 0 && slash != std::string_view::npos && slash + 1 < text.size() &&
         text.rfind('/') == slash && text.front() != '.' && text[slash + 1] != '.' &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

// Where the hub's own programs keep what they fetched.
std::optional<fs::path> hub_cache() {
  if (const char* cache = std::getenv("HF_HUB_CACHE")) return fs::path(cache);
  if (const char* home = std::getenv("HF_HOME")) return fs::path(home) / "hub";
  if (const char* home = std::getenv("HOME")) return fs::path(home) / ".cache" / "huggingface" / "hub";
  return std::nullopt;
}

std::string cache_folder_of(std::string_view hub_name) {
  std::string folder(kCachePrefix);
  for (const char character : hub_name) {
    if (character == '/')
      folder += "--";
    else
      folder += character;
  }
  return folder;
}

// Text up to and with the scheme of an address, of which a path has often lost a slash: "https:/".
std::size_t scheme_length(std::string_view text) {
  const std::size_t end = text.find(":/");
  if (end == std::string_view::npos || end < 2 || text.substr(0, end).find('/') != std::string_view::npos)
    return 0;
  return std::min(text.find_first_not_of('/', end + 1), text.size());
}

// "org/name" of "https://huggingface.co/org/name/tree/main", "hf.co/org/name", "hf://org/name" and "org/name@main".
std::optional<std::string> name_on_hub(std::string_view text) {
  const std::size_t scheme = scheme_length(text);
  const std::string_view before = text.substr(0, scheme);
  if (scheme > 0 && !before.starts_with("http") && !before.starts_with("hf:")) return std::nullopt;
  std::string_view rest = text.substr(scheme);
  const std::string_view first = rest.substr(0, std::min(rest.find('/'), rest.size()));
  const bool host = before.starts_with("http") || first == "huggingface.co" || first == "hf.co";
  if (host) rest.remove_prefix(std::min(first.size() + 1, rest.size()));
  if (scheme > 0 || host) {
    const std::size_t slash = rest.find('/');
    if (slash != std::string_view::npos) rest = rest.substr(0, rest.find('/', slash + 1));
  }
  rest = rest.substr(0, rest.find_first_of("@:"));
  if (!looks_like_hub_name(rest)) return std::nullopt;
  return std::string(rest);
}

[[noreturn]] void fail_hub_name(const std::string& given, const std::string& name) {
  if (const auto cache = hub_cache()) {
    const std::vector<std::string> fetched = models_in(*cache / cache_folder_of(name) / "snapshots");
    if (!fetched.empty())
      fail(ExitCode::missing_input,
           "{}: is a name on the hub, and models are read from folders; it was fetched before, so give "
           "--model {}",
           given, fetched.front());
  }
  fail(ExitCode::missing_input,
       "{}: there is no such model directory; a name on the hub is not fetched: run \"hf download {} "
       "--local-dir DIR\" first, "
       "then give --model DIR",
       given, name);
}

// Why a text that names no folder does not, where its spelling tells; empty otherwise.
std::string describe_spelling(const std::string& text) {
  if (text.starts_with("file:")) return "give the path alone, without \"file://\"";
  if (scheme_length(text) > 0)
    return "it is an address, and models are read from folders of this host: fetch it first, then give its "
           "folder";
  if (text.starts_with("~")) return "\"~\" was not expanded: write the home folder's path in full";
  if (text.find('$') != std::string::npos)
    return "the variable in it was not expanded: write the path in full";
  if (text != std::string_view(text).substr(0, text.find_last_not_of(" \t\r\n") + 1))
    return "it ends in a blank: take that out";
  return {};
}

// Folders that are called almost so.
std::optional<std::string> nearest_folder(const fs::path& path) {
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) names.push_back(entry->path().filename().string());
  }
  const auto nearest = nearest_name(path.filename().string(), names);
  return nearest ? std::optional((path.parent_path() / *nearest).string()) : std::nullopt;
}

[[noreturn]] void fail_absent(const fs::path& path, const std::error_code& error) {
  const std::string text = path.string();
  const auto fail_with = [&](const std::string& way_out) {
    fail(ExitCode::missing_input, "{}: there is no such model directory; {}", text, way_out);
  };
  const std::string spelling = describe_spelling(text);
  const bool plain = scheme_length(text) == 0 && fs::exists(path.parent_path());
  if (const auto name = name_on_hub(text); name && !plain) fail_hub_name(text, *name);
  if (!spelling.empty()) fail_with(spelling);
  const bool quoted = text.size() > 1 && text.front() == '\'' && text.back() == '\'';
  if (quoted && fs::exists(text.substr(1, text.size() - 2)))
    fail(ExitCode::missing_input,
         "{}: there is no such model directory, but there is one of that name without the single quotes; in "
         "a file of settings enclose names in double quotes, or in nothing",
         text);
  if (const auto cache = hub_cache(); cache && text.starts_with(kCachePrefix)) {
    const std::vector<std::string> fetched = models_in(*cache / text / "snapshots");
    if (!fetched.empty()) fail_with(fmt::format("the hub's cache has it: give --model {}", fetched.front()));
  }
  if (const auto nearest = nearest_folder(path)) fail_with(fmt::format("did you mean {}?", *nearest));
  if (error && error != std::errc::no_such_file_or_directory) fail_with(error.message());
  fail(ExitCode::missing_input,
       "{}: there is no such model directory; --model takes the path of a folder that holds config.json and "
       "the weights",
       text);
}

// All models of the hub's cache, or of the folder around it (~/.cache/huggingface).
std::vector<std::string> models_of_cache(const fs::path& folder) {
  std::vector<std::string> found;
  for (const fs::path& root : {folder, folder / "hub"}) {
    std::error_code error;
    for (fs::directory_iterator entry(root, error), end; !error && entry != end; entry.increment(error)) {
      if (!entry->path().filename().string().starts_with(kCachePrefix)) continue;
      for (std::string& model : models_in(entry->path() / "snapshots")) found.push_back(std::move(model));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

[[noreturn]] void fail_without_config(const fs::path& path) {
  const std::string text = path.string();
  const std::string plain = "is not a model directory, for it holds no config.json";
  if (name_exists(path / "adapter_config.json"))
    fail(ExitCode::missing_input,
         "{}: {}: it is an adapter; merge it into its model (merge_and_unload() in peft) and save that, then "
         "give its folder",
         text, plain);
  const bool is_cache = path.filename().string().starts_with(kCachePrefix) ||
                        path.parent_path().filename().string().starts_with(kCachePrefix) ||
                        name_exists(path / "snapshots");
  std::vector<std::string> models = models_in(path / "snapshots");
  if (models.empty()) models = models_in(path);
  if (is_cache && !models.empty())
    fail(ExitCode::missing_input,
         "{}: {}: it is a folder of the hub's cache, whose models lie one level deeper; give --model {}",
         text, plain, few_names(models));
  if (is_cache)
    fail(ExitCode::missing_input,
         "{}: {}: it is a folder of the hub's cache in which no whole model lies; run \"hf download\" again, "
         "with --local-dir DIR, and give --model DIR",
         text, plain);
  if (!models.empty())
    fail(ExitCode::missing_input, "{}: {}; there is one in {}", text, plain, few_names(models));
  if (std::vector<std::string> cached = models_of_cache(path); !cached.empty())
    fail(ExitCode::missing_input, "{}: {}: it is the hub's cache; give --model with one of its models: {}",
         text, plain, few_names(cached));
  for (const std::string_view ending : {".gguf", ".ggml", ".safetensors", ".bin", ".pth"}) {
    if (const auto name = file_ending_in(path, ending))
      fail(ExitCode::missing_input, "{}: {}, only {}; {}", text, plain, *name,
           ending.starts_with(".gg")
               ? "weights for llama.cpp are not read: fetch the model as safetensors, with its config.json"
               : "fetch the whole folder of the model, with config.json and the tokenizer's files");
  }
  fail(ExitCode::missing_input, "{}: {}", text, plain);
}

}  // namespace

void require_model_folder(const fs::path& given) {
  // Without the slash behind it, so that the name at its end is the folder's.
  const fs::path directory = given.has_filename() || !given.has_parent_path() ? given : given.parent_path();
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (!fs::exists(status)) fail_absent(directory, error);
  if (!fs::is_directory(status)) {
    fail(ExitCode::missing_input,
         "{}: is not a directory; name the folder that holds config.json and the weights{}",
         directory.string(),
         holds_config(directory.parent_path()) ? fmt::format(": {}", directory.parent_path().string()) : "");
  }
  if (!holds_config(directory)) fail_without_config(directory);
}

}  // namespace autoglm
