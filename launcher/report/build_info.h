// What a program was built with.
#pragma once

#include <torch/headeronly/version.h>

#include <string>
#include <string_view>

#include "launcher/options/option_table.h"

namespace autoglm {

#ifdef AUTOGLM_WITH_CUDA
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

inline std::string version_of(std::string_view program) {
  return version_text(program, TORCH_VERSION, kWithCuda);
}

}  // namespace autoglm
