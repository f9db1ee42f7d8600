#include "checkpoint/model_folder.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
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

// "org/name" of the address "https://huggingface.co/org/name/tree/main".
std::optional<std::string> name_in_address(std::string_view text) {
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos) {
    // Paths are often cleaned of doubled slashes before they arrive.
    if (!text.starts_with("https:/") && !text.starts_with("http:/")) return std::nullopt;
  }
  std::string_view rest = text.substr(text.find(":/") + 2);
  rest = rest.substr(std::min(rest.find_first_not_of('/'), rest.size()));
  const std::size_t host = rest.find('/');
  if (host == std::string_view::npos) return std::nullopt;
  rest = rest.substr(host + 1);
  const std::size_t second = rest.find('/', std::min(rest.find('/'), rest.size() - 1) + 1);
  const std::string name(rest.substr(0, second));
  if (!looks_like_hub_name(name)) return std::nullopt;
  return name;
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

[[noreturn]] void fail_absent(const fs::path& path, const std::error_code& error) {
  const std::string text = path.string();
  if (const auto name = name_in_address(text)) fail_hub_name(text, *name);
  if (looks_like_hub_name(text) && !fs::exists(path.parent_path())) fail_hub_name(text, text);
  if (text.starts_with("~"))
    fail(ExitCode::missing_input,
         "{}: there is no such model directory; \"~\" was not expanded: write the home folder's path in full",
         text);
  const bool quoted = text.size() > 1 && text.front() == '\'' && text.back() == '\'';
  if (quoted && fs::exists(text.substr(1, text.size() - 2)))
    fail(ExitCode::missing_input,
         "{}: there is no such model directory, but there is one of that name without the single quotes; in "
         "a file of "
         "settings enclose names in double quotes, or in nothing",
         text);
  fail(ExitCode::missing_input, "{}: there is no such model directory{}", text,
       error && error != std::errc::no_such_file_or_directory ? " (" + error.message() + ")" : "");
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
         "with "
         "--local-dir DIR, and give --model DIR",
         text, plain);
  if (!models.empty())
    fail(ExitCode::missing_input, "{}: {}; there is one in {}", text, plain, few_names(models));
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
