// Greedy answers, token by token, with a cache of keys and values.
#include <ATen/ops/argmax.h>

#include <algorithm>

#include "sharding/memory/category.h"
#include "trainer/engine/engine.h"
#include "trainer/ops/head.h"
#include "trainer/ops/target.h"

namespace autoglm {

at::Tensor Engine::next_token_logits(std::span<const std::int32_t> ids,
                                     std::vector<ops::KeyValueCache>& caches, std::int64_t past) {
  const auto count = static_cast<std::int64_t>(ids.size());
  const at::TensorOptions host = at::TensorOptions().device(at::kCPU);
  at::Tensor id_row = at::empty({1, count}, host.dtype(at::kLong));
  at::Tensor positions = at::empty({count}, host.dtype(at::kInt));
  for (std::int64_t i = 0; i < count; ++i) {
    ops::write_pointer<std::int64_t>(id_row)[i] = ids[static_cast<std::size_t>(i)];
    ops::write_pointer<std::int32_t>(positions)[i] = static_cast<std::int32_t>(past + i);
  }
  ForwardContext context;
  context.rows.length = count;
  context.ids = id_row.to(options_.device);
  context.positions = positions.to(options_.device);
  context.rotary = &rotary_;
  context.caches = &caches;
  context.past = past;
  weights_->acquire(0);
  weights_->prefetch(1);
  at::Tensor x = model_.embedding->forward(anchor_, context);
  weights_->release(0);
  for (std::size_t i = 0; i < model_.layers.size(); ++i) {
    weights_->acquire(i + 1);
    weights_->prefetch(i + 2);
    x = model_.layers[i]->forward(x, context);
    weights_->release(i + 1);
  }
  const at::Tensor last = x.view({count, x.size(-1)}).narrow(0, count - 1, 1).contiguous();
  acquire_head();
  at::Tensor logits = ops::head_logits(last, model_.head->head());
  release_head();
  return logits;
}

std::vector<std::int32_t> Engine::generate(std::span<const std::int32_t> prompt, std::int64_t max_new_tokens,
                                           std::span<const std::int32_t> stop_ids) {
  const at::NoGradGuard no_grad;
  const CategoryScope scope(MemoryCategory::activations);
  const ModelConfig& config = model_.config;
  const std::int64_t capacity = static_cast<std::int64_t>(prompt.size()) + max_new_tokens;
  AUTOGLM_CHECK(!prompt.empty() && capacity <= options_.max_positions, "{} positions", capacity);
  std::vector<ops::KeyValueCache> caches;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const auto empty = [&] {
      return at::empty({1, capacity, config.num_key_heads, config.head_dim},
                       states_.front().working.options());
    };
    caches.push_back({empty(), empty()});
  }
  std::vector<std::int32_t> answer;
  std::vector<std::int32_t> input(prompt.begin(), prompt.end());
  std::int64_t past = 0;
  while (static_cast<std::int64_t>(answer.size()) < max_new_tokens) {
    const at::Tensor logits = next_token_logits(input, caches, past);
    past += static_cast<std::int64_t>(input.size());
    const auto next = static_cast<std::int32_t>(at::argmax(logits).item<std::int64_t>());
    if (std::find(stop_ids.begin(), stop_ids.end(), next) != stop_ids.end()) break;
    answer.push_back(next);
    input.assign(1, next);
  }
  return answer;
}

}  // namespace autoglm
