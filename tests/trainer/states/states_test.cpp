// States are reached where they lie: every element is held by some rank, a run goes on from states that were
// read elsewhere, and nothing is read before it is there.
#include "sharding/mpi/mpi_communicator.h"
#include "tests/trainer/engine/engine_test_main.h"
#include "tests/trainer/engine/tiny_model.h"
#include "trainer/ops/linear.h"

namespace autoglm {

static MpiSession* session = nullptr;

namespace {

constexpr std::int64_t kLength = 32;

// What all ranks hold together of one kind, by parameter.
struct Gathered {
  std::vector<std::byte> bytes;
  std::vector<int> holders;  // by element
};
using States = std::map<std::string, Gathered>;

struct Layout {
  const char* name;
  int stage;
  WeightSourceKind weights;
  double offload;
  MasterLayout master = MasterLayout::split;
};

class StatesTest : public ::testing::Test {
 protected:
  StatesTest() : ranks_(make_mpi_communicator(*session)) {}

  struct Training {
    Training(const Layout& layout, Communicator& communicator, std::vector<std::string> frozen = {})
        : model(make_model(tiny::config_of({.tied = true}))) {
      for (Parameter* parameter : model.parameters()) {
        if (std::find(frozen.begin(), frozen.end(), parameter->name()) != frozen.end())
          parameter->set_trainable(false);
      }
      EngineOptions options;
      options.row_length = kLength;
      options.strategy.stage = layout.stage;
      options.strategy.weights = layout.weights;
      options.strategy.offload_optimizer = layout.offload;
      options.strategy.master = layout.master;
      engine.emplace(model, options, communicator);
      rank = communicator.rank();
    }

    void accumulate(std::uint32_t seed) {
      std::mt19937 random(seed + 10 * static_cast<std::uint32_t>(rank));
      MicroBatch batch(1, kLength, at::kCPU);
      const tiny::Row row = tiny::random_row(random, kLength, model.config.vocabulary_size);
      tiny::fill(batch, std::span(&row, 1));
      engine->train_micro_batch(batch, 0.1f);
      engine->finish_accumulation(0);
    }

    void step(std::int64_t number) {
      accumulate(static_cast<std::uint32_t>(number));
      engine->optimizer_step({}, 1e-2, number, 1);
    }

    Model model;
    std::optional<Engine> engine;
    int rank = 0;
  };

  States gather(Engine& engine, StateKind kind) {
    States states;
    for (const Parameter* parameter : engine.model().parameters()) {
      states[parameter->name()].holders.resize(static_cast<std::size_t>(parameter->spec().num_elements()));
    }
    engine.state_access().each_held(kind, [&](const HeldState& held) {
      Gathered& one = states.at(held.parameter.name());
      const auto width = static_cast<std::size_t>(held.values.element_size());
      one.bytes.resize(one.holders.size() * width);
      const auto first = static_cast<std::size_t>(held.offset),
                 count = static_cast<std::size_t>(held.values.numel());
      std::memcpy(one.bytes.data() + first * width, held.values.const_data_ptr(), count * width);
      for (std::size_t i = first; i < first + count; ++i) ++one.holders[i];
    });
    for (auto& [name, one] : states) merge(one);
    return states;
  }

  // Of an element that several ranks hold, the last rank's.
  void merge(Gathered& one) {
    const auto bytes = ranks_->exchange(one.bytes);
    const auto holders = ranks_->exchange(std::as_bytes(std::span(one.holders)));
    std::fill(one.holders.begin(), one.holders.end(), 0);
    for (std::size_t rank = 0; rank < bytes.size(); ++rank) {
      if (bytes[rank].empty()) continue;
      one.bytes.resize(bytes[rank].size());
      const std::size_t width = one.bytes.size() / one.holders.size();
      const auto* held = reinterpret_cast<const int*>(holders[rank].data());
      for (std::size_t i = 0; i < one.holders.size(); ++i) {
        one.holders[i] += held[i];
        if (held[i] > 0)
          std::copy_n(bytes[rank].begin() + static_cast<std::ptrdiff_t>(i * width), width,
                      one.bytes.begin() + static_cast<std::ptrdiff_t>(i * width));
      }
    }
  }

  static void fill(Engine& engine, StateKind kind, const States& states) {
    engine.state_access().fill(kind, [&](const HeldState& held) {
      const Gathered& one = states.at(held.parameter.name());
      const auto width = static_cast<std::size_t>(held.values.element_size());
      std::memcpy(held.values.mutable_data_ptr(),
                  one.bytes.data() + static_cast<std::size_t>(held.offset) * width,
                  static_cast<std::size_t>(held.values.numel()) * width);
    });
  }

  std::unique_ptr<Communicator> ranks_;
};

const Layout kLayouts[] = {
    {"ddp", 0, WeightSourceKind::resident, 0},
    {"zero2 with half on the host", 2, WeightSourceKind::resident, 0.5},
    {"zero2 with weights on the host", 2, WeightSourceKind::host, 0},
    {"zero3", 3, WeightSourceKind::peers, 0},
    {"zero3 all on the host", 3, WeightSourceKind::host, 1},
};

TEST_F(StatesTest, RanksTogetherHoldEveryElement) {
  const std::vector<std::string> frozen{"model.layers.1.mlp.up_proj.weight"};
  for (const Layout& layout : kLayouts) {
    Training training(layout, *ranks_, frozen);
    tiny::load_random(*training.engine);
    training.step(1);
    training.accumulate(2);
    for (const StateKind kind : {StateKind::working, StateKind::remainder, StateKind::moment1,
                                 StateKind::moment2, StateKind::gradient}) {
      for (const auto& [name, one] : gather(*training.engine, kind)) {
        const bool trained = name != frozen.front();
        const bool whole =
            kind == StateKind::working ? layout.stage < 3 : layout.stage == 0 && kind != StateKind::gradient;
        const int holders = kind != StateKind::working && !trained ? 0 : whole ? ranks_->size() : 1;
        EXPECT_EQ(std::count(one.holders.begin(), one.holders.end(), holders),
                  static_cast<std::ptrdiff_t>(one.holders.size()))
            << layout.name << ", " << name << ", kind " << static_cast<int>(kind);
      }
    }
  }
}

TEST_F(StatesTest, WhatHasNoValuesIsNotShown) {
  Training training(kLayouts[0], *ranks_);
  tiny::load_random(*training.engine);
  for (const StateKind kind : {StateKind::master, StateKind::moment1, StateKind::gradient}) {
    training.engine->state_access().each_held(kind, [&](const HeldState& held) {
      ADD_FAILURE() << held.parameter.name() << ", kind " << static_cast<int>(kind);
    });
  }
}

TEST_F(StatesTest, ARunGoesOnFromStatesReadElsewhereToTheBit) {
  for (const MasterLayout master : {MasterLayout::split, MasterLayout::plain}) {
    const StateKind precise = master == MasterLayout::split ? StateKind::remainder : StateKind::master;
    for (std::size_t i = 0; i < std::size(kLayouts); ++i) {
      Layout from = kLayouts[i], to = kLayouts[(i + 2) % std::size(kLayouts)];
      from.master = to.master = master;
      Training first(from, *ranks_), second(to, *ranks_);
      tiny::load_random(*first.engine);
      for (const int step : {1, 2}) first.step(step);
      for (const StateKind kind : {StateKind::working, precise, StateKind::moment1, StateKind::moment2})
        fill(*second.engine, kind, gather(*first.engine, kind));
      first.step(3);
      second.step(3);
      const tiny::Weights expected = tiny::weights_of(*first.engine),
                          actual = tiny::weights_of(*second.engine);
      for (const auto& [name, values] : expected)
        EXPECT_EQ(tiny::differing_bits(values, actual.at(name)), 0)
            << from.name << " to " << to.name << ": " << name;
    }
  }
}

// A layer whose matrix no file holds.
class InitialisedLayer final : public LayerBlock {
 public:
  explicit InitialisedLayer(const ModelConfig& config) : LayerBlock(config, 1, "") {
    const auto count_up = [](std::int64_t offset, std::span<float> values) {
      for (float& value : values) value = static_cast<float>(offset++);
    };
    const std::int64_t hidden = config.hidden_size;
    parameters().emplace_back(ParameterSpec{"made.weight", {hidden, hidden}, true, count_up});
  }
  at::Tensor forward(const at::Tensor& x, const ForwardContext&) override {
    return ops::linear(x, {&parameters().front(), nullptr});
  }
};

TEST_F(StatesTest, WhatNoFileHoldsInitialisesItself) {
  Model model = make_model(tiny::config_of({}));
  model.blocks[model.places(BlockRole::layer)[1]] = std::make_unique<InitialisedLayer>(model.config);
  EngineOptions options;
  options.precision = Precision::fp32;
  options.row_length = kLength;
  options.strategy.stage = 3;
  options.strategy.weights = WeightSourceKind::peers;
  Engine engine(model, options, *ranks_);
  engine.state_access().load([](const std::string& name, std::int64_t, std::span<float> values) {
    EXPECT_NE(name, "made.weight");
    std::fill(values.begin(), values.end(), 0.5F);
  });
  const std::vector<float> made = tiny::weights_of(engine).at("made.weight");
  ASSERT_EQ(static_cast<std::int64_t>(made.size()), model.config.hidden_size * model.config.hidden_size);
  for (std::size_t i = 0; i < made.size(); ++i) EXPECT_EQ(made[i], static_cast<float>(i));
}

// Updated weights travel to where they are read while the step is already over.
TEST_F(StatesTest, AnExportRightAfterAStepWaitsForItsTransfers) {
  for (const Layout& layout : kLayouts) {
    const auto weights_after_a_step = [&](unsigned delay) {
      set_host_stream_delay(delay, 5);
      Training training(layout, *ranks_);
      tiny::load_random(*training.engine);
      training.step(1);
      tiny::Weights weights = tiny::weights_of(*training.engine);
      set_host_stream_delay(0, 0);
      return weights;
    };
    const tiny::Weights expected = weights_after_a_step(0), actual = weights_after_a_step(3000);
    for (const auto& [name, values] : expected)
      EXPECT_EQ(tiny::differing_bits(values, actual.at(name)), 0) << layout.name << ": " << name;
  }
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  return autoglm::testing::run_engine_tests(argc, argv, autoglm::session);
}
