#include "launcher/job/exported_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/json.h"
#include "checkpoint/json_text.h"
#include "trainer/data/template_export.h"
#include "trainer/data/template_recognition.h"

namespace autoglm {
namespace {

using nlohmann::ordered_json;

constexpr const char* kTemplateFile = "chat_template.jinja";
constexpr const char* kTokenizerFile = "tokenizer_config.json";
constexpr const char* kTokensFile = "special_tokens_map.json";
constexpr const char* kGenerationFile = "generation_config.json";

nlohmann::json object_of(const SideFiles& files, std::string_view name) {
  const std::optional<std::string> text = files.text(name);
  return text ? parse_json(*text, std::string(name)) : nlohmann::json::object();
}

// Sets a key of a JSON object's text and keeps every other byte.
std::string with_value(std::string text, std::string_view key, const std::string& value) {
  if (const auto range = locate_json_value(text, {key}))
    return text.replace(range->begin, range->end - range->begin, value);
  const std::size_t open = text.find('{') + 1;
  const std::size_t next = text.find_first_not_of(" \t\r\n", open);
  const bool is_empty = text[next] == '}';
  const std::string space = text.substr(open, next - open);
  return text.insert(open,
                     fmt::format("{}\"{}\": {}{}", is_empty ? "" : space, key, value, is_empty ? "" : ","));
}

// The text that the model's own files give, as read_chat_template does.
std::optional<std::string> own_template(const SideFiles& files) {
  if (auto text = files.text(kTemplateFile)) return text;
  const nlohmann::json object = object_of(files, kTokenizerFile);
  const auto field = object.find("chat_template");
  if (field == object.end()) return std::nullopt;
  if (field->is_string()) return field->get<std::string>();
  if (!field->is_array()) return std::nullopt;
  for (const auto& entry : *field) {
    if (entry.is_object() && entry.value("name", nlohmann::json()) == "default" &&
        entry.contains("template") && entry["template"].is_string())
      return entry["template"].get<std::string>();
  }
  return std::nullopt;
}

std::vector<std::int64_t> ids_in(const nlohmann::json& object) {
  std::vector<std::int64_t> ids;
  const auto field = object.find("eos_token_id");
  if (field == object.end()) return ids;
  for (const nlohmann::json& id : field->is_array() ? *field : nlohmann::json::array({*field}))
    if (id.is_number_integer()) ids.push_back(id.get<std::int64_t>());
  return ids;
}

std::string eos_value(std::span<const std::int32_t> ids) {
  return ids.size() == 1 ? std::to_string(ids.front()) : fmt::format("[{}]", fmt::join(ids, ", "));
}

// Ids at which generation is to stop, the template's end first.
std::vector<std::int32_t> stops_of(const ChatTemplate& chosen, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids = chosen.stop_ids(tokenizer);
  const std::int32_t end_id =
      chosen.end_token() ? tokenizer.token_to_id(*chosen.end_token()).value_or(-1) : -1;
  const auto place = std::find(ids.begin(), ids.end(), end_id);
  if (place != ids.end()) std::rotate(ids.begin(), place, place + 1);
  return ids;
}

// Into generation_config.json, which is made where there is none: of the settings that config.json holds instead
// only the ids of tokens are in use. config.json follows where it names the token too.
void set_stop_ids(SideFiles& files, std::span<const std::int32_t> ids, FileChanges& changes) {
  const std::string value = eos_value(ids);
  const nlohmann::json config = object_of(files, kConfigName);
  changes.push_back(fmt::format("{}: generation stops at {}", kGenerationFile, value));
  if (config.contains("eos_token_id"))
    files.set(std::string(kConfigName), with_value(*files.text(kConfigName), "eos_token_id", value));
  std::string text = files.text(kGenerationFile).value_or("");
  if (text.empty()) {
    ordered_json made = ordered_json::object();
    for (const char* key : {"bos_token_id", "pad_token_id"}) {
      if (config.contains(key) && !config[key].is_null()) made[key] = config[key];
    }
    made["eos_token_id"] = nullptr;
    text = made.dump(2) + "\n";
  }
  files.set(kGenerationFile, with_value(std::move(text), "eos_token_id", value));
}

void set_end_token(SideFiles& files, const std::string& token, FileChanges& changes) {
  const std::string value = ordered_json(token).dump();
  bool changed = false;
  for (const char* name : {kTokenizerFile, kTokensFile}) {
    const nlohmann::json object = object_of(files, name);
    const auto field = object.find("eos_token");
    const bool named = field != object.end() && !field->is_null();
    if (!named && name == kTokensFile) continue;  // the other file says it
    if (named && (field->is_object() ? field->value("content", nlohmann::json()) : *field) == token) continue;
    files.set(name, with_value(files.text(name).value_or("{}\n"), "eos_token", value));
    changed = true;
  }
  if (changed) changes.push_back(fmt::format("{}: the end of sequence is {}", kTokenizerFile, token));
}

}  // namespace

FileChanges export_template(SideFiles& files, const ChatTemplate& chosen, const Tokenizer& tokenizer) {
  FileChanges changes;
  const std::optional<std::string> own = own_template(files);
  const bool is_own = own && renders_as(*own, *chosen.spec(), chosen.special_tokens());
  if (!is_own) {
    const std::string text = to_jinja(*chosen.spec());
    files.set(kTemplateFile, text);
    changes.push_back(fmt::format("{}: the template {}, with which the model was trained{}", kTemplateFile,
                                  chosen.name(), own ? ", in place of its own" : ""));
    if (object_of(files, kTokenizerFile).contains("chat_template"))
      files.set(kTokenizerFile,
                with_value(*files.text(kTokenizerFile), "chat_template", ordered_json(text).dump()));
    // Further templates of the model are of its old format.
    files.remove("chat_template.json");
    files.remove("additional_chat_templates/");
  }
  const std::vector<std::int32_t> stops = stops_of(chosen, tokenizer);
  const std::vector<std::int64_t> now =
      ids_in(object_of(files, files.text(kGenerationFile) ? kGenerationFile : kConfigName));
  const bool stops_there = std::all_of(stops.begin(), stops.end(), [&](std::int32_t id) {
    return std::find(now.begin(), now.end(), id) != now.end();
  });
  if (!stops.empty() && !stops_there) set_stop_ids(files, stops, changes);
  // A token that opens the next turn ends an answer, but no text.
  if (chosen.end_token() && !chosen.uses_end_of_turn()) set_end_token(files, *chosen.end_token(), changes);
  return changes;
}

FileChanges export_stop_tokens(SideFiles& files, const ChatTemplate& chosen, const Tokenizer& tokenizer) {
  FileChanges changes;
  const bool has_settings = files.text(kGenerationFile).has_value();
  const std::vector<std::int64_t> now =
      ids_in(object_of(files, has_settings ? kGenerationFile : kConfigName));
  const std::int32_t end = chosen.end_token() ? tokenizer.token_to_id(*chosen.end_token()).value_or(-1) : -1;
  if (!chosen.exists() || end < 0 || now.empty() || std::find(now.begin(), now.end(), end) != now.end())
    return changes;
  set_stop_ids(files, stops_of(chosen, tokenizer), changes);
  return changes;
}

void export_untied_head(SideFiles& files, FileChanges& changes) {
  files.set(std::string(kConfigName),
            with_value(files.text(kConfigName).value_or("{}\n"), "tie_word_embeddings", "false"));
  changes.push_back(fmt::format("{}: the head is a matrix of its own", kConfigName));
}

}  // namespace autoglm
