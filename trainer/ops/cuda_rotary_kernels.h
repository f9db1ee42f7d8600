// Rotary positions on the CUDA route: all heads that a layer rotates in one launch.
#pragma once

#include "trainer/ops/cuda_tiles.h"

namespace autoglm::ops::cuda {

// Heads of every token: `heads` of them beside each other, tokens so many elements apart. `to` may be `from`.
template <typename T>
struct Heads {
  const T* from = nullptr;
  T* to = nullptr;
  std::int64_t heads = 0;
  std::int64_t from_stride = 0;
  std::int64_t to_stride = 0;
};

// The angles of pairs [positions, pairs], and which elements of a head are a pair.
struct Angles {
  const float* cosine;
  const float* sine;
  std::int64_t pairs;
  std::int64_t num_positions;
  float sign;  // -1 turns back
  bool interleaved;
};

// Turns the heads of q and k, and copies those of v. An item is `kVectorElements<T>` pairs of a head (or one), or as
// many elements that are only copied: where q.to is q.from, there are none of those.
template <typename T>
struct Rotate {
  Heads<T> q, k, v;
  const std::int32_t* positions;  // of tokens
  Angles angles;
  std::int64_t head_dim;
  std::int32_t items_turned, items_copied;  // of a head
  Tiles tiles;

  Rotate() = default;
  Rotate(const Heads<T>& queries, const Heads<T>& keys, const Heads<T>& values,
         const std::int32_t* position_of_token, const Angles& turn, std::int64_t tokens,
         std::int64_t dimensions)
      : q(queries),
        k(keys),
        v(values),
        positions(position_of_token),
        angles(turn),
        head_dim(dimensions),
        tiles(tokens, 0) {
    const bool vectors = hold_vectors(q.from, q.to, k.from, k.to, v.from, v.to, turn.cosine, turn.sine) &&
                         fill_vectors<T>(head_dim, q.from_stride, q.to_stride, k.from_stride, k.to_stride,
                                         v.from_stride, v.to_stride, turn.pairs);
    const std::int64_t each = vectors ? kVectorElements<T> : 1;
    items_turned = static_cast<std::int32_t>(turn.pairs / each);
    items_copied = q.from == q.to ? 0 : static_cast<std::int32_t>((head_dim - 2 * turn.pairs) / each);
    tiles = Tiles(tokens, (q.heads + k.heads) * (items_turned + items_copied) + v.heads * head_dim / each);
    tiles.vectors = vectors;
  }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    constexpr int kVector = kVectorElements<T>;
    if (tiles.vectors) {
      angles.interleaved ? take_items<kVector, true>(group, block) : take_items<kVector, false>(group, block);
    } else {
      angles.interleaved ? take_items<1, true>(group, block) : take_items<1, false>(group, block);
    }
  }

 private:
  template <int kCount, bool kInterleaved, typename Group>
  AUTOGLM_HOST_DEVICE void take_items(const Group& group, std::int64_t block) const {
    const std::int32_t of_head = items_turned + items_copied;
    const auto of_q = static_cast<std::int32_t>(q.heads) * of_head;
    const std::int32_t of_q_and_k = of_q + static_cast<std::int32_t>(k.heads) * of_head;
    tiles.each_item(group, block, [&](std::int32_t item) {
      const bool is_q = item < of_q, is_v = item >= of_q_and_k;
      const T* from = is_q ? q.from : is_v ? v.from : k.from;
      T* to = is_q ? q.to : is_v ? v.to : k.to;
      const std::int64_t from_stride = is_q ? q.from_stride : is_v ? v.from_stride : k.from_stride;
      const std::int64_t to_stride = is_q ? q.to_stride : is_v ? v.to_stride : k.to_stride;
      const std::int32_t in_part = item - (is_q ? 0 : is_v ? of_q_and_k : of_q);
      const std::int32_t head = is_v ? 0 : in_part / of_head, in_head = in_part - head * of_head;
      const bool turns = !is_v && in_head < items_turned;
      const std::int64_t skipped = is_v || turns ? 0 : 2 * angles.pairs - std::int64_t{items_turned} * kCount;
      const std::int64_t begin = head * head_dim, offset = std::int64_t{in_head} * kCount + skipped;
      return [this, from, to, from_stride, to_stride, turns, begin, offset](std::int64_t token) {
        const T* source = from + token * from_stride + begin;
        T* target = to + token * to_stride + begin;
        if (turns) return turn<kCount, kInterleaved>(source, target, offset, token);
        store_vector(target, offset, load_vector<kCount>(source, offset));
      };
    });
  }

  // Pairs [pair, pair + kCount) of a head.
  template <int kCount, bool kInterleaved>
  AUTOGLM_HOST_DEVICE void turn(const T* from, T* to, std::int64_t pair, std::int64_t token) const {
    const std::int64_t position = positions[token];
    require(position >= 0 && position < angles.num_positions, "positions lie in the table of angles");
    const std::int64_t at = position * angles.pairs + pair;
    float c[kCount], s[kCount];
    load_floats(angles.cosine + at, c);
    load_floats(angles.sine + at, s);
    const std::int64_t first = kInterleaved ? 2 * pair : pair;
    const std::int64_t second = kInterleaved ? first + kCount : first + angles.pairs;
    const auto low = load_vector<kCount>(from, first), high = load_vector<kCount>(from, second);
    Vector<T, kCount> new_low, new_high;
    for (int i = 0; i < kCount; ++i) {
      // Places of the pair's two among those of low, then high.
      const int one = kInterleaved ? 2 * i : i, other = kInterleaved ? 2 * i + 1 : kCount + i;
      const float a = one < kCount ? low.get(one) : high.get(one - kCount);
      const float b = other < kCount ? low.get(other) : high.get(other - kCount);
      const float sine = s[i] * angles.sign;
      const auto set = [&](int place, float value) {
        if (place < kCount) {
          new_low.set(place, value);
        } else {
          new_high.set(place - kCount, value);
        }
      };
      set(one, a * c[i] - b * sine);
      set(other, b * c[i] + a * sine);
    }
    store_vector(to, first, new_low);
    store_vector(to, second, new_high);
  }

  // At a multiple of as many bytes, but of no more than 16.
  template <int kCount>
  AUTOGLM_HOST_DEVICE static void load_floats(const float* from, float (&to)[kCount]) {
    constexpr int kEach = kCount < kVectorElements<float> ? kCount : kVectorElements<float>;
    for (int i = 0; i < kCount; i += kEach) {
      const auto values = load_vector<kEach>(from, i);
      for (int j = 0; j < kEach; ++j) to[i + j] = values.get(j);
    }
  }
};

}  // namespace autoglm::ops::cuda
