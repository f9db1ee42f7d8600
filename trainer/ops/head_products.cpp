#include "trainer/ops/head_products.h"

#include <array>

#include "base/math.h"
#include "trainer/ops/products.h"
#include "trainer/ops/projection.h"
#include "trainer/ops/projection_onednn.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// fp32 elements of the vocabulary matrix that are widened at a time.
constexpr std::int64_t kWeightTileElements = std::int64_t{4} << 20;

// In fp32; bf16 operands are widened.
class WidenedHeadProducts final : public HeadProducts {
 public:
  WidenedHeadProducts(const at::Tensor& like, std::int64_t chunk, const Parameter& matrix, bool training)
      : matrix_(matrix), vocabulary_(matrix.spec().shape[0]), width_(matrix.spec().shape[1]) {
    const bool widens = like.scalar_type() == at::kBFloat16;
    tile_rows_ = std::min(vocabulary_, std::max<std::int64_t>(64, kWeightTileElements / width_));
    if (!widens) tile_rows_ = vocabulary_;
    const at::TensorOptions fp32 = like.options().dtype(at::kFloat);
    if (widens) wide_ = at::empty({chunk, width_}, fp32);
    if (widens) weight_ = at::empty({tile_rows_, width_}, fp32);
    if (training) dfeatures_ = at::empty({chunk, width_}, fp32);
  }

  void logits(const at::Tensor& features, std::int64_t count, at::Tensor& logits) override {
    const float* rows = widened(features, count);
    for_each_weight_tile([&](std::int64_t row, std::int64_t tile_rows, const float* tile) {
      gemm(false, true, count, tile_rows, width_, 1, rows, width_, tile, width_, 0,
           write_pointer<float>(logits) + row, vocabulary_);
    });
  }

  void backward(const at::Tensor& features, std::int64_t count, at::Tensor& dlogits,
                at::Tensor& dfeatures) override {
    const float* gradient = read_pointer<float>(dlogits);
    float* sum = write_pointer<float>(dfeatures_);
    for_each_weight_tile([&](std::int64_t row, std::int64_t tile_rows, const float* tile) {
      gemm(false, false, count, width_, tile_rows, 1, gradient + row, vocabulary_, tile, width_,
           row == 0 ? 0.0f : 1.0f, sum, width_);
    });
    if (matrix_.trainable()) {
      const GradientBuffer sums = matrix_.take_gradient();
      const bool writes = sums.fresh && count > 0;  // a product of nothing writes nothing
      const at::Tensor& to = writes ? sums.values : sums.to_add_to();
      gemm(true, false, vocabulary_, width_, count, 1, gradient, vocabulary_, kept(features), width_,
           writes ? 0.0f : 1.0f, write_pointer<float>(to), width_);
    }
    with_activation_type(features, [&](auto type) {
      using T = decltype(type);
      simd::activation_kernels<T>().narrow(sum, write_pointer<T>(dfeatures), count * width_);
    });
  }

 private:
  // Calls visit(first_row, rows, fp32 pointer to those rows) over the vocabulary matrix.
  template <typename Visit>
  void for_each_weight_tile(Visit visit) {
    const at::Tensor& weight = matrix_.weight();
    for (std::int64_t row = 0; row < vocabulary_; row += tile_rows_) {
      const std::int64_t rows = std::min(tile_rows_, vocabulary_ - row);
      if (weight.scalar_type() == at::kFloat) {
        visit(row, rows, read_pointer<float>(weight) + row * width_);
        continue;
      }
      const auto* source = read_pointer<simd::bf16_bits>(weight) + row * width_;
      float* wide = write_pointer<float>(weight_);
      at::parallel_for(0, rows * width_, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
        simd::activation_kernels<simd::bf16_bits>().widen(source + begin, wide + begin, end - begin);
      });
      visit(row, rows, wide);
    }
  }

  const float* widened(const at::Tensor& rows, std::int64_t count) {
    if (rows.scalar_type() == at::kFloat) return read_pointer<float>(rows);
    simd::activation_kernels<simd::bf16_bits>().widen(read_pointer<simd::bf16_bits>(rows),
                                                      write_pointer<float>(wide_), count * width_);
    return read_pointer<float>(wide_);
  }

  const float* kept(const at::Tensor& rows) const {
    return read_pointer<float>(rows.scalar_type() == at::kFloat ? rows : wide_);
  }

  const Parameter& matrix_;
  std::int64_t vocabulary_, width_, tile_rows_;
  at::Tensor wide_;       // fp32 [chunk, W] the features (only for bf16)
  at::Tensor weight_;     // fp32 [tile_rows, W] (only for bf16)
  at::Tensor dfeatures_;  // fp32 [chunk, W] (only for training)
};

// Chunks have one of so many numbers of rows: each is a product of its own to the library.
constexpr std::int64_t kMostSizes = 8;
constexpr std::int64_t kRowStep = 32;

// In the features' dtype; the gradient of the logits is rounded to it where it lies.
class OneDnnHeadProducts final : public HeadProducts {
 public:
  OneDnnHeadProducts(const at::Tensor& like, std::int64_t chunk, const Parameter& matrix, bool training)
      : matrix_(matrix),
        chunk_(chunk),
        step_(round_up(divide_up(chunk, kMostSizes), kRowStep)),
        products_(products_of_sizes(like, training)),
        scratch_(products_, like) {}

  void logits(const at::Tensor& features, std::int64_t count, at::Tensor& logits) override {
    if (count == 0) return;
    scratch_.run(product(count, kLogits), features.const_data_ptr(), matrix_.weight().const_data_ptr(),
                 nullptr, logits.mutable_data_ptr());
  }

  void backward(const at::Tensor& features, std::int64_t count, at::Tensor& dlogits,
                at::Tensor& dfeatures) override {
    at::Tensor gradient = matrix_.gradient_if_trainable();
    if (count == 0) return;
    if (features.scalar_type() == at::kBFloat16) narrow_in_place(dlogits, count);
    clear_rows(dlogits, count, size_of(count));
    clear_rows(features, count, size_of(count));
    scratch_.run(product(count, kFeatures), dlogits.const_data_ptr(), matrix_.weight().const_data_ptr(),
                 nullptr, dfeatures.mutable_data_ptr());
    if (gradient.defined())
      scratch_.run(product(count, kWeight), dlogits.const_data_ptr(), features.const_data_ptr(), nullptr,
                   gradient.mutable_data_ptr());
  }

 private:
  enum Which { kLogits, kFeatures, kWeight, kNumProducts };

  std::vector<TiledProduct> products_of_sizes(const at::Tensor& like, bool training) const {
    const std::int64_t v = matrix_.spec().shape[0], w = matrix_.spec().shape[1];
    const bool bf16 = like.scalar_type() == at::kBFloat16;
    const DType type = bf16 ? DType::bfloat16 : DType::float32;
    const MatrixLayout features{type, w}, weight{type, w}, logits{DType::float32, v};
    const MatrixLayout dlogits{type, bf16 ? 2 * v : v};  // rounded, a row begins where it began
    const auto transposed = [](MatrixLayout matrix) {
      matrix.transposed = !matrix.transposed;
      return matrix;
    };
    std::vector<TiledProduct> products;
    for (std::int64_t rows = std::min(step_, chunk_);; rows = std::min(rows + step_, chunk_)) {
      products.emplace_back(
          ProductShape{.m = rows, .n = v, .k = w, .a = features, .b = transposed(weight), .c = logits});
      if (training) {
        products.emplace_back(
            ProductShape{.m = rows, .n = w, .k = v, .a = dlogits, .b = weight, .c = features});
        products.emplace_back(ProductShape{.m = v,
                                           .n = w,
                                           .k = rows,
                                           .a = transposed(dlogits),
                                           .b = features,
                                           .c = {DType::float32, w},
                                           .adds = true});
      }
      if (rows == chunk_) break;
    }
    return products;
  }

  std::int64_t size_of(std::int64_t count) const { return std::min(round_up(count, step_), chunk_); }

  const TiledProduct& product(std::int64_t count, Which which) const {
    const std::int64_t size = divide_up(count, step_) - 1;
    const std::size_t of_a_size = products_.size() / static_cast<std::size_t>(divide_up(chunk_, step_));
    return products_[static_cast<std::size_t>(size) * of_a_size + which];
  }

  static void narrow_in_place(at::Tensor& rows, std::int64_t count) {
    constexpr std::int64_t kPart = 1024;
    const std::int64_t width = rows.size(1);
    for_each_row(count, 4, [&](std::int64_t row) {
      const float* from = read_pointer<float>(rows) + row * width;
      auto* to = write_pointer<simd::bf16_bits>(rows) + 2 * row * width;
      std::array<simd::bf16_bits, kPart> part;
      for (std::int64_t begin = 0; begin < width; begin += kPart) {
        const std::int64_t size = std::min(kPart, width - begin);
        simd::activation_kernels<simd::bf16_bits>().narrow(from + begin, part.data(), size);
        std::copy_n(part.data(), size, to + begin);
      }
    });
  }

  static void clear_rows(const at::Tensor& rows, std::int64_t begin, std::int64_t end) {
    const auto row_bytes = static_cast<std::int64_t>(rows.element_size()) * rows.size(1);
    std::fill_n(static_cast<char*>(rows.mutable_data_ptr()) + begin * row_bytes, (end - begin) * row_bytes,
                char{0});
  }

  const Parameter& matrix_;
  std::int64_t chunk_, step_;
  std::vector<TiledProduct> products_;  // by size, then by Which
  ProductScratch scratch_;
};

}  // namespace

std::unique_ptr<HeadProducts> make_head_products(const at::Tensor& like, std::int64_t chunk,
                                                 const Parameter& matrix, bool training) {
  if (projects_by_onednn(like)) return std::make_unique<OneDnnHeadProducts>(like, chunk, matrix, training);
  return std::make_unique<WidenedHeadProducts>(like, chunk, matrix, training);
}

}  // namespace autoglm::ops
