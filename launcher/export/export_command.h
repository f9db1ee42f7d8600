// What autoglm-export does, once its options are read.
#pragma once

#include <functional>
#include <string>

#include "launcher/export/export_options.h"
#include "launcher/report/console.h"

namespace autoglm {

// Takes text for standard output.
using PrintText = std::function<void(const std::string&)>;

// Writes the model. Throws Error: usage, bad_data, missing_input, cannot_create, io_failed, not_finite.
void export_checkpoint(const ExportOptions& options, Console& console);

// Reads all of every checkpoint that the path means. Throws what the first broken one is broken by, after all.
void verify_checkpoints(const ExportOptions& options, const PrintText& print, Console& console);

// Prints what is in a run's folder.
void list_checkpoints(const ExportOptions& options, const PrintText& print);

}  // namespace autoglm
