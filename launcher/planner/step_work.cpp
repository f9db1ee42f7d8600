#include "launcher/planner/step_work.h"

#include "trainer/models/model.h"

namespace autoglm {
namespace {

// The passes of block `place` in the order of their micro-batches.
std::vector<WorkCount> passes_of(const std::vector<PhaseWork>& phases, EnginePhase phase, std::size_t place) {
  std::vector<WorkCount> passes;
  for (const PhaseWork& one : phases) {
    if (one.phase == phase && one.block == place) passes.push_back(one.work);
  }
  return passes;
}

WorkCount sum_of(const std::vector<PhaseWork>& phases) {
  WorkCount sum;
  for (const PhaseWork& one : phases) sum.add(one.work);
  return sum;
}

}  // namespace

StepWork count_step(const MemoryModel& memory, const Strategy& strategy, std::int64_t num_micro_batches) {
  const MemoryQuestion& question = memory.question();
  const Model model = make_model(question.model);
  const std::vector<std::size_t> layers = model.places(BlockRole::layer);
  StepWork result;
  result.layer = static_cast<std::int64_t>(layers.size() / 2);
  result.tokens = strategy.micro_batch * question.row_length;
  const std::size_t place = layers[static_cast<std::size_t>(result.layer)];
  const std::vector<PhaseWork> one = memory.rehearse_work(strategy, 1),
                               two = memory.rehearse_work(strategy, 2);
  const auto first_of = [&](EnginePhase phase, std::size_t block) {
    const std::vector<WorkCount> passes = passes_of(one, phase, block);
    return passes.empty() ? WorkCount() : passes.front();
  };
  result.forward = first_of(EnginePhase::forward, place);
  result.backward = first_of(EnginePhase::backward, place);
  const std::vector<WorkCount> backward = passes_of(two, EnginePhase::backward, place);
  if (!backward.empty()) result.later_backward = backward.back();
  result.head = first_of(EnginePhase::head, model.place(BlockRole::head));
  // first + (n - 1) (second - first)
  result.step.add(sum_of(one), 2 - num_micro_batches);
  result.step.add(sum_of(two), num_micro_batches - 1);
  return result;
}

Work elementwise_work(const WorkCount& count) {
  Work work;
  for (const WorkKind kind :
       {WorkKind::sums, WorkKind::norms, WorkKind::rotary, WorkKind::activations, WorkKind::residuals})
    work.add(count[kind]);
  return work;
}

}  // namespace autoglm
