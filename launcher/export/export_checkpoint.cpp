#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <functional>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/file.h"
#include "checkpoint/model_directory.h"
#include "checkpoint/model_writer.h"
#include "launcher/export/export_command.h"
#include "launcher/export/exported_job.h"
#include "launcher/export/found_checkpoints.h"
#include "launcher/job/ending_signals.h"
#include "trainer/simd/kernels.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPiece = std::int64_t{1} << 20;  // elements

// A line that says how far it is, drawn anew with every percent.
class Percent {
 public:
  Percent(Console& console, std::string what) : console_(console), what_(std::move(what)) {}
  ~Percent() { console_.set_live_line(""); }
  Percent(const Percent&) = delete;
  Percent& operator=(const Percent&) = delete;

  void show(std::uint64_t done, std::uint64_t total) {
    const std::uint64_t percent = total == 0 ? 100 : 100 * done / total;
    if (percent == std::exchange(shown_, percent)) return;
    console_.set_live_line(
        fmt::format("{}: {} % of {}", what_, percent, format_bytes(static_cast<std::int64_t>(total))));
  }

 private:
  Console& console_;
  std::string what_;
  std::uint64_t shown_ = 101;
};

CheckpointReader open_with_progress(const fs::path& folder, Console& console) {
  Percent percent(console, fmt::format("verifying {}", folder.filename().string()));
  return open_verified(folder, [&](std::uint64_t done, std::uint64_t total) { percent.show(done, total); });
}

// As a job that goes on chooses: older ones where the newest cannot be used.
CheckpointReader newest_whole(const fs::path& path, Console& console) {
  const std::vector<fs::path> folders = find_checkpoints(path);
  std::string problem;
  for (const fs::path& folder : folders) {
    try {
      return open_with_progress(folder, console);
    } catch (const Error& error) {
      if (folders.size() == 1) throw;
      spdlog::warn("a checkpoint cannot be used: {}", error.what());
      if (problem.empty()) problem = error.what();
    }
  }
  fail(ExitCode::bad_data, "{}; no older checkpoint can be used either", problem);
}

ModelDirectory open_model(const ExportOptions& options, const ExportedJob& job) {
  if (!options.model.empty()) return ModelDirectory::open(options.model);
  try {
    return ModelDirectory::open(job.model);
  } catch (const Error& error) {
    if (error.code() != ExitCode::missing_input) throw;
    throw Error(error.code(),
                fmt::format("{}; this is where the job read the model: give --model DIR", error.what()));
  }
}

// The folder for the model: new or empty. Made ones go again unless they are kept.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& path) {
    std::error_code error;
    if (name_exists(path) && !fs::is_directory(path, error))
      fail(ExitCode::cannot_create, "--output {}: is there, and is no folder", path.string());
    if (fs::is_directory(path, error) && !fs::is_empty(path, error))
      fail(ExitCode::cannot_create, "--output {}: {}; choose a folder that is new or empty", path.string(),
           error ? error.message() : "is not empty");
    const fs::path whole = fs::absolute(path).lexically_normal();
    for (fs::path one = whole; !one.empty() && !name_exists(one); one = one.parent_path()) {
      if (one.has_filename()) made_.push_back(one);
      if (one == one.parent_path()) break;
    }
    try {
      create_folders(path);
    } catch (...) {
      remove();
      throw;
    }
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() { remove(); }

  void keep() { made_.clear(); }

  // What holds something stays.
  void remove() noexcept {
    std::error_code ignored;
    for (const fs::path& one : made_) fs::remove(one, ignored);
  }

 private:
  std::vector<fs::path> made_;  // the innermost first
};

void require_space(const fs::path& output, std::uint64_t bytes) {
  const auto free = free_space_of(output);
  if (!free || *free >= bytes) return;
  fail(ExitCode::cannot_create, "--output {} is on a file system with {} free, but the model takes {}",
       output.string(), format_bytes(static_cast<std::int64_t>(*free)),
       format_bytes(static_cast<std::int64_t>(bytes)));
}

// As round_as_saved() in trainer/states does: as a working weight, halves away from zero. Returns how many became
// infinite by it.
std::int64_t round_to_bf16(std::span<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  const auto is_infinite = [](float value) { return std::isinf(value); };
  const auto before = std::ranges::count_if(values, is_infinite);
  std::vector<simd::bf16_bits> rounded(values.size());
  simd::float_kernels().round_weights(values.data(), rounded.data(), count);
  simd::activation_kernels<simd::bf16_bits>().widen(rounded.data(), values.data(), count);
  return std::ranges::count_if(values, is_infinite) - before;
}

void write_parameter(const CheckpointReader& checkpoint, const Manifest::Parameter& parameter,
                     const ModelWriter& writer, TrainedModel& model,
                     const std::function<void(std::int64_t)>& done) {
  const bool rounds = writer.stored_dtype(parameter.name).dtype == DType::bfloat16;
  std::vector<float> values;
  const std::int64_t all = parameter.num_elements();
  for (std::int64_t at = 0; at < all; at += kPiece) {
    values.resize(static_cast<std::size_t>(std::min(kPiece, all - at)));
    checkpoint.read("master", parameter.name, at, std::as_writable_bytes(std::span(values)));
    const std::int64_t lost = rounds ? round_to_bf16(values) : 0;
    if (lost > 0) {
      fail(ExitCode::not_finite,
           "tensor {}: at least {} trained value{} would become infinite, because bf16 cannot hold {}; write "
           "with --save-dtype fp32",
           parameter.name, lost, lost == 1 ? "" : "s", lost == 1 ? "it" : "them");
    }
    model.write(parameter.name, at, values);
    done(static_cast<std::int64_t>(values.size()));
  }
}

void write_weights(const CheckpointReader& checkpoint, const ModelDirectory& directory,
                   const TensorCopies& copies, ModelWriter& writer, Console& console) {
  Percent percent(console, "writing trained weights");
  std::int64_t total = 0, so_far = 0;
  for (const Manifest::Parameter& one : checkpoint.manifest().parameters) total += one.num_elements();
  TrainedModel model(directory, copies, writer);
  for (const Manifest::Parameter& one : checkpoint.manifest().parameters) {
    write_parameter(checkpoint, one, writer, model, [&](std::int64_t count) {
      so_far += count;
      percent.show(static_cast<std::uint64_t>(so_far) * sizeof(float),
                   static_cast<std::uint64_t>(total) * sizeof(float));
    });
  }
  model.copy_the_rest();
}

}  // namespace

void export_checkpoint(const ExportOptions& options, Console& console) {
  watch_ending_signals();
  const CheckpointReader checkpoint = newest_whole(options.checkpoint, console);
  const Manifest& manifest = checkpoint.manifest();
  const ExportedJob job = read_exported_job(manifest, (checkpoint.folder() / kManifestName).string());
  const ModelDirectory directory = open_model(options, job);
  check_model(job, manifest, directory);
  const SideFiles side_files = exported_side_files(job, directory);
  const std::optional<DType> dtype = options.saved_as.as_the_job ? job.save_dtype : options.saved_as.dtype;

  NewFolder folder(options.output);
  require_space(options.output, ModelWriter::bytes_needed(directory, side_files, dtype));
  ModelWriter writer(directory, side_files, options.output, dtype);
  std::mutex moving;  // held while the model's files move, which is not to be cut short
  const OnEndingSignal on_signal([&](int signal) {
    if (signal == SIGUSR1 || signal == SIGUSR2) return AfterSignal::go_on;
    const std::lock_guard lock(moving);
    std::error_code ignored;
    fs::remove_all(writer.aside(), ignored);
    folder.remove();
    return AfterSignal::end;
  });
  write_weights(checkpoint, directory, job.copies, writer, console);
  writer.complete();
  const std::lock_guard lock(moving);
  writer.commit();
  folder.keep();
  spdlog::info("the model after step {} is in {}", manifest.step, options.output.string());
}

void verify_checkpoints(const ExportOptions& options, const PrintText& print, Console& console) {
  std::optional<Error> problem;
  for (const fs::path& folder : find_checkpoints(options.verify)) {
    try {
      const CheckpointReader checkpoint = open_with_progress(folder, console);
      print(fmt::format("{}: whole, {} in {} files, every checksum is right\n", folder.string(),
                        format_bytes(static_cast<std::int64_t>(state_bytes(checkpoint.manifest()))),
                        checkpoint.manifest().files.size()));
    } catch (const Error& error) {
      if (problem) spdlog::error("{}", problem->what());
      problem = error;
    }
  }
  if (problem) throw *problem;
}

}  // namespace autoglm
