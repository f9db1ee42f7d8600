// What a checkpoint's manifest says of the job that wrote it, as far as the model that it would write goes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "checkpoint/side_files.h"
#include "checkpoint/step_store/manifest.h"
#include "launcher/job/trained_model.h"
#include "trainer/data/data_options.h"

namespace autoglm {

struct ExportedJob {
  std::filesystem::path model;
  std::optional<DType> save_dtype;
  std::string template_name;
  EndOfTurn end_of_turn = EndOfTurn::user;
  bool has_chats = false;        // in its data
  bool head_of_its_own = false;  // against what config.json says
  TensorCopies copies;
  std::string config;       // mark of its config.json
  std::string fingerprint;  // of the model's weight files; empty where all of it is trained
};

// `source` is named in messages. Throws Error(bad_data).
ExportedJob read_exported_job(const Manifest& manifest, const std::string& source);

// Asserts that a model is the one that was trained, as far as it can be told. Throws Error(bad_data).
void check_model(const ExportedJob& job, const Manifest& manifest, const ModelDirectory& model);

// The files beside the weights, as the job writes them. Throws what reading the tokenizer and its template throws.
SideFiles exported_side_files(const ExportedJob& job, const ModelDirectory& model);

}  // namespace autoglm
