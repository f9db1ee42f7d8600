#include "trainer/states/state_access.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "trainer/states/state_values.h"

namespace autoglm {
namespace {

// Values handed in or out at a time.
constexpr std::int64_t kPiece = std::int64_t{1} << 20;

// Runs of the working weights of every parameter that lie here.
void each_working(const BlockState& state, const std::function<void(const HeldState&)>& visit) {
  for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
    const ElementRange held = state.held_elements_of(i);
    if (held.size() == 0) continue;
    visit({state.block->parameters()[i], held.begin - state.elements_of(i).begin,
           state.group_of(i).range(held)});
  }
}

// Runs of what lies in `part`, of trainable parameters; `flat` holds part.range.
template <typename Part>
void each_run(const BlockState& state, const Part& part, const at::Tensor& flat,
              const std::function<void(const HeldState&)>& visit) {
  if (!flat.defined()) return;
  for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
    const Parameter& parameter = state.block->parameters()[i];
    if (!parameter.trainable()) continue;
    const ElementRange all = state.elements_of(i), range = all.within(part.range);
    if (range.size() == 0) continue;
    visit({parameter, range.begin - all.begin, flat.narrow(0, range.begin - part.range.begin, range.size())});
  }
}

const at::Tensor& state_in(const OptimizerPart& part, StateKind kind) {
  switch (kind) {
    case StateKind::master:
      return part.master;
    case StateKind::remainder:
      return part.remainder;
    case StateKind::moment1:
      return part.moment1;
    case StateKind::moment2:
      return part.moment2;
    case StateKind::working:
    case StateKind::gradient:
      break;
  }
  AUTOGLM_CHECK(false, "no state of the optimizer");
}

void each_in(const BlockState& state, StateKind kind, const std::function<void(const HeldState&)>& visit) {
  if (kind == StateKind::working) {
    each_working(state, visit);
  } else if (kind == StateKind::gradient) {
    for (const GradientPart& part : state.gradients) each_run(state, part, part.sum, visit);
  } else {
    for (const OptimizerPart& part : state.optimizer) each_run(state, part, state_in(part, kind), visit);
  }
}

SavedRun run_of(const BlockState& state, const OptimizerPart& part, SavedKind kind, ElementRange range) {
  const auto here = [&](const at::Tensor& flat) {
    return flat.narrow(0, range.begin - part.range.begin, range.size());
  };
  SavedRun run;
  run.kind = kind;
  if (kind != SavedKind::master) {
    run.values = here(kind == SavedKind::moment1 ? part.moment1 : part.moment2);
    run.dtype = run.values.scalar_type() == at::kBFloat16 ? DType::bfloat16 : DType::float32;
  } else if (part.master.defined()) {
    run.values = here(part.master);
  } else {
    run.values = state.trained.range(range);
    run.remainder = here(part.remainder);
  }
  return run;
}

void add_runs(const BlockState& state, const OptimizerPart& part, SavedKind kind,
              std::vector<SavedRun>& runs) {
  const ElementRange mine = part.range.within(state.shard());
  for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
    const Parameter& parameter = state.block->parameters()[i];
    if (!parameter.trainable()) continue;
    const ElementRange all = state.elements_of(i), range = all.within(mine);
    if (range.size() == 0) continue;
    SavedRun run = run_of(state, part, kind, range);
    run.parameter = &parameter;
    run.offset = range.begin - all.begin;
    runs.push_back(std::move(run));
  }
}

bool is_narrow(DType dtype) {
  return dtype == DType::bfloat16 || dtype == DType::float16;
}

bool is_moment(StateKind kind) {
  return kind == StateKind::moment1 || kind == StateKind::moment2;
}

}  // namespace

StateAccess::StateAccess(std::span<BlockState> states, WeightSource& weights, const StatePlacement& placement,
                         Communicator& communicator)
    : states_(states), weights_(weights), placement_(placement), communicator_(communicator) {}

void StateAccess::each_held(StateKind kind, const std::function<void(const HeldState&)>& visit) const {
  weights_.settle();
  for (const BlockState& state : states_) {
    if (is_moment(kind) && !state.stepped) continue;
    if (kind == StateKind::gradient && !state.accumulated) continue;
    each_in(state, kind, visit);
  }
}

void StateAccess::fill(StateKind kind, const std::function<void(const HeldState&)>& read) {
  weights_.settle();
  for (BlockState& state : states_) {
    each_in(state, kind, read);
    if (is_moment(kind)) state.stepped = true;
    if (kind == StateKind::gradient) state.accumulated = true;
  }
  weights_.refilled();
}

std::vector<SavedRun> StateAccess::runs_to_save() const {
  weights_.settle();
  std::vector<SavedRun> runs;
  for (const SavedKind kind : {SavedKind::master, SavedKind::moment1, SavedKind::moment2}) {
    for (const BlockState& state : states_) {
      if (!state.trainable() || (kind != SavedKind::master && !state.stepped)) continue;
      // Where every rank optimizes all of it, each saves its shard.
      for (const OptimizerPart& part : state.optimizer) add_runs(state, part, kind, runs);
    }
  }
  return runs;
}

void StateAccess::load(const std::function<void(const std::string&, std::int64_t, std::span<float>)>& read) {
  weights_.settle();
  std::vector<float> piece;
  for (BlockState& state : states_) {
    for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
      const ElementRange all = state.elements_of(i), held = state.held_elements_of(i);
      for (std::int64_t at = held.begin; at < held.end; at += kPiece) {
        piece.resize(static_cast<std::size_t>(std::min(kPiece, held.end - at)));
        const ParameterSpec& spec = state.block->parameters()[i].spec();
        spec.from_file() ? read(spec.name, at - all.begin, piece) : spec.initialise(at - all.begin, piece);
        store_weights(state, i, at, piece);
      }
    }
  }
  weights_.refilled();
}

// The communicator's collectives are for the device's memory; only its control messages are always for the
// host's.
void StateAccess::share_from(int owner, std::span<float> values) {
  if (!placement_.device.is_cuda()) {
    communicator_.broadcast(values.data(), static_cast<std::int64_t>(values.size_bytes()), owner, Event())
        .synchronize();
    return;
  }
  const bool mine = owner == communicator_.rank();
  const auto all = communicator_.exchange(mine ? std::as_bytes(values) : std::span<const std::byte>());
  const std::vector<std::byte>& bytes = all[static_cast<std::size_t>(owner)];
  AUTOGLM_CHECK(bytes.size() == values.size_bytes(), "{} bytes from rank {}", bytes.size(), owner);
  std::memcpy(values.data(), bytes.data(), bytes.size());
}

void StateAccess::visit_pieces(
    bool sharded, const std::function<void(const BlockState&, ElementRange, std::span<float>)>& read,
    const std::function<void(const Parameter&, std::int64_t, std::span<float>)>& visit) {
  weights_.settle();
  sharded = sharded && communicator_.size() > 1;
  std::vector<float> piece;
  for (const BlockState& state : states_) {
    const std::int64_t shard = state.shard().size();
    for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
      const Parameter& parameter = state.block->parameters()[i];
      if (!parameter.trainable()) continue;
      const ElementRange all = state.elements_of(i);
      for (std::int64_t at = all.begin; at < all.end;) {
        ElementRange range{at, std::min(at + kPiece, all.end)};
        const std::int64_t owner = at / shard;
        if (sharded) range = range.within({owner * shard, (owner + 1) * shard});
        piece.resize(static_cast<std::size_t>(range.size()));
        if (!sharded || owner == communicator_.rank()) read(state, range, piece);
        if (sharded) share_from(static_cast<int>(owner), piece);
        visit(parameter, range.begin - all.begin, piece);
        at = range.end;
      }
    }
  }
}

void StateAccess::export_parameters(
    const std::function<DType(const std::string&)>& save_dtype,
    const std::function<void(const std::string&, std::int64_t, std::span<const float>)>& visit) {
  visit_pieces(placement_.strategy.shards_optimizer(), read_master,
               [&](const Parameter& parameter, std::int64_t offset, std::span<float> values) {
                 if (save_dtype(parameter.name()) == DType::bfloat16) round_as_saved(values, DType::bfloat16);
                 visit(parameter.name(), offset, values);
               });
}

void StateAccess::export_gradients(
    const std::function<void(const std::string&, std::int64_t, std::span<const float>)>& visit) {
  visit_pieces(true, read_gradient,
               [&](const Parameter& parameter, std::int64_t offset, std::span<float> values) {
                 visit(parameter.name(), offset, values);
               });
}

void StateAccess::visit_mine(
    const BlockState& state, const std::function<bool(const Parameter&)>& wanted,
    const std::function<void(std::size_t parameter, std::int64_t begin, std::span<float>)>& visit) const {
  std::vector<float> piece;
  for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
    const Parameter& parameter = state.block->parameters()[i];
    if (!parameter.trainable() || !wanted(parameter)) continue;
    const ElementRange all = state.elements_of(i).within(state.optimizer_range());
    for (std::int64_t at = all.begin; at < all.end; at += kPiece) {
      const ElementRange range{at, std::min(at + kPiece, all.end)};
      piece.resize(static_cast<std::size_t>(range.size()));
      read_master(state, range, piece);
      visit(i, range.begin, piece);
    }
  }
}

void StateAccess::check_saved_range(const std::function<DType(const std::string&)>& save_dtype) const {
  weights_.settle();
  const auto narrow = [&](const Parameter& one) { return is_narrow(save_dtype(one.name())); };
  for (const BlockState& state : states_) {
    visit_mine(state, narrow, [&](std::size_t i, std::int64_t, std::span<float> values) {
      const std::string& name = state.block->parameters()[i].name();
      const DType dtype = save_dtype(name);
      if (const std::int64_t lost = round_as_saved(values, dtype); lost > 0) {
        fail(ExitCode::not_finite,
             "tensor {}: at least {} trained value{} would become infinite, because {} cannot hold {}; no "
             "model was written; write with --save-dtype {}",
             name, lost, lost == 1 ? "" : "s", dtype_name(dtype), lost == 1 ? "it" : "them",
             dtype == DType::float16 ? "bf16 or fp32" : "fp32");
      }
    });
  }
}

void StateAccess::round_to_saved(const std::function<DType(const std::string&)>& save_dtype) {
  weights_.settle();
  const auto narrow = [&](const Parameter& one) { return is_narrow(save_dtype(one.name())); };
  for (BlockState& state : states_) {
    visit_mine(state, narrow, [&](std::size_t i, std::int64_t begin, std::span<float> values) {
      round_as_saved(values, save_dtype(state.block->parameters()[i].name()));
      store_weights(state, i, begin, values);
    });
    if (state.trainable()) weights_.updated(static_cast<std::size_t>(&state - states_.data()), Event());
  }
}

}  // namespace autoglm
