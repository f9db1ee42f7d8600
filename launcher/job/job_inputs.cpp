#include "launcher/job/job_inputs.h"

#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "launcher/job/input_checks.h"
#include "launcher/job/model_transfer.h"
#include "launcher/report/console.h"
#include "sharding/agree.h"

namespace autoglm {

JobInputs read_inputs(const TrainOptions& options) {
  ModelDirectory directory = ModelDirectory::open(options.model);
  Model model = make_model(model_config_of(directory));
  for (const std::string& remark : model.config.remarks) spdlog::warn("{}", remark);
  check_positions(model.config, "--sequence-length", options.data.sequence_length);
  check_recompute_layers(options.strategy.pins, model.config.num_layers);
  check_model_files(directory, model);
  freeze_parameters(model, options.training.freeze);
  Tokenizer tokenizer = Tokenizer::load(options.model);
  ChatTemplate chat_template =
      ChatTemplate::select(options.data.template_name, options.model, tokenizer, options.data.end_of_turn);
  check_prompts(options.watching.samples, tokenizer, chat_template, model.config);
  return {std::move(directory), std::move(model), std::move(tokenizer), std::move(chat_template)};
}

Dataset load_data(const TrainOptions& options, const JobInputs& inputs, Communicator& communicator) {
  LoadContext context;
  context.communicator = &communicator;
  context.num_threads = at::get_num_threads();
  if (communicator.rank() == 0) {
    context.progress = [](std::uint64_t done, std::uint64_t total) {
      if (total == 0) return;
      stderr_console().set_live_line(fmt::format("reading data: {} %", 100 * done / total));
    };
  }
  Dataset dataset = load_dataset(options.data, inputs.tokenizer, inputs.chat_template, context);
  stderr_console().set_live_line("");
  run_agreed(communicator, [&] { check_vocabulary(dataset, inputs.tokenizer, inputs.model.config); });
  for (const std::string& doubt :
       doubts(dataset, inputs.tokenizer, inputs.chat_template, inputs.model.config))
    spdlog::warn("{}", doubt);
  return dataset;
}

}  // namespace autoglm
