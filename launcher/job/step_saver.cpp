#include "launcher/job/step_saver.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/error.h"
#include "checkpoint/step_store/state_file.h"
#include "launcher/report/run_record.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

std::string_view kind_name(SavedKind kind) {
  constexpr std::string_view names[] = {"master", "moment1", "moment2"};
  return names[static_cast<std::size_t>(kind)];
}

std::vector<StateRun> state_runs(const std::vector<SavedRun>& runs) {
  std::vector<StateRun> result;
  result.reserve(runs.size());
  for (const SavedRun& run : runs) {
    result.push_back(
        {std::string(kind_name(run.kind)), run.parameter->name(), run.offset, run.values.numel(), run.dtype});
  }
  return result;
}

std::string to_text(const StateFileRecord& record) {
  return nlohmann::json{{"name", record.name}, {"bytes", record.bytes}, {"checksums", record.checksums}}
      .dump();
}

StateFileRecord record_of(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {json["name"].get<std::string>(), json["bytes"].get<std::uint64_t>(),
          json["checksums"].get<std::vector<std::uint32_t>>()};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

struct StepSaver::Writing {
  std::int64_t step = 0;
  Clock::time_point start = Clock::now();
  std::vector<SavedRun> runs;      // until they have been read
  std::vector<StateRun> contents;  // of the file
  Manifest manifest;               // on rank 0, without the files
  std::optional<StateFileWriter> file;
  StateFileRecord record;
  std::string failure;              // valid once `ended`
  std::atomic<bool> ended = false;  // this rank's file is whole and durable, or there is none
  Event read;                       // the states have been read
};

StepSaver::StepSaver(Setup setup, Engine& engine, Communicator& ranks, const StopRequest& stop)
    : setup_(std::move(setup)),
      engine_(engine),
      ranks_(ranks),
      stop_(stop),
      best_step_(setup_.best_step),
      best_loss_(setup_.best_loss),
      files_(make_host_stream("checkpoint")) {}

StepSaver::~StepSaver() {
  if (writing_) wait_quietly(writing_->read);
  files_.reset();
}

bool StepSaver::is_due_by_time() const {
  if (retry_seconds_ > 0 && seconds_since(last_begin_) >= retry_seconds_) return true;
  return setup_.interval.seconds && seconds_since(last_begin_) >= *setup_.interval.seconds;
}

void StepSaver::vote(std::int64_t /*step*/, StepVotes& mine) {
  if (ranks_.rank() == 0 && !writing_ && is_due_by_time()) mine.save = 1;
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

void StepSaver::after_evaluation(std::int64_t step, double loss) {
  if (!setup_.keep_best || step == 0 || step == setup_.num_steps) return;
  if (best_step_ && loss >= best_loss_) return;
  best_step_ = step;
  best_loss_ = loss;
  best_is_new_ = true;
}

bool StepSaver::end_of_step(std::int64_t step, const StepVotes& votes) {
  if (writing_ && votes.saved + votes.save_failed == ranks_.size()) conclude();
  tell_finished();
  const auto& interval = setup_.interval;
  due_ = due_ || votes.save > 0 || (interval.steps && step % *interval.steps == 0);
  if (step == setup_.num_steps) return false;
  const bool stops = votes.stop > 0;
  const bool wanted = stops || std::exchange(best_is_new_, false);
  if (wanted) finish();
  if (stops && saved_step_ && lacks_time()) {
    stopped_ = Stopped{step, *saved_step_, {}};
    return true;
  }
  if ((wanted || (due_ && !writing_)) && saved_step_ != step) begin(step);
  if (!stops) return false;
  finish();
  const std::vector<std::string> failures = gather_text(ranks_, last_failure_);
  stopped_ = Stopped{step, step, failures.front()};
  return true;
}

bool StepSaver::lacks_time() const {
  const double left = least(ranks_, stop_.seconds_left());
  const bool lacks = last_failure_.empty() && left < last_write_seconds_;
  return most(ranks_, ranks_.rank() == 0 && lacks ? 1 : 0) == 1;
}

void StepSaver::begin(std::int64_t step) {
  const Clock::time_point start = Clock::now();
  due_ = false;
  last_begin_ = start;
  stall_seconds_ = 0;
  writing_ = std::make_shared<Writing>();
  writing_->step = step;
  writing_->runs = engine_.state_access().runs_to_save();
  writing_->contents = state_runs(writing_->runs);
  if (ranks_.rank() == 0) writing_->manifest = manifest_of(step);
  write(*writing_);
  stall_seconds_ += seconds_since(start);
}

void StepSaver::write(Writing& writing) {
  const auto failed = [&writing](const std::exception_ptr& failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      writing.failure = error.what();
    }
  };
  const auto open = [this, &writing] {
    setup_.store.create_aside(writing.step);
    writing.file.emplace(
        setup_.store.aside_of(writing.step), state_file_name(ranks_.rank(), ranks_.size()), writing.contents,
        std::map<std::string, std::string>{
            {"format", "pt"}, {"run", setup_.store.run()}, {"step", std::to_string(writing.step)}});
  };
  writing.read = engine_.saver().start(
      writing.runs,
      [&writing, open](std::span<const std::byte> bytes) {
        if (!writing.file) open();
        writing.file->append(bytes);
      },
      [failed](const std::exception_ptr& failure) {
        if (failure) failed(failure);
      });
  files_->wait(writing.read);
  files_->submit([&writing, open, failed] {
    try {
      // A rank may hold nothing: its file says so.
      if (writing.failure.empty() && !writing.file) open();
      if (writing.failure.empty()) writing.record = writing.file->finish();
    } catch (...) {
      failed(std::current_exception());
    }
    writing.file.reset();
    writing.ended = true;
  });
}

void StepSaver::finish() {
  if (!writing_) {
    files_->synchronize();
    return tell_finished();
  }
  wait_until_read();
  files_->synchronize();
  conclude();
  files_->synchronize();
  tell_finished();
}

void StepSaver::conclude() {
  const std::shared_ptr<Writing> done = std::exchange(writing_, nullptr);
  const std::vector<std::string> failures = gather_text(ranks_, done->failure);
  const std::vector<std::string> records = gather_text(ranks_, to_text(done->record));
  const double stall = most(ranks_, stall_seconds_);
  const auto failed = std::ranges::find_if(failures, [](const auto& one) { return !one.empty(); });
  if (failed == failures.end()) saved_step_ = done->step;
  if (ranks_.rank() != 0) return;
  files_->submit([this, done, records, stall, failure = failed == failures.end() ? "" : *failed] {
    SaveReport report{done->step, 0, stall, 0, failure};
    try {
      if (failure.empty()) {
        commit(done->manifest, records);
        report.left_behind = rotate(done->manifest);
      }
    } catch (const std::exception& error) {
      report.failure = error.what();
    }
    if (!report.failure.empty()) setup_.store.discard(done->step);
    for (const std::string& one : records) report.bytes += record_of(one).bytes;
    report.write_seconds = seconds_since(done->start);
    const std::lock_guard lock(mutex_);
    finished_.push_back(std::move(report));
  });
}

Manifest StepSaver::manifest_of(std::int64_t step) const {
  Manifest manifest;
  manifest.run = setup_.store.run();
  manifest.step = step;
  manifest.training = setup_.progress(step);
  manifest.training["best"] = nullptr;
  if (best_step_) manifest.training["best"] = {{"step", *best_step_}, {"validation_loss", best_loss_}};
  manifest.kinds.push_back({"master", DType::float32});
  bool has_moments = false;
  for (std::size_t i = 0; i < engine_.num_blocks(); ++i) {
    const BlockState& state = engine_.block_state(i);
    has_moments = has_moments || (state.trainable() && state.stepped);
    for (const Parameter& parameter : state.block->parameters())
      if (parameter.trainable()) manifest.parameters.push_back({parameter.name(), parameter.spec().shape});
  }
  const DType moments = engine_.options().strategy.bf16_moments ? DType::bfloat16 : DType::float32;
  if (has_moments) manifest.kinds.insert(manifest.kinds.end(), {{"moment1", moments}, {"moment2", moments}});
  return manifest;
}

void StepSaver::commit(Manifest& manifest, const std::vector<std::string>& records) {
  setup_.make_durable();
  manifest.written_at = utc_text(std::chrono::system_clock::now());
  for (const std::string& record : records) manifest.files.push_back(record_of(record));
  setup_.store.commit(manifest);
}

std::string StepSaver::rotate(const Manifest& manifest) const {
  try {
    std::set<std::int64_t> kept;
    if (const auto& best = manifest.training.at("best"); best.is_object())
      kept.insert(best.at("step").get<std::int64_t>());
    setup_.store.rotate(manifest.step, setup_.keep, kept);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

void StepSaver::tell_finished() {
  std::vector<SaveReport> finished;
  {
    const std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (const SaveReport& one : finished) {
    last_failure_ = one.failure;
    if (one.failure.empty()) last_write_seconds_ = one.write_seconds;
    retry_seconds_ = one.failure.empty() ? 0 : std::max(setup_.first_retry_seconds, 2 * retry_seconds_);
    setup_.report(one);
  }
}

}  // namespace autoglm
