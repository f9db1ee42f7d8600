#include "launcher/options/option_table.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest_name.h"
#include "base/units.h"

namespace autoglm {
namespace po = boost::program_options;
namespace {

constexpr const char* kGeneralGroup = "General";

bool takes_many(OptionArity arity) {
  return arity == OptionArity::repeated || arity == OptionArity::several;
}

std::string joined(const std::vector<std::string>& words, std::string_view between, std::string_view last) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? last : between;
    text += words[i];
  }
  return text;
}

[[noreturn]] void refuse_missing_value(std::string_view spelled, const Option& option) {
  fail(ExitCode::usage, "{} needs a value: {}", spelled,
       option.arity == OptionArity::flag ? "on or off" : option.value_name);
}

// How many tokens follow an option. A flag may carry a value, so that --overwrite=off undoes the file's
// setting. Boost takes ownership of what is returned.
po::typed_value<std::string>* token_count(OptionArity arity) {
  if (arity == OptionArity::flag) return po::value<std::string>()->implicit_value("on");
  if (arity == OptionArity::several) return po::value<std::string>()->multitoken();
  return po::value<std::string>();
}

}  // namespace

OptionTable::OptionTable(std::string program, std::string usage, std::string summary)
    : program_(std::move(program)),
      usage_(std::move(usage)),
      summary_(std::move(summary)),
      group_(kGeneralGroup) {
  add_path("config", "FILE", config_, "settings as name = value lines; the command line wins");
  add_flag("help", help_, "print this text and exit");
  add_flag("version", version_, "print the version and exit");
  // How the settings were given is no setting.
  for (Entry& entry : entries_) entry.option.store = nullptr;
}

void OptionTable::begin_group(std::string title) {
  group_ = std::move(title);
}

void OptionTable::require(std::vector<std::string> names) {
  for (const std::string& name : names) at(name);
  required_ = std::move(names);
}

void OptionTable::take_positional(std::vector<std::string> names) {
  for (const std::string& name : names) at(name);
  positional_ = std::move(names);
}

void OptionTable::add(Option option) {
  AUTOGLM_CHECK(find(option.name) == nullptr, "option --{} is declared twice", option.name);
  AUTOGLM_CHECK(!takes_many(option.arity) || option.clear, "option --{} cannot forget its values",
                option.name);
  entries_.push_back({std::move(option), group_, OptionSource::default_value, ""});
}

OptionTable::Entry* OptionTable::find(std::string_view name) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [name](const Entry& entry) { return entry.option.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

const OptionTable::Entry& OptionTable::at(std::string_view name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [name](const Entry& entry) { return entry.option.name == name; });
  AUTOGLM_CHECK(found != entries_.end(), "no option is called {}", name);
  return *found;
}

bool OptionTable::has(std::string_view name) const {
  return std::ranges::any_of(entries_, [name](const Entry& entry) { return entry.option.name == name; });
}

OptionSource OptionTable::source(std::string_view name) const {
  return at(name).source;
}

std::string OptionTable::spelled(std::string_view name) const {
  const Entry& entry = at(name);
  return entry.spelled.empty() ? "--" + entry.option.name : entry.spelled;
}

std::vector<std::string> OptionTable::names() const {
  std::vector<std::string> result;
  for (const Entry& entry : entries_) result.push_back(entry.option.name);
  return result;
}

void OptionTable::refuse_name(std::string_view spelled, std::string_view name,
                              std::string_view dashes) const {
  const std::optional<std::string> nearest = nearest_name(name, names());
  if (nearest) fail(ExitCode::usage, "{}; did you mean {}{}?", spelled, dashes, *nearest);
  fail(ExitCode::usage, "{}; {} --help lists them all", spelled, program_);
}

void OptionTable::refuse_positional(const std::string& text) const {
  if (text.size() > 1 && text.front() == '-')
    refuse_name(fmt::format("unknown option {}", text.substr(0, text.find('='))),
                text.substr(1, text.find('=') - 1), "--");
  const std::string_view free_ones = positional_.empty() ? "every value" : "every other value";
  fail(ExitCode::usage, "{} belongs to no option; {} follows its option, as in --name value", in_quotes(text),
       free_ones);
}

const std::string& OptionTable::positional_name(const std::string& value, std::size_t index) const {
  if (value.starts_with('-') || index >= positional_.size()) refuse_positional(value);
  return positional_[index];
}

std::vector<OptionTable::Given> OptionTable::read_command_line(const std::vector<std::string>& arguments) {
  po::options_description description;
  for (const Entry& entry : entries_)
    description.add_options()(entry.option.name.c_str(), token_count(entry.option.arity));
  // Only --name value and --name=value: a minus sign begins a number, and no name is completed by guessing.
  const int style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                    po::command_line_style::long_allow_next;
  std::vector<Given> given;
  std::size_t num_positional = 0;
  try {
    const po::parsed_options parsed =
        po::command_line_parser(arguments).options(description).style(style).allow_unregistered().run();
    for (const po::option& option : parsed.options) {
      const bool positional = option.string_key.empty() || option.position_key >= 0;
      const std::string name =
          positional ? positional_name(option.value.at(0), num_positional++) : option.string_key;
      const std::string spelled = "--" + name;
      if (!positional && option.unregistered) refuse_name("unknown option " + spelled, name, "--");
      Entry* entry = find(name);
      const bool adjacent = !positional && option.original_tokens.size() == 1 && !option.value.empty();
      for (const std::string& value : option.value)
        if (!adjacent && value.starts_with("--"))
          fail(ExitCode::usage, "{} {} needs a value, but {} follows it", spelled, entry->option.value_name,
               in_quotes(value));
      const bool twice =
          !takes_many(entry->option.arity) &&
          std::any_of(given.begin(), given.end(), [entry](const Given& g) { return g.entry == entry; });
      if (twice) fail(ExitCode::usage, "{} is given twice; give it once", spelled);
      given.push_back({entry, option.value.empty() ? std::vector<std::string>{"on"} : option.value});
    }
  } catch (const po::error_with_option_name& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    const Entry* entry = find(name);
    if (entry != nullptr) refuse_missing_value("--" + name, entry->option);
    fail(ExitCode::usage, "{}", error.what());
  }
  return given;
}

void OptionTable::apply_config_file(const std::filesystem::path& path, const std::vector<Given>& given) {
  const std::string file = path.string();
  for (const IniEntry& line : read_ini_file(path)) {
    const std::string place = fmt::format("{}:{}: ", file, line.line);
    Entry* entry = find(line.name);
    if (entry == nullptr) refuse_name(place + "unknown option " + line.name, line.name, "");
    if (entry->group == kGeneralGroup)
      fail(ExitCode::usage, "{}{} can stand on the command line only", place, line.name);
    const std::string spelled = place + line.name;
    const bool first = entry->source != OptionSource::config_file;
    if (!first && !takes_many(entry->option.arity))
      fail(ExitCode::usage, "{} is set twice, first as {}; set it once", spelled, entry->spelled);
    if (first && takes_many(entry->option.arity)) entry->option.clear();
    if (line.value.empty()) refuse_missing_value(spelled, entry->option);
    const bool one_value = line.enclosed || entry->option.arity != OptionArity::several;
    const std::vector<std::string> words =
        one_value ? std::vector{line.value} : split_words(line.value, spelled);
    const bool overruled = std::ranges::any_of(given, [&](const Given& one) { return one.entry == entry; });
    if (entry->option.names_files && !line.enclosed && !overruled)
      check_file_names(words, line.value, spelled);
    if (!line.enclosed && !overruled) check_quotes(words, spelled);
    for (const std::string& word : words) entry->option.assign(word, spelled);
    entry->source = OptionSource::config_file;
    entry->spelled = spelled;
  }
}

void OptionTable::apply_command_line(const std::vector<Given>& given) {
  for (const auto& [entry, values] : given) {
    const std::string spelled = "--" + entry->option.name;
    if (takes_many(entry->option.arity) && entry->source != OptionSource::command_line) entry->option.clear();
    for (const std::string& value : values) entry->option.assign(value, spelled);
    entry->source = OptionSource::command_line;
    entry->spelled = spelled;
  }
}

void OptionTable::check_required() const {
  std::vector<std::string> missing;
  for (const std::string& name : required_) {
    const Option& option = at(name).option;
    const char* more = option.arity == OptionArity::several ? "..." : "";
    if (source(name) == OptionSource::default_value)
      missing.push_back(fmt::format("--{} {}{}", name, option.value_name, more));
  }
  if (missing.empty()) return;
  fail(ExitCode::usage, "{} {} missing; {} --help lists every option", joined(missing, ", ", " and "),
       missing.size() == 1 ? "is" : "are", program_);
}

OptionRequest OptionTable::parse(const std::vector<std::string>& arguments) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  const auto holds = [&](std::string_view text) { return std::find(arguments.begin(), end, text) != end; };
  if (holds("--help") || holds("-h")) return OptionRequest::help;
  if (holds("--version")) return OptionRequest::version;
  const std::vector<Given> given = read_command_line(arguments);
  for (const auto& [entry, values] : given)
    if (entry->option.name == "config") apply_config_file(values.at(0), given);
  apply_command_line(given);
  check_required();
  return OptionRequest::run;
}

nlohmann::ordered_json OptionTable::to_json() const {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const Entry& entry : entries_)
    if (entry.option.store) entry.option.store(object);
  return object;
}

}  // namespace autoglm
