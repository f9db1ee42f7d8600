// What a tensor in a checkpoint's files is: a run of elements of one parameter, of one kind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/dtype.h"

namespace autoglm {

struct StateRun {
  std::string kind;         // "master", "moment1", "moment2"
  std::string parameter;    // as in the Hugging Face file
  std::int64_t offset = 0;  // of the first element within the parameter, whatever the number of ranks
  std::int64_t count = 0;
  DType dtype = DType::float32;

  std::uint64_t bytes() const;
};

// "master/model.norm.weight/0": kind, parameter and offset, which together name a run in its file.
std::string run_name(const StateRun& run);

struct RunName {
  std::string_view kind, parameter;
  std::int64_t offset = 0;
};

// The parts of a name, which point into it; nothing where it is none.
std::optional<RunName> parse_run_name(std::string_view name);

}  // namespace autoglm
