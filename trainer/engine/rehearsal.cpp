#include "trainer/engine/rehearsal.h"

#include <algorithm>

namespace autoglm {

MemoryStatistics rehearse(const RehearsalRequest& request) {
  const RehearsalArena arena(request.device_limit);
  Model model = make_model(request.model);
  for (Parameter* parameter : model.parameters()) {
    const bool is_frozen =
        std::find(request.frozen.begin(), request.frozen.end(), parameter->name()) != request.frozen.end();
    parameter->set_trainable(!is_frozen);
  }
  EngineOptions options = request.options;
  options.device = at::Device(at::kMeta);
  const auto communicator = make_rehearsal_communicator(request.rank, request.world_size);
  Engine engine(model, options, *communicator);
  const MicroBatch batch(options.strategy.micro_batch, options.row_length, options.device);
  for (std::int64_t i = 0; i < request.micro_batches; ++i) engine.train_micro_batch(batch, 1);
  engine.finish_accumulation(0);
  engine.optimizer_step({}, 0, 1, 1);
  engine.evaluate_micro_batch(batch);
  return arena.statistics();
}

}  // namespace autoglm
