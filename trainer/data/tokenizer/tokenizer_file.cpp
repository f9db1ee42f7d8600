#include "trainer/data/tokenizer/tokenizer_file.h"

#include <fmt/format.h>

#include <system_error>

#include "base/error.h"
#include "base/regular_file.h"
#include "trainer/data/tokenizer/json_field.h"

namespace autoglm {
namespace {

using nlohmann::json;

// Builds the tree, and the flat vocabulary and merges, from the parser's events.
class Reader final : public nlohmann::json_sax<json> {
 public:
  explicit Reader(TokenizerFile& file) : file_(file) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_float(double value, const std::string&) override { return scalar(value); }
  bool number_integer(std::int64_t value) override { return scalar(value); }
  bool string(std::string& value) override {
    if (mode_ != Mode::merges) return scalar(std::move(value));
    if (in_pair_)
      pair_.push_back(store(value));
    else
      legacy_merge(value);
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (mode_ != Mode::vocabulary) return scalar(value);
    if (value > kMaxTokenId) refuse(fmt::format("has id {}, above the limit of {}", value, kMaxTokenId));
    file_.vocabulary.push_back({store(key_), static_cast<std::int32_t>(value)});
    return true;
  }
  bool binary(json::binary_t&) override { refuse("holds binary data"); }

  bool start_object(std::size_t) override {
    if (mode_ != Mode::general) refuse("is an object where a plain value belongs");
    if (at_model_field("vocab")) {
      take_once(file_.has_vocabulary);
      mode_ = Mode::vocabulary;
      return true;
    }
    open(json::object());
    return true;
  }
  bool key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override {
    if (mode_ == Mode::vocabulary)
      mode_ = Mode::general;
    else
      close();
    return true;
  }

  bool start_array(std::size_t) override {
    if (mode_ == Mode::merges && !in_pair_) {
      in_pair_ = true;
      pair_.clear();
      return true;
    }
    if (mode_ != Mode::general) refuse("is a list where a plain value belongs");
    if (at_model_field("merges")) {
      take_once(file_.has_merges);
      mode_ = Mode::merges;
      return true;
    }
    open(json::array());
    return true;
  }
  bool end_array() override {
    if (in_pair_) {
      in_pair_ = false;
      if (pair_.size() != 2) refuse(fmt::format("holds {} strings instead of two", pair_.size()));
      add_merge(Form::pair, pair_[0], pair_[1]);
    } else if (mode_ == Mode::merges) {
      mode_ = Mode::general;
    } else {
      close();
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    fail(ExitCode::bad_data, "{} is not valid JSON at byte {} ({}); fetch the file again", file_.name,
         position, std::string_view(error.what()).substr(0, 200));
  }

 private:
  enum class Mode { general, vocabulary, merges };
  enum class Form { unknown, pair, legacy };
  struct Level {
    json* value;
    std::string key;  // under which it stands in its parent
  };

  [[noreturn]] void refuse(const std::string& problem) const {
    fail(ExitCode::bad_data, "{}: field '{}' {}; fetch the file again", file_.name, path(), problem);
  }

  std::string path() const {
    std::string out;
    const auto join = [&](const std::string& part) {
      if (!out.empty() && part.front() != '[') out += '.';
      out += part;
    };
    for (std::size_t i = 1; i < levels_.size(); ++i) join(levels_[i].key);
    if (mode_ == Mode::vocabulary)
      join("vocab[" + quote(key_) + "]");
    else if (mode_ == Mode::merges)
      join(fmt::format("merges[{}]", file_.merges.size()));
    else
      join(place_in_parent());
    return out;
  }

  // The key, or the index in brackets, of the value that comes next. Never empty.
  std::string place_in_parent() const {
    if (!levels_.empty() && levels_.back().value->is_array())
      return fmt::format("[{}]", levels_.back().value->size());
    return key_.empty() ? "\"\"" : key_;
  }

  bool at_model_field(std::string_view name) const {
    return levels_.size() == 2 && levels_[1].key == "model" && levels_[1].value->is_object() && key_ == name;
  }
  void take_once(bool& taken) {
    if (taken) refuse("is given twice");
    taken = true;
  }

  TokenizerFile::Slice store(std::string_view text) {
    const auto offset =
        static_cast<std::uint32_t>(file_.pool.size());  // the size of the file bounds the pool
    file_.pool.append(text);
    return {offset, static_cast<std::uint32_t>(text.size())};
  }

  bool scalar(json value) {
    if (mode_ == Mode::vocabulary) refuse("is not an id");
    if (mode_ == Mode::merges) refuse("is neither \"left right\" nor [\"left\", \"right\"]");
    insert(std::move(value));
    return true;
  }

  json* insert(json value) {
    if (++values_ > kMaxJsonValues) refuse("is one of too many values for a tokenizer.json");
    if (levels_.empty()) {
      file_.root = std::move(value);
      return &file_.root;
    }
    json& parent = *levels_.back().value;
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    const auto [place, is_new] = parent.emplace(key_, std::move(value));
    if (!is_new) refuse("is given twice");
    return &*place;
  }

  void open(json value) {
    if (levels_.size() >= static_cast<std::size_t>(kMaxJsonDepth)) refuse("is nested too deeply");
    std::string name = place_in_parent();
    json* place = insert(std::move(value));
    levels_.push_back({place, std::move(name)});
  }
  void close() { levels_.pop_back(); }

  void legacy_merge(std::string_view line) {
    if (line.substr(0, 8) == "#version") return;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
      refuse("is not two tokens with one space between them");
    const TokenizerFile::Slice left = store(line.substr(0, space));
    add_merge(Form::legacy, left, store(line.substr(space + 1)));
  }

  void add_merge(Form form, TokenizerFile::Slice left, TokenizerFile::Slice right) {
    if (left.length == 0 || right.length == 0) refuse("has an empty token");
    if (form_ != Form::unknown && form_ != form) refuse("has another form than the merges before it");
    form_ = form;
    file_.merges.push_back({left, right});
  }

  TokenizerFile& file_;
  std::vector<Level> levels_;
  std::string key_;
  Mode mode_ = Mode::general;
  Form form_ = Form::unknown;
  bool in_pair_ = false;
  std::vector<TokenizerFile::Slice> pair_;
  std::size_t values_ = 0;
};

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view text, std::string name) {
  TokenizerFile file;
  file.name = std::move(name);
  if (text.size() > kMaxTokenizerFileBytes)
    fail(ExitCode::bad_data, "{} has {} bytes, more than any tokenizer needs ({}); fetch the file again",
         file.name, text.size(), kMaxTokenizerFileBytes);
  Reader reader(file);
  json::sax_parse(text.begin(), text.end(), &reader);
  return file;
}

namespace {

[[noreturn]] void fail_no_tokenizer(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.parent_path();
  std::error_code ignored;
  const bool has_parts = std::filesystem::exists(folder / "vocab.json", ignored) &&
                         std::filesystem::exists(folder / "merges.txt", ignored);
  fail(ExitCode::missing_input,
       "{} cannot be read{}; save one with: python -c \"from transformers import AutoTokenizer as T; "
       "T.from_pretrained('{}').save_pretrained('{}')\"",
       path.string(), has_parts ? ", and vocab.json and merges.txt beside it are not read" : "",
       folder.string(), folder.string());
}

}  // namespace

TokenizerFile read_tokenizer_file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) fail_no_tokenizer(path);
  return parse_tokenizer_file(read_text_file(path, kMaxTokenizerFileBytes), path.string());
}

}  // namespace autoglm
