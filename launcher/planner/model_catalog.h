// Well-known models by name, so that a plan needs no download: configs/models/NAME.json. AutoGLM-Phone-9B
// stands for its language part alone.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/models/config.h"

namespace autoglm {

class ModelCatalog {
 public:
  // Lists the files NAME.json of a folder, each a config.json; none is read yet. Throws Error(missing_input)
  // when the folder cannot be read or holds none.
  explicit ModelCatalog(const std::filesystem::path& directory);

  // In alphabetical order, as they are written.
  const std::vector<std::string>& names() const { return names_; }

  // The configuration of the model of that name. Case does not count, nor an organization before a slash
  // ("facebook/opt-13b"); the beginning of a single name will do, up to a hyphen ("glm-4-9b"). Throws
  // Error(usage) that lists the names and suggests the nearest, and what parse_model_config throws.
  ModelConfig find(std::string_view name) const;

  // The name as it is written in names().
  const std::string& resolve(std::string_view name) const;

 private:
  std::filesystem::path directory_;
  std::vector<std::string> names_;
};

}  // namespace autoglm
