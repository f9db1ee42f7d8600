#define AUTOGLM_SIMD baseline
#include "trainer/simd/kernels_body.h"
