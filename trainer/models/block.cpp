#include "trainer/models/block.h"

#include <algorithm>

#include "trainer/ops/embedding.h"

namespace autoglm {

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

LayerBlock::LayerBlock(std::int64_t index, const std::string& prefix)
    : StreamBlock(fmt::format("layer {}", index), fmt::format("{}{}.", prefix, index)) {}

EmbeddingBlock::EmbeddingBlock(const std::string& table_name, std::int64_t vocabulary, std::int64_t width)
    : StreamBlock("embedding") {
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
