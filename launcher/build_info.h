// What a program was built with.
#pragma once

namespace autoglm {

#ifdef AUTOGLM_WITH_CUDA
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

}  // namespace autoglm
