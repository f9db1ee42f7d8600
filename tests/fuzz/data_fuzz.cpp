// A file of data: lines of JSON, or one array. Read in parts it is what it is as a whole.
#include <span>

#include "base/error.h"
#include "base/json.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/conversation.h"
#include "trainer/data/dataset_reader.h"

namespace autoglm::fuzz {
namespace {

struct Read {
  std::string text;
  std::uint64_t offset = 0;
  std::uint64_t number = 0;
  bool operator==(const Read&) const = default;
};

std::vector<Read> read_parts(const std::filesystem::path& file, int num_parts) {
  std::vector<Read> samples;
  for (int part = 0; part < num_parts; ++part) {
    SampleReader reader({file}, part, num_parts);
    for (RawSample sample; reader.next(sample);)
      samples.push_back({std::string(sample.text), sample.place.offset, sample.place.number});
    AUTOGLM_CHECK(reader.bytes_done() <= reader.bytes_total());
  }
  return samples;
}

void parse(const std::string& text) {
  try {
    AUTOGLM_CHECK(!parse_conversation(text).messages.empty());
  } catch (const SampleError&) {
  } catch (const JsonError&) {
  }
}

}  // namespace

std::vector<std::string> seeds() {
  const std::string chat =
      R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": [{"type": "text", "text": "A"}], "weight": 0, "reasoning_content": "R"}], "id": 7})";
  const std::string sharegpt =
      R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"})";
  const std::string alpaca = R"({"instruction": "I", "input": "", "output": "O", "history": [["Q", "A"]]})";
  const std::string completion = R"({"prompt": "P", "completion": "C"})";
  const std::string turns =
      R"({"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]})";
  const std::string text = R"({"text": "running \u00e9 text"})";
  return {chat + "\n" + sharegpt + "\n\n" + text + "\r\n",
          alpaca + "\n" + completion + "\n" + turns + "\n",
          "[" + chat + ",\n " + alpaca + ",\n " + text + "\n]\n",
          "\xEF\xBB\xBF" + text + "\n",
          "[]",
          "\n"};
}

std::vector<std::string> words() {
  return {"\"messages\"",
          "\"role\"",
          "\"content\"",
          "\"assistant\"",
          "\"user\"",
          "\"system\"",
          "\"tool\"",
          "\"conversations\"",
          "\"from\"",
          "\"value\"",
          "\"gpt\"",
          "\"human\"",
          "\"instruction\"",
          "\"input\"",
          "\"output\"",
          "\"history\"",
          "\"prompt\"",
          "\"completion\"",
          "\"text\"",
          "\"weight\"",
          "\"train\"",
          "\"tools\"",
          "\"images\"",
          "\"type\"",
          "\"image\"",
          "\n",
          "\r\n",
          "[",
          "]\n",
          ",",
          "\\",
          "\\\"",
          "\xEF\xBB\xBF",
          "\xFF\xFE",
          "//",
          "\"chosen\"",
          "\"reasoning_content\"",
          "{\"text\": \"x\"}\n",
          std::string(1, '\0')};
}

void read(std::string_view input) {
  const auto file = folder() / "data.jsonl";
  write(file, input);
  const std::vector<Read> whole = read_parts(file, 1);
  for (const int parts : {2, 3, 7}) {
    try {
      AUTOGLM_CHECK(read_parts(file, parts) == whole, "{} parts", parts);
    } catch (const Error& error) {
      fail(ExitCode::bug, "{} parts: {}", parts, error.what());
    }
  }
  for (const Read& one : whole) parse(one.text);
}

}  // namespace autoglm::fuzz
