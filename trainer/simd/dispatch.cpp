#include "trainer/simd/kernels.h"

namespace autoglm::simd {

#define AUTOGLM_DECLARE_KERNELS(name)                     \
  namespace name {                                        \
  extern const ActivationKernels<float> kFp32Kernels;     \
  extern const ActivationKernels<bf16_bits> kBf16Kernels; \
  extern const FloatKernels kFloatKernels;                \
  }
AUTOGLM_DECLARE_KERNELS(baseline)
#ifdef __x86_64__
AUTOGLM_DECLARE_KERNELS(avx2)
AUTOGLM_DECLARE_KERNELS(avx512)
#endif
#undef AUTOGLM_DECLARE_KERNELS

namespace {

struct Choice {
  const char* name;
  const ActivationKernels<float>* fp32;
  const ActivationKernels<bf16_bits>* bf16;
  const FloatKernels* floats;
};

const Choice& choice() {
  static const Choice chosen = [] {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
      return Choice{"avx512", &avx512::kFp32Kernels, &avx512::kBf16Kernels, &avx512::kFloatKernels};
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return Choice{"avx2", &avx2::kFp32Kernels, &avx2::kBf16Kernels, &avx2::kFloatKernels};
    }
#endif
    return Choice{"baseline", &baseline::kFp32Kernels, &baseline::kBf16Kernels, &baseline::kFloatKernels};
  }();
  return chosen;
}

}  // namespace

template <>
const ActivationKernels<float>& activation_kernels<float>() {
  return *choice().fp32;
}
template <>
const ActivationKernels<bf16_bits>& activation_kernels<bf16_bits>() {
  return *choice().bf16;
}
const FloatKernels& float_kernels() {
  return *choice().floats;
}
const char* instruction_set() {
  return choice().name;
}

}  // namespace autoglm::simd
