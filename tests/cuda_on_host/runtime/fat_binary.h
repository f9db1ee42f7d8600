// For which architectures a program was compiled, as nvcc writes it down in the images that it registers.
#pragma once

#include <string>

namespace cuda_on_host {

// Whether the image holds machine code that a card of this compute capability (86 is 8.6) runs, or PTX that its
// driver compiles.
bool has_code_for(const void* image, int capability);

// "sm_80, compute_90".
std::string describe_code(const void* image);

}  // namespace cuda_on_host
