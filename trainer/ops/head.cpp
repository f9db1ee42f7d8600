#include "trainer/ops/head.h"

#include <cmath>

#include "sharding/memory/category.h"
#include "trainer/ops/head_cuda.h"
#include "trainer/ops/head_products.h"
#include "trainer/ops/projection.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// Everything one chunk needs, allocated once for all chunks. Category: head.
struct Buffers {
  std::int64_t chunk, width, vocabulary;
  at::Tensor x;       // [chunk, H] the chunk's rows of the input
  at::Tensor logits;  // fp32 [chunk, V], then their gradient
  std::unique_ptr<HeadProducts> products;

  Buffers(const at::Tensor& like, std::int64_t chunk_tokens, const Parameter& matrix, bool training)
      : chunk(chunk_tokens), width(matrix.spec().shape[1]), vocabulary(matrix.spec().shape[0]) {
    x = at::empty({chunk, like.size(1)}, like.options());
    logits = at::empty({chunk, vocabulary}, like.options().dtype(at::kFloat));
    products = make_head_products(like, chunk, matrix, training);
  }
};

// The rows between the last layer and the vocabulary matrix.
struct Features {
  NormResult normed;
  at::Tensor projected;  // of the normed rows; the same tensor without a projection

  Features(const at::Tensor& rows, const Head& head) : normed(norm_forward(rows, head.norm)) {
    const Projection projection{head.projection, nullptr};
    projected = head.projection == nullptr ? normed.y : project(normed.y, {&projection, 1})[0];
  }
};

// Gradient of the rows from that of the projected ones.
at::Tensor features_backward(const at::Tensor& dprojected, const at::Tensor& rows, const Features& features,
                             const Head& head) {
  const Projection projection{head.projection, nullptr};
  const at::Tensor dnormed =
      head.projection == nullptr
          ? dprojected
          : project_backward({&dprojected, 1}, features.normed.y, {&projection, 1}, true);
  return norm_backward(dnormed, rows, features.normed.statistics, head.norm);
}

// Loss of each of `count` tokens into `losses`; when training, logits become (softmax - one_hot) * scale.
void cross_entropy(Buffers& buffers, std::span<const std::int32_t> targets, float scale, bool training,
                   std::span<double> losses) {
  const auto& math = simd::float_kernels();
  const std::int64_t n = buffers.vocabulary;
  for_each_row(static_cast<std::int64_t>(targets.size()), 4, [&](std::int64_t i) {
    float* line = write_pointer<float>(buffers.logits) + i * n;
    const std::int32_t target = targets[static_cast<std::size_t>(i)];
    AUTOGLM_CHECK(target >= 0 && target < n, "target {} of a vocabulary of {}", target, n);
    const float target_logit = line[target];
    const float largest = math.maximum(line, n);
    const float sum = math.exp_and_sum(line, n, 1.0f, largest);
    losses[static_cast<std::size_t>(i)] =
        static_cast<double>(largest) + std::log(static_cast<double>(sum)) - static_cast<double>(target_logit);
    if (!training) return;
    math.scale(line, n, scale / sum);
    line[target] -= scale;
  });
}

template <typename T>
void copy_rows(const at::Tensor& from, std::span<const std::int64_t> rows, bool gather, at::Tensor& to) {
  const std::int64_t width = from.size(1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t packed = static_cast<std::int64_t>(i);
    const T* source = read_pointer<T>(from) + (gather ? rows[i] : packed) * width;
    std::copy_n(source, width, write_pointer<T>(to) + (gather ? packed : rows[i]) * width);
  }
}

// Rows from `count` on become zeros: a chunk has all its rows in every op that allocates, whatever the data.
void clear_tail(const at::Tensor& rows, std::int64_t count) {
  const auto used =
      static_cast<std::size_t>(count) * static_cast<std::size_t>(rows.size(1)) * rows.element_size();
  std::fill_n(static_cast<char*>(rows.mutable_data_ptr()) + used, rows.nbytes() - used, char{0});
}

// Gradients of one chunk: of the head's parameters, and the rows of dx. `dprojected` is scratch space for the gradient of
// features.projected.
void chunk_backward(const Features& features, std::span<const std::int64_t> rows, const Head& head,
                    Buffers& buffers, at::Tensor& dprojected, at::Tensor& dx) {
  const auto count = static_cast<std::int64_t>(rows.size());
  buffers.products->backward(features.projected, count, buffers.logits, dprojected);
  clear_tail(dprojected, count);
  const at::Tensor gradient = features_backward(dprojected, buffers.x, features, head);
  with_activation_type(buffers.x, [&](auto type) { copy_rows<decltype(type)>(gradient, rows, false, dx); });
}

std::vector<std::int64_t> supervised_rows(const at::Tensor& targets) {
  std::vector<std::int64_t> rows;
  const auto* values = read_pointer<std::int32_t>(targets);
  for (std::int64_t i = 0; i < targets.numel(); ++i) {
    if (values[i] != kIgnoredTarget) rows.push_back(i);
  }
  return rows;
}

HeadResult head_loss_cpu(const at::Tensor& x, const at::Tensor& targets, const Head& head,
                         std::int64_t chunk_tokens, float gradient_scale, bool training) {
  HeadResult result;
  if (training) {
    const CategoryScope activations(MemoryCategory::activations);
    result.dx = at::empty_like(x);
  }
  Buffers buffers(x, std::min(chunk_tokens, x.size(0)), *head.weight, training);
  at::Tensor dprojected = training ? at::empty({buffers.chunk, buffers.width}, x.options()) : at::Tensor();
  if (!computes(x)) {
    const Features features(buffers.x, head);
    if (training && head.weight->trainable()) head.weight->gradient();
    if (training) features_backward(dprojected, buffers.x, features, head);
    return result;
  }
  if (training) std::fill_n(static_cast<char*>(result.dx.mutable_data_ptr()), result.dx.nbytes(), char{0});
  const std::vector<std::int64_t> supervised = supervised_rows(targets);
  const auto* target_values = read_pointer<std::int32_t>(targets);
  std::vector<std::int32_t> chunk_targets;
  std::vector<double> losses;
  std::size_t first = 0;
  do {
    const std::size_t count = std::min(static_cast<std::size_t>(buffers.chunk), supervised.size() - first);
    const std::span rows(supervised.data() + first, count);
    const auto chunk_rows = static_cast<std::int64_t>(count);
    with_activation_type(x, [&](auto type) { copy_rows<decltype(type)>(x, rows, true, buffers.x); });
    clear_tail(buffers.x, chunk_rows);
    chunk_targets.clear();
    for (const std::int64_t row : rows) chunk_targets.push_back(target_values[row]);
    losses.resize(count);
    const Features features(buffers.x, head);
    buffers.products->logits(features.projected, chunk_rows, buffers.logits);
    cross_entropy(buffers, chunk_targets, gradient_scale, training, losses);
    for (const double loss : losses) result.loss_sum += loss;
    if (training) chunk_backward(features, rows, head, buffers, dprojected, result.dx);
    first += count;
  } while (first < supervised.size());
  return result;
}

at::Tensor head_logits_cpu(const at::Tensor& x, const Head& head) {
  Buffers buffers(x, x.size(0), *head.weight, false);
  const Features features(x, head);
  if (computes(x)) {
    buffers.products->logits(features.projected, x.size(0), buffers.logits);
  }
  return buffers.logits;
}

}  // namespace

HeadResult head_loss(const at::Tensor& x, const at::Tensor& targets, const Head& head,
                     std::int64_t chunk_tokens, float gradient_scale, bool training) {
  const CategoryScope scope(MemoryCategory::head);
  const at::NoGradGuard no_grad;
  return route(x, head_loss_cpu, head_loss_cuda)(x, targets, head, chunk_tokens, gradient_scale, training);
}

at::Tensor head_logits(const at::Tensor& x, const Head& head) {
  const CategoryScope scope(MemoryCategory::head);
  const at::NoGradGuard no_grad;
  return route(x, head_logits_cpu, head_logits_cuda)(x, head);
}

}  // namespace autoglm::ops
