#include "trainer/ops/product_cuda.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "base/error.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"

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

void count_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, WorkKind of_out,
                   bool adds) {
  const std::int64_t bytes = bytes_of(out);
  count_work(WorkKind::products, {bytes_of(a) + bytes_of(b), 0, 1, 2 * out.numel() * a.size(1)});
  count_work(of_out, {adds ? bytes : 0, bytes, 0, 0});
}

}  // namespace

void product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, WorkKind of_out) {
  if (!computes(out)) return count_product(a, b, out, of_out, false);
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

void add_product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, WorkKind of_out) {
  if (!computes(out)) return count_product(a, b, out, of_out, true);
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

void gradient_product_cuda(const at::Tensor& a, const at::Tensor& b, const GradientBuffer& gradient) {
  (gradient.fresh ? product_cuda : add_product_cuda)(a, b, gradient.values, WorkKind::gradients);
}

void product_with_bias_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                            const at::Tensor& out) {
  if (!computes(out)) return count_product(a, b, out, WorkKind::products, false);
  at::Tensor result = out;
  if (a.is_cuda()) sum_in_fp32();
  at::addmm_out(result, bias, a, b);
}

}  // namespace autoglm::ops
