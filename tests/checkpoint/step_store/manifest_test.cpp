#include "checkpoint/step_store/manifest.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/checkpoint/step_store/toy_states.h"
#include "tests/checkpoint/test_support.h"

namespace autoglm {
namespace {

using testing::contains;
using testing::sentence_of;

Manifest toy_manifest() {
  const testing::ToyStates states;
  return states.manifest_of(
      500, {{state_file_name(0, 2), kChecksumBytes + 1, {0, 0xdeadbeef}}, {state_file_name(1, 2), 7, {5}}});
}

// Another value, with the checksum that belongs to it.
std::string with(const std::string& from, const std::string& to) {
  std::string text = manifest_text(toy_manifest());
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  const std::size_t sum = text.rfind('"', text.size() - 5) + 1;
  text.replace(sum, 8, "00000000");
  return text.replace(sum, 8, fmt::format("{:08x}", crc32c(as_bytes(text))));
}

TEST(Manifest, IsReadAsItWasWritten) {
  const Manifest written = toy_manifest();
  const Manifest read = parse_manifest(manifest_text(written), "m");
  EXPECT_EQ(read.run, written.run);
  EXPECT_EQ(read.step, 500);
  EXPECT_EQ(read.written_at, written.written_at);
  EXPECT_EQ(read.kinds, written.kinds);
  EXPECT_EQ(read.parameters, written.parameters);
  EXPECT_EQ(read.files, written.files);
  EXPECT_EQ(read.training, written.training);
  EXPECT_EQ(manifest_text(read), manifest_text(written));
}

TEST(Manifest, EveryByteThatIsAnotherIsSeen) {
  const std::string text = manifest_text(toy_manifest());
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const int bit : {1, 32}) {
      std::string broken = text;
      broken[i] = static_cast<char>(broken[i] ^ bit);
      EXPECT_THROW(parse_manifest(broken, "m"), Error) << i;
    }
    EXPECT_THROW(parse_manifest(text.substr(0, i), "m"), Error) << i;
  }
}

TEST(Manifest, RefusesWhatIsNotWritten) {
  const auto refused = [](const std::string& from, const std::string& to) {
    return sentence_of(ExitCode::bad_data, [&] { parse_manifest(with(from, to), "m"); });
  };
  EXPECT_PRED2(contains, refused("\"version\": 1", "\"version\": 2"), "version 2");
  EXPECT_PRED2(contains, refused("autoglm-train checkpoint", "another"), "another format");
  EXPECT_PRED2(contains, refused("states-00000-of", "../tes-00000-of"), "files.name");
  EXPECT_PRED2(contains, refused("\"deadbeef\"", "\"deadbeeg\""), "crc32c");
  EXPECT_PRED2(contains, refused("\"bytes\": 7", "\"bytes\": 99999999"), "crc32c");
  EXPECT_PRED2(contains, refused("\"b.bias\"", "\"a.weight\""), "twice");
  EXPECT_PRED2(contains, refused("\"F32\"", "\"I16\""), "master");
  EXPECT_PRED2(contains, refused("\"moment2\"", "\"moment3\""), "moment3");
  EXPECT_PRED2(contains, refused(testing::kToyRun, "short"), "run");
  EXPECT_PRED2(contains, refused("\"parameters\"", "\"parameter\""), "\"parameters\" is missing");
  EXPECT_PRED2(contains, refused("\"files\"", "\"file\""), "\"files\" is missing");
  EXPECT_PRED2(contains, refused("\"shape\"", "\"form\""), "shape\" is missing");
  EXPECT_PRED2(contains, refused("[\n    7,\n    5\n   ]", "[1099511627776,1099511627776,3]"), "shape");
  EXPECT_PRED2(contains, refused("[\n    7,\n    5\n   ]", "[-1]"), "shape");
}

}  // namespace
}  // namespace autoglm
