#include "launcher/job/input_checks.h"

#include <algorithm>

#include "base/error.h"
#include "launcher/options/option_values.h"

namespace autoglm {
namespace {

[[noreturn]] void fail_beyond_vocabulary(std::int32_t id, const Tokenizer& tokenizer,
                                         const ModelConfig& config, const std::string& place) {
  const std::int32_t ids[] = {id};
  fail(ExitCode::bad_data,
       "{}: the tokenizer gives {} id {}, but the model's vocabulary has {} entries: either tokenizer.json "
       "belongs to another model, or tokens were added to it without resizing the model "
       "(resize_token_embeddings() in "
       "transformers)",
       place, in_quotes(tokenizer.decode(ids, false)), id, config.vocabulary_size);
}

bool is_beyond(std::int32_t id, const ModelConfig& config) {
  return id < 0 || id >= config.vocabulary_size;
}

}  // namespace

std::string describe_sample(const Dataset& dataset, const Tokenizer& tokenizer, std::uint32_t sample) {
  constexpr std::size_t kShownTokens = 16;
  const std::span<const std::int32_t> ids = dataset.samples().ids(sample);
  const std::string begin = in_quotes(tokenizer.decode(ids.first(std::min(kShownTokens, ids.size())), false));
  const bool held_out = dataset.options().validation.file && sample >= dataset.summary().num_pieces;
  const DataSummary& summary = held_out ? dataset.validation_summary() : dataset.summary();
  // From 0, its pieces counted as one.
  std::uint64_t number =
      dataset.samples().num_whole(sample + 1) - 1 - (held_out ? dataset.summary().num_kept : 0);
  const bool piece = dataset.samples().continues(sample);
  if (summary.num_kept != summary.num_read()) {
    return fmt::format("the sample {} {} (number {} of those kept)",
                       piece ? "with a piece that begins" : "that begins", begin, number + 1);
  }
  std::size_t file = 0;
  while (file + 1 < summary.samples_per_file.size() && number >= summary.samples_per_file[file])
    number -= summary.samples_per_file[file++];
  const auto& path = held_out ? *dataset.options().validation.file : dataset.options().files[file];
  return fmt::format("sample {} of {}, {} {}", number + 1, path.string(),
                     piece ? "of which a piece begins" : "which begins", begin);
}

void check_vocabulary(Dataset& dataset, const Tokenizer& tokenizer, const ModelConfig& config) {
  const SampleSet& samples = dataset.samples();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::span<const std::int32_t> ids = samples.ids(i);
    const auto place = [&] { return describe_sample(dataset, tokenizer, static_cast<std::uint32_t>(i)); };
    for (std::size_t t = 0; t < ids.size(); ++t) {
      if (is_beyond(ids[t], config)) fail_beyond_vocabulary(ids[t], tokenizer, config, place());
      const std::int32_t label = samples.label(i, t);
      if (label != kIgnoredLabel && is_beyond(label, config))
        fail_beyond_vocabulary(label, tokenizer, config, "the label of " + place());
    }
  }
  if (is_beyond(dataset.pad_id(), config)) dataset.set_pad_id(0);
}

void check_prompts(std::span<const std::string> prompts, const Tokenizer& tokenizer,
                   const ChatTemplate& chat_template, const ModelConfig& config) {
  for (const std::string& prompt : prompts) {
    const std::string place = "--sample " + in_quotes(prompt);
    const std::vector<std::int32_t> ids = chat_template.encode_prompt(prompt, tokenizer);
    if (ids.empty()) fail(ExitCode::usage, "{} has no token in this tokenizer; give another prompt", place);
    for (const std::int32_t id : ids) {
      if (is_beyond(id, config)) fail_beyond_vocabulary(id, tokenizer, config, place);
    }
  }
}

std::vector<std::string> doubts(const Dataset& dataset, const Tokenizer& tokenizer,
                                const ChatTemplate& chat_template, const ModelConfig& config) {
  std::vector<std::string> found;
  for (const std::int32_t id : chat_template.stop_ids(tokenizer)) {
    if (!is_beyond(id, config)) continue;
    const std::int32_t ids[] = {id};
    found.push_back(fmt::format(
        "the end token {} has id {}, past the {} entries of the model's vocabulary, so no answer will ever "
        "end with it; resize the model, or name another end token in generation_config.json",
        in_quotes(tokenizer.decode(ids, false)), id, config.vocabulary_size));
  }
  if (config.rotary.empty()) return found;
  std::int64_t num_long = 0, longest = 0;
  bool counted = false;  // the sample of which this is a piece
  for (std::size_t i = 0; i < dataset.samples().size(); ++i) {
    const auto length = static_cast<std::int64_t>(dataset.samples().length(i));
    counted = counted && dataset.samples().continues(i);
    num_long += length > config.max_positions && !counted;
    counted = counted || length > config.max_positions;
    longest = std::max(longest, length);
  }
  if (num_long > 0)
    found.push_back(fmt::format(
        "{} sample{} longer than the {} positions of \"max_position_embeddings\" in config.json, the longest "
        "with {} tokens; "
        "they are trained, but other programs refuse or degrade there: set --sequence-length {}, or raise "
        "the field (with "
        "scaled rope parameters) if the model is to be stretched",
        num_long, num_long == 1 ? " is" : "s are", config.max_positions, longest, config.max_positions));
  return found;
}

}  // namespace autoglm
