// The header of a safetensors file, and the names that tensors of a checkpoint have.
#include "base/error.h"
#include "checkpoint/safetensors_header.h"
#include "tests/checkpoint/step_store/toy_states.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {

std::vector<std::string> seeds() {
  const testing::ToyStates states;
  std::vector<SafetensorsSpec> specs;
  for (const StateRun& run : states.runs_of(1, 2))
    specs.push_back({run_name(run), safetensors_dtype(run.dtype), {run.count}});
  std::vector<std::string> seeds = {make_safetensors_header(specs, {{"run", states.run}}).text};
  seeds.push_back(make_safetensors_header({{"scalar", *find_safetensors_dtype("F64"), {}},
                                           {"empty", *find_safetensors_dtype("U8"), {0, 3}},
                                           {"packed", *find_safetensors_dtype("F4"), {2, 4}}})
                      .text);
  return seeds;
}

std::vector<std::string> words() {
  return {
      "\"__metadata__\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"F32\"", "\"F4\"", "\"F6_E2M3\"",
      "\"BOOL\"",         "[0,0]",     "/"};
}

void read(std::string_view input) {
  const SafetensorsHeader header = parse_safetensors_header(std::string(input), "header");
  std::uint64_t next = 0;
  for (const SafetensorsTensor& tensor : header.tensors) {
    AUTOGLM_CHECK(tensor.offset == next, "{}", tensor.name);
    next += tensor.bytes;
    if (const auto parts = parse_run_name(tensor.name)) {
      const StateRun run{std::string(parts->kind), std::string(parts->parameter), parts->offset, 0,
                         DType::float32};
      AUTOGLM_CHECK(run_name(run) == tensor.name, "{}", tensor.name);
    }
  }
  AUTOGLM_CHECK(next == header.data_bytes);
}

}  // namespace autoglm::fuzz
