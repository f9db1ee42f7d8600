// Loads checkpoints as autoglm-train does when it goes on from them, and saves them again at once, without a step.
//
// resave_program OPTIONS [-- OPTIONS]...: OPTIONS are autoglm-train's, with --resume DIR; the checkpoint is written to the
// folder of --output. Beside it rows.json says which samples the steps that are left train, as the training loop deals
// them to the ranks: {"STEP": [[row of the epoch, [samples], tokens, supervised tokens]...]}.
#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/job/checkpoint_place.h"
#include "launcher/job/earlier_run.h"
#include "launcher/job/job.h"
#include "launcher/job/job_progress.h"
#include "launcher/job/job_saving.h"
#include "launcher/job/step_saver.h"
#include "launcher/job/stop_request.h"
#include "sharding/agree.h"
#include "sharding/mpi/mpi_communicator.h"
#include "sharding/mpi/mpi_session.h"

namespace autoglm {
namespace {

using nlohmann::json;

// What run_training_job() does until it trains, but for what it checks and writes for people.
Job make_job(const TrainOptions& options, JobDevice& device, const LocalRank& local) {
  Communicator& ranks = device.communicator();
  JobInputs inputs = read_inputs(options);
  RunIdentity identity = identify_run(options, ranks);
  if (!identity.resume) fail(ExitCode::usage, "--resume names no checkpoint");
  Dataset dataset = load_data(options, inputs, ranks);
  Decisions decisions = decide(options, identity, inputs, dataset, device, local);
  return {options,
          local,
          device,
          std::move(inputs),
          std::move(dataset),
          std::move(decisions),
          nullptr,
          std::move(identity),
          {}};
}

json rows_of_rank(const Job& job) {
  const BatchPlan& batches = job.decisions.batches;
  json steps = json::object();
  for (std::int64_t index = job.identity.resume->step(); index < batches.num_steps(); ++index) {
    const StepRows step = batches.step(index);
    const RowPlan rows = job.dataset.training_rows(static_cast<std::uint64_t>(step.epoch));
    json mine = json::array();
    for (std::int64_t i = 0; i < step.num_micro_batches; ++i) {
      for (std::int64_t slot = 0; slot < job.decisions.engine.strategy.micro_batch; ++slot) {
        const auto row = batches.row_at(step, i, job.ranks().rank(), slot);
        if (!row) continue;
        const auto samples = rows.row(static_cast<std::size_t>(*row));
        std::size_t tokens = 0;
        for (const std::uint32_t sample : samples) tokens += job.dataset.samples().ids(sample).size();
        mine.push_back({*row, std::vector(samples.begin(), samples.end()), tokens,
                        job.dataset.supervised_tokens(samples)});
      }
    }
    steps[std::to_string(index + 1)] = mine;
  }
  return steps;
}

// Collective.
void write_rows(const Job& job) {
  const std::vector<std::string> parts = gather_text(job.ranks(), rows_of_rank(job).dump());
  if (job.ranks().rank() != 0) return;
  json all = json::object();
  for (const std::string& part : parts) {
    const json steps = json::parse(part);
    for (const auto& [step, rows] : steps.items())
      for (const json& row : rows) all[step].push_back(row);
  }
  std::ofstream(job.options.output / "rows.json") << all;
}

void resave(const TrainOptions& options, JobDevice& device, const LocalRank& local) {
  Job job = make_job(options, device, local);
  Communicator& ranks = job.ranks();
  const CheckpointPlace place = take_checkpoint_place(options, job.identity, ranks);
  clear_checkpoint_place(place.store, job.identity, ranks);
  Engine engine(job.inputs.model, job.decisions.engine, ranks);
  load_states(job, engine);

  DiskPatience patience;
  StepSaver::Setup setup = saver_setup(job, engine, nullptr, place.store, nullptr, patience);
  std::string failure;
  setup.progress = [&](std::int64_t step) {
    nlohmann::ordered_json progress = job.identity.resume->training();
    progress.update(
        job_progress(options, job.decisions.job, engine.options().strategy, job.decisions.batches, step),
        true);
    return progress;
  };
  setup.make_durable = [] {};
  setup.report = [&](const SaveReport& report) { failure = report.failure; };
  const StopRequest never;
  StepSaver saver(std::move(setup), engine, ranks, never);
  // As if it had been stopped right after the step that the checkpoint is of.
  StepVotes votes;
  votes.stop = 1;
  saver.end_of_step(job.identity.resume->step(), votes);
  if (!failure.empty()) fail(ExitCode::io_failed, "{}", failure);
  write_rows(job);
}

void run(const std::vector<std::string>& arguments, Communicator& control, const LocalRank& local) {
  JobDevice device({DeviceRequest::cpu, std::nullopt, 1, {}}, local, control);
  for (auto begin = arguments.begin();;) {
    const auto end = std::find(begin, arguments.end(), "--");
    TrainCommandLine line;
    line.parse({begin, end});
    resave(line.options(), device, local);
    if (end == arguments.end()) return;
    begin = end + 1;
  }
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  using namespace autoglm;
  MpiSession session;
  try {
    const auto control = make_mpi_communicator(session);
    run({argv + 1, argv + argc}, *control,
        {session.local_rank(), session.local_size(), session.library_version(), session.num_processors(),
         true});
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "resave_program: {}\n", error.what());
    session.abort(ExitCode::bug);
  }
}
