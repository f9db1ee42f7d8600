#include "trainer/ops/products.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>

#include "base/math.h"
#include "sharding/memory/category.h"

namespace autoglm::ops {
namespace {

// Columns (or rows) of a tile are a multiple of 64 near this: enough tiles for many threads, and large enough that what
// is packed for one is used often.
constexpr std::int64_t kTile = 256;
constexpr std::int64_t kTileStep = 64;
constexpr std::size_t kAlignment = 64;

std::atomic<Products> route_of_process = Products::mkl;

std::int64_t tile_of(std::int64_t extent) {
  const std::int64_t num_tiles = divide_up(extent, kTile);
  return round_up(divide_up(extent, num_tiles), kTileStep);
}

std::size_t element_bytes(const MatrixLayout& matrix) {
  return dtype_size(matrix.dtype);
}

const std::byte* at_element(const void* data, const MatrixLayout& matrix, std::int64_t row,
                            std::int64_t column) {
  const std::int64_t place = matrix.transposed ? column * matrix.stride + row : row * matrix.stride + column;
  return static_cast<const std::byte*>(data) + static_cast<std::size_t>(place) * element_bytes(matrix);
}

}  // namespace

Products products() {
  return route_of_process;
}

void set_products(Products route) {
  route_of_process = route;
}

Products best_products() {
  const OneDnn& found = onednn();
  if (!found.present || !found.has_avx512) return Products::mkl;
  return found.multiplies_bf16 ? Products::onednn : Products::widened;
}

std::string products_problem(Products route) {
  const OneDnn& found = onednn();
  if (route == Products::mkl) return {};
  if (!found.present) return "oneDNN is not there: " + found.problem;
  if (route == Products::onednn && !found.multiplies_bf16)
    return "this processor has no instructions for bf16 products (AVX-512 with bf16, or AMX)";
  return {};
}

void for_each_product_tile(std::int64_t extent,
                           const std::function<void(std::int64_t, std::int64_t)>& visit) {
  const std::int64_t tile = tile_of(extent);
  at::parallel_for(0, divide_up(extent, tile), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) visit(i * tile, std::min(tile, extent - i * tile));
  });
}

TiledProduct::TiledProduct(const ProductShape& whole)
    : whole_(whole), by_rows_(whole.a.transposed && whole.m >= whole.n), tile_(tile_of(extent())) {
  for (const std::int64_t first : {std::int64_t{0}, (extent() - 1) / tile_}) {
    scratch_bytes_ = std::max(scratch_bytes_, round_up(onednn_scratch_bytes(tile_at(first)), kAlignment));
  }
}

ProductShape TiledProduct::tile_at(std::int64_t tile) const {
  ProductShape shape = whole_;
  (by_rows_ ? shape.m : shape.n) = std::min(tile_, extent() - tile * tile_);
  return shape;
}

void TiledProduct::run(const void* a, const void* b, const void* bias, void* c, std::byte* scratch,
                       std::size_t scratch_stride) const {
  at::parallel_for(0, divide_up(extent(), tile_), 1, [&](std::int64_t begin, std::int64_t end) {
    std::byte* mine = scratch + static_cast<std::size_t>(at::get_thread_num()) * scratch_stride;
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t row = by_rows_ ? tile * tile_ : 0, column = by_rows_ ? 0 : tile * tile_;
      const MatrixLayout bias_layout{whole_.a.dtype, 0, false};
      onednn_product(tile_at(tile), at_element(a, whole_.a, row, 0), at_element(b, whole_.b, 0, column),
                     bias == nullptr ? nullptr : at_element(bias, bias_layout, 0, column),
                     const_cast<std::byte*>(at_element(c, whole_.c, row, column)), mine);
    }
  });
}

ProductScratch::ProductScratch(std::span<const TiledProduct> products, const at::Tensor& like) {
  for (const TiledProduct& product : products) stride_ = std::max(stride_, product.scratch_bytes());
  const CategoryScope scope(MemoryCategory::workspace);
  space_ = at::empty({at::get_num_threads(), static_cast<std::int64_t>(std::max(stride_, kAlignment))},
                     like.options().dtype(at::kByte));
}

void ProductScratch::run(const TiledProduct& product, const void* a, const void* b, const void* bias,
                         void* c) {
  product.run(a, b, bias, c, static_cast<std::byte*>(space_.mutable_data_ptr()), stride_);
}

}  // namespace autoglm::ops
