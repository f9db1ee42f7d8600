// Checkpoints of a training while it goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/step_store/step_store.h"
#include "launcher/job/stop_request.h"
#include "launcher/options/saving_options.h"
#include "launcher/report/save_report.h"
#include "sharding/communicator.h"
#include "sharding/stream.h"
#include "trainer/engine/engine.h"
#include "trainer/loop_listener.h"

namespace autoglm {

// A save begins after a step, and goes on while the next steps run: master weights and moments change in the
// optimizer's step alone, which waits for what is not read yet. Every rank writes what it holds; when all have, which
// they learn with a step's sums, rank 0 puts the checkpoint into place, on a thread of its own.
class StepSaver : public LoopListener {
 public:
  struct Setup {
    StepStore store;
    SaveInterval interval = {};  // nothing automatic in it any more
    std::int64_t keep = 2;
    bool keep_best = false;
    std::int64_t num_steps = 0;
    // Of the run that this one goes on from, with its loss.
    std::optional<std::int64_t> best_step = {};
    double best_loss = 0;
    double first_retry_seconds = 60;  // after a failure
    // On rank 0: what the manifest says of the training now, and what is to be durable before it does.
    std::function<nlohmann::ordered_json(std::int64_t step)> progress = {};
    std::function<void()> make_durable = {};
    // On rank 0, on the training's thread.
    std::function<void(const SaveReport&)> report = {};
  };

  // All references must outlive the object, and the ranks construct alike.
  StepSaver(Setup setup, Engine& engine, Communicator& ranks, const StopRequest& stop);
  // Waits for what is being written.
  ~StepSaver() override;

  void vote(std::int64_t step, StepVotes& mine) override;
  void before_update(std::int64_t step) override;
  bool end_of_step(std::int64_t step, const StepVotes& votes) override;
  void after_evaluation(std::int64_t step, double loss) override;
  bool out_of_memory(std::int64_t step, std::int64_t num_ranks) override;

  // Brings what is under way to its end. Collective.
  void finish();

  // The step after which the training was ended on request, and the step whose checkpoint is in place: an earlier one
  // where there was no time for another. Or the sentence that says why there is none.
  struct Stopped {
    std::int64_t step = 0;
    std::int64_t checkpoint = 0;
    std::string failure = {};
  };
  const std::optional<Stopped>& stopped() const { return stopped_; }

  std::optional<std::int64_t> best_step() const { return best_step_; }
  double best_loss() const { return best_loss_; }

 private:
  using Clock = std::chrono::steady_clock;
  // What a rank writes of one step.
  struct Writing;

  void begin(std::int64_t step);
  void write(Writing& writing);
  void wait_until_read();
  // Collective.
  void conclude();
  Manifest manifest_of(std::int64_t step) const;
  // Throws Error(io_failed), Error(cannot_create) or DiskFull.
  void commit(Manifest& manifest, const std::vector<std::string>& records);
  // Why older ones could not be removed; empty where they were.
  std::string rotate(const Manifest& manifest) const;
  void tell_finished();
  // Whether the run is killed before another checkpoint of it could be written, while one of it is in place.
  // Collective.
  bool lacks_time() const;
  bool is_due_by_time() const;

  Setup setup_;
  Engine& engine_;
  Communicator& ranks_;
  const StopRequest& stop_;
  std::optional<std::int64_t> best_step_;
  double best_loss_ = 0;
  bool best_is_new_ = false;  // of this step, and not saved yet
  bool due_ = false;          // was due while another one was being written
  std::shared_ptr<Writing> writing_;
  Clock::time_point last_begin_ = Clock::now();
  double stall_seconds_ = 0;
  std::optional<std::int64_t> saved_step_;  // the last one that all ranks have written
  std::mutex mutex_;                        // of finished_
  std::vector<SaveReport> finished_;        // on rank 0, to be told
  std::string last_failure_;                // on rank 0, of the last commit
  double last_write_seconds_ = 0;           // on rank 0, of the last one that is in place
  double retry_seconds_ = 0;  // after a failure, until it is tried again; doubled by the next one
  std::optional<Stopped> stopped_;
  std::unique_ptr<Stream> files_;
};

}  // namespace autoglm
