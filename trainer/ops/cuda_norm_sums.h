// The sums over rows that the gradients of norms' weights and biases are, taken where the rows are read anyway.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

// Rows of a block of a norm's backward, whose sums are added in that order; the blocks' sums are added after.
// Few, so that small micro-batches fill a device.
inline constexpr std::int64_t kNormBlockRows = 16;

// Numbers that a block of a norm's backward keeps in shared memory: the sums of a row of 8192, or two of 4096.
inline constexpr int kSharedSums = 8192;

template <typename T, typename... Rows>
AUTOGLM_HOST_DEVICE inline bool rows_hold_vectors(std::int64_t width, const T* first, const Rows*... more) {
  return width % kVectorElements<T> == 0 && hold_vectors(first, more...);
}

// values = values + more, rounded.
template <typename T, int kCount>
AUTOGLM_HOST_DEVICE inline void add_to(Vector<T, kCount>& values, const Vector<T, kCount>& more) {
  for (int j = 0; j < kCount; ++j) values.set(j, values.get(j) + more.get(j));
}

// The sums of a block's rows by column, number `index` of `num` that the block takes. They are gathered in shared
// memory where it suffices, else in their place in `partial` [blocks, width]; a null partial wants none. A column
// belongs to the thread that each_of_row<T>(group, width, vectors, ...) gives it to.
template <typename T>
class RowSums {
 public:
  template <typename Group>
  AUTOGLM_HOST_DEVICE RowSums(const Group& group, int index, int num, float* partial, std::int64_t block,
                              std::int64_t width, bool vectors)
      : partial_(partial), block_(block), width_(static_cast<int>(width)), vectors_(vectors) {
    if (partial == nullptr) return;
    float* shared = group.shared_floats(num * width);
    sums_ = shared != nullptr ? shared + index * width : row_of_partial();
    // Element j of all threads' vectors lie together, so that neighbours meet in no bank.
    if (shared != nullptr && vectors) element_stride_ = width_ / kVectorElements<T>;
  }

  // Adds to element j of the vector that begins at column i; `fresh`: the first row, added to zero.
  AUTOGLM_HOST_DEVICE void add(int i, int j, float value, bool fresh) const {
    if (sums_ == nullptr) return;
    float& sum = sums_[place(i, j)];
    sum = (fresh ? 0.0f : sum) + value;
  }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void finish(const Group& group) const {
    if (sums_ == nullptr || sums_ == row_of_partial()) return;
    float* to = row_of_partial();
    each_of_row<T>(group, width_, vectors_, [&](int i, auto count) {
      for (int j = 0; j < decltype(count)::value; ++j) to[i + j] = sums_[place(i, j)];
    });
  }

 private:
  // Not kept, since registers are few: what it is made of are the kernel's arguments.
  AUTOGLM_HOST_DEVICE float* row_of_partial() const { return partial_ + block_ * width_; }

  AUTOGLM_HOST_DEVICE int place(int i, int j) const {
    return element_stride_ == 1 ? i + j : i / kVectorElements<T> + j * element_stride_;
  }

  float* partial_;
  std::int64_t block_;
  float* sums_ = nullptr;
  int width_;
  int element_stride_ = 1;
  bool vectors_;
};

// Calls f(row, whether it is the first) for the rows of a block that takes `block_rows` of `rows`, in order, and then
// finishes the sums that f has added to.
template <typename Group, typename F, typename... Sums>
AUTOGLM_HOST_DEVICE inline void sum_rows_of_block(const Group& group, std::int64_t block,
                                                  std::int64_t block_rows, std::int64_t rows, F f,
                                                  const Sums&... sums) {
  const std::int64_t first = block * block_rows;
  const std::int64_t last = first + block_rows < rows ? first + block_rows : rows;
  for (std::int64_t row = first; row < last; ++row) f(row, row == first);
  (sums.finish(group), ...);
}

}  // namespace autoglm::ops::cuda
