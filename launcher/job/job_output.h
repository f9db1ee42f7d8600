// What a job leaves behind, on the rank that writes it.
#pragma once

#include <memory>

#include "checkpoint/output_directory.h"
#include "checkpoint/side_files.h"
#include "launcher/job/disk_patience.h"
#include "launcher/job/exported_files.h"
#include "launcher/job/job_inputs.h"
#include "launcher/job/model_target.h"
#include "launcher/options/train_options.h"
#include "launcher/report/training_report.h"
#include "sharding/communicator.h"

namespace autoglm {

struct JobOutput {
  OutputDirectory directory;
  SideFiles side_files;  // from before anything is read from the model's folder that takes time
  FileChanges changes;
  ModelPlacement placement = {};
};

// Takes the folder, on rank 0; null on others, and where nothing is to be written. `goes_on` with the unfinished run
// whose record is there. Throws what OutputDirectory throws. Collective.
std::unique_ptr<JobOutput> open_output(const TrainOptions& options, const JobInputs& inputs,
                                       Communicator& ranks, bool goes_on);

// Settles what the output says of where an answer ends, which depends on whether there are chats in the data.
// Throws Error(cannot_create).
void export_for_data(JobOutput& output, const TrainOptions& options, const JobInputs& inputs,
                     const Dataset& data);

// Takes the room for the model before step 1. Throws what ModelTarget throws.
std::unique_ptr<ModelTarget> open_target(JobOutput& output, const TrainOptions& options,
                                         const JobInputs& inputs, DiskPatience& patience);

// Says which files of the model's folder are not in the output as they were.
void tell_changes(const JobOutput& output, const ModelDirectory& model);

// Writes the record that says that the model, which is in place by now, is whole; waits for room where that is
// missing. Throws Error(io_failed) or Error(cannot_create).
void finish_report(const JobOutput& output, TrainingReport& report, DiskPatience& patience);

// Writes down that a signal ends the run: after the model's last file has moved, where they are moving, and as a
// finished run where the model is in place. To be called from the thread that meets signals; nothing is thrown.
void end_by_signal(int signal, JobOutput& output, TrainingReport& report) noexcept;

}  // namespace autoglm
