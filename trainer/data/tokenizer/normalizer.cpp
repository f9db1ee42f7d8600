#include "trainer/data/tokenizer/normalizer.h"

#include "base/error.h"
#include "trainer/data/tokenizer/nfc.h"

namespace autoglm {
namespace {

class Prepend final : public Normalizer::Step {
 public:
  explicit Prepend(const Field& field) : prefix_(field.at("prepend").as_string()) {
    field.allow_only({"type", "prepend"});
  }
  void apply(AlignedText& text) const override {
    if (!text.view().empty() && !prefix_.empty()) text.prepend(prefix_);
  }

 private:
  std::string prefix_;
};

class Replace final : public Normalizer::Step {
 public:
  explicit Replace(const Field& field)
      : pattern_(read_pattern(field.at("pattern"))), content_(field.at("content").as_string()) {
    field.allow_only({"type", "pattern", "content"});
  }
  void apply(AlignedText& text) const override {
    if (text.view().empty()) return;
    std::vector<Match> matches;
    pattern_->find(text.view(), matches);
    bool any = false;
    for (const Match& match : matches) {
      any = any || match.matches;
      if (match.span.size() == 0)
        fail(ExitCode::bad_data,
             "a Replace normalizer of tokenizer.json matches an empty piece of the text, which is not "
             "supported");
    }
    if (any) text.replace(matches, content_);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class Nfc final : public Normalizer::Step {
 public:
  explicit Nfc(const Field& field) { field.allow_only({"type"}); }
  void apply(AlignedText& text) const override { nfc::apply(text); }
};

}  // namespace

Normalizer::Normalizer(const std::optional<Field>& field) {
  if (field) add(*field);
}

void Normalizer::add(const Field& field) {
  const std::string type = field.type();
  if (type == "Prepend") {
    steps_.push_back(std::make_unique<Prepend>(field));
  } else if (type == "Replace") {
    steps_.push_back(std::make_unique<Replace>(field));
  } else if (type == "NFC") {
    steps_.push_back(std::make_unique<Nfc>(field));
  } else if (type == "Sequence") {
    field.allow_only({"type", "normalizers"});
    const Field parts = field.at("normalizers");
    for (std::size_t i = 0; i < parts.size(); ++i) add(parts.at(i));
  } else {
    field.refuse_type(type, "NFC, Prepend, Replace and Sequence");
  }
}

void Normalizer::apply(AlignedText& text) const {
  for (const std::unique_ptr<Step>& step : steps_) step->apply(text);
}

std::string Normalizer::apply(std::string_view source) const {
  AlignedText text(source, 0, false);
  apply(text);
  return std::string(text.view());
}

}  // namespace autoglm
