#define AUTOGLM_SIMD avx2
#include "trainer/simd/kernels_body.h"
