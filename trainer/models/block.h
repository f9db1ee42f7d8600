// What a model is made of: blocks in a chain, each with its parameters and its function.
//
// A block knows nothing of ranks, sharding, recompute or how its weights are stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <span>
#include <string>
#include <typeindex>
#include <vector>

#include "trainer/models/config.h"
#include "trainer/ops/attention.h"
#include "trainer/ops/head.h"
#include "trainer/ops/norm.h"
#include "trainer/ops/parameter.h"
#include "trainer/ops/projection.h"
#include "trainer/ops/rotary.h"

namespace autoglm {

// What a forward pass needs beside the input of a block: one micro-batch of packed rows, or the next tokens
// of an answer that is being generated.
struct ForwardContext {
  ops::PackedRows rows;
  at::Tensor ids;                                   // int64 [B, T], on the device
  at::Tensor positions;                             // int32 [B * T], on the device
  std::span<const ops::RotaryTable> rotary_tables;  // of the model, in its order
  // Whether linear layers keep inputs that they could rebuild (false: recompute level "cheap").
  bool keep_inputs = true;
  // Generating: the layer's cache, and how many tokens it holds.
  ops::KeyValueCache* cache = nullptr;
  std::int64_t past = 0;
};

enum class BlockRole { embedding, layer, head };

// Blocks of one kind declare the same shapes and compute the same function of them: one stands for all where
// bytes and seconds are counted.
struct BlockKind {
  std::type_index function;
  std::vector<std::vector<std::int64_t>> shapes;
  std::string variant;

  bool operator==(const BlockKind&) const = default;
};

class Block {
 public:
  // Named "embedding", "layer 3", "head". `prefix` stands before the names that the functions below are given.
  Block(BlockRole role, std::string name, std::string prefix = "")
      : role_(role), name_(std::move(name)), prefix_(std::move(prefix)) {}
  virtual ~Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  BlockRole role() const { return role_; }
  const std::string& name() const { return name_; }
  BlockKind kind() const;

  // Whether it also reads the embedding's table: a head under tied embeddings.
  virtual bool reads_table() const { return false; }

  // In the order in which they lie in the block's flat buffer. Addresses never change.
  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }

  // Declare parameters, for whoever builds the block.
  Parameter* add_parameter(const std::string& name, std::vector<std::int64_t> shape, bool decays = true);
  // NAME.weight [out, in], and NAME.bias [out] where there is one.
  ops::Projection add_projection(const std::string& name, std::int64_t out, std::int64_t in, bool bias);
  // NAME.weight [width], and NAME.bias [width] of a LayerNorm.
  ops::Norm add_norm(ops::NormKind kind, const std::string& name, std::int64_t width, double epsilon);

 protected:
  // What neither the class nor the shapes tell of the function.
  virtual std::string variant() const { return {}; }

 private:
  BlockRole role_;
  std::string name_, prefix_;
  std::deque<Parameter> parameters_;
};

// A block that makes the stream [B, T, H] or takes it further: every one but the head.
class StreamBlock : public Block {
 public:
  using Block::Block;
  // The new stream. What makes it from the context alone takes as x an anchor: any tensor that requires a
  // gradient where one is wanted.
  virtual at::Tensor forward(const at::Tensor& x, const ForwardContext& context) = 0;
};

// One of the layers between embedding and head.
class LayerBlock : public StreamBlock {
 public:
  // PREFIX, the index and a dot stand before its parameters' names, as in "model.layers.3.".
  LayerBlock(const ModelConfig& config, std::int64_t index, const std::string& prefix);
  // Of what it is given and hands on for rows of `length` tokens: all that is kept of it where it is
  // recomputed.
  std::vector<std::int64_t> stream_shape(std::int64_t num_rows, std::int64_t length) const {
    return {num_rows, length, width_};
  }

 protected:
  // Declares a norm of the stream.
  ops::Norm add_stream_norm(ops::NormKind kind, const std::string& name) {
    return add_norm(kind, name, width_, epsilon_);
  }

 private:
  std::int64_t width_;
  double epsilon_;
};

// Rows of the table by token id.
class EmbeddingBlock : public StreamBlock {
 public:
  EmbeddingBlock(const std::string& table_name, std::int64_t vocabulary, std::int64_t width);
  at::Tensor forward(const at::Tensor& anchor, const ForwardContext& context) override;
  // Whether its backward reads weights: it does not where it only looks up rows.
  virtual bool backward_reads_weights() const { return false; }
  // The vocabulary matrix, the first of the parameters.
  Parameter& table() { return parameters().front(); }
};

// What stands between the last layer and the logits, for ops::head_loss, which computes the loss in chunks.
class HeadBlock : public Block {
 public:
  HeadBlock() : Block(BlockRole::head, "head") {}
  bool reads_table() const final;
  // Whoever builds the block fills it.
  ops::Head head;
};

}  // namespace autoglm
