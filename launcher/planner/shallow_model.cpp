#include "launcher/planner/shallow_model.h"

#include <algorithm>

namespace autoglm {
namespace {

bool trains(const Block& block) {
  return std::any_of(block.parameters().begin(), block.parameters().end(),
                     [](const Parameter& parameter) { return parameter.trainable(); });
}

// Numbers layers by what `key_of(layer, number)` says of them.
template <typename KeyOf>
LayerNumbering number_layers(const Model& model, KeyOf key_of) {
  std::vector<decltype(key_of(*model.layers().front(), 0))> seen;
  LayerNumbering numbering;
  for (const LayerBlock* layer : model.layers()) {
    const auto key = key_of(*layer, static_cast<std::int64_t>(numbering.size()));
    const auto found = std::find(seen.begin(), seen.end(), key);
    numbering.push_back(static_cast<std::size_t>(found - seen.begin()));
    if (found == seen.end()) seen.push_back(key);
  }
  return numbering;
}

}  // namespace

LayerNumbering layer_kinds(const Model& model) {
  return number_layers(model, [](const LayerBlock& layer, std::int64_t) { return layer.kind(); });
}

LayerNumbering layer_classes(const Model& model) {
  const std::int64_t reached = first_reached_layer(model);
  return number_layers(model, [&](const LayerBlock& layer, std::int64_t number) {
    std::vector<bool> trained;
    for (const Parameter& parameter : layer.parameters()) trained.push_back(parameter.trainable());
    return std::tuple(layer.kind(), trained, number >= reached);
  });
}

std::int64_t first_reached_layer(const Model& model) {
  if (trains(model.embedding())) return 0;
  const std::vector<LayerBlock*> layers = model.layers();
  return std::find_if(layers.begin(), layers.end(), [](const LayerBlock* layer) { return trains(*layer); }) -
         layers.begin();
}

ShallowModel::ShallowModel(const LayerNumbering& classes, std::int64_t num_recomputing) {
  const auto num_layers = static_cast<std::int64_t>(classes.size());
  const auto group_of = [&](std::int64_t number) {
    return group(classes[static_cast<std::size_t>(number)], number < num_recomputing);
  };
  for (std::int64_t number = 0; number < num_layers; ++number) {
    const std::size_t mine = group_of(number);
    if (mine >= numbers_.size()) numbers_.resize(mine + 1);
    if (numbers_[mine].empty()) groups_.push_back(mine);
    numbers_[mine].push_back(number);
  }
  for (std::int64_t number = 0; number < num_layers; ++number) {
    const std::vector<std::int64_t>& alike = numbers_[group_of(number)];
    if (number != alike.front() && number != alike.back()) continue;
    kept_.numbers.push_back(number);
    kept_.groups.push_back(group_of(number));
  }
}

std::int64_t ShallowModel::count(std::size_t group, std::int64_t begin, std::int64_t end) const {
  const std::vector<std::int64_t>& numbers = numbers_[group];
  const auto before = [&](std::int64_t number) {
    return std::lower_bound(numbers.begin(), numbers.end(), number) - numbers.begin();
  };
  return std::max<std::int64_t>(0, before(end) - before(begin));
}

std::int64_t ShallowModel::left_out(std::size_t group, std::int64_t end) const {
  const std::vector<std::int64_t>& numbers = numbers_[group];
  const std::int64_t kept = numbers.back() >= end ? 1 : numbers.size() > 1 ? 2 : 1;
  return std::max<std::int64_t>(0, count(group, 0, end) - kept);
}

}  // namespace autoglm
