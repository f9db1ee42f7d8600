#include "launcher/options/option_table.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/matches_pattern.h"

namespace autoglm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

enum class Colour { red, green };

// A command with an option of every kind.
struct Command {
  std::filesystem::path model;
  std::vector<std::filesystem::path> data = {"default.jsonl"};
  std::vector<std::string> samples;
  int steps = 10;
  std::optional<std::int64_t> chunks;
  std::optional<std::int64_t> limit;
  double rate = 1e-5;
  Colour colour = Colour::red;
  std::string name = "auto";
  bool overwrite = false;
  OptionTable table{"tool", "tool --model DIR [options]", "Does things."};

  Command() {
    table.begin_group("Required");
    table.add_path("model", "DIR", model, "model directory");
    table.begin_group("More");
    table.add_paths("data", "FILE", data, "data files");
    table.add_texts("sample", "PROMPT", samples, "prompts");
    table.add_integer("steps", steps, {1, 1000}, "steps");
    table.add_integer("head-chunks", chunks, {1, 64}, "chunks", "auto");
    table.add_bytes("memory-limit", limit, "bytes", "no limit");
    table.add_real("learning-rate", "RATE", rate, {0, 1, true}, "rate");
    table.add_choice<Colour>("colour", colour, {{"red", Colour::red}, {"green", Colour::green}}, "colour");
    table.add_text("name", "NAME", name, "name");
    table.add_flag("overwrite", overwrite, "overwrite");
    table.require({"model"});
  }

  OptionRequest parse(std::vector<std::string> arguments) { return table.parse(arguments); }
  std::string refusal(std::vector<std::string> arguments) {
    return error_of(ExitCode::usage, [&] { table.parse(arguments); });
  }
};

// A settings file that is removed again.
class SettingsFile {
 public:
  explicit SettingsFile(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              ("autoglm_settings_" + std::to_string(getpid()) + ".ini")) {
    std::ofstream(path_) << text;
  }
  ~SettingsFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(OptionTable, ReadsEveryKindOfOption) {
  Command command;
  EXPECT_EQ(command.parse({"--model",
                           "dir",
                           "--data",
                           "a",
                           "b",
                           "--sample",
                           "Who?",
                           "--data=c",
                           "--sample=--dashes",
                           "--steps=7",
                           "--head-chunks",
                           "4",
                           "--memory-limit",
                           "2KiB",
                           "--learning-rate",
                           "3e-4",
                           "--colour",
                           "green",
                           "--name",
                           "x y",
                           "--overwrite"}),
            OptionRequest::run);
  EXPECT_EQ(command.model, "dir");
  EXPECT_THAT(command.data, ElementsAre("a", "b", "c"));
  EXPECT_THAT(command.samples, ElementsAre("Who?", "--dashes"));
  EXPECT_EQ(command.steps, 7);
  EXPECT_EQ(command.chunks, 4);
  EXPECT_EQ(command.limit, 2048);
  EXPECT_DOUBLE_EQ(command.rate, 3e-4);
  EXPECT_EQ(command.colour, Colour::green);
  EXPECT_EQ(command.name, "x y");
  EXPECT_TRUE(command.overwrite);
  EXPECT_EQ(command.table.source("steps"), OptionSource::command_line);
}

TEST(OptionTable, AFlagTakesNoOtherOptionForItsValue) {
  Command command;
  command.parse({"--overwrite", "--model", "dir", "--data", "a", "--steps", "3"});
  EXPECT_TRUE(command.overwrite);
  EXPECT_EQ(command.model, "dir");
  EXPECT_THAT(command.data, ElementsAre("a"));
  EXPECT_EQ(command.steps, 3);
}

TEST(OptionTable, KeepsDefaults) {
  Command command;
  command.parse({"--model", "dir"});
  EXPECT_EQ(command.steps, 10);
  EXPECT_THAT(command.data, ElementsAre("default.jsonl"));
  EXPECT_EQ(command.chunks, std::nullopt);
  EXPECT_EQ(command.table.source("steps"), OptionSource::default_value);
}

TEST(OptionTable, RefusesUnknownNamesWithTheNearest) {
  EXPECT_EQ(Command().refusal({"--lerning-rate", "1e-4"}),
            "unknown option --lerning-rate; did you mean --learning-rate?");
  EXPECT_EQ(Command().refusal({"--lerning-rate=1e-4"}),
            "unknown option --lerning-rate; did you mean --learning-rate?");
  EXPECT_EQ(Command().refusal({"--tensorboard"}), "unknown option --tensorboard; tool --help lists them all");
  EXPECT_EQ(Command().refusal({"-m", "dir"}), "unknown option -m; did you mean --model?");
  EXPECT_EQ(Command().refusal({"-z"}), "unknown option -z; tool --help lists them all");
}

TEST(OptionTable, DoesNotGuessAbbreviations) {
  EXPECT_EQ(Command().refusal({"--learning", "1e-4"}),
            "unknown option --learning; did you mean --learning-rate?");
  EXPECT_EQ(Command().refusal({"--mod", "dir"}), "unknown option --mod; did you mean --model?");
}

TEST(OptionTable, RefusesValuesThatBelongToNoOption) {
  EXPECT_EQ(Command().refusal({"data.jsonl"}),
            "\"data.jsonl\" belongs to no option; every value follows its option, as in --name value");
  EXPECT_THAT(Command().refusal({"--steps", "3", "4"}), HasSubstr("\"4\" belongs to no option"));
  EXPECT_THAT(Command().refusal({"--model", "dir", "--", "--steps"}), HasSubstr("--steps"));
}

TEST(OptionTable, ValuesWithoutANameGoToTheOptionsThatTakeThem) {
  Command command;
  command.table.take_positional({"model", "steps"});
  command.parse({"there", "--name", "x", "7"});
  EXPECT_EQ(command.model, "there");
  EXPECT_EQ(command.steps, 7);
  EXPECT_EQ(command.table.source("model"), OptionSource::command_line);
  const auto refusal = [](std::vector<std::string> arguments) {
    Command other;
    other.table.take_positional({"model", "steps"});
    return other.refusal(std::move(arguments));
  };
  EXPECT_EQ(refusal({"there", "7", "8"}),
            "\"8\" belongs to no option; every other value follows its option, as in --name value");
  EXPECT_EQ(refusal({"--model", "here", "there"}), "--model is given twice; give it once");
  EXPECT_THAT(refusal({"there", "seven"}), HasSubstr("--steps"));
  EXPECT_THAT(refusal({"there", "-s"}), HasSubstr("unknown option -s"));
}

TEST(OptionTable, RefusesAMissingValue) {
  EXPECT_EQ(Command().refusal({"--model"}), "--model needs a value: DIR");
  EXPECT_EQ(Command().refusal({"--model="}), "--model needs a value: DIR");
  EXPECT_EQ(Command().refusal({"--model", ""}), "--model needs a value: DIR");
  EXPECT_EQ(Command().refusal({"--model", "--steps", "3"}),
            "--model DIR needs a value, but \"--steps\" follows it");
  EXPECT_EQ(Command().refusal({"--data", "--steps", "3"}),
            "--data FILE needs a value, but \"--steps\" follows it");
  EXPECT_EQ(Command().refusal({"--model", "--stesp", "3"}),
            "--model DIR needs a value, but \"--stesp\" follows it");
  EXPECT_EQ(Command().refusal({"--colour"}), "--colour needs a value: red|green");
}

TEST(OptionTable, RefusesARepeatedOption) {
  EXPECT_EQ(Command().refusal({"--steps", "1", "--steps", "2"}), "--steps is given twice; give it once");
  EXPECT_EQ(Command().refusal({"--overwrite", "--overwrite"}), "--overwrite is given twice; give it once");
}

TEST(OptionTable, RefusesWrongValues) {
  EXPECT_EQ(Command().refusal({"--steps", "0"}), "--steps takes a whole number from 1 to 1000; got \"0\"");
  EXPECT_EQ(Command().refusal({"--steps", "-1"}), "--steps takes a whole number from 1 to 1000; got \"-1\"");
  EXPECT_EQ(Command().refusal({"--learning-rate", "nan"}),
            "--learning-rate takes a number above 0 and at most 1; got \"nan\"");
  EXPECT_EQ(Command().refusal({"--colour", "blue"}), "--colour takes red or green; got \"blue\"");
  EXPECT_EQ(Command().refusal({"--overwrite", "maybe"}), "--overwrite takes on or off; got \"maybe\"");
  EXPECT_EQ(Command().refusal({"--memory-limit", "0"}),
            "--memory-limit takes a size above 0, such as 40GB or 40GiB; got \"0\"");
  EXPECT_THAT(Command().refusal({"--memory-limit", "-1GB"}), HasSubstr("--memory-limit: \"-1GB\""));
}

TEST(OptionTable, NamesAllThatIsMissing) {
  Command command;
  command.table.require({"model", "data", "name"});
  EXPECT_EQ(command.refusal({"--name", "x"}),
            "--model DIR and --data FILE... are missing; tool --help lists every option");
  EXPECT_EQ(Command().refusal({}), "--model DIR is missing; tool --help lists every option");
}

TEST(OptionTable, HelpAndVersionWinOverWrongOptions) {
  Command command;
  EXPECT_EQ(command.parse({"--stesp", "3", "--help"}), OptionRequest::help);
  EXPECT_EQ(command.parse({"-h"}), OptionRequest::help);
  EXPECT_EQ(command.parse({"--steps", "3", "--version"}), OptionRequest::version);
  EXPECT_EQ(command.steps, 10);
}

TEST(OptionTable, CommandLineWinsOverTheFile) {
  const SettingsFile file(
      "model = from-file\nsteps = 5\ncolour = green\noverwrite = on\ndata = x y\nsample = One two\n");
  Command command;
  command.parse({"--steps", "7", "--config", file.path(), "--data", "z", "--overwrite=off"});
  EXPECT_EQ(command.model, "from-file");
  EXPECT_EQ(command.steps, 7);
  EXPECT_EQ(command.colour, Colour::green);
  EXPECT_FALSE(command.overwrite);
  EXPECT_THAT(command.data, ElementsAre("z"));
  EXPECT_THAT(command.samples, ElementsAre("One two"));
  EXPECT_EQ(command.table.source("colour"), OptionSource::config_file);
  EXPECT_EQ(command.table.spelled("colour"), file.path() + ":3: colour");
  EXPECT_EQ(command.table.spelled("steps"), "--steps");
}

TEST(OptionTable, FileListsSeveralValues) {
  const SettingsFile file("data = a \"b c\"\ndata = \"d e\"\nsample = One\nsample = Two\nmodel = m\n");
  Command command;
  command.parse({"--config", file.path()});
  EXPECT_THAT(command.data, ElementsAre("a", "b c", "d e"));
  EXPECT_THAT(command.samples, ElementsAre("One", "Two"));
}

TEST(OptionTable, FileErrorsNameTheLine) {
  const auto refusal = [](const std::string& text) {
    const SettingsFile file(text);
    const std::string sentence = Command().refusal({"--model", "m", "--config", file.path()});
    EXPECT_TRUE(sentence.starts_with(file.path())) << sentence;
    return sentence.substr(std::min(sentence.size(), file.path().size()));
  };
  EXPECT_EQ(refusal("seps = 3"), ":1: unknown option seps; did you mean steps?");
  EXPECT_EQ(refusal("\nsteps = many"), ":2: steps takes a whole number from 1 to 1000; got \"many\"");
  EXPECT_EQ(refusal("steps ="), ":1: steps needs a value: N");
  EXPECT_EQ(refusal("overwrite ="), ":1: overwrite needs a value: on or off");
  EXPECT_EQ(refusal("help = on"), ":1: help can stand on the command line only");
  EXPECT_EQ(refusal("config = other.ini"), ":1: config can stand on the command line only");
  EXPECT_THAT(refusal("steps = 3\nsteps = 4"), HasSubstr(":2: steps is set twice, first as "));
  EXPECT_EQ(refusal("--steps = 3"), ":1: unknown option --steps; did you mean steps?");
}

TEST(OptionTable, WrongFileValueIsFoundAlsoWhenOverridden) {
  const SettingsFile file("steps = many\n");
  EXPECT_THAT(Command().refusal({"--model", "m", "--steps", "3", "--config", file.path()}),
              HasSubstr(":1: steps takes"));
}

TEST(OptionTable, StoresEveryOptionAsJson) {
  Command command;
  command.parse({"--model", "m", "--colour", "green"});
  const nlohmann::ordered_json expected = {
      {"model", "m"},          {"data", {"default.jsonl"}}, {"sample", nlohmann::ordered_json::array()},
      {"steps", 10},           {"head-chunks", nullptr},    {"memory-limit", nullptr},
      {"learning-rate", 1e-5}, {"colour", "green"},         {"name", "auto"},
      {"overwrite", false}};
  EXPECT_EQ(command.table.to_json().dump(), expected.dump());
}

TEST(OptionTable, JsonSurvivesPathsThatAreNotUtf8) {
  Command command;
  command.parse({"--model", "m\xFF", "--data", "\xFF", "--sample", "\xC3", "--name", "\xFF"});
  EXPECT_NO_THROW(command.table.to_json().dump());
}

TEST(OptionTable, HelpFitsAndShowsDefaultsByGroup) {
  Command command;
  const std::string help = command.table.help();
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  EXPECT_THAT(help, HasSubstr("Usage: tool --model DIR [options]\nDoes things.\n\nRequired\n  --model DIR"));
  EXPECT_THAT(help, HasSubstr("\n\nMore\n  --data FILE... "));
  EXPECT_THAT(help, HasSubstr("  --learning-rate RATE  rate [1e-5]\n"));
  EXPECT_THAT(help, HasSubstr("  --colour red|green    colour [red]\n"));
  EXPECT_THAT(help, HasSubstr("  --head-chunks N       chunks [auto]\n"));
  EXPECT_LT(help.find("More"), help.find("General"));
  EXPECT_THAT(help, HasSubstr("-h, --help"));
}

TEST(OptionTable, ADoubleDeclarationIsABug) {
  Command command;
  EXPECT_THAT(error_of(ExitCode::bug, [&] { command.table.add_flag("steps", command.overwrite, "again"); }),
              HasSubstr("--steps is declared twice"));
}

TEST(OptionTable, VersionSaysWhatWasBuilt) {
  EXPECT_THAT(version_text("tool", "2.11.0", true),
              MatchesPattern("tool [0-9.]+ \\(LibTorch 2\\.11\\.0, [A-Za-z]+ build, CUDA: yes\\)"));
}

}  // namespace
}  // namespace autoglm
