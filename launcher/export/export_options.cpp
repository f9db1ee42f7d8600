#include "launcher/export/export_options.h"

#include "base/error.h"

namespace autoglm {
namespace {

void bind(OptionTable& table, ExportOptions& options) {
  table.begin_group("What");
  table.add_path("checkpoint", "DIR", options.checkpoint,
                 "checkpoint to make a model of; of a run's folder, its newest whole one");
  table.add_path("verify", "DIR", options.verify, "read every byte of a checkpoint, or of all in a folder");
  table.add_path("list", "DIR", options.list, "show what a run's folder holds, as far as sizes tell");
  table.begin_group("Model");
  table.add_path("output", "DIR", options.output, "folder for the model, which is new or empty");
  table.add_path("model", "DIR", options.model,
                 "model directory that was trained, where it is no longer where the job read it");
  table.add_choice<SavedAs>("save-dtype", options.saved_as,
                            {{"job", {}},
                             {"input", {false, {}}},
                             {"fp32", {false, DType::float32}},
                             {"bf16", {false, DType::bfloat16}},
                             {"fp16", {false, DType::float16}}},
                            "dtype of the written weights; job: as the job would; input: as read");
  table.begin_group("Output");
  table.add_flag("json", options.json, "one JSON object, for --list");
  table.take_positional({"checkpoint", "output"});
}

}  // namespace

ExportCommandLine::ExportCommandLine()
    : table_("autoglm-export",
             "autoglm-export CHECKPOINT OUTPUT [options], or autoglm-export --verify DIR, or --list DIR",
             "Makes a model directory of a checkpoint of autoglm-train, as the job itself would write it. "
             "Needs no GPU and no MPI.") {
  bind(table_, options_);
}

OptionRequest ExportCommandLine::parse(const std::vector<std::string>& arguments) {
  const OptionRequest request = table_.parse(arguments);
  if (request != OptionRequest::run) return request;
  const auto given = [&](const char* name) { return table_.source(name) != OptionSource::default_value; };
  std::vector<std::string> actions;
  for (const char* name : {"checkpoint", "verify", "list"})
    if (given(name)) actions.emplace_back(name);
  if (actions.empty())
    fail(ExitCode::usage, "name a checkpoint and a folder for its model, or give --verify or --list");
  if (actions.size() > 1)
    fail(ExitCode::usage, "{} and {} are two things; give one of them", table_.spelled(actions[0]),
         table_.spelled(actions[1]));
  const bool exports = actions.front() == "checkpoint";
  if (exports && options_.output.empty())
    fail(ExitCode::usage,
         "the folder for the model is missing: name it after the checkpoint, or give --output");
  for (const char* name : {"output", "model", "save-dtype"})
    if (!exports && given(name))
      fail(ExitCode::usage, "{} is of no use with {}", table_.spelled(name), table_.spelled(actions.front()));
  if (options_.json && actions.front() != "list")
    fail(ExitCode::usage, "{} is of use with --list alone", table_.spelled("json"));
  if (options_.checkpoint.empty() && options_.verify.empty() && options_.list.empty())
    fail(ExitCode::usage, "{} is empty; name a folder", table_.spelled(actions.front()));
  return request;
}

}  // namespace autoglm
