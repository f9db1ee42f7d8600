// What a model is made of: blocks in a chain, each with its parameters and its function.
//
// A block knows nothing of ranks, sharding, recompute or how its weights are stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <string>
#include <vector>

#include "trainer/ops/attention.h"
#include "trainer/ops/parameter.h"
#include "trainer/ops/rotary.h"

namespace autoglm {

// What a forward pass needs beside the input of a block: one micro-batch of packed rows, or the next tokens
// of an answer that is being generated.
struct ForwardContext {
  ops::PackedRows rows;
  at::Tensor ids;        // int64 [B, T], on the device
  at::Tensor positions;  // int32 [B * T], on the device
  const ops::RotaryTable* rotary = nullptr;
  // Whether linear layers keep inputs that they could rebuild (false: recompute level "cheap").
  bool keep_inputs = true;
  // Generating: one cache per layer, and how many tokens it holds.
  std::vector<ops::KeyValueCache>* caches = nullptr;
  std::int64_t past = 0;
};

class Block {
 public:
  explicit Block(std::string name) : name_(std::move(name)) {}
  virtual ~Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // "embedding", "layer 3", "head".
  const std::string& name() const { return name_; }

  // In the order in which they lie in the block's flat buffer. Addresses never change.
  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }

  // Whether its backward reads weights: an embedding's does not where it only looks up rows.
  virtual bool backward_reads_weights() const { return true; }

  // Whether it also reads the embedding's table: a head under tied embeddings.
  virtual bool reads_table() const { return false; }

  // [B, T, H] to [B, T, H]. The embedding's input is an anchor instead: any tensor that requires a gradient.
  virtual at::Tensor forward(const at::Tensor& x, const ForwardContext& context) = 0;

 protected:
  Parameter* add_parameter(std::string name, std::vector<std::int64_t> shape, bool decays = true) {
    return &parameters_.emplace_back(ParameterSpec{std::move(name), std::move(shape), decays});
  }

 private:
  std::string name_;
  std::deque<Parameter> parameters_;
};

}  // namespace autoglm
