#include "trainer/engine/generator.h"

#include <ATen/ops/argmax.h>

#include <algorithm>

#include "sharding/memory/category.h"
#include "trainer/engine/engine.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

// The next tokens of an answer, `past` tokens after its beginning.
ForwardContext context_for(std::span<const std::int32_t> ids, std::int64_t past, at::Device device) {
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
  context.ids = id_row.to(device);
  context.positions = positions.to(device);
  context.past = past;
  return context;
}

}  // namespace

std::vector<std::int32_t> generate(Engine& engine, std::span<const std::int32_t> prompt,
                                   std::int64_t max_new_tokens, std::span<const std::int32_t> stop_ids) {
  const CategoryScope scope(MemoryCategory::activations);
  const ModelConfig& config = engine.model().config;
  const std::int64_t capacity = static_cast<std::int64_t>(prompt.size()) + max_new_tokens;
  AUTOGLM_CHECK(!prompt.empty() && capacity <= engine.options().max_positions, "{} positions", capacity);
  std::vector<ops::KeyValueCache> caches;
  for (std::size_t i = 0; i < engine.model().places(BlockRole::layer).size(); ++i) {
    const auto empty = [&] {
      return at::empty(
          {1, capacity, config.num_key_heads, config.head_dim},
          at::TensorOptions().dtype(scalar_type(engine.options().precision)).device(engine.options().device));
    };
    caches.push_back({empty(), empty()});
  }
  std::vector<std::int32_t> answer;
  std::vector<std::int32_t> input(prompt.begin(), prompt.end());
  std::int64_t past = 0;
  while (static_cast<std::int64_t>(answer.size()) < max_new_tokens) {
    const at::Tensor logits = engine.logits(context_for(input, past, engine.options().device), 1, caches);
    past += static_cast<std::int64_t>(input.size());
    const auto next = static_cast<std::int32_t>(at::argmax(logits).item<std::int64_t>());
    if (std::find(stop_ids.begin(), stop_ids.end(), next) != stop_ids.end()) break;
    answer.push_back(next);
    input.assign(1, next);
  }
  return answer;
}

}  // namespace autoglm
