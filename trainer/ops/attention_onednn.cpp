#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "base/math.h"
#include "sharding/memory/category.h"
#include "trainer/ops/attention_cpu.h"
#include "trainer/ops/onednn.h"

namespace autoglm::ops {
namespace {

// Keys that go through one matrix product: so there are few shapes of products, however long a row is.
constexpr std::int64_t kKeyBlock = 512;
static_assert(kKeyBlock % kQueryTile == 0);

template <typename Visit>
void for_each_block(std::int64_t num_keys, Visit visit) {
  for (std::int64_t key = 0; key < num_keys; key += kKeyBlock)
    visit(key, std::min(kKeyBlock, num_keys - key));
}

// The products of a tile of kQueryTile queries with a block of keys, a multiple of kQueryTile, all of them dense rows of one
// head. Rows of scores are `width` elements apart, whatever a tile sees.
struct TileProducts {
  AttentionShape s;
  DType type;
  std::int64_t width;

  TileProducts(const AttentionShape& shape, DType dtype)
      : s(shape), type(dtype), width(round_up(s.length, kQueryTile)) {}

  // Of a head's rows: a tile may reach beyond the last token.
  std::int64_t padded_rows() const { return s.length + kQueryTile; }

  // scores [queries, keys] = queries @ keys^T
  ProductShape scores(std::int64_t num_keys) const {
    return {kQueryTile,
            num_keys,
            s.head_dim,
            {type, s.head_dim},
            {type, s.head_dim, true},
            {DType::float32, width}};
  }
  // result [queries, D] = or += weights [queries, keys] @ keys or values
  ProductShape weighted(std::int64_t num_keys, bool adds) const {
    return {kQueryTile, s.head_dim, num_keys, {type, width}, {type, s.head_dim}, {DType::float32, s.head_dim},
            adds};
  }
  // gradient of keys or values [keys, D] += weights [queries, keys]^T @ queries
  ProductShape gradient(std::int64_t num_keys) const {
    return {num_keys,
            s.head_dim,
            kQueryTile,
            {type, width, true},
            {type, s.head_dim},
            {DType::float32, s.head_dim},
            true};
  }

  // Bytes of scratch space that the largest of them needs; a multiple of 64.
  std::size_t scratch_bytes(bool backward) const {
    std::size_t bytes = 64;
    for (std::int64_t keys = kQueryTile; keys <= std::min(kKeyBlock, width); keys += kQueryTile) {
      for (const ProductShape& shape :
           {scores(keys), weighted(keys, false), weighted(keys, true), gradient(keys)}) {
        if (backward || !shape.a.transposed) bytes = std::max(bytes, onednn_scratch_bytes(shape));
      }
    }
    return round_up(bytes, std::size_t{64});
  }
};

// Queries [first, first + count) of a document that begins at `document`: of a full tile's queries those behind `count`
// get weights of 0. They see some of num_keys keys from the document's beginning on, a multiple of kQueryTile.
struct Tile {
  std::int64_t document, first, count, num_keys;
  bool causal;

  std::int64_t num_visible(std::int64_t query, std::int64_t document_length) const {
    return causal ? first - document + query + 1 : document_length;
  }
};

// Tiles begin where a document does, so that its numbers do not depend on where it lies.
template <typename Visit>
void for_each_tile(const PackedRows& rows, std::int64_t row, Visit visit) {
  for_each_document(rows, row, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin; first < end; first += kQueryTile) {
      const std::int64_t count = std::min(kQueryTile, end - first);
      const std::int64_t seen = rows.causal ? first + count - begin : end - begin;
      visit(Tile{begin, first, count, round_up(seen, kQueryTile), rows.causal}, end - begin);
    }
  });
}

// Scratch space of one thread, handed out piece by piece.
class Space {
 public:
  Space(const at::Tensor& whole, std::int64_t thread)
      : next_(static_cast<std::byte*>(whole.mutable_data_ptr()) + thread * whole.size(1)) {}

  template <typename T>
  T* take(std::int64_t elements) {
    return reinterpret_cast<T*>(std::exchange(next_, next_ + bytes<T>(elements)));
  }
  template <typename T>
  static std::int64_t bytes(std::int64_t elements) {
    return round_up(elements * static_cast<std::int64_t>(sizeof(T)), std::int64_t{64});
  }

 private:
  std::byte* next_;
};

at::Tensor space_for(std::int64_t bytes_per_thread, const at::Tensor& like) {
  const CategoryScope scope(MemoryCategory::workspace);
  return at::empty({at::get_num_threads(), bytes_per_thread}, like.options().dtype(at::kByte));
}

// Scores of a tile in fp32, and rounded to T as the products read them; the same memory where T is fp32.
template <typename T>
struct Scores {
  float* wide;
  T* weights;

  static std::int64_t bytes(std::int64_t width) {
    const std::int64_t elements = kQueryTile * width;
    return Space::bytes<float>(elements) + (std::is_same_v<T, float> ? 0 : Space::bytes<T>(elements));
  }
  static Scores take(Space& space, std::int64_t width) {
    float* wide = space.take<float>(kQueryTile * width);
    if constexpr (std::is_same_v<T, float>) {
      return {wide, wide};
    } else {
      return {wide, space.take<T>(kQueryTile * width)};
    }
  }

  // Of the query whose scores begin at `place`: nothing behind the first `visible` of `size`.
  void settle(std::int64_t place, std::int64_t visible, std::int64_t size) const {
    std::fill(wide + place + visible, wide + place + size, 0.0F);
    if constexpr (!std::is_same_v<T, float>)
      simd::activation_kernels<T>().narrow(wide + place, weights + place, size);
  }
};

template <typename T>
std::int64_t forward_bytes(const TileProducts& products) {
  const std::int64_t D = products.s.head_dim;
  return Scores<T>::bytes(products.width) + Space::bytes<float>(kQueryTile * D) +
         3 * Space::bytes<T>(products.padded_rows() * D) +
         static_cast<std::int64_t>(products.scratch_bytes(false));
}

template <typename T>
std::int64_t backward_bytes(const TileProducts& products) {
  const std::int64_t D = products.s.head_dim, head = products.padded_rows() * D;
  return 2 * Scores<T>::bytes(products.width) + Space::bytes<float>(kQueryTile * D) +
         4 * Space::bytes<T>(head) + 2 * Space::bytes<float>(head) +
         static_cast<std::int64_t>(products.scratch_bytes(true));
}

// Between memory with all heads of a token side by side, `stride` elements a token, and one head's rows.
template <typename T>
void scatter(const float* from, std::int64_t stride, std::int64_t head_dim, std::int64_t count, T* to) {
  const auto& kernels = simd::activation_kernels<T>();
  for (std::int64_t i = 0; i < count; ++i) kernels.narrow(from + i * head_dim, to + i * stride, head_dim);
}

// A head's rows of all tokens; zeros behind them.
template <typename T>
class HeadRows {
 public:
  HeadRows(const TileProducts& products, Space& space)
      : length_(products.s.length),
        head_dim_(products.s.head_dim),
        rows_(space.take<T>(products.padded_rows() * head_dim_)) {
    std::fill_n(rows_ + length_ * head_dim_, kQueryTile * head_dim_, T{});
  }

  void gather(const T* from, std::int64_t stride) {
    for (std::int64_t i = 0; i < length_; ++i)
      std::copy_n(from + i * stride, head_dim_, rows_ + i * head_dim_);
  }
  const T* at(std::int64_t token) const { return rows_ + token * head_dim_; }

 private:
  std::int64_t length_, head_dim_;
  T* rows_;
};

template <typename T>
void forward_group(const T* q, const T* k, const T* v, const PackedRows& rows, const TileProducts& products,
                   std::int64_t row, std::int64_t key_head, T* out, Statistics statistics, Space space) {
  const auto& math = simd::float_kernels();
  const AttentionShape& s = products.s;
  const HeadPointers at(s, row);
  const std::int64_t D = s.head_dim, group = s.num_heads / s.num_key_heads;
  const Scores<T> scores = Scores<T>::take(space, products.width);
  float* result = space.take<float>(kQueryTile * D);
  HeadRows<T> keys(products, space), values(products, space), queries(products, space);
  void* scratch = space.take<std::byte>(0);
  keys.gather(k + at.k_row + key_head * D, at.k_stride);
  values.gather(v + at.k_row + key_head * D, at.k_stride);
  for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
    const Statistics mine = statistics.of((row * s.num_heads + head) * s.length);
    queries.gather(q + at.q_row + head * D, at.q_stride);
    for_each_tile(rows, row, [&](const Tile& tile, std::int64_t document_length) {
      for_each_block(tile.num_keys, [&](std::int64_t key, std::int64_t size) {
        onednn_product(products.scores(size), queries.at(tile.first), keys.at(tile.document + key), nullptr,
                       scores.wide + key, scratch);
      });
      for (std::int64_t i = 0; i < kQueryTile; ++i) {
        const std::int64_t place = i * products.width;
        const std::int64_t visible = i < tile.count ? tile.num_visible(i, document_length) : 0;
        if (visible > 0) {
          float* line = scores.wide + place;
          const float shift = math.maximum(line, visible) * s.scale;
          const float sum = math.exp_and_sum(line, visible, s.scale, shift);
          math.scale(line, visible, 1.0f / sum);
          mine.shift[tile.first + i] = shift;
          mine.inverse_sum[tile.first + i] = 1.0f / sum;
        }
        scores.settle(place, visible, tile.num_keys);
      }
      for_each_block(tile.num_keys, [&](std::int64_t key, std::int64_t size) {
        onednn_product(products.weighted(size, key > 0), scores.weights + key, values.at(tile.document + key),
                       nullptr, result, scratch);
      });
      scatter(result, at.q_stride, D, tile.count, out + at.q_row + tile.first * at.q_stride + head * D);
    });
  }
}

template <typename T>
struct Inputs {
  const T *dout, *q, *k, *v;
};
template <typename T>
struct Gradients {
  T *dq, *dk, *dv;
};

template <typename T>
void backward_group(const Inputs<T>& in, Statistics statistics, const PackedRows& rows,
                    const TileProducts& products, std::int64_t row, std::int64_t key_head,
                    const Gradients<T>& out, Space space) {
  const auto& math = simd::float_kernels();
  const AttentionShape& s = products.s;
  const HeadPointers at(s, row);
  const std::int64_t D = s.head_dim, group = s.num_heads / s.num_key_heads;
  const Scores<T> scores = Scores<T>::take(space, products.width),
                  dscores = Scores<T>::take(space, products.width);
  float* dquery = space.take<float>(kQueryTile * D);
  HeadRows<T> keys(products, space), values(products, space), queries(products, space),
      doutputs(products, space);
  const std::int64_t head_elements = products.padded_rows() * D;
  float* dkeys = space.take<float>(head_elements);
  float* dvalues = space.take<float>(head_elements);
  void* scratch = space.take<std::byte>(0);
  keys.gather(in.k + at.k_row + key_head * D, at.k_stride);
  values.gather(in.v + at.k_row + key_head * D, at.k_stride);
  std::fill_n(dkeys, head_elements, 0.0F);
  std::fill_n(dvalues, head_elements, 0.0F);
  for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
    const Statistics mine = statistics.of((row * s.num_heads + head) * s.length);
    queries.gather(in.q + at.q_row + head * D, at.q_stride);
    doutputs.gather(in.dout + at.q_row + head * D, at.q_stride);
    for_each_tile(rows, row, [&](const Tile& tile, std::int64_t document_length) {
      const T *query = queries.at(tile.first), *doutput = doutputs.at(tile.first);
      for_each_block(tile.num_keys, [&](std::int64_t key, std::int64_t size) {
        const std::int64_t token = tile.document + key;
        onednn_product(products.scores(size), query, keys.at(token), nullptr, scores.wide + key, scratch);
        onednn_product(products.scores(size), doutput, values.at(token), nullptr, dscores.wide + key,
                       scratch);
      });
      for (std::int64_t i = 0; i < kQueryTile; ++i) {
        const std::int64_t place = i * products.width;
        const std::int64_t visible = i < tile.count ? tile.num_visible(i, document_length) : 0;
        if (visible > 0)
          math.attention_backward(scores.wide + place, dscores.wide + place, visible, s.scale,
                                  mine.shift[tile.first + i], mine.inverse_sum[tile.first + i]);
        scores.settle(place, visible, tile.num_keys);
        dscores.settle(place, visible, tile.num_keys);
      }
      for_each_block(tile.num_keys, [&](std::int64_t key, std::int64_t size) {
        const std::int64_t token = tile.document + key;
        onednn_product(products.gradient(size), scores.weights + key, doutput, nullptr, dvalues + token * D,
                       scratch);
        onednn_product(products.gradient(size), dscores.weights + key, query, nullptr, dkeys + token * D,
                       scratch);
        onednn_product(products.weighted(size, key > 0), dscores.weights + key, keys.at(token), nullptr,
                       dquery, scratch);
      });
      scatter(dquery, at.q_stride, D, tile.count, out.dq + at.q_row + tile.first * at.q_stride + head * D);
    });
  }
  scatter(dkeys, at.k_stride, D, s.length, out.dk + at.k_row + key_head * D);
  scatter(dvalues, at.k_stride, D, s.length, out.dv + at.k_row + key_head * D);
}

template <typename T>
constexpr DType kDType = std::is_same_v<T, float> ? DType::float32 : DType::bfloat16;

}  // namespace

AttentionForward attention_forward_onednn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const PackedRows& rows, float scale) {
  const AttentionShape shape(q, k, scale);
  AttentionForward result{at::empty_like(q),
                          at::empty({2, q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat))};
  with_activation_type(q, [&](auto type) {
    using T = decltype(type);
    const TileProducts products(shape, kDType<T>);
    const at::Tensor space = space_for(forward_bytes<T>(products), q);
    if (!computes(q)) return;
    for_each_group(q.size(0), shape, [&](std::int64_t row, std::int64_t key_head, std::int64_t thread) {
      forward_group<T>(read_pointer<T>(q), read_pointer<T>(k), read_pointer<T>(v), rows, products, row,
                       key_head, write_pointer<T>(result.out), pointers(result.statistics),
                       Space(space, thread));
    });
  });
  return result;
}

AttentionGradients attention_backward_onednn(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionForward& forward,
                                             const PackedRows& rows, float scale) {
  const AttentionShape shape(q, k, scale);
  AttentionGradients result{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  with_activation_type(q, [&](auto type) {
    using T = decltype(type);
    const TileProducts products(shape, kDType<T>);
    const at::Tensor space = space_for(backward_bytes<T>(products), q);
    if (!computes(q)) return;
    const Inputs<T> inputs{read_pointer<T>(dout), read_pointer<T>(q), read_pointer<T>(k), read_pointer<T>(v)};
    const Gradients<T> gradients{write_pointer<T>(result.dq), write_pointer<T>(result.dk),
                                 write_pointer<T>(result.dv)};
    for_each_group(q.size(0), shape, [&](std::int64_t row, std::int64_t key_head, std::int64_t thread) {
      backward_group<T>(inputs, pointers(forward.statistics), rows, products, row, key_head, gradients,
                        Space(space, thread));
    });
  });
  return result;
}

}  // namespace autoglm::ops
