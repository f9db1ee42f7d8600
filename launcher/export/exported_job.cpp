#include "launcher/export/exported_job.h"

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_fields.h"
#include "checkpoint/convert.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/model_directory.h"
#include "launcher/job/exported_files.h"
#include "trainer/data/chat_template.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {
namespace {

template <typename T>
T choice(const JsonFields& fields, const std::string& key, const std::map<std::string, T>& words) {
  const auto found = words.find(fields.text(key));
  if (found == words.end()) fields.wrong(key, "a value that this program knows");
  return found->second;
}

TensorCopies read_copies(const JsonFields& fields) {
  TensorCopies copies;
  for (const auto& one : fields.value().items()) copies.emplace(one.key(), fields.text(one.key()));
  return copies;
}

}  // namespace

ExportedJob read_exported_job(const Manifest& manifest, const std::string& source) {
  const nlohmann::json training = nlohmann::json::parse(manifest.training.dump());
  const JsonFields fields(training, source, "training.");
  const JsonFields options = fields.object("options"), model = fields.object("model");
  ExportedJob job;
  job.model = options.text("model");
  job.save_dtype = choice<std::optional<DType>>(options, "save-dtype",
                                                {{"input", std::nullopt},
                                                 {"fp32", DType::float32},
                                                 {"bf16", DType::bfloat16},
                                                 {"fp16", DType::float16}});
  job.template_name = options.text("template");
  job.end_of_turn = choice<EndOfTurn>(options, "eot", {{"user", EndOfTurn::user}, {"eos", EndOfTurn::eos}});
  job.has_chats = fields.object("data").flag("chats", true);
  job.head_of_its_own = model.flag("head_of_its_own", false);
  job.copies = read_copies(model.object("copies"));
  job.config = model.text("config", "");
  job.fingerprint = model.text("fingerprint", "");
  return job;
}

void check_model(const ExportedJob& job, const Manifest& manifest, const ModelDirectory& model) {
  const auto check_tensor = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    const SafetensorsTensor* const tensor = model.find(name).tensor;
    if (tensor != nullptr && tensor->shape == shape && tensor->dtype.dtype &&
        is_floating(*tensor->dtype.dtype))
      return;
    fail(ExitCode::bad_data, "{}: is not the model that was trained: {} {}", model.path().string(), name,
         tensor == nullptr ? "is not in it" : "has another shape or type");
  };
  std::map<std::string, const Manifest::Parameter*> trained;
  for (const Manifest::Parameter& one : manifest.parameters) {
    check_tensor(one.name, one.shape);
    trained.emplace(one.name, &one);
  }
  for (const auto& [copy, of] : job.copies)
    if (const auto found = trained.find(of); found != trained.end()) check_tensor(copy, found->second->shape);
  if (!job.config.empty() && job.config != fingerprint_of_config(model))
    fail(ExitCode::bad_data, "{}: is not the model that was trained: its config.json has changed since",
         model.path().string());
  if (!job.fingerprint.empty() && job.fingerprint != fingerprint_of_weights(model))
    fail(ExitCode::bad_data,
         "{}: is not the model that was trained: parameters that stayed as they are come from its weight "
         "files, and these have changed",
         model.path().string());
}

SideFiles exported_side_files(const ExportedJob& job, const ModelDirectory& model) {
  SideFiles files = SideFiles::keep(model);
  FileChanges changes;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  const ChatTemplate chosen =
      ChatTemplate::select(job.template_name, model.path(), tokenizer, job.end_of_turn);
  const bool is_named = job.template_name != "auto";
  if (is_named) export_template(files, chosen, tokenizer);
  if (job.head_of_its_own) export_untied_head(files, changes);
  if (!is_named && job.has_chats) export_stop_tokens(files, chosen, tokenizer);
  return files;
}

}  // namespace autoglm
