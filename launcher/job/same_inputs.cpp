#include "launcher/job/same_inputs.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "checkpoint/fingerprint.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// What decides ids, labels, stops and shapes.
constexpr std::array small_files = {kConfigName,
                                    kIndexName,
                                    std::string_view("tokenizer.json"),
                                    std::string_view("tokenizer_config.json"),
                                    std::string_view("special_tokens_map.json"),
                                    std::string_view("added_tokens.json"),
                                    std::string_view("chat_template.jinja"),
                                    std::string_view("chat_template.json"),
                                    std::string_view("generation_config.json")};

// Where all ranks find that of a data file, its reader says why.
constexpr std::string_view cannot_be_read = "no file that can be read";

struct FileRead {
  std::string path;
  std::string mark;  // what tells it from others
};

std::string mark_of_model_file(const fs::path& path) {
  return name_exists(path) ? fingerprint_of(path) : "no such file";
}

std::string mark_of_data_file(const fs::path& path) {
  try {
    return fingerprint_of(path);
  } catch (const Error& error) {
    if (error.code() == ExitCode::io_failed) throw;
    return std::string(cannot_be_read);
  }
}

std::vector<FileRead> files_read(const ModelDirectory& model, const DataOptions& data) {
  std::vector<FileRead> files;
  for (const std::string_view name : small_files) {
    const fs::path path = model.path() / name;
    files.push_back({path.string(), mark_of_model_file(path)});
  }
  if (std::error_code ignored; fs::is_regular_file(data.template_name, ignored))
    files.push_back({data.template_name, mark_of_model_file(data.template_name)});
  for (const SafetensorsFile& file : model.weight_files())
    files.push_back({file.path().string(), fingerprint_of(file)});
  for (const fs::path& path : data.files) files.push_back({path.string(), mark_of_data_file(path)});
  if (data.validation.file)
    files.push_back({data.validation.file->string(), mark_of_data_file(*data.validation.file)});
  return files;
}

// One after another, each ended by a character that is in no path.
std::string encode(const std::vector<FileRead>& files) {
  std::string text;
  for (const FileRead& file : files) text += file.path + '\0' + file.mark + '\0';
  return text;
}

std::vector<FileRead> decode(std::string_view text) {
  std::vector<FileRead> files;
  const auto next = [&] {
    const std::size_t end = text.find('\0');
    std::string part(text.substr(0, end));
    text.remove_prefix(end + 1);
    return part;
  };
  while (!text.empty()) {
    std::string path = next(), mark = next();
    files.push_back({std::move(path), std::move(mark)});
  }
  return files;
}

// What each rank read under this path.
std::vector<std::string> marks_of(const std::string& path, const std::vector<std::vector<FileRead>>& ranks) {
  std::vector<std::string> marks;
  for (const std::vector<FileRead>& files : ranks) {
    const auto found = std::ranges::find(files, path, &FileRead::path);
    marks.push_back(found == files.end() ? "not read" : found->mark);
  }
  return marks;
}

bool differ(const std::vector<std::string>& marks) {
  return std::ranges::count(marks, marks.front()) != std::ssize(marks);
}

}  // namespace

void check_same_inputs(Communicator& communicator, const ModelDirectory& model, const DataOptions& data) {
  if (communicator.size() == 1) return;
  const std::string mine = run_agreed(communicator, [&] { return encode(files_read(model, data)); });
  const std::vector<std::string> texts = gather_text(communicator, mine);
  if (std::ranges::count(texts, texts.front()) == std::ssize(texts)) return;
  std::vector<std::vector<FileRead>> ranks;
  for (const std::string& text : texts) ranks.push_back(decode(text));
  for (const std::vector<FileRead>& files : ranks) {
    for (const FileRead& file : files) {
      const std::vector<std::string> marks = marks_of(file.path, ranks);
      if (differ(marks)) fail_disagreement(file.path, marks);
    }
  }
}

}  // namespace autoglm
