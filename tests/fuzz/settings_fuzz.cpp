// A file of settings for --config, and the words of its values.
#include "base/error.h"
#include "launcher/options/ini_file.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {

std::vector<std::string> seeds() {
  return {
      "# settings\nmodel = /models/a  # behind a blank\ndata = one.jsonl \"two words.jsonl\"\n\n; "
      "and\nsteps=5\n",
      "\xEF\xBB\xBFsample = \"Say \\\"x\\\" now\"\r\nfreeze = 'a' \"b\"\r\n"};
}

std::vector<std::string> words() {
  return {"=", "\"", "'", "#", ";", "\n", "\r\n", " ", "\\", "model", "--", "[section]", "\xEF\xBB\xBF"};
}

void read(std::string_view input) {
  try {
    for (const IniEntry& entry : parse_ini(input, "settings.ini")) {
      AUTOGLM_CHECK(!entry.name.empty() && entry.line > 0);
      if (!entry.enclosed) check_quotes(split_words(entry.value, entry.name), entry.name);
    }
  } catch (const Error& error) {
    // What a person wrote is wrong usage.
    if (error.code() != ExitCode::usage) throw;
    fail(ExitCode::bad_data, "{}", error.what());
  }
}

}  // namespace autoglm::fuzz
