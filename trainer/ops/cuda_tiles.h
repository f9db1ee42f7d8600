// How an elementwise kernel over rows divides them: by tiles of columns and rows, so that no element costs a division.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

// Whether rows of `width` elements that lie so many elements apart are whole vectors.
template <typename T, typename... Strides>
AUTOGLM_HOST_DEVICE inline bool fill_vectors(std::int64_t width, Strides... strides) {
  return width % kVectorElements<T> == 0 && ((strides % kVectorElements<T> == 0) && ...);
}

// A matrix of `rows` rows of `items` items each. The threads of a block lie beside each other over a power of two of
// items, then below each other; each takes its item in kRowsEach rows.
struct Tiles {
  static constexpr int kRowsEach = 4;
  static constexpr int kLogThreads = 8;
  static_assert(1 << kLogThreads == kThreads);

  std::int64_t rows = 0;
  std::int32_t items = 0;
  std::int32_t log_across = 0;
  bool vectors = false;  // for each(): whether an item is a vector

  Tiles() = default;
  Tiles(std::int64_t num_rows, std::int64_t num_items)
      : rows(num_rows), items(static_cast<std::int32_t>(num_items)) {
    while (log_across < kLogThreads && std::int64_t{1} << log_across < num_items) ++log_across;
  }

  // Items are vectors of T, or single elements.
  template <typename T>
  static Tiles of_vectors(std::int64_t rows, std::int64_t width, bool as_vectors) {
    Tiles tiles(rows, as_vectors ? width / kVectorElements<T> : width);
    tiles.vectors = as_vectors;
    return tiles;
  }

  std::int64_t blocks() const { return blocks_for(rows, rows_of_block()) * tiles_across(); }

  // Calls take(item) once for each item that falls to this thread, and what that returns for each of its rows.
  template <typename Group, typename Take>
  AUTOGLM_HOST_DEVICE void each_item(const Group& group, std::int64_t block, Take take) const {
    // Of 32 bits, and once a thread.
    const auto place = static_cast<std::uint32_t>(block), across = static_cast<std::uint32_t>(tiles_across());
    const std::uint32_t down = place / across;
    const auto first_item = static_cast<std::int32_t>((place - down * across) << log_across);
    const std::int64_t first_row = down * rows_of_block();
    for (int part = 0; part < kThreads / group.size(); ++part) {
      const std::int32_t thread = part * group.size() + group.rank();
      const std::int32_t item = first_item + (thread & ((1 << log_across) - 1));
      if (item >= items) continue;
      const auto take_row = take(item);
      std::int64_t row = first_row + (thread >> log_across);
      for (int i = 0; i < kRowsEach && row < rows; ++i, row += kThreads >> log_across) take_row(row);
    }
  }

  // The same for matrices of T: f(row, column, n) for each n neighbouring elements, n as in each_vector().
  template <typename T, typename Group, typename F>
  AUTOGLM_HOST_DEVICE void each(const Group& group, std::int64_t block, F f) const {
    constexpr std::integral_constant<int, kVectorElements<T>> kVector{};
    constexpr std::integral_constant<int, 1> kOne{};
    if (vectors) {
      each_item(group, block, [&](std::int32_t item) {
        const std::int64_t column = std::int64_t{item} * kVectorElements<T>;
        return [=, &f](std::int64_t row) { f(row, column, kVector); };
      });
    } else {
      each_item(group, block,
                [&](std::int32_t item) { return [=, &f](std::int64_t row) { f(row, item, kOne); }; });
    }
  }

 private:
  AUTOGLM_HOST_DEVICE std::int64_t rows_of_block() const {
    return std::int64_t{kRowsEach} << (kLogThreads - log_across);
  }
  AUTOGLM_HOST_DEVICE std::int64_t tiles_across() const {
    return (items + (1 << log_across) - 1) >> log_across;
  }
};

// Kernels that know no rows: block b takes elements [b * 4 * kThreads * kVectorElements<T>, ...) of `count`, as
// each_vector() does.
template <typename T, typename Group, typename F>
AUTOGLM_HOST_DEVICE inline void each_vector_of_block(const Group& group, std::int64_t block,
                                                     std::int64_t count, bool vectors, F f) {
  constexpr std::int64_t kEach = kBlockElements * kVectorElements<T>;
  const std::int64_t begin = block * kEach;
  each_vector<T>(group, begin, begin + kEach < count ? begin + kEach : count, vectors, f);
}

}  // namespace autoglm::ops::cuda
