#include "trainer/ops/head_cuda.h"

#include "sharding/memory/category.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/product_cuda.h"
#include "trainer/ops/projection.h"

namespace autoglm::ops {
namespace {

// Everything the chunks need, allocated once. Category: head.
struct Buffers {
  std::int64_t chunk, num_chunks;
  at::Tensor rows;        // int32 [num_chunks * chunk] supervised rows of x, then -1
  at::Tensor targets;     // int32, of those rows, then -1
  at::Tensor losses;      // fp64, of those rows
  at::Tensor x;           // [chunk, H] the chunk's rows of x; unused ones are zeros
  at::Tensor logits;      // fp32 [chunk, V], then their gradient
  at::Tensor dprojected;  // [chunk, W] (only for training)

  Buffers(const at::Tensor& like, std::int64_t chunk_tokens, const Parameter& matrix, bool training)
      : chunk(std::min(chunk_tokens, like.size(0))), num_chunks(cuda::blocks_for(like.size(0), chunk)) {
    const std::int64_t padded = num_chunks * chunk;
    const std::int64_t vocabulary = matrix.spec().shape[0], width = matrix.spec().shape[1];
    rows = at::empty({padded}, like.options().dtype(at::kInt));
    targets = at::empty({padded}, like.options().dtype(at::kInt));
    losses = at::empty({padded}, like.options().dtype(at::kDouble));
    x = at::empty({chunk, like.size(1)}, like.options());
    logits = at::empty({chunk, vocabulary}, like.options().dtype(at::kFloat));
    if (training) dprojected = at::empty({chunk, width}, like.options());
  }

  // The gradient of the logits as products read it: in x's type, over the logits themselves.
  at::Tensor dlogits() const { return logits.view(x.scalar_type()).narrow(1, 0, logits.size(1)); }
};

// The values are read before this returns (uploads_wait()).
void upload(std::vector<std::int32_t>& values, at::Tensor& to) {
  to.copy_(at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kInt),
           !uploads_wait());
}

// Returns the number of supervised rows.
std::int64_t upload_supervised(const at::Tensor& targets, Buffers& buffers) {
  const std::size_t padded = static_cast<std::size_t>(buffers.rows.numel());
  std::vector<std::int32_t> rows, values;
  for (std::int64_t row = 0; row < targets.numel(); ++row) {
    const std::int32_t target = read_pointer<std::int32_t>(targets)[row];
    if (target == kIgnoredTarget) continue;
    AUTOGLM_CHECK(target >= 0 && target < buffers.logits.size(1), "target {} of a vocabulary of {}", target,
                  buffers.logits.size(1));
    rows.push_back(static_cast<std::int32_t>(row));
    values.push_back(target);
  }
  const auto supervised = static_cast<std::int64_t>(rows.size());
  rows.resize(padded, -1);
  values.resize(padded, -1);
  upload(rows, buffers.rows);
  upload(values, buffers.targets);
  return supervised;
}

double sum_of_losses(const Buffers& buffers, std::int64_t supervised) {
  if (supervised == 0) return 0;
  std::vector<double> losses(static_cast<std::size_t>(supervised));
  at::from_blob(losses.data(), {supervised}, at::kDouble).copy_(buffers.losses.narrow(0, 0, supervised));
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum;
}

// The rows of x that the list names from `first` on, as the chunk.
void gather_chunk(const at::Tensor& x, std::int64_t first, Buffers& buffers) {
  if (!computes(x)) return count_kernel(WorkKind::head, {buffers.x}, {buffers.x});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::GatherRows<T, std::int32_t>{read_pointer<T>(x),
                                          read_pointer<std::int32_t>(buffers.rows) + first,
                                          write_pointer<T>(buffers.x), x.size(1), x.size(0)},
        buffers.chunk, x);
  });
}

// Puts the chunk's gradient where its rows are in dx.
void scatter_chunk(const at::Tensor& dchunk, std::int64_t first, const Buffers& buffers, at::Tensor& dx) {
  if (!computes(dx)) return count_kernel(WorkKind::head, {dchunk}, {dchunk});
  with_activation_type(dx, [&](auto type) {
    using T = decltype(type);
    run(cuda::ScatterRows<T>{read_pointer<T>(dchunk), read_pointer<std::int32_t>(buffers.rows) + first,
                             write_pointer<T>(dx), dx.size(1), dx.size(0)},
        buffers.chunk, dx);
  });
}

// Losses of the chunk, and over its logits their gradient. A row of logits fits no cache: it is read for maximum and
// sum, and for the gradient.
void cross_entropy(const at::Tensor& x, std::int64_t first, float gradient_scale, bool training,
                   Buffers& buffers) {
  if (!computes(x)) {
    const std::int64_t all = bytes_of(buffers.logits);
    return count_work(WorkKind::head,
                      {(training ? 2 : 1) * all, training ? bytes_of(buffers.dlogits()) : 0, 1, 0});
  }
  with_activation_type(x, [&](auto type) {
    run(cuda::CrossEntropy<decltype(type)>{write_pointer<float>(buffers.logits),
                                           read_pointer<std::int32_t>(buffers.targets) + first,
                                           write_pointer<double>(buffers.losses) + first,
                                           buffers.logits.size(1), gradient_scale, training},
        buffers.chunk, x);
  });
}

// Loss of the chunk whose first row is `first` of the list; when training, its gradients.
void run_chunk(const at::Tensor& x, std::int64_t first, const Head& head, float gradient_scale,
               Buffers& buffers, at::Tensor& dx) {
  const bool training = buffers.dprojected.defined();
  const Projection projection{head.projection, nullptr};
  const at::Tensor& matrix = head.weight->weight();
  gather_chunk(x, first, buffers);
  const NormResult normed = norm_forward(buffers.x, head.norm);
  const at::Tensor projected = head.projection == nullptr ? normed.y : project(normed.y, {&projection, 1})[0];
  product_cuda(projected, matrix.t(), buffers.logits, WorkKind::head);
  cross_entropy(x, first, gradient_scale, training, buffers);
  if (!training) return;
  product_cuda(buffers.dlogits(), matrix, buffers.dprojected);
  if (head.weight->trainable())
    gradient_product_cuda(buffers.dlogits().t(), projected, head.weight->take_gradient());
  at::Tensor dchunk = buffers.dprojected;
  if (head.projection != nullptr) dchunk = project_backward({&dchunk, 1}, normed.y, {&projection, 1}, true);
  dchunk = norm_backward(dchunk, buffers.x, normed.statistics, head.norm);
  scatter_chunk(dchunk, first, buffers, dx);
}

}  // namespace

HeadResult head_loss_cuda(const at::Tensor& x, const at::Tensor& targets, const Head& head,
                          std::int64_t chunk_tokens, float gradient_scale, bool training) {
  HeadResult result;
  if (training) {
    const CategoryScope activations(MemoryCategory::activations);
    result.dx = at::empty_like(x);
  }
  Buffers buffers(x, chunk_tokens, *head.weight, training);
  if (!computes(x)) {
    if (training) count_kernel(WorkKind::head, {}, {result.dx});
    run_chunk(x, 0, head, gradient_scale, buffers, result.dx);
    const RepeatedWork others(buffers.num_chunks - 1);
    run_chunk(x, 0, head, gradient_scale, buffers, result.dx);
    return result;
  }
  if (training) result.dx.zero_();
  const std::int64_t supervised = upload_supervised(targets, buffers);
  std::int64_t first = 0;
  do {
    run_chunk(x, first, head, gradient_scale, buffers, result.dx);
    first += buffers.chunk;
  } while (first < supervised);
  result.loss_sum = sum_of_losses(buffers, supervised);
  return result;
}

at::Tensor head_logits_cuda(const at::Tensor& x, const Head& head) {
  const at::Tensor logits =
      at::empty({x.size(0), head.weight->spec().shape[0]}, x.options().dtype(at::kFloat));
  const NormResult normed = norm_forward(x, head.norm);
  const Projection projection{head.projection, nullptr};
  const at::Tensor projected = head.projection == nullptr ? normed.y : project(normed.y, {&projection, 1})[0];
  product_cuda(projected, head.weight->weight().t(), logits);
  return logits;
}

}  // namespace autoglm::ops
