// The route by which the CPU multiplies matrices, and products by oneDNN on many threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "sharding/strategy.h"
#include "trainer/ops/onednn.h"

namespace autoglm::ops {

// The route of this process (mkl unless set). Set it before the first op or rehearsal.
Products products();
void set_products(Products route);

// The fastest route of this processor with what is installed: its instruction sets decide, nothing is timed
// (docs/measurements.md has the figures).
Products best_products();

// Why this machine cannot take the route, or nothing.
std::string products_problem(Products route);

// Calls visit(first, size) for the tiles of so many rows or columns, from all threads.
void for_each_product_tile(std::int64_t extent, const std::function<void(std::int64_t, std::int64_t)>& visit);

// A product by oneDNN, divided into tiles of fixed size: bits do not depend on how many threads share them.
class TiledProduct {
 public:
  explicit TiledProduct(const ProductShape& whole);

  // Of one thread; a multiple of 64.
  std::size_t scratch_bytes() const { return scratch_bytes_; }

  // On all threads. `scratch` holds scratch_bytes() for each, `scratch_stride` apart.
  void run(const void* a, const void* b, const void* bias, void* c, std::byte* scratch,
           std::size_t scratch_stride) const;

 private:
  ProductShape tile_at(std::int64_t tile) const;
  std::int64_t extent() const { return by_rows_ ? whole_.m : whole_.n; }

  ProductShape whole_;
  bool by_rows_;
  std::int64_t tile_;  // rows or columns of a tile
  std::size_t scratch_bytes_ = 0;
};

// Scratch space of the products that one op runs, for all threads. Category: workspace.
class ProductScratch {
 public:
  // On the device of `like`, which may be meta.
  ProductScratch(std::span<const TiledProduct> products, const at::Tensor& like);

  void run(const TiledProduct& product, const void* a, const void* b, const void* bias, void* c);

 private:
  std::size_t stride_ = 0;
  at::Tensor space_;
};

}  // namespace autoglm::ops
