#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/step_store/step_store.h"
#include "launcher/export/export_command.h"
#include "launcher/export/found_checkpoints.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Listed {
  StepFolder folder;
  std::optional<Manifest> manifest;  // none where that cannot be read
  std::string problem;               // empty: whole, as far as sizes and headers tell
  std::uint64_t bytes = 0;           // of all files that are there
};

struct Listing {
  fs::path folder;
  std::vector<Listed> checkpoints;  // the newest first
  std::vector<std::string> unfinished;
  std::optional<std::int64_t> latest;  // what a job would go on from
  std::optional<std::int64_t> best;
  std::optional<double> best_loss;
};

std::uint64_t bytes_in(const fs::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (auto at = fs::directory_iterator(folder, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    std::error_code unknown;
    const std::uintmax_t size = at->file_size(unknown);
    if (!unknown) bytes += size;
  }
  return bytes;
}

Listed look_at(const StepFolder& folder) {
  Listed listed{folder, {}, {}, bytes_in(folder.path)};
  try {
    listed.manifest = read_manifest(folder.path);
    open_checkpoint(folder.path);
  } catch (const Error& error) {
    listed.problem = error.what();
  }
  return listed;
}

// Folders of saves and removals that are under way, or were cut short, and broken checkpoints that were set aside.
std::vector<std::string> unfinished_in(const fs::path& folder, const std::vector<Listed>& whole) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto at = fs::directory_iterator(folder, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    const bool listed = std::ranges::any_of(
        whole, [&](const Listed& one) { return one.folder.path.filename().string() == name; });
    std::error_code ignored;
    if (name.starts_with("checkpoint-") && !listed && at->is_directory(ignored)) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

Listing look_into(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error))
    fail(ExitCode::missing_input, "{}: there is no such folder", path.string());
  Listing listing;
  listing.folder = checkpoint_folder_of(path);
  for (const StepFolder& one : list_step_folders(listing.folder)) listing.checkpoints.push_back(look_at(one));
  listing.unfinished = unfinished_in(listing.folder, listing.checkpoints);
  const auto latest = std::ranges::find_if(listing.checkpoints, &std::string::empty, &Listed::problem);
  if (latest == listing.checkpoints.end()) return listing;
  listing.latest = latest->folder.step;
  const ordered_json& training = latest->manifest->training;
  if (!training.is_object() || !training.contains("best") || !training["best"].is_object()) return listing;
  const ordered_json step = training["best"].value("step", ordered_json());
  const ordered_json loss = training["best"].value("validation_loss", ordered_json());
  if (!step.is_number_integer() || !loss.is_number()) return listing;
  listing.best = step.get<std::int64_t>();
  listing.best_loss = loss.get<double>();
  return listing;
}

ordered_json to_json(const Listing& listing) {
  ordered_json checkpoints = ordered_json::array();
  for (const Listed& one : listing.checkpoints) {
    ordered_json object = {{"step", one.folder.step},
                           {"path", text_as_json(one.folder.path.string())},
                           {"written_at", nullptr},
                           {"bytes", one.bytes},
                           {"whole", one.problem.empty()},
                           {"problem", nullptr},
                           {"latest", listing.latest == one.folder.step},
                           {"best", listing.best == one.folder.step}};
    if (one.manifest) object["written_at"] = one.manifest->written_at;
    if (!one.problem.empty()) object["problem"] = text_as_json(one.problem);
    checkpoints.push_back(std::move(object));
  }
  ordered_json unfinished = ordered_json::array();
  for (const std::string& name : listing.unfinished) unfinished.push_back(text_as_json(name));
  ordered_json best;
  if (listing.best) best = {{"step", *listing.best}, {"validation_loss", *listing.best_loss}};
  return {{"folder", text_as_json(listing.folder.string())},
          {"checkpoints", std::move(checkpoints)},
          {"latest", listing.latest ? ordered_json(*listing.latest) : ordered_json()},
          {"best", std::move(best)},
          {"unfinished", std::move(unfinished)}};
}

std::string describe(const Listing& listing, const Listed& one) {
  if (!one.problem.empty()) return one.problem;
  std::string text = "whole";
  if (listing.latest == one.folder.step) text += ", latest";
  if (listing.best == one.folder.step)
    text += fmt::format(", best: validation loss {:.4f}", *listing.best_loss);
  return text;
}

std::string to_text(const Listing& listing) {
  if (listing.checkpoints.empty() && listing.unfinished.empty())
    return fmt::format("{}: holds no checkpoint\n", listing.folder.string());
  std::string text =
      fmt::format("{}\n{:>10}  {:<20}  {:>10}\n", listing.folder.string(), "step", "written", "size");
  for (const Listed& one : listing.checkpoints)
    text += fmt::format("{:>10}  {:<20}  {:>10}  {}\n", one.folder.step,
                        one.manifest ? one.manifest->written_at : "",
                        format_bytes(static_cast<std::int64_t>(one.bytes)), describe(listing, one));
  for (const std::string& name : listing.unfinished)
    text += fmt::format("{}: not finished, or set aside\n", name);
  return text + "whole: as far as names, sizes and headers tell; --verify reads every byte\n";
}

}  // namespace

void list_checkpoints(const ExportOptions& options, const PrintText& print) {
  const Listing listing = look_into(options.list);
  print(options.json ? to_json(listing).dump(2) + "\n" : to_text(listing));
}

}  // namespace autoglm
