// Memory of what this program does not do itself, by arithmetic: adapters and inference. Estimates, unlike
// all else in the planner.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/planner/memory_model.h"

namespace autoglm {

struct AdapterEstimate {
  std::int64_t lora = 0;   // bytes on one device: bf16 weights, adapters on every linear layer
  std::int64_t qlora = 0;  // the layers' matrices in 4 bits
};

// Rank 16 on every matrix of a layer (Hu et al., 2021), 16 bytes per adapter parameter, full recompute, one
// row at a time; QLoRA with 4.127 bits per parameter (Dettmers et al., 2023: 4 bits and doubly quantized
// scales) and one layer's matrices dequantized.
AdapterEstimate estimate_adapters(MemoryModel& memory);

struct InferenceEstimate {
  std::string format;        // "FP32", "FP16", "BF16", "INT8", "INT4"
  std::int64_t weights = 0;  // bytes
  std::int64_t key_values =
      0;                     // of `batch` sequences of `context` tokens; 16 bits where weights are integers
  std::int64_t scratch = 0;  // activations of one token each, and logits in fp32
  std::int64_t total() const { return weights + key_values + scratch; }
};

// Integer formats hold the layers' matrices with a 16-bit scale per 128 elements; embedding, head and norms
// stay in 16 bits.
std::vector<InferenceEstimate> estimate_inference(const ModelConfig& config, std::int64_t batch,
                                                  std::int64_t context);

}  // namespace autoglm
