#include "trainer/data/jinja/value.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

namespace autoglm::jinja {
namespace {

constexpr std::size_t kMaxText = std::size_t{4} << 20;
constexpr std::size_t kMaxItems = std::size_t{1} << 20;

// Characters, not bytes, as in Python.
std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

Value::Value(std::string value) : data_(std::move(value)) {
  if (as_string().size() > kMaxText) throw TemplateError("a text is too long");
}

Value Value::none() {
  Value value;
  value.data_ = None{};
  return value;
}

Value Value::make_list(std::vector<Value> items) {
  if (items.size() > kMaxItems) throw TemplateError("a list is too long");
  Value value;
  value.data_ = std::make_shared<List>(List{std::move(items)});
  return value;
}

Value Value::make_dict() {
  Value value;
  value.data_ = std::make_shared<Dict>();
  return value;
}

const std::string& Value::as_string() const {
  if (const auto* text = std::get_if<std::string>(&data_)) return *text;
  throw TemplateError("a string is needed");
}

std::int64_t Value::as_integer() const {
  if (const auto* number = std::get_if<std::int64_t>(&data_)) return *number;
  if (const auto* flag = std::get_if<bool>(&data_)) return *flag ? 1 : 0;
  throw TemplateError("an integer is needed");
}

double Value::as_number() const {
  if (const auto* number = std::get_if<double>(&data_)) return *number;
  return static_cast<double>(as_integer());
}

std::vector<Value>& Value::items() const {
  if (const auto* list = std::get_if<std::shared_ptr<List>>(&data_)) return (*list)->items;
  throw TemplateError("a list is needed");
}

const Function& Value::as_function() const {
  if (const auto* function = std::get_if<Function>(&data_)) return *function;
  throw TemplateError("a value that cannot be called is called");
}

const std::vector<std::pair<std::string, Value>>& Value::entries() const {
  if (const auto* dict = std::get_if<std::shared_ptr<Dict>>(&data_)) return (*dict)->entries;
  throw TemplateError("a dictionary is needed");
}

const Value* Value::find(std::string_view key) const {
  for (const auto& entry : entries()) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

void Value::set(const std::string& key, Value value) {
  entries();
  auto& entries = std::get<std::shared_ptr<Dict>>(data_)->entries;
  for (auto& entry : entries) {
    if (entry.first == key) {
      entry.second = std::move(value);
      return;
    }
  }
  entries.emplace_back(key, std::move(value));
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return as_number() != 0;
  if (is_function()) return true;
  return length() != 0;
}

std::string Value::to_text() const {
  if (is_undefined()) return "";
  if (is_none()) return "None";
  if (is_bool()) return as_integer() != 0 ? "True" : "False";
  if (is_integer()) return std::to_string(as_integer());
  if (is_string()) return as_string();
  throw TemplateError(
      "a number with a fraction, a list or a dictionary is written out, which is not supported");
}

std::size_t Value::length() const {
  if (is_undefined()) return 0;
  if (is_string()) return count_characters(as_string());
  if (is_list()) return items().size();
  return entries().size();
}

bool Value::equals(const Value& other) const {
  if (is_number() && other.is_number()) return as_number() == other.as_number();
  if (data_.index() != other.data_.index()) return false;
  if (is_string()) return as_string() == other.as_string();
  if (is_list()) {
    return std::equal(items().begin(), items().end(), other.items().begin(), other.items().end(),
                      [](const Value& a, const Value& b) { return a.equals(b); });
  }
  if (is_dict()) {
    return length() == other.length() &&
           std::all_of(entries().begin(), entries().end(), [&](const auto& entry) {
             const Value* found = other.find(entry.first);
             return found != nullptr && entry.second.equals(*found);
           });
  }
  return !is_function();
}

bool Value::less(const Value& other) const {
  if (is_number() && other.is_number()) return as_number() < other.as_number();
  if (is_string() && other.is_string()) return as_string() < other.as_string();
  throw TemplateError("values without an order are compared");
}

const void* Value::shared() const {
  if (is_list()) return std::get<std::shared_ptr<List>>(data_).get();
  return is_dict() ? std::get<std::shared_ptr<Dict>>(data_).get() : nullptr;
}

bool Value::holds(const Value& other) const {
  std::set<const void*> seen;
  std::vector<const Value*> open = {this};
  while (!open.empty()) {
    const Value& one = *open.back();
    open.pop_back();
    if (one.shared() == nullptr || !seen.insert(one.shared()).second) continue;
    if (one.shared() == other.shared()) return true;
    if (one.is_list())
      for (const Value& item : one.items()) open.push_back(&item);
    else
      for (const auto& entry : one.entries()) open.push_back(&entry.second);
  }
  return false;
}

bool Value::contains(const Value& item) const {
  if (is_undefined()) return false;
  if (is_string()) return as_string().find(item.as_string()) != std::string::npos;
  if (is_dict()) return item.is_string() && find(item.as_string()) != nullptr;
  return std::any_of(items().begin(), items().end(), [&](const Value& one) { return one.equals(item); });
}

}  // namespace autoglm::jinja
