#include "launcher/planner/model_catalog.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "launcher/planner/config_files.h"

namespace autoglm {

ModelCatalog::ModelCatalog(const std::filesystem::path& directory) : directory_(directory) {
  for (const std::filesystem::path& file : list_config_files(directory))
    names_.push_back(file.stem().string());
}

const std::string& ModelCatalog::resolve(std::string_view name) const {
  const std::string wanted = comparable_name(name.substr(name.rfind('/') + 1));
  std::vector<const std::string*> begun;
  for (const std::string& known : names_) {
    const std::string comparable = comparable_name(known);
    if (comparable == wanted) return known;
    if (!wanted.empty() && comparable.starts_with(wanted + "-")) begun.push_back(&known);
  }
  if (begun.size() == 1) return *begun.front();
  const std::string* within = nullptr;  // the longest known name in what was asked for
  for (const std::string& known : names_) {
    if (wanted.find(comparable_name(known)) != std::string::npos &&
        (!within || within->size() < known.size()))
      within = &known;
  }
  if (within)
    fail(ExitCode::usage,
         "there is no built-in model \"{}\"; ask for {} if it has those sizes, or give a folder with its "
         "config.json",
         name, *within);
  fail_unknown_name("built-in model", name, names_);
}

ModelConfig ModelCatalog::find(std::string_view name) const {
  const std::filesystem::path file = directory_ / (resolve(name) + ".json");
  return parse_model_config(read_json_file(file), file.string());
}

}  // namespace autoglm
