// A model's folder: config.json, the index of its shards, and a shard's header. An input is these three texts.
#include "checkpoint/model_directory.h"

#include "base/error.h"
#include "checkpoint/convert.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {
namespace {

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::string header_of(const std::string& name, DType dtype, std::vector<std::int64_t> shape) {
  return make_safetensors_header({{name, safetensors_dtype(dtype), std::move(shape)}}).text;
}

}  // namespace

std::vector<std::string> seeds() {
  const std::string config = R"({"architectures": ["X"], "hidden_size": 4, "torch_dtype": "bfloat16"})";
  const std::string index = fmt::format(
      R"({{"metadata": {{"total_size": 80}}, "weight_map": {{"a.weight": "{}", "b.weight": "{}"}}}})", kFirst,
      kSecond);
  std::string seed = config;
  seed.append(kBetween).append(index).append(kBetween).append(header_of("a.weight", DType::bfloat16, {4, 6}));
  return {seed};
}

std::vector<std::string> words() {
  return {"\"weight_map\"", "\"metadata\"", "../",
          "/etc/passwd",    kFirst,         kSecond,
          "a.weight",       "b.weight",     "\"quantization_config\": {\"quant_method\": \"fp8\"}",
          "\"BF16\"",       "\"I64\"",      "model.safetensors"};
}

void read(std::string_view input) {
  write_texts(input, {"config.json", "model.safetensors.index.json"});
  write(folder() / kFirst, file_of(next_text(input)));
  write(folder() / kSecond, file_of(header_of("b.weight", DType::float32, {8})));
  const ModelDirectory model = ModelDirectory::open(folder());
  for (const SafetensorsFile& file : model.weight_files()) {
    AUTOGLM_CHECK(file.path().parent_path() == folder(), "{}", file.path().string());
    for (const SafetensorsTensor& tensor : file.tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.num_elements()));
      if (tensor.dtype.dtype && is_floating(*tensor.dtype.dtype)) model.read_tensor(tensor.name, 0, values);
    }
  }
  const ExpectedTensor expected[] = {{"a.weight", {4, 6}}, {"b.weight", {8}}};
  model.check_tensors(expected);
}

}  // namespace autoglm::fuzz
