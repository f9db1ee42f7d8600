#include "trainer/models/block.h"

#include <algorithm>

#include "trainer/ops/embedding.h"

namespace autoglm {

BlockKind Block::kind() const {
  BlockKind kind{typeid(*this), {}, variant()};
  for (const Parameter& parameter : parameters_) kind.shapes.push_back(parameter.spec().shape);
  return kind;
}

Parameter* Block::add_parameter(const std::string& name, std::vector<std::int64_t> shape, bool decays) {
  return &parameters_.emplace_back(ParameterSpec{prefix_ + name, std::move(shape), decays});
}

ops::Projection Block::add_projection(const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
  Parameter* weight = add_parameter(name + ".weight", {out, in});
  return {weight, bias ? add_parameter(name + ".bias", {out}, false) : nullptr};
}

ops::Norm Block::add_norm(ops::NormKind kind, const std::string& name, std::int64_t width, double epsilon) {
  Parameter* weight = add_parameter(name + ".weight", {width}, false);
  const bool bias = kind == ops::NormKind::layer;
  return {kind, weight, epsilon, bias ? add_parameter(name + ".bias", {width}, false) : nullptr};
}

LayerBlock::LayerBlock(const ModelConfig& config, std::int64_t index, const std::string& prefix)
    : StreamBlock(BlockRole::layer, fmt::format("layer {}", index), fmt::format("{}{}.", prefix, index)),
      width_(config.hidden_size),
      epsilon_(config.norm_epsilon) {}

EmbeddingBlock::EmbeddingBlock(const std::string& table_name, std::int64_t vocabulary, std::int64_t width)
    : StreamBlock(BlockRole::embedding, "embedding") {
  add_parameter(table_name, {vocabulary, width});
}

at::Tensor EmbeddingBlock::forward(const at::Tensor& anchor, const ForwardContext& context) {
  return ops::embedding(context.ids, table(), anchor);
}

bool HeadBlock::reads_table() const {
  return std::none_of(parameters().begin(), parameters().end(),
                      [&](const Parameter& own) { return &own == head.weight; });
}

}  // namespace autoglm
