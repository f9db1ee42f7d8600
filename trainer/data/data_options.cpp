#include "trainer/data/data_options.h"

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::int64_t kLongestSequence = 1 << 20;

}  // namespace

void check(const DataOptions& options) {
  if (options.files.empty())
    fail(ExitCode::usage, "no data file is given: name at least one with --data FILE");
  if (options.sequence_length < 2 || options.sequence_length > kLongestSequence) {
    fail(ExitCode::usage, "--sequence-length must be between 2 and {}, not {}", kLongestSequence,
         options.sequence_length);
  }
  if (!(options.validation.fraction >= 0 && options.validation.fraction < 1)) {
    fail(ExitCode::usage, "--validation takes a fraction of at least 0 and below 1, or a file, not {}",
         options.validation.fraction);
  }
}

}  // namespace autoglm
