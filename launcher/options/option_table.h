// The options of one command: what a person may write on the command line or in the file named with --config,
// where the values go, and how they are shown.
//
// A command binds each option to a variable that holds its default, then parses:
//
//   OptionTable table("autoglm-data", "autoglm-data --model DIR --data FILE... [options]", "Shows what ...");
//   table.begin_group("Required");
//   table.add_path("model", "DIR", options.model, "model directory in the Hugging Face layout");
//   table.begin_group("Data");
//   table.add_integer("sequence-length", options.sequence_length, {2, 1 << 20}, "tokens of a row");
//   table.require({"model"});
//   if (table.parse(arguments) == OptionRequest::help) print(table.help());
//
// Every wrong use is an Error(usage) whose sentence names the option, what is accepted, and what was given.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "launcher/options/ini_file.h"
#include "launcher/options/option_values.h"

namespace autoglm {

enum class OptionRequest { run, help, version };

enum class OptionSource { default_value, config_file, command_line };

enum class OptionArity {
  flag,      // on by itself; also --name=off
  single,    // one value, given once
  repeated,  // one value each time, given any number of times
  several,   // one or more values each time, given any number of times
};

// One option. `assign` reads one value's text into its variable, or throws Error(usage) with a sentence that
// begins with `option`, the name as the person wrote it ("--seed" or "run.ini:3: seed").
struct Option {
  std::string name;          // without dashes
  std::string value_name;    // "FILE"; empty for a flag
  std::string help;          // one line, no full stop
  std::string default_text;  // shown in brackets; empty: nothing to show
  OptionArity arity = OptionArity::single;
  std::function<void(std::string_view text, std::string_view option)> assign = {};
  bool names_files = false;                                        // its values are paths
  std::function<void()> clear = {};                                // repeated and several: forgets all values
  std::function<void(nlohmann::ordered_json& object)> store = {};  // sets object[name] to the current value
};

class OptionTable {
 public:
  // `usage` follows "Usage: "; `summary` is a sentence below it. Adds --config, --help (-h) and --version.
  OptionTable(std::string program, std::string usage, std::string summary);
  OptionTable(const OptionTable&) = delete;  // options are bound to members
  OptionTable& operator=(const OptionTable&) = delete;

  // Options added from here on stand under `title` in the help text.
  void begin_group(std::string title);

  // The variables are bound by reference and must outlive the table; what they hold now is the default that
  // help shows, unless `default_text` is given.
  void add_flag(std::string name, bool& target, std::string help);
  void add_real(std::string name, std::string value_name, double& target, RealRange range, std::string help);
  void add_text(std::string name, std::string value_name, std::string& target, std::string help);
  void add_path(std::string name, std::string value_name, std::filesystem::path& target, std::string help);
  // OptionArity::several: --data a b, also --data a --data b.
  void add_paths(std::string name, std::string value_name, std::vector<std::filesystem::path>& target,
                 std::string help);
  // OptionArity::repeated.
  void add_texts(std::string name, std::string value_name, std::vector<std::string>& target,
                 std::string help);
  // A size such as 40GB, 40GiB or bytes; above 0.
  void add_bytes(std::string name, std::optional<std::int64_t>& target, std::string help,
                 std::string default_text);

  template <std::integral T>
  void add_integer(std::string name, T& target, IntegerRange range, std::string help);
  template <std::integral T>
  void add_integer(std::string name, std::optional<T>& target, IntegerRange range, std::string help,
                   std::string default_text);
  // One of a few words, each standing for a value of `target`, which holds one of them now.
  template <std::equality_comparable T>
  void add_choice(std::string name, T& target, std::vector<std::pair<std::string, T>> choices,
                  std::string help);
  // Any other kind of value.
  void add(Option option);

  // Values that stand on the command line without an option's name go to these options, in this order.
  void take_positional(std::vector<std::string> names);

  // parse() fails when one of these has no value from anywhere.
  void require(std::vector<std::string> names);

  // `arguments` without the program's name. Reads the file of --config first, then the command line, which
  // wins.
  // --help and --version win over everything else, wrong options included, and leave the variables as they
  // are.
  OptionRequest parse(const std::vector<std::string>& arguments);

  bool has(std::string_view name) const;
  std::vector<std::string> names() const;

  // Where the current value came from.
  OptionSource source(std::string_view name) const;
  // True when the person wrote `winner` on the command line, over the file's `loser`, which then gives way.
  bool outranks(std::string_view winner, std::string_view loser) const {
    return source(winner) == OptionSource::command_line && source(loser) == OptionSource::config_file;
  }
  // The option as the person wrote it: "--steps", or "run.ini:3: steps" when it came from the file.
  std::string spelled(std::string_view name) const;

  // At most so many columns wide, of which the options' names take what they need.
  std::string help(std::size_t columns = 100) const;
  // Every option but --config, --help and --version with its current value, in the order of the help text and
  // in the command line's spelling.
  nlohmann::ordered_json to_json() const;

 private:
  struct Entry {
    Option option;
    std::string group;
    OptionSource source = OptionSource::default_value;
    std::string spelled;
  };
  struct Given {
    Entry* entry;
    std::vector<std::string> values;
  };

  Entry* find(std::string_view name);
  const Entry& at(std::string_view name) const;
  std::vector<Given> read_command_line(const std::vector<std::string>& arguments);
  // The option that value number `index` of those without a name belongs to.
  const std::string& positional_name(const std::string& value, std::size_t index) const;
  void apply_config_file(const std::filesystem::path& path, const std::vector<Given>& given);
  void apply_command_line(const std::vector<Given>& given);
  void check_required() const;
  [[noreturn]] void refuse_name(std::string_view spelled, std::string_view name,
                                std::string_view dashes) const;
  [[noreturn]] void refuse_positional(const std::string& text) const;

  void add_integer_as(Option option, IntegerRange range, std::function<void(std::int64_t)> set,
                      std::function<std::optional<std::int64_t>()> get);
  void add_choice_as(Option option, std::vector<std::string> words, std::function<void(std::size_t)> set,
                     std::function<std::size_t()> get);

  std::string program_, usage_, summary_, group_;
  std::vector<Entry> entries_;
  std::vector<std::string> required_, positional_;
  std::filesystem::path config_;
  bool help_ = false, version_ = false;
};

// A JSON text. Names of files may hold any bytes and JSON holds UTF-8 only, so other bytes become U+FFFD.
nlohmann::ordered_json text_as_json(const std::string& text);

// "autoglm-train 0.1.0 (LibTorch 2.11.0, Release build, CUDA: no)"; the compiler's settings fill in the rest.
std::string version_text(std::string_view program, std::string_view libtorch_version, bool with_cuda);

template <std::integral T>
void OptionTable::add_integer(std::string name, T& target, IntegerRange range, std::string help) {
  Option option{std::move(name), "N", std::move(help), std::to_string(target)};
  add_integer_as(
      std::move(option), range, [&target](std::int64_t value) { target = static_cast<T>(value); },
      [&target] { return std::optional<std::int64_t>(static_cast<std::int64_t>(target)); });
}

template <std::integral T>
void OptionTable::add_integer(std::string name, std::optional<T>& target, IntegerRange range,
                              std::string help, std::string default_text) {
  Option option{std::move(name), "N", std::move(help), std::move(default_text)};
  add_integer_as(
      std::move(option), range, [&target](std::int64_t value) { target = static_cast<T>(value); },
      [&target]() -> std::optional<std::int64_t> {
        if (target) return static_cast<std::int64_t>(*target);
        return std::nullopt;
      });
}

template <std::equality_comparable T>
void OptionTable::add_choice(std::string name, T& target, std::vector<std::pair<std::string, T>> choices,
                             std::string help) {
  std::vector<std::string> words;
  for (const auto& choice : choices) words.push_back(choice.first);
  const auto get = [&target, choices] {
    std::size_t index = 0;
    while (index < choices.size() && !(choices[index].second == target)) ++index;
    return index;
  };
  add_choice_as(
      Option{std::move(name), "", std::move(help), ""}, std::move(words),
      [&target, choices](std::size_t index) { target = choices[index].second; }, get);
}

}  // namespace autoglm
