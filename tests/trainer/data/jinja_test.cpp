#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trainer/data/jinja/evaluator.h"

namespace autoglm::jinja {
namespace {

std::string result_of(const std::string& text) {
  try {
    return evaluate(parse(text), Value::make_dict());
  } catch (const TemplateError& error) {
    return std::string("error: ") + error.what();
  }
}

TEST(Jinja, NamespacesHoldWhatTheyAreGiven) {
  EXPECT_EQ(result_of("{% set a = namespace(n=1) %}{% set b = namespace(a=a) %}{% set a.n = [a.n, 2] %}"
                      "{% set b.c = a %}{% set b.c = b.a %}{{ b.c.n | length }}"),
            "2");
}

TEST(Jinja, NothingHoldsItself) {
  // It would never be freed, and what walks it never come to an end.
  for (const char* const text : {"{% set a = namespace() %}{% set a.x = a %}{{ a | tojson }}",
                                 "{% set a = namespace() %}{% set a.x = [1, {'b': a}] %}",
                                 "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}"})
    EXPECT_EQ(result_of(text), "error: a namespace would hold itself") << text;
}

TEST(Jinja, NestingHasAnEnd) {
  EXPECT_EQ(
      result_of(
          "{% set a = namespace(x=[]) %}{% for i in range(4000) %}{% set a.x = [a.x] %}{% endfor %}done"),
      "done");
  EXPECT_EQ(
      result_of("{% set a = namespace(x=[]) %}{% for i in range(99999) %}{% set a.x = [a.x] %}{% endfor %}"),
      "error: the template sets too many lists and dictionaries");
}

}  // namespace
}  // namespace autoglm::jinja
