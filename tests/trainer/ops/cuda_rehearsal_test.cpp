// What the CUDA routes allocate on host tensors, and in their rehearsal on meta tensors.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "sharding/memory/job_memory.h"
#include "sharding/memory/rehearsal_arena.h"
#include "trainer/ops/attention_routes.h"
#include "trainer/ops/embedding.h"
#include "trainer/ops/head_cuda.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/projection_cuda.h"
#include "trainer/ops/residual.h"
#include "trainer/ops/rms_norm.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

std::int64_t largest_use(at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const auto empty = [&](std::vector<std::int64_t> shape) { return at::zeros(shape, options); };
  const auto bind = [&](Parameter& parameter) {
    parameter.bind_weight(empty(parameter.spec().shape));
    parameter.bind_gradient(empty(parameter.spec().shape));
  };
  Parameter norm_weight(ParameterSpec{"norm", {64}}), a(ParameterSpec{"a", {48, 64}}),
      b(ParameterSpec{"b", {32, 64}}), bias(ParameterSpec{"bias", {32}}),
      head(ParameterSpec{"head", {500, 64}});
  for (Parameter* parameter : {&norm_weight, &a, &b, &bias, &head}) bind(*parameter);
  const std::vector<ops::Projection> projections{{&a, nullptr}, {&b, &bias}};
  const at::Tensor x = empty({300, 64}), rstd = empty({300});
  at::Tensor dx = empty({300, 64});
  ops::rms_norm_backward_cuda(x, x, norm_weight.weight(), rstd, dx, norm_weight.gradient());
  ops::layer_norm_backward_cuda(x, x, norm_weight.weight(), empty({2, 300}), dx, norm_weight.gradient(),
                                norm_weight.gradient());
  Parameter after_weight(ParameterSpec{"after", {64}});
  bind(after_weight);
  const ops::Norm norm{ops::NormKind::rms, &norm_weight}, after{ops::NormKind::rms, &after_weight};
  const ops::Joined joined = ops::join_forward_cuda(x, x, after, norm);
  ops::join_backward_cuda(dx, x, joined, x, after, norm);
  ops::project_backward_cuda(std::vector{empty({300, 48}), empty({300, 32})}, x, projections, dx);
  ops::embedding_backward_cuda(x, at::zeros({300}, options.dtype(at::kLong)), empty({9, 64}));
  const ops::PackedRows rows{2, 150, {0, 40, 150}};
  const at::Tensor q = empty({2, 150, 4, 16}), k = empty({2, 150, 2, 16});
  const ops::AttentionForward forward = ops::attention_forward_cuda(q, k, k, rows, 0.25f);
  const ops::AttentionGradients gradients = ops::attention_backward_cuda(q, q, k, k, forward, rows, 0.25f);
  const at::Tensor targets = at::zeros({300}, at::TensorOptions().dtype(at::kInt).device(device));
  const ops::HeadResult loss =
      ops::head_loss_cuda(x, targets, {{ops::NormKind::rms, &norm_weight, 1e-5}, &head}, 100, 1, true);
  return device.is_meta() ? 0 : job_memory().device().statistics().peak.total;
}

TEST(CudaRoutesRehearsal, AllocatesWhatTheRoutesAllocate) {
  const at::NoGradGuard no_grad;
  install_job_memory();
  largest_use(at::kCPU);
  const std::int64_t before = job_memory().device().statistics().use.total;
  job_memory().reset_peak();
  const std::int64_t real = largest_use(at::kCPU) - before;
  const RehearsalArena arena;
  ops::set_rehearsal_target(ops::Target::cuda);
  largest_use(at::kMeta);
  ops::set_rehearsal_target(ops::Target::cpu);
  EXPECT_EQ(arena.statistics().device.peak.total, real);
}

}  // namespace
}  // namespace autoglm
