// manifest.json of a checkpoint, whatever stands in it.
#include "base/error.h"
#include "tests/checkpoint/step_store/toy_states.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/manifest_checksum.h"

namespace autoglm::fuzz {

std::vector<std::string> seeds() {
  const testing::ToyStates states;
  const StateFileRecord large{state_file_name(0, 2), kChecksumBytes + 1, {0, 0xdeadbeef}},
      small{state_file_name(1, 2), 7, {5}};
  return {manifest_text(states.manifest_of(500, {large, small})),
          manifest_text(states.manifest_of(0, {{state_file_name(0, 1), 7, {5}}}))};
}

std::vector<std::string> words() {
  return {"\"version\": 2",
          "\"training\"",
          "\"kinds\"",
          "\"F32\"",
          "\"BF16\"",
          "\"moment2\"",
          "\"files\": []",
          "\"shape\": []",
          "\"shape\": [1099511627776, 1099511627776]",
          "states-00000-of-00002.safetensors"};
}

void read(std::string_view input) {
  const std::string again = manifest_text(parse_manifest(with_checksum(std::string(input)), "manifest"));
  try {
    AUTOGLM_CHECK(manifest_text(parse_manifest(again, "again")) == again);
  } catch (const Error& error) {
    fail(ExitCode::bug, "{}", error.what());
  }
}

}  // namespace autoglm::fuzz
