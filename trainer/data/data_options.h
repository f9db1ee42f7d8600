// What a person sets about the data. One spelling on the command line, in --config files and in run.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace autoglm {

enum class LossOn { assistant, all };
// Which token ends an assistant turn in the label where the template has no end token of its own (glm4):
// the token that follows in the text (<|user|>), or the model's end-of-sequence token.
enum class EndOfTurn { user, eos };
// What becomes of a sample longer than a row. split: running text is cut into rows, other samples are truncated.
enum class Overlong { split, truncate, drop, error };

// --validation FRACTION|FILE
struct ValidationSource {
  double fraction = 0;                        // of the samples of --data, in [0, 1)
  std::optional<std::filesystem::path> file;  // a data set of its own; then fraction is 0
};

struct DataOptions {
  std::vector<std::filesystem::path> files;
  std::string template_name = "auto";
  std::int64_t sequence_length = 2048;
  ValidationSource validation;
  LossOn loss_on = LossOn::assistant;
  EndOfTurn end_of_turn = EndOfTurn::user;
  bool packing = true;
  Overlong overlong = Overlong::split;
  std::uint64_t seed = 42;
};

// Throws Error(usage) when a value is out of range: no files, a sequence length below 2 or above 2^20, a
// fraction outside [0, 1).
void check(const DataOptions& options);

}  // namespace autoglm
