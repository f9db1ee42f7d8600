#include "trainer/data/tokenizer/named_tokens.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"

namespace autoglm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kSpecialMap = "special_tokens_map.json";
constexpr std::uint64_t kMostIds = 999'999'999;

json object_in(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return json::object();
  json value = read_json_file(path);
  return value.is_object() ? value : json::object();
}

// A token is written as its content or as an object that has it; anything else is somebody else's to refuse.
std::string content_in(const json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (!token.is_object()) return {};
  const auto content = token.find("content");
  return content != token.end() && content->is_string() ? content->get<std::string>() : std::string();
}

bool flag(const json& token, const char* name, bool otherwise) {
  const auto field = token.is_object() ? token.find(name) : token.end();
  return token.is_object() && field != token.end() && field->is_boolean() ? field->get<bool>() : otherwise;
}

json added_token(const json& token, std::int64_t id, bool special) {
  return {{"id", static_cast<std::uint64_t>(id)},
          {"content", content_in(token)},
          {"single_word", flag(token, "single_word", false)},
          {"lstrip", flag(token, "lstrip", false)},
          {"rstrip", flag(token, "rstrip", false)},
          {"normalized", flag(token, "normalized", !special)},
          {"special", special}};
}

// transformers adds a token anew where the decoder gives it other flags than tokenizer.json does.
void take_flags(const json& token, json& added) {
  for (json& known : added) {
    if (!known.is_object() || content_in(known) != content_in(token)) continue;
    for (const char* name : {"single_word", "lstrip", "rstrip", "normalized"}) {
      if (token.is_object() && token.contains(name) && token.at(name).is_boolean())
        known[name] = token.at(name);
    }
  }
}

using DeclaredTokens = std::map<std::int64_t, json>;  // by their ids

DeclaredTokens tokens_of_decoder(const json& decoder) {
  DeclaredTokens tokens;
  for (const auto& [key, token] : decoder.items()) {
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos ||
        content_in(token).empty()) {
      fail(ExitCode::bad_data, "{}: the entry \"{}\" of \"added_tokens_decoder\" is no id with a token",
           kConfig, key);
    }
    tokens.emplace(std::stoll(key), token);
  }
  return tokens;
}

// {"<token>": id}, as older versions of transformers wrote it; newer ones read it where they find no decoder.
DeclaredTokens tokens_of_old_file(const fs::path& path, const std::vector<std::string>& special) {
  DeclaredTokens tokens;
  const json tokens_and_ids = object_in(path);
  for (const auto& [content, id] : tokens_and_ids.items()) {
    if (content.empty() || !id.is_number_unsigned() || id.get<std::uint64_t>() > kMostIds)
      fail(ExitCode::bad_data, "{}: the entry \"{}\" is no token with an id", path.string(), content);
    const bool is_special = std::find(special.begin(), special.end(), content) != special.end();
    tokens.emplace(id.get<std::int64_t>(), json{{"content", content}, {"special", is_special}});
  }
  return tokens;
}

std::vector<json> named_tokens(const json& config) {
  std::vector<json> tokens;
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (config.contains(key)) tokens.push_back(config[key]);
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!config.contains(key) || !config[key].is_structured()) continue;
    for (const json& token : config[key]) tokens.push_back(token);
  }
  std::erase_if(tokens, [](const json& token) { return content_in(token).empty(); });
  return tokens;
}

std::vector<std::string> contents_of(const std::vector<json>& tokens) {
  std::vector<std::string> contents;
  for (const json& token : tokens) contents.push_back(content_in(token));
  return contents;
}

DeclaredTokens declared_tokens(const fs::path& model_directory, const json& config) {
  const auto decoder = config.find("added_tokens_decoder");
  if (decoder != config.end() && decoder->is_object()) return tokens_of_decoder(*decoder);
  std::vector<std::string> special = contents_of(named_tokens(config));
  const std::vector<std::string> others = contents_of(named_tokens(object_in(model_directory / kSpecialMap)));
  special.insert(special.end(), others.begin(), others.end());
  return tokens_of_old_file(model_directory / "added_tokens.json", special);
}

// The ids of a tokenizer.json: those of its vocabulary, and the next one that is free.
class Ids {
 public:
  explicit Ids(const TokenizerFile& file) : next_(static_cast<std::int64_t>(file.vocabulary.size())) {
    for (const auto& token : file.vocabulary) vocabulary_.emplace(file.text(token.text), token.id);
  }

  bool in_vocabulary(const std::string& content) const { return vocabulary_.contains(content); }
  // The id of an added token, as the `tokenizers` package gives it.
  std::int64_t give(const std::string& content) {
    const auto found = vocabulary_.find(content);
    return found == vocabulary_.end() ? next_++ : found->second;
  }
  std::int64_t would_give(const std::string& content) const {
    const auto found = vocabulary_.find(content);
    return found == vocabulary_.end() ? next_ : found->second;
  }

 private:
  std::unordered_map<std::string_view, std::int64_t> vocabulary_;
  std::int64_t next_;
};

}  // namespace

std::vector<std::string> named_special_tokens(const fs::path& model_directory) {
  std::vector<std::string> names;
  const auto add = [&](const json& token) {
    std::string content = content_in(token);
    if (std::find(names.begin(), names.end(), content) == names.end()) names.push_back(std::move(content));
  };
  const json config = object_in(model_directory / kConfig);
  for (const json& token : named_tokens(config)) add(token);
  for (const auto& [id, token] : declared_tokens(model_directory, config)) add(token);
  for (const json& token : named_tokens(object_in(model_directory / kSpecialMap))) add(token);
  return names;
}

void add_named_tokens(const fs::path& model_directory, TokenizerFile& file) {
  if (!file.root.is_object()) return;
  json& added = file.root["added_tokens"];
  if (added.is_null()) added = json::array();
  if (!added.is_array()) return;
  const json config = object_in(model_directory / kConfig);
  const auto is_added = [&](const std::string& content) {
    return std::any_of(added.begin(), added.end(),
                       [&](const json& one) { return content_in(one) == content; });
  };
  Ids ids(file);
  for (const json& token : added) ids.give(content_in(token));
  for (const auto& [id, token] : declared_tokens(model_directory, config)) {
    const std::string content = content_in(token);
    if (is_added(content)) {
      if (config.contains("added_tokens_decoder")) take_flags(token, added);
      continue;
    }
    const bool special = flag(token, "special", false);
    if (ids.would_give(content) != id) {
      if (!special) continue;
      fail(ExitCode::bad_data,
           "{}: \"added_tokens_decoder\" gives {} the id {}, but tokenizer.json lacks the token and would "
           "give it {}; save the tokenizer anew with transformers, or fetch both files again",
           (model_directory / kConfig).string(), content, id, ids.would_give(content));
    }
    added.push_back(added_token(token, ids.give(content), special));
  }
  for (const json& source : {config, object_in(model_directory / kSpecialMap)}) {
    for (const json& token : named_tokens(source)) {
      const std::string content = content_in(token);
      if (ids.in_vocabulary(content) && !is_added(content))
        added.push_back(added_token(token, ids.give(content), true));
    }
  }
}

}  // namespace autoglm
