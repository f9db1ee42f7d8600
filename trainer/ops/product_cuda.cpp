#include "trainer/ops/product_cuda.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "base/error.h"

namespace autoglm::ops {
namespace {

// cuBLAS may otherwise add the parts of a long sum in bf16.
void sum_in_fp32() {
  static const bool done = [] {
    at::globalContext().setAllowBF16ReductionCuBLAS(false);
    return true;
  }();
  static_cast<void>(done);
}

bool widens(const at::Tensor& operand, const at::Tensor& out) {
  return operand.scalar_type() != out.scalar_type();
}

}  // namespace

void product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out) {
  at::Tensor result = out;
  if (!widens(a, out)) {
    if (a.is_cuda()) sum_in_fp32();
    at::mm_out(result, a, b);
  } else if (a.is_cuda()) {
    sum_in_fp32();
    at::mm_out(result, a, b, at::kFloat);
  } else {
    at::mm_out(result, a.to(at::kFloat), b.to(at::kFloat));
  }
}

void add_product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out) {
  AUTOGLM_CHECK(out.size(0) > 1 && out.size(1) > 1, "a product of {} x {}", out.size(0), out.size(1));
  at::Tensor result = out;
  if (!widens(a, out)) {
    if (a.is_cuda()) sum_in_fp32();
    at::addmm_out(result, result, a, b);
  } else if (a.is_cuda()) {
    sum_in_fp32();
    at::addmm_out(result, result, a, b, at::kFloat);
  } else {
    at::addmm_out(result, result, a.to(at::kFloat), b.to(at::kFloat));
  }
}

void product_with_bias_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                            const at::Tensor& out) {
  at::Tensor result = out;
  if (a.is_cuda()) sum_in_fp32();
  at::addmm_out(result, bias, a, b);
}

}  // namespace autoglm::ops
