#include "trainer/data/jinja/builtins.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <system_error>

#include "trainer/data/jinja/to_json.h"
#include "trainer/data/jinja/unicode_space.h"

namespace autoglm::jinja {
namespace {

// The index-th positional argument or the one of that name; undefined when it is not given.
Value argument(const Arguments& arguments, std::size_t index, std::string_view name = "") {
  std::size_t position = 0;
  for (const auto& [given, value] : arguments) {
    if (given.empty() ? position++ == index : given == name) return value;
  }
  return Value();
}

// str.strip(characters); of white space when none are given.
std::string strip(const std::string& text, const Value& characters, bool left, bool right) {
  std::string_view rest = text;
  if (characters.is_undefined() || characters.is_none()) {
    if (left) rest = strip_space_left(rest);
    if (right) rest = strip_space_right(rest);
    return std::string(rest);
  }
  const std::string& set = characters.as_string();
  if (std::any_of(set.begin(), set.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    throw TemplateError("strip with characters outside ASCII is not supported");
  }
  while (left && !rest.empty() && set.find(rest.front()) != std::string::npos) rest.remove_prefix(1);
  while (right && !rest.empty() && set.find(rest.back()) != std::string::npos) rest.remove_suffix(1);
  return std::string(rest);
}

std::string change_case(std::string text, int (*change)(int)) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0xEE) {  // private characters, which have no case
      i += 2;
    } else if (byte >= 0x80) {
      throw TemplateError("changing case outside ASCII is not supported");
    } else {
      text[i] = static_cast<char>(change(text[i]));
    }
  }
  return text;
}

std::string capitalize(const std::string& text) {
  std::string changed = change_case(text, std::tolower);
  if (!changed.empty()) changed[0] = static_cast<char>(std::toupper(changed[0]));
  return changed;
}

// str.title(): the first letter of every run of letters is a capital.
std::string title(const std::string& text) {
  std::string changed = change_case(text, std::tolower);
  bool inside = false;
  for (char& c : changed) {
    if (!inside) c = static_cast<char>(std::toupper(c));
    inside = std::isalpha(c) != 0;
  }
  return changed;
}

// str.split() at white space.
Value split_words(std::string_view text) {
  std::vector<Value> words;
  for (text = strip_space(text); !text.empty(); text = strip_space_left(text)) {
    std::size_t end = 0;
    while (end < text.size() && strip_space_left(text.substr(end)).size() == text.size() - end) ++end;
    words.emplace_back(std::string(text.substr(0, end)));
    text.remove_prefix(end);
  }
  return Value::make_list(std::move(words));
}

// str.rsplit(separator, limit).
Value split_from_right(const std::string& text, const Value& separator, const Value& limit) {
  const std::string& mark = separator.as_string();
  if (mark.empty()) throw TemplateError("a string is split at nothing");
  std::int64_t cuts = limit.is_undefined() ? -1 : limit.as_integer();
  std::vector<Value> parts;
  std::string_view rest = text;
  for (std::size_t at = rest.rfind(mark); at != std::string_view::npos && cuts != 0;
       at = rest.rfind(mark), --cuts) {
    parts.emplace_back(std::string(rest.substr(at + mark.size())));
    rest = rest.substr(0, at);
  }
  parts.emplace_back(std::string(rest));
  std::reverse(parts.begin(), parts.end());
  return Value::make_list(std::move(parts));
}

Value split(const std::string& text, const Value& separator, const Value& limit) {
  if (separator.is_undefined() && limit.is_undefined()) return split_words(text);
  const std::string& mark = separator.as_string();
  if (mark.empty()) throw TemplateError("a string is split at nothing");
  std::int64_t cuts = limit.is_undefined() ? -1 : limit.as_integer();
  std::vector<Value> parts;
  std::size_t begin = 0;
  for (std::size_t end = text.find(mark); end != std::string::npos && cuts != 0;
       end = text.find(mark, begin), --cuts) {
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + mark.size();
  }
  parts.emplace_back(text.substr(begin));
  return Value::make_list(std::move(parts));
}

std::string replace(const std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) throw TemplateError("nothing is replaced");
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, begin)) {
    result += text.substr(begin, at - begin) + to;
    begin = at + from.size();
  }
  return result + text.substr(begin);
}

std::string join(const Value& list, const Value& separator) {
  std::string text;
  for (std::size_t i = 0; i < list.items().size(); ++i) {
    if (i > 0) text += separator.to_text();
    text += list.items()[i].to_text();
  }
  return text;
}

Value pairs_of(const Value& dict) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict.entries()) pairs.push_back(Value::make_list({Value(key), value}));
  return Value::make_list(std::move(pairs));
}

Value string_method(const std::string& text, const std::string& name, const Arguments& arguments) {
  const Value first = argument(arguments, 0);
  if (name == "strip") return Value(strip(text, first, true, true));
  if (name == "lstrip") return Value(strip(text, first, true, false));
  if (name == "rstrip") return Value(strip(text, first, false, true));
  if (name == "rsplit") return split_from_right(text, first, argument(arguments, 1, "maxsplit"));
  if (name == "title") return Value(title(text));
  if (name == "removeprefix")
    return Value(text.starts_with(first.as_string()) ? text.substr(first.as_string().size()) : text);
  if (name == "removesuffix") {
    const std::size_t size = first.as_string().size();
    return Value(text.ends_with(first.as_string()) ? text.substr(0, text.size() - size) : text);
  }
  if (name == "find") {
    const std::size_t at = text.find(first.as_string());
    return Value(at == std::string::npos ? std::int64_t{-1}
                                         : static_cast<std::int64_t>(Value(text.substr(0, at)).length()));
  }
  if (name == "split") return split(text, first, argument(arguments, 1, "maxsplit"));
  if (name == "startswith") return Value(text.rfind(first.as_string(), 0) == 0);
  if (name == "endswith") {
    const std::string& end = first.as_string();
    return Value(text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0);
  }
  if (name == "upper") return Value(change_case(text, std::toupper));
  if (name == "lower") return Value(change_case(text, std::tolower));
  if (name == "capitalize") return Value(capitalize(text));
  if (name == "replace") return Value(replace(text, first.as_string(), argument(arguments, 1).as_string()));
  if (name == "join") return Value(join(first, Value(text)));
  throw TemplateError(fmt::format("the method '{}' of strings is not supported", name));
}

Value dict_method(const Value& dict, const std::string& name, const Arguments& arguments) {
  if (name == "items") return pairs_of(dict);
  if (name == "get") {
    const Value* found = dict.find(argument(arguments, 0).as_string());
    if (found != nullptr) return *found;
    return arguments.size() > 1 ? argument(arguments, 1) : Value::none();
  }
  std::vector<Value> values;
  for (const auto& [key, value] : dict.entries()) values.push_back(name == "keys" ? Value(key) : value);
  return Value::make_list(std::move(values));
}

// What `value.name` and `value[name]` give in filters; names may be chained with dots.
Value attribute_of(Value value, std::string_view names) {
  while (true) {
    const std::size_t dot = names.find('.');
    const Value* found = value.is_dict() ? value.find(names.substr(0, dot)) : nullptr;
    value = found != nullptr ? *found : Value();
    if (dot == std::string_view::npos) return value;
    names.remove_prefix(dot + 1);
  }
}

Arguments from(const Arguments& arguments, std::size_t first) {
  return {arguments.begin() + static_cast<std::ptrdiff_t>(std::min(first, arguments.size())),
          arguments.end()};
}

// |map(attribute='role'), |map('trim').
Value map(const Value& list, const Arguments& arguments) {
  const Value attribute = argument(arguments, arguments.size(), "attribute");
  const Value preset = argument(arguments, arguments.size(), "default");
  std::vector<Value> mapped;
  for (const Value& item : list.items()) {
    if (attribute.is_undefined()) {
      mapped.push_back(apply_filter(argument(arguments, 0).as_string(), item, from(arguments, 1)));
    } else {
      const Value found = attribute_of(item, attribute.as_string());
      mapped.push_back(found.is_undefined() ? preset : found);
    }
  }
  return Value::make_list(std::move(mapped));
}

// |select, |reject, and of an attribute |selectattr, |rejectattr: the items that pass a test (or are true).
Value select(const Value& list, const Arguments& arguments, bool of_attribute, bool passing) {
  const std::size_t test = of_attribute ? 1 : 0;
  std::vector<Value> chosen;
  for (const Value& item : list.items()) {
    const Value subject = of_attribute ? attribute_of(item, argument(arguments, 0).as_string()) : item;
    const bool passes = arguments.size() <= test ? subject.truth()
                                                 : apply_test(argument(arguments, test).as_string(), subject,
                                                              from(arguments, test + 1));
    if (passes == passing) chosen.push_back(item);
  }
  return Value::make_list(std::move(chosen));
}

Value reverse(const Value& value) {
  if (!value.is_list()) throw TemplateError("only a list is reversed");
  return Value::make_list({value.items().rbegin(), value.items().rend()});
}

Value to_integer(const Value& value) {
  if (value.is_integer() || value.is_bool()) return Value(value.as_integer());
  if (value.is_number()) return Value(static_cast<std::int64_t>(value.as_number()));
  const std::string_view text = strip_space(value.as_string());
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return Value(error == std::errc() && end == text.data() + text.size() ? number : std::int64_t{0});
}

Value range(const Arguments& arguments) {
  const std::int64_t first = argument(arguments, 0).as_integer();
  const bool from_zero = arguments.size() < 2;
  const std::int64_t begin = from_zero ? 0 : first;
  const std::int64_t end = from_zero ? first : argument(arguments, 1).as_integer();
  const std::int64_t step = arguments.size() > 2 ? argument(arguments, 2).as_integer() : 1;
  if (step == 0) throw TemplateError("range needs a step");
  std::vector<Value> numbers;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    if (numbers.size() == 100000) throw TemplateError("a range is too long");
    numbers.emplace_back(i);
  }
  return Value::make_list(std::move(numbers));
}

Value make_namespace(const Arguments& arguments) {
  Value space = Value::make_dict();
  for (const auto& [name, value] : arguments) space.set(name, value);
  return space;
}

}  // namespace

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  const Value first = argument(arguments, 0);
  if (name == "trim") return Value(strip(value.to_text(), first, true, true));
  if (name == "length" || name == "count") return Value(static_cast<std::int64_t>(value.length()));
  if (name == "string" || name == "safe") return Value(value.to_text());
  if (name == "upper") return Value(change_case(value.to_text(), std::toupper));
  if (name == "lower") return Value(change_case(value.to_text(), std::tolower));
  if (name == "capitalize") return Value(capitalize(value.to_text()));
  if (name == "replace")
    return Value(replace(value.to_text(), first.as_string(), argument(arguments, 1).as_string()));
  if (name == "join") return Value(join(value, first));
  if (name == "items") return value.is_undefined() ? Value::make_list({}) : pairs_of(value);
  if (name == "list") return Value::make_list(value.items());
  if (name == "map") return map(value, arguments);
  if (name == "select" || name == "reject") return select(value, arguments, false, name == "select");
  if (name == "selectattr" || name == "rejectattr")
    return select(value, arguments, true, name == "selectattr");
  if (name == "reverse") return reverse(value);
  if (name == "int") return to_integer(value);
  if (name == "title") return Value(title(value.to_text()));
  if (name == "tojson") return Value(to_json(value, argument(arguments, arguments.size(), "indent")));
  if (name == "first" || name == "last") {
    if (value.items().empty()) return Value();
    return name == "first" ? value.items().front() : value.items().back();
  }
  if (name == "default" || name == "d") {
    const bool missing =
        value.is_undefined() || (argument(arguments, 1, "boolean").truth() && !value.truth());
    return missing ? first : value;
  }
  throw TemplateError(fmt::format("the filter '{}' is not supported", name));
}

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments) {
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.is_string();
  if (name == "mapping") return value.is_dict();
  if (name == "iterable" || name == "sequence") {
    return value.is_string() || value.is_list() || value.is_dict() ||
           (name == "iterable" && value.is_undefined());
  }
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is_integer();
  if (name == "boolean") return value.is_bool();
  if (name == "true") return value.is_bool() && value.truth();
  if (name == "false") return value.is_bool() && !value.truth();
  if (name == "odd") return value.as_integer() % 2 != 0;
  if (name == "even") return value.as_integer() % 2 == 0;
  const Value first = argument(arguments, 0);
  if (name == "equalto" || name == "eq") return value.equals(first);
  if (name == "ne") return !value.equals(first);
  if (name == "in") return first.contains(value);
  if (name == "gt" || name == "greaterthan") return first.less(value);
  if (name == "lt" || name == "lessthan") return value.less(first);
  if (name == "ge") return !value.less(first);
  if (name == "le") return !first.less(value);
  if (name == "divisibleby" && first.as_integer() != 0) return value.as_integer() % first.as_integer() == 0;
  if (name == "callable") return value.is_function();
  throw TemplateError(fmt::format("the test '{}' is not supported", name));
}

Value bind_method(const Value& value, const std::string& name) {
  if (value.is_string()) {
    return Value(Function([text = value.as_string(), name](const Arguments& arguments) {
      return string_method(text, name, arguments);
    }));
  }
  if (value.is_dict() && (name == "items" || name == "get" || name == "keys" || name == "values")) {
    return Value(
        Function([value, name](const Arguments& arguments) { return dict_method(value, name, arguments); }));
  }
  return Value();
}

Value global_functions() {
  Value functions = Value::make_dict();
  functions.set("range", Value(Function(range)));
  functions.set("namespace", Value(Function(make_namespace)));
  functions.set("raise_exception", Value(Function([](const Arguments& arguments) -> Value {
                  throw TemplateRefusal(argument(arguments, 0).to_text());
                })));
  return functions;
}

}  // namespace autoglm::jinja
