#include "base/error.h"

#include <string_view>

namespace autoglm {

void fail_invariant(const char* condition, const char* file, int line, const std::string& detail) {
  std::string_view name = file;
  name = name.substr(name.rfind('/') + 1);
  throw Error(ExitCode::bug, fmt::format("internal error: {} ({}:{}){}{}", condition, name, line,
                                         detail.empty() ? "" : ": ", detail));
}

}  // namespace autoglm
