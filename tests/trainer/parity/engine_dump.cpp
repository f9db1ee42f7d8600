// Runs the engine on given rows and writes what came out, for comparison with another implementation.
//
// engine_dump REQUEST.json: {"model": DIR, "precision": "fp32"|"bf16", "length": T, "rows": [{"ids",
// "targets", "positions", "starts"}...], "steps": N, "learning_rate", "weight_decay", "clip", "recompute",
// "micro_batch", "out": PREFIX, "stage", "offload", "weights", "device": "cpu"|"cuda"}. Writes PREFIX.json
// (losses, norms, and a table of tensors) and PREFIX.bin (their fp32 values): the logits of the first
// micro-batch, every parameter's gradient of the first step, and every parameter at the end. Under mpirun the
// micro-batches are dealt to the ranks in turns, and rank 0 writes.
#include "tests/trainer/parity/engine_dump.h"

#include <fmt/core.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/model_directory.h"
#include "launcher/job/job_device.h"
#include "sharding/launch.h"
#include "sharding/memory/job_memory.h"
#include "sharding/mpi/mpi_communicator.h"
#include "sharding/mpi/mpi_session.h"
#include "trainer/engine/engine.h"
#include "trainer/ops/head.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

using nlohmann::json;
using Values = std::vector<std::int32_t>;

class Dump {
 public:
  Dump(const std::string& prefix, bool writes) : prefix_(prefix), writes_(writes) {
    if (writes) data_.open(prefix + ".bin", std::ios::binary);
  }

  // A tensor's values in one or more pieces, in order.
  void add(const std::string& name, std::int64_t offset, std::span<const float> values) {
    if (offset == 0) table_.push_back({{"name", name}, {"offset", offset_}, {"count", 0}});
    const auto count = static_cast<std::int64_t>(values.size());
    table_.back()["count"] = offset + count;
    data_.write(reinterpret_cast<const char*>(values.data()), count * 4);
    offset_ += count;
  }

  void finish(json summary) {
    summary["tensors"] = table_;
    if (writes_) std::ofstream(prefix_ + ".json") << summary;
  }

 private:
  std::string prefix_;
  bool writes_;
  std::ofstream data_;
  json table_ = json::array();
  std::int64_t offset_ = 0;
};

std::vector<MicroBatch> make_batches(const json& request, std::int64_t micro_batch, at::Device device) {
  std::vector<MicroBatch> batches;
  const json& rows = request.at("rows");
  for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(micro_batch)) {
    MicroBatch batch(micro_batch, request.at("length"), device);
    for (std::int64_t slot = 0; slot < micro_batch; ++slot) {
      const std::size_t index = first + static_cast<std::size_t>(slot);
      if (index >= rows.size()) break;
      const json& row = rows[index];
      batch.set_row(slot, row.at("ids").get<Values>(), row.at("targets").get<Values>(),
                    row.at("positions").get<Values>(), row.at("starts").get<Values>());
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::int64_t count_supervised(const json& request) {
  std::int64_t supervised = 0;
  for (const json& row : request.at("rows")) {
    for (const std::int32_t target : row.at("targets").get<Values>())
      supervised += target != ops::kIgnoredTarget;
  }
  return supervised;
}

Strategy strategy_of(const json& request) {
  Strategy strategy;
  strategy.micro_batch = request.value("micro_batch", 1);
  const std::string level = request.value("recompute", "none");
  strategy.recompute = level == "full"    ? Recompute::full
                       : level == "cheap" ? Recompute::cheap
                                          : Recompute::none;
  strategy.stage = request.value("stage", 0);
  strategy.offload_optimizer = request.value("offload", 0.0);
  if (strategy.stage == 3) strategy.weights = WeightSourceKind::peers;
  if (request.value("weights", "") == "host") strategy.weights = WeightSourceKind::host;
  return strategy;
}

void run(const json& request, Communicator& control, const LocalRank& local) {
  const bool cuda = request.value("device", "cpu") == "cuda";
  JobDevice device({cuda ? DeviceRequest::cuda : DeviceRequest::cpu, std::nullopt, 1}, local, control);
  Communicator& communicator = device.communicator();
  const ModelDirectory directory = ModelDirectory::open(request.at("model").get<std::string>());
  Model model = make_model(parse_model_config(directory.config().json, "config.json"));
  EngineOptions options;
  options.device = device.device();
  options.precision = request.at("precision") == "bf16" ? Precision::bf16 : Precision::fp32;
  options.row_length = request.at("length");
  options.strategy = strategy_of(request);
  Engine engine(model, options, communicator);
  engine.state_access().load([&](const std::string& name, std::int64_t offset, std::span<float> values) {
    directory.read_tensor(name, offset, values);
  });

  const std::vector<MicroBatch> batches = make_batches(request, options.strategy.micro_batch, options.device);
  const std::int64_t supervised = count_supervised(request);
  Dump dump(request.at("out").get<std::string>(), communicator.rank() == 0);
  const at::Tensor logits = engine.logits(batches.front()).contiguous().cpu();
  dump.add("logits", 0, {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())});
  json losses = json::array(), norms = json::array();
  AdamWSettings adamw;
  adamw.weight_decay = request.value("weight_decay", 0.0);
  const int steps = request.value("steps", 1);
  for (int step = 1; step <= steps; ++step) {
    double loss = 0;
    for (std::size_t i = 0; i < batches.size(); i += static_cast<std::size_t>(communicator.size())) {
      const std::size_t mine = i + static_cast<std::size_t>(communicator.rank());
      loss += engine.train_micro_batch(batches.at(mine), 1.0f / static_cast<float>(supervised));
    }
    const StepSums sums = engine.finish_accumulation(loss);
    losses.push_back(sums.loss_sum / static_cast<double>(supervised));
    norms.push_back(sums.gradient_norm);
    if (step == 1) {
      engine.state_access().export_gradients(
          [&](const std::string& name, std::int64_t offset, std::span<const float> values) {
            dump.add("grad." + name, offset, values);
          });
    }
    engine.optimizer_step(adamw, request.value("learning_rate", 1e-3), step,
                          clip_factor(sums.gradient_norm, request.value("clip", 1.0)));
  }
  engine.state_access().export_parameters(
      [](const std::string&) { return DType::float32; },
      [&](const std::string& name, std::int64_t offset, std::span<const float> values) {
        dump.add("weight." + name, offset, values);
      });
  dump.finish({{"losses", losses}, {"norms", norms}, {"peak", job_memory().statistics().device.peak.total}});
}

}  // namespace

int engine_dump(int argc, char** argv) {
  try {
    if (argc != 2) fail(ExitCode::usage, "usage: engine_dump REQUEST.json");
    const auto request = nlohmann::json::parse(std::ifstream(argv[1]));
    if (detect_launch([](const char* name) { return std::getenv(name); })) {
      MpiSession session;
      const auto communicator = make_mpi_communicator(session);
      run(request, *communicator,
          {session.local_rank(), session.local_size(), session.library_version(), session.num_processors()});
    } else {
      const auto communicator = make_self_communicator();
      run(request, *communicator, {});
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "engine_dump: {}\n", error.what());
    return 1;
  }
}

}  // namespace autoglm
