// Values of the template language, with Python's meaning where templates rely on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace autoglm::jinja {

// The template is not valid, uses what is not supported, or stops itself with raise_exception.
class TemplateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The template stops itself with raise_exception; what it says is the text.
class TemplateRefusal : public TemplateError {
 public:
  using TemplateError::TemplateError;
};

class Value;
using Arguments = std::vector<std::pair<std::string, Value>>;  // name (empty for positional) and value
using Function = std::function<Value(const Arguments&)>;

// Lists, dictionaries and namespaces are shared, not copied.
class Value {
 public:
  struct Undefined {};
  struct None {};
  struct List;
  struct Dict;

  Value() = default;
  explicit Value(bool value) : data_(value) {}
  explicit Value(std::int64_t value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  // Text and lists are bounded, so that no template can fill the memory: TemplateError above 4 MiB or 2^20
  // items.
  explicit Value(std::string value);
  explicit Value(Function function) : data_(std::move(function)) {}
  static Value none();
  static Value make_list(std::vector<Value> items);
  static Value make_dict();

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_number() const { return is_integer() || is_bool() || std::holds_alternative<double>(data_); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<List>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(data_); }
  bool is_function() const { return std::holds_alternative<Function>(data_); }

  // Each throws TemplateError when the value is of another kind.
  const std::string& as_string() const;
  std::int64_t as_integer() const;  // also of a bool
  double as_number() const;
  std::vector<Value>& items() const;  // of a list
  const Function& as_function() const;

  // Entries of a dictionary, in the order in which they were set.
  const std::vector<std::pair<std::string, Value>>& entries() const;
  const Value* find(std::string_view key) const;  // nullptr when absent
  void set(const std::string& key, Value value);

  bool truth() const;
  std::string to_text() const;  // str(value); empty for undefined
  std::size_t length() const;
  // Python's == and <. less() throws TemplateError for kinds that have no order.
  bool equals(const Value& other) const;
  bool less(const Value& other) const;
  // Whether `other`, a list or dictionary, is this very one or lies anywhere within it.
  bool holds(const Value& other) const;
  // `item in *this`.
  bool contains(const Value& item) const;

 private:
  const void* shared() const;  // the list or dictionary; null for other kinds

  std::variant<Undefined, None, bool, std::int64_t, double, std::string, std::shared_ptr<List>,
               std::shared_ptr<Dict>, Function>
      data_;
};

struct Value::List {
  std::vector<Value> items;
};

struct Value::Dict {
  std::vector<std::pair<std::string, Value>> entries;
};

}  // namespace autoglm::jinja
