// The checkpoint library as a program, for the comparison with Python packages (checkpoint_parity.py).
//   check FILE...                   one line per file: "ok" or the sentence that refuses it
//   list FILE                       the tensors as JSON: {name: [dtype, shape]}
//   rewrite MODEL OUTPUT [DTYPE]    a run without training: every float tensor through fp32 in small parts
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/model_writer.h"
#include "checkpoint/output_directory.h"

namespace autoglm {
namespace {

void check(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    try {
      SafetensorsFile::open(file);
      std::cout << "ok\n";
    } catch (const Error& error) {
      // One line per file, whatever the file's names hold.
      std::cout << nlohmann::json(error.what()).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
                << "\n";
    }
  }
}

void list(const std::string& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  nlohmann::json tensors = nlohmann::json::object();
  for (const SafetensorsTensor& tensor : file.tensors())
    tensors[tensor.name] = {tensor.dtype.name, tensor.shape};
  std::cout << tensors << "\n";
}

void rewrite_tensor(const ModelDirectory& model, ModelWriter& writer, const SafetensorsTensor& tensor) {
  if (!tensor.dtype.dtype || !is_floating(*tensor.dtype.dtype)) return writer.copy_tensor(tensor.name);
  constexpr std::int64_t kPart = 1021;
  for (std::int64_t begin = 0; begin < tensor.num_elements(); begin += kPart) {
    std::vector<float> values(std::min(kPart, tensor.num_elements() - begin));
    model.read_tensor(tensor.name, begin, values);
    writer.write(tensor.name, begin, values);
  }
}

void rewrite(const std::string& source, const std::string& output, const std::string& dtype_text) {
  std::optional<DType> save_dtype;
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16}) {
    if (dtype_name(dtype) == dtype_text) save_dtype = dtype;
  }
  const ModelDirectory model = ModelDirectory::open(source);
  OutputDirectory directory(output, model, true);
  directory.require_space(ModelWriter::bytes_needed(model, SideFiles::keep(model), save_dtype));
  directory.begin();
  directory.write_run_record({}, false);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output, save_dtype);
  for (const SafetensorsFile& file : model.weight_files()) {
    for (const SafetensorsTensor& tensor : file.tensors()) rewrite_tensor(model, writer, tensor);
  }
  writer.commit([&] { directory.remove_earlier_model(); });
  directory.write_run_record({}, true);
}

int run(const std::vector<std::string>& arguments) {
  const std::string command = arguments.empty() ? "" : arguments[0];
  if (command == "check") {
    check({arguments.begin() + 1, arguments.end()});
  } else if (command == "list" && arguments.size() == 2) {
    list(arguments[1]);
  } else if (command == "rewrite" && arguments.size() >= 3) {
    rewrite(arguments[1], arguments[2], arguments.size() > 3 ? arguments[3] : "");
  } else {
    fail(ExitCode::usage, "usage: check FILE..., list FILE, or rewrite MODEL OUTPUT [DTYPE]");
  }
  return 0;
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  try {
    return autoglm::run({argv + 1, argv + argc});
  } catch (const autoglm::Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
