#define AUTOGLM_SIMD avx512
#include "trainer/simd/kernels_body.h"
