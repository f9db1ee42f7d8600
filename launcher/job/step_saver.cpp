#include "launcher/job/step_saver.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "launcher/job/job_device.h"
#include "launcher/report/run_record.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

// Who is killed sooner does not wait for room.
constexpr double kWorthWaiting = 60;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string with_place(const std::string& failure, const Communicator& ranks) {
  if (failure.empty() || ranks.size() == 1) return failure;
  return fmt::format("rank {} ({}): {}", ranks.rank(), host_name(), failure);
}

}  // namespace

StepSaver::StepSaver(Setup setup, Engine& engine, Communicator& ranks, const StopRequest& stop)
    : setup_(std::move(setup)),
      engine_(engine),
      ranks_(ranks),
      stop_(stop),
      best_(setup_.best),
      files_(make_host_stream("checkpoint")) {}

StepSaver::~StepSaver() {
  if (writing_) wait_quietly(writing_->read);
  files_.reset();
}

bool StepSaver::is_interval(std::int64_t step) const {
  return setup_.interval.steps && step % *setup_.interval.steps == 0;
}

bool StepSaver::is_due(std::int64_t step) const {
  const auto& interval = setup_.interval;
  if (writing_ || committing_ || (!interval.steps && !interval.seconds)) return false;
  if (retry_seconds_ > 0) return Clock::now() >= retry_at_;
  return due_ || is_interval(step) || (interval.seconds && seconds_since(last_begin_) >= *interval.seconds);
}

void StepSaver::vote(std::int64_t step, StepVotes& mine) {
  if (ranks_.rank() == 0 && is_due(step)) mine.save = 1;
  if (stop_.asked()) mine.stop = 1;
  if (!writing_ || !writing_->ended) return;
  (writing_->failure.empty() ? mine.saved : mine.save_failed) = 1;
}

void StepSaver::before_update(std::int64_t /*step*/) {
  wait_until_read();
}

bool StepSaver::out_of_memory(std::int64_t /*step*/, std::int64_t /*num_ranks*/) {
  wait_until_read();
  return false;
}

void StepSaver::wait_until_read() {
  if (!writing_ || writing_->runs.empty()) return;
  const Clock::time_point start = Clock::now();
  writing_->read.synchronize();
  writing_->runs.clear();
  stall_seconds_ += seconds_since(start);
}

// What is waited for once a save is concluded is on its report already.
void StepSaver::wait_for_files() {
  const Clock::time_point start = Clock::now();
  files_->synchronize();
  const double seconds = seconds_since(start);
  if (writing_) stall_seconds_ += seconds;
  const std::lock_guard lock(mutex_);
  if (!writing_ && !finished_.empty()) finished_.back().stall_seconds += seconds;
}

bool StepSaver::is_better(const std::optional<BestCheckpoint>& candidate) const {
  return candidate && (!best_ || candidate->loss < best_->loss);
}

void StepSaver::after_evaluation(std::int64_t step, double loss) {
  if (setup_.keep_best && step > 0 && step < setup_.num_steps) candidate_ = BestCheckpoint{step, loss};
}

bool StepSaver::end_of_step(std::int64_t step, const StepVotes& votes) {
  if (writing_ && votes.saved + votes.save_failed == ranks_.size()) conclude();
  tell_finished();
  due_ = due_ || is_interval(step);
  if (step == setup_.num_steps) return false;
  if (votes.stop > 0) {
    stop(step);
    return true;
  }
  // One that is under way may be better.
  if (is_better(candidate_)) settle();
  if (is_better(candidate_) || votes.save > 0) begin(step);
  if (setup_.alone) settle();
  candidate_.reset();
  return false;
}

void StepSaver::stop(std::int64_t step) {
  finish();
  if (const auto last = last_in_time()) {
    stopped_ = Stopped{step, *last, {}};
    return;
  }
  do {
    begin(step);
    finish();
  } while (waits_for_room());
  stopped_ = Stopped{step, step, gather_text(ranks_, last_ ? last_->failure : "").front()};
}

std::optional<std::int64_t> StepSaver::last_in_time() const {
  const double left = least(ranks_, stop_.seconds_left());
  const bool lacks = last_ && last_->failure.empty() && last_in_place_ && left < last_write_seconds_;
  const std::int64_t last = gather(ranks_, lacks ? *last_in_place_ : -1).front();
  return last < 0 ? std::nullopt : std::optional(last);
}

bool StepSaver::waits_for_room() const {
  const double left = least(ranks_, stop_.seconds_left());
  const bool waits = last_ && last_->disk_full && left > kWorthWaiting && setup_.wait_for_room &&
                     setup_.wait_for_room(last_->failure);
  return gather(ranks_, waits ? 1 : 0).front() == 1;
}

bool StepSaver::takes_fault(std::int64_t step) {
  const auto fault =
      std::ranges::find_if(setup_.failing, [&](std::int64_t one) { return one == step || one == 0; });
  if (fault == setup_.failing.end()) return false;
  setup_.failing.erase(fault);
  return true;
}

void StepSaver::begin(std::int64_t step) {
  const Clock::time_point start = Clock::now();
  due_ = false;
  last_begin_ = start;
  stall_seconds_ = 0;
  writing_ = std::make_shared<StepWriting>();
  writing_->step = step;
  if (is_better(candidate_)) writing_->best = candidate_;
  if (ranks_.rank() == 0) {
    Manifest& manifest = writing_->manifest = make_manifest(setup_.store, engine_, step);
    manifest.training = setup_.progress(step);
    manifest.training["best"] = nullptr;
    if (const auto& best = writing_->best ? writing_->best : best_)
      manifest.training["best"] = {{"step", best->step}, {"validation_loss", best->loss}};
  }
  start_writing(*writing_, setup_.store, ranks_, engine_, *files_, takes_fault(step));
  stall_seconds_ += seconds_since(start);
}

void StepSaver::finish() {
  stops_ = true;
  settle();
}

void StepSaver::settle() {
  if (writing_) {
    wait_until_read();
    wait_for_files();
    conclude();
  }
  wait_for_files();
  tell_finished();
}

// The best one counts once it is in place, so that is waited for: whatever happens, the one that counts is there.
void StepSaver::conclude() {
  const std::shared_ptr<StepWriting> done = std::exchange(writing_, nullptr);
  const std::vector<std::string> failures = gather_text(ranks_, with_place(done->failure, ranks_));
  const std::vector<std::string> records = gather_text(ranks_, to_text(done->record));
  SaveReport report{done->step};
  report.stall_seconds = most(ranks_, stall_seconds_);
  report.disk_full = most(ranks_, done->disk_full ? 1 : 0) == 1;
  for (const std::string& one : failures)
    if (report.failure.empty()) report.failure = one;
  if (ranks_.rank() == 0) {
    committing_ = true;
    files_->submit([this, done, records, report = std::move(report)]() mutable {
      commit(*done, records, report);
      const std::lock_guard lock(mutex_);
      finished_.push_back(std::move(report));
    });
  }
  if (!done->best) return;
  wait_for_files();
  tell_finished();
  const bool in_place = last_ && last_->step == done->step && last_->failure.empty();
  if (gather(ranks_, in_place ? 1 : 0).front() == 1) best_ = done->best;
}

void StepSaver::commit(StepWriting& writing, const std::vector<std::string>& records,
                       SaveReport& report) const {
  Manifest& manifest = writing.manifest;
  try {
    for (const std::string& record : records) report.bytes += parse_record(record).bytes;
    if (report.failure.empty()) {
      setup_.make_durable();
      manifest.written_at = utc_text(std::chrono::system_clock::now());
      for (const std::string& record : records) manifest.files.push_back(parse_record(record));
      setup_.store.commit(manifest);
    }
  } catch (const std::exception& error) {
    report.failure = error.what();
    report.disk_full = dynamic_cast<const DiskFull*>(&error) != nullptr;
  }
  report.write_seconds = seconds_since(writing.start);
  if (!report.failure.empty()) return setup_.store.discard(manifest.step);
  try {
    std::set<std::int64_t> kept;
    if (const auto& best = manifest.training["best"]; best.is_object())
      kept.insert(best["step"].get<std::int64_t>());
    for (const auto& folder : setup_.store.rotate(manifest.step, setup_.keep, kept))
      report.left_behind = fmt::format("{}: there are files of others in it", folder.string());
  } catch (const std::exception& error) {
    report.left_behind = error.what();
  }
}

void StepSaver::tell_finished() {
  std::vector<SaveReport> finished;
  {
    const std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (SaveReport& one : finished) {
    committing_ = false;
    one.stops = stops_;
    setup_.report(one);
    if (one.failure.empty()) {
      last_in_place_ = one.step;
      last_write_seconds_ = one.write_seconds;
    }
    retry_seconds_ = one.failure.empty() ? 0 : std::max(setup_.first_retry_seconds, 2 * retry_seconds_);
    retry_at_ = Clock::now() +
                std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(retry_seconds_));
    last_ = std::move(one);
  }
}

}  // namespace autoglm
