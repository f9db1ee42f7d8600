#include "trainer/training_loop.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/math.h"
#include "sharding/agree.h"

namespace autoglm {

std::vector<std::int64_t> count_rows(const Dataset& dataset, const LoopOptions& options) {
  std::vector<std::int64_t> rows;
  std::int64_t steps = 0;
  const auto more = [&] {
    return options.epochs ? static_cast<std::int64_t>(rows.size()) < *options.epochs : steps < *options.steps;
  };
  while (more()) {
    const auto count = static_cast<std::int64_t>(dataset.training_rows(rows.size()).num_rows());
    AUTOGLM_CHECK(count > 0, "an epoch without rows");
    rows.push_back(count);
    steps += divide_up(count, options.global_batch);
  }
  return rows;
}

TrainingLoop::TrainingLoop(Engine& engine, const Dataset& dataset, const BatchPlan& plan,
                           Communicator& communicator, const LoopOptions& options,
                           std::vector<LoopListener*> listeners, FailureHints hints)
    : engine_(engine),
      dataset_(dataset),
      plan_(plan),
      communicator_(communicator),
      options_(options),
      schedule_(make_schedule(options.schedule, plan.num_steps())),
      listeners_(std::move(listeners)),
      hints_(std::move(hints)),
      batch_(engine.options().strategy.micro_batch, engine.options().row_length, engine.options().device),
      validation_rows_(dataset.validation_rows()) {}

void TrainingLoop::fill(const RowPlan& rows,
                        const std::function<std::optional<std::int64_t>(std::int64_t)>& row_of) {
  const auto length = static_cast<std::size_t>(batch_.rows.length);
  std::vector<std::int32_t> ids(length), targets(length), positions(length);
  for (std::int64_t slot = 0; slot < batch_.rows.batch; ++slot) {
    const std::optional<std::int64_t> row = row_of(slot);
    const std::span<const std::uint32_t> samples =
        row ? rows.row(static_cast<std::size_t>(*row)) : std::span<const std::uint32_t>();
    std::vector<std::int32_t> ends = dataset_.write_row(samples, {ids, targets, positions});
    ends.pop_back();
    batch_.set_row(slot, ids, targets, positions, ends);
  }
}

const RowPlan& TrainingLoop::epoch_rows(std::int64_t epoch) {
  if (epoch != current_epoch_) {
    training_rows_ = dataset_.training_rows(static_cast<std::uint64_t>(epoch));
    current_epoch_ = epoch;
  }
  return training_rows_;
}

StepSums TrainingLoop::accumulate(std::int64_t index, double supervised) {
  const StepRows step = plan_.step(index);
  const RowPlan& rows = epoch_rows(step.epoch);
  double loss_sum = 0;
  micro_losses_.clear();
  for (std::int64_t i = 0; i < step.num_micro_batches; ++i) {
    fill(rows, [&](std::int64_t slot) { return plan_.row_at(step, i, communicator_.rank(), slot); });
    const bool last = i + 1 == step.num_micro_batches;
    micro_losses_.push_back(engine_.train_micro_batch(batch_, static_cast<float>(1 / supervised), last));
    loss_sum += micro_losses_.back();
  }
  StepVotes mine;
  for (LoopListener* listener : listeners_) listener->vote(index + 1, mine);
  return engine_.finish_accumulation(loss_sum, mine);
}

StepSums TrainingLoop::accumulate_until_it_fits(std::int64_t index, double supervised) {
  while (true) {
    for (LoopListener* listener : listeners_) listener->before_step(index + 1);
    const StepSums sums = accumulate(index, supervised);
    if (sums.votes.out_of_memory == 0) return sums;
    engine_.discard_gradients();
    recover(index + 1, sums.votes.out_of_memory);
  }
}

void TrainingLoop::recover(std::int64_t step, std::int64_t num_ranks) {
  const bool seen_to =
      std::ranges::any_of(listeners_, [&](LoopListener* one) { return one->out_of_memory(step, num_ranks); });
  if (!seen_to)
    throw AgreedError(ExitCode::does_not_fit,
                      fmt::format("{} ranks ran out of memory in step {}", num_ranks, step));
  const std::int64_t rows = engine_.options().strategy.micro_batch;
  if (rows == batch_.rows.batch) return;
  plan_ = plan_.with_micro_batch(rows);
  batch_ = MicroBatch(rows, engine_.options().row_length, engine_.options().device);
}

StepVotes TrainingLoop::train_step(std::int64_t index) {
  const auto start = std::chrono::steady_clock::now();
  const StepRows step = plan_.step(index);
  const RowPlan& rows = epoch_rows(step.epoch);
  StepReport report;
  StepVotes votes;
  report.step = index + 1;
  report.learning_rate = schedule_.learning_rate(index + 1);
  report.epoch = static_cast<double>(step.epoch) +
                 static_cast<double>(step.first_row + step.num_rows) / static_cast<double>(rows.num_rows());
  for (std::int64_t row = step.first_row; row < step.first_row + step.num_rows; ++row) {
    const std::span<const std::uint32_t> samples = rows.row(static_cast<std::size_t>(row));
    report.supervised_tokens += dataset_.supervised_tokens(samples);
    for (const std::uint32_t sample : samples) {
      report.tokens += static_cast<std::int64_t>(dataset_.samples().ids(sample).size());
    }
  }
  if (report.supervised_tokens > 0) {
    const auto supervised = static_cast<double>(report.supervised_tokens);
    const StepSums sums = accumulate_until_it_fits(index, supervised);
    report.loss = sums.loss_sum / supervised;
    report.gradient_norm = sums.gradient_norm;
    report.exposed_seconds = sums.exposed_seconds;
    if (!std::isfinite(*report.loss) || !std::isfinite(sums.gradient_norm)) {
      // The sums are the same on all ranks, so all of them stop here.
      throw AgreedError(
          ExitCode::not_finite,
          fmt::format("step {}: the loss is {} and the gradient norm {}; nothing was updated with them and "
                      "no model was written; {}",
                      report.step, *report.loss, sums.gradient_norm, advice(plan_, step, rows)));
    }
    votes = sums.votes;
    for (LoopListener* listener : listeners_) listener->before_update(report.step);
    engine_.optimizer_step(options_.adamw, report.learning_rate, report.step,
                           clip_factor(sums.gradient_norm, options_.clip));
    updated_ = true;
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (LoopListener* listener : listeners_) listener->after_step(report);
  return votes;
}

std::optional<double> TrainingLoop::evaluate(std::int64_t step) {
  const auto num_rows = static_cast<std::int64_t>(validation_rows_.num_rows());
  if (num_rows == 0) return std::nullopt;
  double supervised = 0;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    supervised +=
        static_cast<double>(dataset_.supervised_tokens(validation_rows_.row(static_cast<std::size_t>(row))));
  }
  std::array<double, 1> loss_sum{0};
  BatchPlan plan({num_rows}, num_rows, communicator_.size(), batch_.rows.batch);
  while (true) {
    plan = BatchPlan({num_rows}, num_rows, communicator_.size(), batch_.rows.batch);
    const StepRows all = plan.step(0);
    loss_sum[0] = 0;
    micro_losses_.clear();
    for (std::int64_t i = 0; i < all.num_micro_batches; ++i) {
      fill(validation_rows_,
           [&](std::int64_t slot) { return plan.row_at(all, i, communicator_.rank(), slot); });
      micro_losses_.push_back(engine_.evaluate_micro_batch(batch_));
      loss_sum[0] += micro_losses_.back();
    }
    const std::int64_t num_ranks = engine_.agree_on_memory();
    if (num_ranks == 0) break;
    recover(step, num_ranks);
  }
  communicator_.all_reduce(loss_sum, Event()).synchronize();
  const double loss = loss_sum[0] / supervised;
  if (!std::isfinite(loss)) {
    // Reduced over all ranks, so all of them stop here; after the last step nothing else would notice.
    throw AgreedError(ExitCode::not_finite,
                      fmt::format("the validation loss after step {} is {}; no model was written; {}", step,
                                  loss, advice(plan, plan.step(0), validation_rows_)));
  }
  for (LoopListener* listener : listeners_) listener->after_evaluation(step, loss);
  return loss;
}

std::optional<std::int64_t> TrainingLoop::first_broken_micro_batch() const {
  const auto broken = std::ranges::find_if(micro_losses_, [](double loss) { return !std::isfinite(loss); });
  const std::int64_t none = std::numeric_limits<std::int64_t>::max();
  const std::int64_t first = least(
      communicator_, broken == micro_losses_.end() ? none : std::int64_t{broken - micro_losses_.begin()});
  return first == none ? std::nullopt : std::optional(first);
}

std::optional<std::uint32_t> TrainingLoop::first_broken_sample(std::span<const std::uint32_t> samples) {
  const auto ranks = static_cast<std::size_t>(communicator_.size());
  const auto rank = static_cast<std::size_t>(communicator_.rank());
  std::size_t first = samples.size();
  for (std::size_t begin = 0; begin < samples.size(); begin += ranks) {
    const std::size_t mine = begin + rank;
    // One sample in the first row, nothing in the others.
    RowPlan alone;
    if (mine < samples.size()) alone.add_row(samples.subspan(mine, 1));
    fill(alone, [&](std::int64_t slot) {
      return slot == 0 && mine < samples.size() ? std::optional<std::int64_t>(0) : std::nullopt;
    });
    if (!std::isfinite(engine_.evaluate_micro_batch(batch_))) first = std::min(first, mine);
  }
  if (engine_.agree_on_memory() > 0) return std::nullopt;
  first = least(communicator_, first);
  return first == samples.size() ? std::nullopt : std::optional(samples[first]);
}

std::string TrainingLoop::advice(const BatchPlan& plan, const StepRows& step, const RowPlan& rows) {
  if (updated_) return "try a lower --learning-rate or a longer --warmup";
  if (!hints_.broken_weights.empty())
    return fmt::format("the weights of --model are broken: {}; fetch or save the model again",
                       hints_.broken_weights);
  std::vector<std::uint32_t> suspects;
  if (const auto broken = first_broken_micro_batch()) {
    for (int rank = 0; rank < communicator_.size(); ++rank) {
      for (std::int64_t slot = 0; slot < batch_.rows.batch; ++slot) {
        const auto row = plan.row_at(step, *broken, rank, slot);
        if (!row) continue;
        const auto samples = rows.row(static_cast<std::size_t>(*row));
        suspects.insert(suspects.end(), samples.begin(), samples.end());
      }
    }
  }
  const std::string unchanged = "the weights are still those of --model";
  engine_.discard_gradients();
  if (const auto sample = first_broken_sample(suspects))
    return fmt::format("{}, which give this for {}: take it out, or try --precision fp32", unchanged,
                       hints_.describe_sample(*sample));
  return fmt::format("{}, which are broken, or need --precision fp32", unchanged);
}

bool TrainingLoop::run(std::int64_t first_step) {
  if (first_step == 0) evaluate(0);
  updated_ = first_step > 0;
  for (std::int64_t index = first_step; index < plan_.num_steps(); ++index) {
    const StepVotes votes = train_step(index);
    const std::int64_t done = index + 1;
    const bool last = done == plan_.num_steps();
    const bool due = options_.evaluate_every > 0 && done % options_.evaluate_every == 0;
    if (!last && (due || plan_.ends_epoch(index))) evaluate(done);
    bool ends = false;
    for (LoopListener* listener : listeners_) ends = listener->end_of_step(done, votes) || ends;
    if (ends && !last) return false;
  }
  return true;
}

}  // namespace autoglm
