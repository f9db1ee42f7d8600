// Rotary position embedding (Su et al., 2021), whole or partial, half-split or interleaved.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace autoglm::ops {

// How a model rotates: inverse frequencies of the pairs (rotated dimension / 2 of them), in fp32 as
// `transformers` computes them, and the layout of a pair inside a head.
struct RotarySpec {
  std::vector<float> inverse_frequencies;
  bool interleaved = false;    // pairs (2i, 2i + 1) instead of (i, i + pairs)
  float attention_factor = 1;  // multiplies cosines and sines (YaRN)
};

// Cosines and sines, fp32 [positions, pairs], for positions 0 .. num_positions - 1.
struct RotaryTable {
  at::Tensor cosine;
  at::Tensor sine;
  bool interleaved = false;

  std::int64_t num_pairs() const { return cosine.size(1); }
  std::int64_t num_positions() const { return cosine.size(0); }
};
RotaryTable make_rotary_table(const RotarySpec& spec, std::int64_t num_positions, at::Device device);

// x [B, T, N, D] with the first 2 * pairs of the D dimensions rotated by the angle of each token's position;
// positions int32 [B * T], each below the table's length. Recorded by autograd.
at::Tensor rotary(const at::Tensor& x_BTND, const at::Tensor& positions, const RotaryTable& table);

// The CUDA route, which also runs on host tensors; `sign` -1 turns back. A position beyond the table stops the
// device.
void rotary_cuda(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                 at::Tensor& y);

}  // namespace autoglm::ops
