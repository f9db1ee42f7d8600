// What tests of the CUDA routes share: they run on host tensors, beside the CPU routes.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/trainer/ops/reference.h"

namespace autoglm {

class CudaRoutes : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  CudaRoutes() { at::manual_seed(17); }
  at::ScalarType type() const { return GetParam(); }
  // Two routes that round their results to bf16 may differ by one place.
  double tolerance() const { return type() == at::kFloat ? 2e-6 : 8e-3; }
};

inline std::string type_name(const ::testing::TestParamInfo<at::ScalarType>& info) {
  return info.param == at::kFloat ? "fp32" : "bf16";
}

}  // namespace autoglm
