// Checkpoints of a training while it goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/step_store/step_store.h"
#include "launcher/job/step_writing.h"
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
// they learn with a step's sums, rank 0 puts the checkpoint into place, on a thread of its own. Rank 0 decides when the
// next one is due, which is never before the last one is in place, or some time after it has failed.
class StepSaver : public LoopListener {
 public:
  struct Setup {
    StepStore store;
    SaveInterval interval = {};  // nothing automatic in it any more
    std::int64_t keep = 2;
    bool keep_best = false;
    std::int64_t num_steps = 0;
    std::optional<BestCheckpoint> best = {};  // of the run that this one goes on from; it is in place
    double first_retry_seconds = 60;          // after a failure
    bool alone = false;                       // training stands still until a save is in place
    // On rank 0: what the manifest says of the training now, and what is to be durable before it does.
    std::function<nlohmann::ordered_json(std::int64_t step)> progress = {};
    std::function<void()> make_durable = {};
    // On rank 0, on the training's thread.
    std::function<void(const SaveReport&)> report = {};
    // On rank 0: waits until a full disk may have room again; returns false when that takes too long. None: no wait.
    std::function<bool(const std::string& failure)> wait_for_room = {};
    // Steps whose writing fails once on this rank, as on a full disk; 0: of any step.
    std::vector<std::int64_t> failing = {};
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

  // Brings what is under way to its end, after which there is no other step. Collective.
  void finish();

  // The step after which the training was ended on request, and the step whose checkpoint is in place: an earlier one
  // where there was no time for another. Or the sentence that says why there is none.
  struct Stopped {
    std::int64_t step = 0;
    std::int64_t checkpoint = 0;
    std::string failure = {};
  };
  const std::optional<Stopped>& stopped() const { return stopped_; }

  const StepStore& store() const { return setup_.store; }

  // The best one of those that are in place, the same on all ranks.
  const std::optional<BestCheckpoint>& best() const { return best_; }

 private:
  using Clock = std::chrono::steady_clock;

  // On rank 0.
  bool is_due(std::int64_t step) const;
  bool is_interval(std::int64_t step) const;
  bool is_better(const std::optional<BestCheckpoint>& candidate) const;
  bool takes_fault(std::int64_t step);
  void begin(std::int64_t step);
  void wait_until_read();
  void wait_for_files();
  // Brings what is under way to its end. Collective.
  void settle();
  // What all ranks have written, or could not write. Collective.
  void conclude();
  void commit(StepWriting& writing, const std::vector<std::string>& records, SaveReport& report) const;
  void tell_finished();
  // Collective.
  void stop(std::int64_t step);
  // The step of the checkpoint that is in place, where the run is killed before another could be written. Collective.
  std::optional<std::int64_t> last_in_time() const;
  // Whether the last save found no room, and has some after a while. Collective.
  bool waits_for_room() const;

  Setup setup_;
  Engine& engine_;
  Communicator& ranks_;
  const StopRequest& stop_;
  std::optional<BestCheckpoint> best_;
  std::optional<BestCheckpoint> candidate_;  // of this step
  std::shared_ptr<StepWriting> writing_;
  double stall_seconds_ = 0;
  bool stops_ = false;
  std::optional<Stopped> stopped_;

  // On rank 0.
  bool due_ = false;         // was due while another one was being written
  bool committing_ = false;  // until it is told
  Clock::time_point last_begin_ = Clock::now();
  std::optional<SaveReport> last_;             // that was told
  std::optional<std::int64_t> last_in_place_;  // its step
  double last_write_seconds_ = 0;              // of that one
  double retry_seconds_ = 0;                   // after a failure; doubled by the next one
  Clock::time_point retry_at_ = Clock::time_point();
  std::mutex mutex_;                  // of finished_
  std::vector<SaveReport> finished_;  // to be told

  std::unique_ptr<Stream> files_;
};

}  // namespace autoglm
