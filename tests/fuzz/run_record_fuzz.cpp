// What an earlier run left: its record, which names files of the output folder, the one of the run before it, and what
// a checkpoint's manifest says of the training.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/output_inspection.h"
#include "launcher/export/exported_job.h"
#include "launcher/job/resume_rules.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {
namespace {

constexpr std::string_view kOptions =
    R"({"model": "/m", "save-dtype": "input", "template": "auto", "eot": "user", "steps": 5, "learning-rate": 1e-5})";

void check_name(const std::string& name) {
  const std::filesystem::path path(name);
  AUTOGLM_CHECK(path.is_relative() && !name.empty(), "{}", name);
  for (const auto& part : path) AUTOGLM_CHECK(part != ".." && part != "." && !part.empty(), "{}", name);
}

}  // namespace

std::vector<std::string> seeds() {
  const std::string record = fmt::format(
      R"({{"model_files": ["model.safetensors", "sub/a.txt", "config.json"], "finished": true, "run": "{}", "state": "running",
"started_at": "2026-03-01T12:34:56Z", "ranks": [{{"host": "node7", "pid": 4711}}], "options": {}}})",
      std::string(32, 'a'), kOptions);
  const std::string training = fmt::format(
      R"({{"options": {}, "data": {{"chats": true}}, "model": {{"head_of_its_own": false, "copies": {{"a": "b"}}, "fingerprint": ""}}}})",
      kOptions);
  return {joined({record, record, training})};
}

std::vector<std::string> words() {
  return {"../",          "..",        "/",           "./",        "\"model_files\"",
          "\"finished\"", "\"state\"", "\"running\"", "\"ranks\"", "\"options\"",
          "\"copies\"",   "\"fp32\"",  "\"eos\"",     "null",      "true",
          "\\u0000",      "//"};
}

void read(std::string_view input) {
  write_texts(input, {"run.json", "run.earlier.json"});
  const EarlierRun run = read_earlier_run(folder());
  for (const std::string& name : run.files) {
    check_name(name);
    is_taken(folder(), name, run.files);
  }
  option_changes(run.options, nlohmann::ordered_json::parse(kOptions));
  parse_json(input, "training");
  Manifest manifest;
  manifest.training = nlohmann::ordered_json::parse(input);
  read_exported_job(manifest, "manifest.json");
}

}  // namespace autoglm::fuzz
