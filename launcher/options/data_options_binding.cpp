#include "launcher/options/data_options_binding.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "trainer/data/template_spec.h"

namespace autoglm {
namespace {

// A text that reads like a number is meant as one; a file of such a name is given as ./0.5.
bool looks_like_number(std::string_view text) {
  if (text == "nan" || text == "inf") return true;
  return text.find_first_not_of("0123456789.eE+-") == std::string_view::npos &&
         text.find_first_of("0123456789") != std::string_view::npos;
}

Option validation_option(ValidationSource& validation) {
  Option option{"validation", "FRACTION|FILE", "share of the samples held out, or a file of its own", "0"};
  option.names_files = true;
  option.assign = [&validation](std::string_view text, std::string_view spelled) {
    constexpr std::string_view kAccepted = "a fraction from 0 to below 1, or a file";
    ValidationSource source;
    if (looks_like_number(text)) {
      const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), source.fraction);
      const bool whole = status == std::errc() && rest == text.data() + text.size();
      if (!whole || !(source.fraction >= 0 && source.fraction < 1)) refuse_value(spelled, kAccepted, text);
    } else {
      if (text.empty()) refuse_value(spelled, kAccepted, text);
      source.file = std::filesystem::path(text);
    }
    validation = source;
  };
  option.store = [&validation](nlohmann::ordered_json& object) {
    if (validation.file)
      object["validation"] = text_as_json(validation.file->string());
    else
      object["validation"] = validation.fraction;
  };
  return option;
}

}  // namespace

void bind_data_files(OptionTable& table, DataOptions& options) {
  table.add_paths("data", "FILE", options.files, "JSONL or JSON files of chats");
}

void bind_data_options(OptionTable& table, DataOptions& options) {
  std::vector<std::string> templates = builtin_template_names();
  std::ranges::sort(templates);
  table.add_text("template", "auto|NAME", options.template_name,
                 fmt::format("{}, or the model's own", fmt::join(templates, " ")));
  table.add_integer("sequence-length", options.sequence_length, {2, 1 << 20}, "tokens of a row");
  table.add(validation_option(options.validation));
  table.add_choice<LossOn>("loss-on", options.loss_on,
                           {{"assistant", LossOn::assistant}, {"all", LossOn::all}},
                           "tokens to learn: assistant turns, or all");
  table.add_choice<EndOfTurn>("eot", options.end_of_turn,
                              {{"user", EndOfTurn::user}, {"eos", EndOfTurn::eos}},
                              "a glm4 turn ends in <|user|>, or in the end token");
  table.add_choice<bool>("packing", options.packing, {{"on", true}, {"off", false}},
                         "several samples a row, each attending to itself");
  table.add_choice<Overlong>("overlong", options.overlong,
                             {{"split", Overlong::split},
                              {"truncate", Overlong::truncate},
                              {"drop", Overlong::drop},
                              {"error", Overlong::error}},
                             "longer than a row (split: running text, else cut)");
}

void bind_seed(OptionTable& table, std::uint64_t& seed) {
  table.add_integer("seed", seed, {}, "decides the order of the samples");
}

}  // namespace autoglm
