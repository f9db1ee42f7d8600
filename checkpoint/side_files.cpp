#include "checkpoint/side_files.h"

#include <algorithm>
#include <set>
#include <utility>

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// Above it a file is kept open instead: no tokenizer is as large.
constexpr std::uint64_t kLargestHeld = std::uint64_t{64} << 20;

}  // namespace

SideFiles SideFiles::keep(const ModelDirectory& model) {
  SideFiles kept;
  for (const OtherFile& other : model.other_files()) {
    File file = File::open(model.path() / other.name);
    const std::uint64_t size = file.size();
    if (size > kLargestHeld) {
      kept.files_.emplace(other.name, std::move(file));
      continue;
    }
    std::string text(size, '\0');
    file.read_at(0, std::as_writable_bytes(std::span(text)));
    kept.set(other.name, std::move(text));
  }
  kept.set(std::string(kConfigName), model.config().text);
  return kept;
}

std::optional<std::string> SideFiles::text(std::string_view name) const {
  const auto file = files_.find(name);
  if (file == files_.end() || !std::holds_alternative<std::string>(file->second)) return std::nullopt;
  return std::get<std::string>(file->second);
}

void SideFiles::set(const std::string& name, std::string text) {
  files_.insert_or_assign(name, std::move(text));
}

void SideFiles::remove(const std::string& name) {
  std::erase_if(files_, [&](const auto& file) {
    return file.first == name || (name.ends_with('/') && file.first.starts_with(name));
  });
}

std::vector<std::string> SideFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, contents] : files_) {
    if (name != kConfigName) names.push_back(name);
  }
  names.emplace_back(kConfigName);
  return names;
}

std::uint64_t SideFiles::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [name, contents] : files_) {
    const auto* text = std::get_if<std::string>(&contents);
    sum += text != nullptr ? text->size() : std::get<File>(contents).size();
  }
  return sum;
}

void SideFiles::write(const fs::path& folder) const {
  std::set<fs::path> folders = {folder};
  for (const auto& [name, contents] : files_) {
    const fs::path target = folder / name;
    create_folders(target.parent_path());
    for (fs::path parent = target.parent_path(); parent != folder; parent = parent.parent_path())
      folders.insert(parent);
    if (const auto* text = std::get_if<std::string>(&contents)) {
      write_new_file(target, *text);
    } else {
      copy_file_durably(std::get<File>(contents), target);
    }
  }
  for (const fs::path& one : folders) sync_directory(one);
}

}  // namespace autoglm
