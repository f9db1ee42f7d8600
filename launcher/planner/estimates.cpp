#include "launcher/planner/estimates.h"

#include <algorithm>
#include <cmath>

#include "trainer/models/model.h"

namespace autoglm {
namespace {

constexpr double kAdapterRank = 16;
constexpr double kAdapterBytes = 16;
constexpr double kQuantizedBytes = 4.127 / 8;
constexpr double kScaleBytes = 2.0 / 128;

struct Sizes {
  double layer_matrices = 0;  // elements of all layers' matrices
  double largest_layer = 0;   // of one layer's
  double adapters = 0;        // parameters of adapters of rank 16
  double everything = 0;
};

Sizes sizes_of(const ModelConfig& config) {
  const Model model = make_model(config);
  Sizes sizes;
  sizes.everything = static_cast<double>(model.num_parameters());
  for (const LayerBlock* layer : model.layers()) {
    double matrices = 0;
    for (const Parameter& parameter : layer->parameters()) {
      const std::vector<std::int64_t>& shape = parameter.spec().shape;
      if (shape.size() != 2) continue;
      matrices += static_cast<double>(parameter.spec().num_elements());
      sizes.adapters += kAdapterRank * static_cast<double>(shape[0] + shape[1]);
    }
    sizes.layer_matrices += matrices;
    sizes.largest_layer = std::max(sizes.largest_layer, matrices);
  }
  return sizes;
}

std::int64_t rounded(double bytes) {
  return std::llround(bytes);
}

}  // namespace

AdapterEstimate estimate_adapters(MemoryModel& memory) {
  const Sizes sizes = sizes_of(memory.question().model);
  Strategy strategy;
  strategy.recompute = Recompute::full;
  // What a step holds beside its states does not depend on what is trained.
  const MemoryUse use = memory.price(strategy).device;
  const auto activations = static_cast<double>(use[MemoryCategory::activations] + use[MemoryCategory::head] +
                                               use[MemoryCategory::workspace] + use[MemoryCategory::data]);
  const double adapters = kAdapterBytes * sizes.adapters;
  AdapterEstimate estimate;
  estimate.lora = rounded(2 * sizes.everything + adapters + activations);
  estimate.qlora =
      rounded(kQuantizedBytes * sizes.layer_matrices + 2 * (sizes.everything - sizes.layer_matrices) +
              2 * sizes.largest_layer + adapters + activations);
  return estimate;
}

std::vector<InferenceEstimate> estimate_inference(const ModelConfig& config, std::int64_t batch,
                                                  std::int64_t context) {
  struct Format {
    const char* name;
    double matrix_bytes, other_bytes;
  };
  constexpr Format kFormats[] = {{"FP32", 4, 4},
                                 {"FP16", 2, 2},
                                 {"BF16", 2, 2},
                                 {"INT8", 1 + kScaleBytes, 2},
                                 {"INT4", 0.5 + kScaleBytes, 2}};
  const Sizes sizes = sizes_of(config);
  const double tokens = static_cast<double>(batch) * static_cast<double>(context);
  const double entries =
      2.0 * static_cast<double>(config.num_layers * config.num_key_heads * config.head_dim);
  const double widest = static_cast<double>(4 * config.hidden_size + 3 * config.intermediate_size);
  std::vector<InferenceEstimate> estimates;
  for (const Format& format : kFormats) {
    InferenceEstimate one;
    one.format = format.name;
    one.weights = rounded(format.matrix_bytes * sizes.layer_matrices +
                          format.other_bytes * (sizes.everything - sizes.layer_matrices));
    one.key_values = rounded(tokens * entries * format.other_bytes);
    one.scratch = rounded(static_cast<double>(batch) *
                          (widest * format.other_bytes + 4.0 * static_cast<double>(config.vocabulary_size)));
    estimates.push_back(one);
  }
  return estimates;
}

}  // namespace autoglm
