#include "launcher/job/job_output.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>
#include <vector>

#include "checkpoint/directory_listing.h"
#include "launcher/job/model_transfer.h"
#include "sharding/agree.h"

namespace autoglm {

std::unique_ptr<JobOutput> open_output(const TrainOptions& options, const JobInputs& inputs,
                                       Communicator& ranks, bool goes_on) {
  const bool replaces = options.saving.overwrite || goes_on;
  return run_agreed(ranks, [&]() -> std::unique_ptr<JobOutput> {
    if (ranks.rank() != 0) return nullptr;
    SideFiles side_files = SideFiles::keep(inputs.directory);
    FileChanges changes;
    if (options.data.template_name != "auto")
      changes = export_template(side_files, inputs.chat_template, inputs.tokenizer);
    if (has_head_of_its_own(inputs.directory, inputs.model.config)) export_untied_head(side_files, changes);
    std::vector<std::string> names = inputs.directory.weight_file_names();
    for (std::string& name : side_files.names()) names.push_back(std::move(name));
    if (options.watching.dry_run) {
      OutputDirectory::check(options.output, inputs.directory, replaces, std::move(names));
      return nullptr;
    }
    const std::uint64_t bytes =
        ModelWriter::bytes_needed(inputs.directory, side_files, options.saving.save_dtype);
    std::unique_ptr<JobOutput> output(
        new JobOutput{OutputDirectory(options.output, inputs.directory, replaces, std::move(names)),
                      std::move(side_files), std::move(changes)});
    output->directory.require_space(bytes);
    if (goes_on) output->directory.go_on();
    if (const auto& ended = output->directory.run_that_was_ended()) spdlog::warn("{}", *ended);
    return output;
  });
}

void export_for_data(JobOutput& output, const TrainOptions& options, const JobInputs& inputs,
                     const Dataset& data) {
  const bool has_chats = !data.summary().is_wholly_trained();
  if (!has_chats || options.data.template_name != "auto") return;
  for (std::string& change : export_stop_tokens(output.side_files, inputs.chat_template, inputs.tokenizer))
    output.changes.push_back(std::move(change));
  for (const std::string& name : output.side_files.names()) output.directory.write_also(name);
}

std::unique_ptr<ModelTarget> open_target(JobOutput& output, const TrainOptions& options,
                                         const JobInputs& inputs, DiskPatience& patience) {
  return std::make_unique<ModelTarget>(inputs.directory, output.directory, output.side_files,
                                       options.saving.save_dtype, patience, output.placement);
}

void tell_changes(const JobOutput& output, const ModelDirectory& model) {
  if (!model.skipped_files().empty())
    spdlog::info("not copied from the model's folder: {}", describe_skipped(model.skipped_files()));
  for (const std::string& change : output.changes) spdlog::info("changed in the model's folder: {}", change);
}

void finish_report(const JobOutput& output, TrainingReport& report, DiskPatience& patience) {
  constexpr std::uint64_t kEnough = 1U << 20;
  const auto told = [&](const Error& error) {
    return fmt::format("{}; the trained model is whole in {}, and only its run.json is not written",
                       error.what(), output.directory.path().string());
  };
  try {
    while (true) {
      try {
        report.finish();
        return patience.end();
      } catch (const DiskFull& error) {
        patience.wait(error, [&] { return output.directory.free_space().value_or(0) >= kEnough; });
      }
    }
  } catch (const Error& error) {
    throw Error(error.code(), told(error));
  }
}

void end_by_signal(int signal, JobOutput& output, TrainingReport& report) noexcept {
  try {
    const std::lock_guard lock(output.placement.mutex);
    if (output.placement.state == ModelPlacement::State::in_place) return report.finish();
    report.interrupted(signal);
    if (output.placement.state == ModelPlacement::State::aside) output.directory.remove_temporary_files();
  } catch (const std::exception& error) {
    spdlog::warn("{}", error.what());
  }
}

}  // namespace autoglm
