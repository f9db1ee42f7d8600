#include "launcher/job/model_target.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/units.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// A folder that goes away this often will again.
constexpr int kMostRestored = 3;

// Bytes that the files below a folder occupy, reserved ones included.
std::uint64_t occupied(const fs::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    struct stat status {};
    if (::lstat(entry->path().c_str(), &status) == 0)
      bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  return bytes;
}

}  // namespace

ModelTarget::ModelTarget(const ModelDirectory& source, OutputDirectory& output, const SideFiles& side_files,
                         std::optional<DType> save_dtype, DiskPatience& patience, ModelPlacement& placement)
    : source_(source),
      output_(output),
      side_files_(side_files),
      save_dtype_(save_dtype),
      patience_(patience),
      placement_(placement),
      writer_(std::make_unique<ModelWriter>(source, side_files, output.path(), save_dtype)) {}

std::uint64_t ModelTarget::missing_bytes() const {
  const std::uint64_t all = ModelWriter::bytes_needed(source_, side_files_, save_dtype_);
  return all - std::min(all, occupied(writer_->aside()));
}

void ModelTarget::commit() {
  writer_->complete();
  if (!writer_->publishing()) {
    try {
      output_.require_free_names();
    } catch (const Error& error) {
      keep();
      fail(error.code(),
           "{}; the trained model is whole in {}: move its files to a folder of their own before another run "
           "into {} removes them",
           error.what(), writer_->aside().string(), output_.path().string());
    }
  }
  const std::lock_guard lock(placement_.mutex);
  placement_.state = ModelPlacement::State::moving;
  writer_->commit([&] { output_.remove_earlier_model(); });
  placement_.state = ModelPlacement::State::in_place;
}

// From here on a signal leaves it too.
void ModelTarget::keep() {
  const std::lock_guard lock(placement_.mutex);
  writer_->keep();
  placement_.state = ModelPlacement::State::kept;
}

bool ModelTarget::has_room() const {
  const std::optional<std::uint64_t> free = output_.free_space();
  const std::uint64_t held = writer_ ? occupied(writer_->aside()) : 0;
  return free && *free + held >= ModelWriter::bytes_needed(source_, side_files_, save_dtype_) + (1U << 20);
}

void ModelTarget::renew() {
  writer_.reset();
  output_.restore();
  writer_ = std::make_unique<ModelWriter>(source_, side_files_, output_.path(), save_dtype_);
}

// The room that the writer holds is given up only when there will be enough.
bool ModelTarget::wait_and_renew(const DiskFull& error) {
  std::optional<DiskFull> missing = error;
  while (missing) {
    const DiskFull now = *missing;
    missing.reset();
    try {
      patience_.wait(now, [&] { return has_room(); });
    } catch (const DiskFull& last) {
      give_up(last);
    }
    try {
      const bool moving = writer_ && writer_->publishing();
      moving ? commit() : renew();
      patience_.end();
      if (moving) return false;
    } catch (const DiskFull& again) {
      missing = again;
    }
  }
  return true;
}

void ModelTarget::give_up(const DiskFull& error) {
  if (writer_ && writer_->publishing()) throw error;
  if (writer_ && writer_->has_all_weights()) {
    keep();
    fail(ExitCode::io_failed,
         "{}; the trained weights are whole in {}: free some space, copy there from {} the files beside the "
         "weights, and move all of them to {}, config.json last, before another run into it removes them",
         error.what(), writer_->aside().string(), source_.path().string(), output_.path().string());
  }
  fail(ExitCode::io_failed,
       "{}; the trained model, of {}, could not be written and is lost: run the same command again with room "
       "for it",
       error.what(),
       format_bytes(static_cast<std::int64_t>(ModelWriter::bytes_needed(source_, side_files_, save_dtype_))));
}

bool ModelTarget::recover(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const DiskFull& error) {
    return wait_and_renew(error);
  } catch (const Error& error) {
    if (fs::exists(writer_->aside()) || ++num_restored_ > kMostRestored) throw;
    const fs::path before = output_.path();
    try {
      renew();
      spdlog::warn("--output {} was removed while the run went on; {}", before.string(),
                   output_.path() == before
                       ? "it is made again"
                       : fmt::format("what is there now is not this run's, and the model goes to {}",
                                     output_.path().string()));
      return true;
    } catch (const DiskFull& full) {
      return wait_and_renew(full);
    }
  }
}

}  // namespace autoglm
