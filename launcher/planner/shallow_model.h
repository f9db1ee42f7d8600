// Layers that are alike, and the few of them that stand for all in a short rehearsal.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/models/model.h"

namespace autoglm {

// A number for every layer: 0 for the first and all that are like it, 1 for the next one that is not, ...
using LayerNumbering = std::vector<std::size_t>;

// Alike are layers of one kind.
LayerNumbering layer_kinds(const Model& model);
// Alike are layers of one kind of which the same is trained and which a backward pass reaches, or not.
LayerNumbering layer_classes(const Model& model);

// The first layer that a backward pass reaches.
std::int64_t first_reached_layer(const Model& model);

// Layers of a model that are rehearsed. Layers of one group keep the same from forward to backward.
struct KeptLayers {
  std::vector<std::int64_t> numbers;  // in the model, ascending
  std::vector<std::size_t> groups;    // of each of them
};

// Layers are in groups: of one class, and recomputing or not. Of every group the first and the last are kept, in
// the order of the model: what a phase holds is most in the last layer of its group.
class ShallowModel {
 public:
  // The first `num_recomputing` layers recompute.
  ShallowModel(const LayerNumbering& classes, std::int64_t num_recomputing);

  static std::size_t group(std::size_t layer_class, bool recomputes) { return 2 * layer_class + recomputes; }
  static bool recomputes(std::size_t group) { return group % 2 == 1; }

  const KeptLayers& kept() const { return kept_; }
  // Every group that has layers.
  const std::vector<std::size_t>& groups() const { return groups_; }
  // Layers of a group by number in [begin, end), and how many of those before `end` are not kept.
  std::int64_t count(std::size_t group, std::int64_t begin, std::int64_t end) const;
  std::int64_t left_out(std::size_t group, std::int64_t end) const;
  // One beyond the number of the group's last layer.
  std::int64_t end_of(std::size_t group) const { return numbers_[group].back() + 1; }

 private:
  std::vector<std::vector<std::int64_t>> numbers_;  // by group, ascending
  std::vector<std::size_t> groups_;
  KeptLayers kept_;
};

}  // namespace autoglm
