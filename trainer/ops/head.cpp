#include "trainer/ops/head.h"

#include <cmath>

#include "sharding/memory/category.h"
#include "trainer/ops/head_cuda.h"
#include "trainer/ops/projection.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// fp32 elements of the vocabulary matrix that are widened at a time.
constexpr std::int64_t kWeightTileElements = std::int64_t{4} << 20;

// Everything one chunk needs, allocated once for all chunks. Category: head.
struct Buffers {
  std::int64_t chunk, width, vocabulary, tile_rows;
  at::Tensor x;          // [chunk, H] the chunk's rows of the input
  at::Tensor logits;     // fp32 [chunk, V], then their gradient
  at::Tensor wide;       // fp32 [chunk, W] what the vocabulary matrix reads, widened (only for bf16)
  at::Tensor weight;     // fp32 [tile_rows, W] (only for bf16)
  at::Tensor dfeatures;  // fp32 [chunk, W] (only for training)

  Buffers(const at::Tensor& like, std::int64_t chunk_tokens, const Parameter& matrix, bool training)
      : chunk(chunk_tokens), width(matrix.spec().shape[1]), vocabulary(matrix.spec().shape[0]) {
    const bool widens = like.scalar_type() == at::kBFloat16;
    tile_rows = std::min(vocabulary, std::max<std::int64_t>(64, kWeightTileElements / width));
    if (!widens) tile_rows = vocabulary;
    const at::TensorOptions fp32 = like.options().dtype(at::kFloat);
    x = at::empty({chunk, like.size(1)}, like.options());
    logits = at::empty({chunk, vocabulary}, fp32);
    if (widens) wide = at::empty({chunk, width}, fp32);
    if (widens) weight = at::empty({tile_rows, width}, fp32);
    if (training) dfeatures = at::empty({chunk, width}, fp32);
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

// Calls visit(first_row, rows, fp32 pointer to those rows) over the vocabulary matrix.
template <typename Visit>
void for_each_weight_tile(const at::Tensor& weight, Buffers& buffers, Visit visit) {
  const std::int64_t vocabulary = weight.size(0), hidden = weight.size(1);
  for (std::int64_t row = 0; row < vocabulary; row += buffers.tile_rows) {
    const std::int64_t rows = std::min(buffers.tile_rows, vocabulary - row);
    if (weight.scalar_type() == at::kFloat) {
      visit(row, rows, read_pointer<float>(weight) + row * hidden);
      continue;
    }
    const auto* source = read_pointer<simd::bf16_bits>(weight) + row * hidden;
    float* wide = write_pointer<float>(buffers.weight);
    at::parallel_for(0, rows * hidden, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      simd::activation_kernels<simd::bf16_bits>().widen(source + begin, wide + begin, end - begin);
    });
    visit(row, rows, wide);
  }
}

const float* widened(const at::Tensor& rows, std::int64_t count, at::Tensor& buffer) {
  if (rows.scalar_type() == at::kFloat) return read_pointer<float>(rows);
  simd::activation_kernels<simd::bf16_bits>().widen(read_pointer<simd::bf16_bits>(rows),
                                                    write_pointer<float>(buffer), count * rows.size(1));
  return read_pointer<float>(buffer);
}

void compute_logits(const float* features, std::int64_t count, const at::Tensor& weight, Buffers& buffers) {
  for_each_weight_tile(weight, buffers, [&](std::int64_t row, std::int64_t rows, const float* tile) {
    gemm(false, true, count, rows, buffers.width, 1, features, buffers.width, tile, buffers.width, 0,
         write_pointer<float>(buffers.logits) + row, buffers.vocabulary);
  });
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

// Gradients of one chunk: of the head's parameters, and the rows of dx. `wide` is features.projected in fp32;
// `dprojected` is scratch space for its gradient in x's type.
void chunk_backward(const Features& features, const float* wide, std::span<const std::int64_t> rows,
                    const Head& head, Buffers& buffers, at::Tensor& dprojected, at::Tensor& dx) {
  float* dfeatures = write_pointer<float>(buffers.dfeatures);
  const float* dlogits = read_pointer<float>(buffers.logits);
  const std::int64_t width = buffers.width, vocabulary = buffers.vocabulary;
  const auto count = static_cast<std::int64_t>(rows.size());
  for_each_weight_tile(head.weight->weight(), buffers,
                       [&](std::int64_t row, std::int64_t tile_rows, const float* tile) {
                         gemm(false, false, count, width, tile_rows, 1, dlogits + row, vocabulary, tile,
                              width, row == 0 ? 0.0f : 1.0f, dfeatures, width);
                       });
  if (head.weight->trainable()) {
    gemm(true, false, vocabulary, width, count, 1, dlogits, vocabulary, wide, width, 1,
         write_pointer<float>(head.weight->gradient()), width);
  }
  with_activation_type(buffers.x, [&](auto type) {
    using T = decltype(type);
    simd::activation_kernels<T>().narrow(dfeatures, write_pointer<T>(dprojected), count * width);
    clear_tail(dprojected, count);
    copy_rows<T>(features_backward(dprojected, buffers.x, features, head), rows, false, dx);
  });
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
    const float* wide = widened(features.projected, chunk_rows, buffers.wide);
    compute_logits(wide, chunk_rows, head.weight->weight(), buffers);
    cross_entropy(buffers, chunk_targets, gradient_scale, training, losses);
    for (const double loss : losses) result.loss_sum += loss;
    if (training) chunk_backward(features, wide, rows, head, buffers, dprojected, result.dx);
    first += count;
  } while (first < supervised.size());
  return result;
}

at::Tensor head_logits_cpu(const at::Tensor& x, const Head& head) {
  Buffers buffers(x, x.size(0), *head.weight, false);
  const Features features(x, head);
  if (computes(x)) {
    compute_logits(widened(features.projected, x.size(0), buffers.wide), x.size(0), head.weight->weight(),
                   buffers);
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
