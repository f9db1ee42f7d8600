#include "trainer/data/special_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/regular_file.h"
#include "trainer/data/tokenizer/named_tokens.h"

namespace autoglm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::optional<std::string> read_file(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  return read_text_file(path, kLargestJsonFile);
}

// The object in the file; an empty one when the file is absent.
json read_object(const fs::path& path) {
  const std::optional<std::string> text = read_file(path);
  if (!text) return json::object();
  try {
    json value = parse_json(*text);
    if (!value.is_object()) fail(ExitCode::bad_data, "{} must hold a JSON object", path.string());
    return value;
  } catch (const JsonError& error) {
    fail(ExitCode::bad_data, "{}: {} (byte {})", path.string(), error.what(), error.offset());
  }
}

// A token is written as its content or as an object that has it.
void read_token(const json& object, const char* key, const fs::path& path,
                std::optional<std::string>& token) {
  const auto field = object.find(key);
  if (token || field == object.end() || field->is_null()) return;
  if (field->is_string()) {
    token = field->get<std::string>();
  } else if (field->is_object() && field->contains("content") && field->at("content").is_string()) {
    token = field->at("content").get<std::string>();
  } else {
    fail(ExitCode::bad_data, "{}: \"{}\" is neither a string nor an object with \"content\"", path.string(),
         key);
  }
  if (token->empty()) token.reset();
}

void add_stop_id(std::int64_t id, const Tokenizer& tokenizer, std::vector<std::int32_t>& ids) {
  if (id < 0 || id >= tokenizer.vocabulary_size()) return;
  const auto value = static_cast<std::int32_t>(id);
  if (std::find(ids.begin(), ids.end(), value) == ids.end()) ids.push_back(value);
}

void read_stop_ids(const json& config, const Tokenizer& tokenizer, std::vector<std::int32_t>& ids) {
  const auto field = config.find("eos_token_id");
  if (field == config.end()) return;
  if (field->is_number_integer()) add_stop_id(field->get<std::int64_t>(), tokenizer, ids);
  if (!field->is_array()) return;
  for (const json& id : *field) {
    if (id.is_number_integer()) add_stop_id(id.get<std::int64_t>(), tokenizer, ids);
  }
}

}  // namespace

SpecialTokens read_special_tokens(const fs::path& model_directory, const Tokenizer& tokenizer) {
  SpecialTokens tokens;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path path = model_directory / name;
    const json object = read_object(path);
    read_token(object, "bos_token", path, tokens.bos);
    read_token(object, "eos_token", path, tokens.eos);
    read_token(object, "pad_token", path, tokens.pad);
  }
  for (const char* key : {"unk_token", "sep_token", "cls_token", "mask_token"}) {
    std::optional<std::string> token;
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
      const json object = read_object(model_directory / name);
      const bool is_named = object.contains(key) && (object[key].is_string() || object[key].is_object());
      if (is_named) read_token(object, key, model_directory / name, token);
    }
    if (token) tokens.others.emplace_back(key, *token);
  }
  for (const std::string& name : named_special_tokens(model_directory)) {
    if (!tokenizer.token_to_id(name)) tokens.missing.push_back(name);
  }
  if (tokens.eos) {
    if (const auto id = tokenizer.token_to_id(*tokens.eos)) add_stop_id(*id, tokenizer, tokens.stop_ids);
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    read_stop_ids(read_object(model_directory / name), tokenizer, tokens.stop_ids);
  }
  return tokens;
}

std::optional<std::string> read_chat_template(const fs::path& model_directory) {
  if (auto text = read_file(model_directory / "chat_template.jinja")) return text;
  const fs::path path = model_directory / "tokenizer_config.json";
  const json object = read_object(path);
  const auto field = object.find("chat_template");
  if (field == object.end() || field->is_null()) return std::nullopt;
  if (field->is_string()) return field->get<std::string>();
  if (field->is_array()) {
    for (const json& entry : *field) {
      if (entry.is_object() && entry.value("name", json()) == "default" && entry.contains("template") &&
          entry["template"].is_string()) {
        return entry["template"].get<std::string>();
      }
    }
  }
  fail(ExitCode::bad_data,
       "{}: \"chat_template\" is neither a string nor a list with an entry named \"default\"", path.string());
}

}  // namespace autoglm
