// The kinds of options that commands use: how each reads its text and stores its value.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/units.h"
#include "launcher/options/option_table.h"

namespace autoglm {
namespace {

using Json = nlohmann::ordered_json;

std::string not_empty(std::string_view text, std::string_view option, std::string_view value_name) {
  if (text.empty()) fail(ExitCode::usage, "{} needs a value: {}", option, value_name);
  return std::string(text);
}

}  // namespace

Json text_as_json(const std::string& text) {
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
}

void OptionTable::add_flag(std::string name, bool& target, std::string help) {
  Option option{name, "", std::move(help), target ? "on" : "", OptionArity::flag};
  option.assign = [&target](std::string_view text, std::string_view spelled) {
    target = parse_switch(text, spelled);
  };
  option.store = [&target, name](Json& object) { object[name] = target; };
  add(std::move(option));
}

void OptionTable::add_real(std::string name, std::string value_name, double& target, RealRange range,
                           std::string help) {
  Option option{name, std::move(value_name), std::move(help), format_real(target)};
  option.assign = [&target, range](std::string_view text, std::string_view spelled) {
    target = parse_real(text, range, spelled);
  };
  option.store = [&target, name](Json& object) { object[name] = target; };
  add(std::move(option));
}

void OptionTable::add_text(std::string name, std::string value_name, std::string& target, std::string help) {
  Option option{name, value_name, std::move(help), target};
  option.assign = [&target, value_name](std::string_view text, std::string_view spelled) {
    target = not_empty(text, spelled, value_name);
  };
  option.store = [&target, name](Json& object) { object[name] = text_as_json(target); };
  add(std::move(option));
}

void OptionTable::add_path(std::string name, std::string value_name, std::filesystem::path& target,
                           std::string help) {
  Option option{name, value_name, std::move(help), target.string()};
  option.names_files = true;
  option.assign = [&target, value_name](std::string_view text, std::string_view spelled) {
    target = not_empty(text, spelled, value_name);
  };
  option.store = [&target, name](Json& object) {
    object[name] = target.empty() ? Json() : text_as_json(target.string());
  };
  add(std::move(option));
}

void OptionTable::add_paths(std::string name, std::string value_name,
                            std::vector<std::filesystem::path>& target, std::string help) {
  Option option{name, value_name, std::move(help), "", OptionArity::several};
  option.names_files = true;
  option.assign = [&target, value_name](std::string_view text, std::string_view spelled) {
    target.emplace_back(not_empty(text, spelled, value_name));
  };
  option.clear = [&target] { target.clear(); };
  option.store = [&target, name](Json& object) {
    object[name] = Json::array();
    for (const std::filesystem::path& path : target) object[name].push_back(text_as_json(path.string()));
  };
  add(std::move(option));
}

void OptionTable::add_texts(std::string name, std::string value_name, std::vector<std::string>& target,
                            std::string help) {
  Option option{name, value_name, std::move(help), "", OptionArity::repeated};
  option.assign = [&target, value_name](std::string_view text, std::string_view spelled) {
    target.push_back(not_empty(text, spelled, value_name));
  };
  option.clear = [&target] { target.clear(); };
  option.store = [&target, name](Json& object) {
    object[name] = Json::array();
    for (const std::string& text : target) object[name].push_back(text_as_json(text));
  };
  add(std::move(option));
}

void OptionTable::add_bytes(std::string name, std::optional<std::int64_t>& target, std::string help,
                            std::string default_text) {
  Option option{name, "SIZE", std::move(help), std::move(default_text)};
  option.assign = [&target](std::string_view text, std::string_view spelled) {
    const std::int64_t bytes = parse_bytes(text, spelled);
    if (bytes <= 0) refuse_value(spelled, "a size above 0, such as 40GB or 40GiB", text);
    target = bytes;
  };
  option.store = [&target, name](Json& object) { object[name] = target ? Json(*target) : Json(); };
  add(std::move(option));
}

void OptionTable::add_integer_as(Option option, IntegerRange range, std::function<void(std::int64_t)> set,
                                 std::function<std::optional<std::int64_t>()> get) {
  option.assign = [range, set](std::string_view text, std::string_view spelled) {
    set(parse_integer(text, range, spelled));
  };
  option.store = [name = option.name, get](Json& object) {
    const std::optional<std::int64_t> value = get();
    object[name] = value ? Json(*value) : Json();
  };
  add(std::move(option));
}

void OptionTable::add_choice_as(Option option, std::vector<std::string> words,
                                std::function<void(std::size_t)> set, std::function<std::size_t()> get) {
  AUTOGLM_CHECK(get() < words.size(), "the default of --{} is none of its choices", option.name);
  std::string accepted;
  for (std::size_t i = 0; i < words.size(); ++i) {
    option.value_name += (i > 0 ? "|" : "") + words[i];
    accepted += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  }
  option.default_text = words[get()];
  option.assign = [words, set, accepted](std::string_view text, std::string_view spelled) {
    for (std::size_t i = 0; i < words.size(); ++i)
      if (words[i] == text) return set(i);
    refuse_value(spelled, accepted, text);
  };
  option.store = [name = option.name, words, get](Json& object) {
    const std::size_t index = get();
    AUTOGLM_CHECK(index < words.size(), "the value of --{} is none of its choices", name);
    object[name] = words[index];
  };
  add(std::move(option));
}

}  // namespace autoglm
