// A data set of a model whose tokens are bytes.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "sharding/agree.h"
#include "tests/sharding/thread_ring.h"
#include "tests/trainer/data/test_model.h"
#include "trainer/data/dataset.h"

namespace autoglm {

class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() {
    write_byte_model(folder_, all_special_tokens(), "<|endoftext|>");
    tokenizer_.emplace(Tokenizer::load(folder_.path()));
    template_.emplace(ChatTemplate::select("glm4", folder_.path(), *tokenizer_));
    options_.sequence_length = 32;
  }

  static std::string chat(const std::string& user, const std::string& assistant) {
    return R"({"messages": [{"role": "user", "content": ")" + user +
           R"("}, {"role": "assistant", "content": ")" + assistant + "\"}]}\n";
  }

  Dataset load(const LoadContext& context = {}) const {
    return load_dataset(options_, *tokenizer_, *template_, context);
  }

  // Loads on ranks that are threads. What each rank threw, or the text of its dataset.
  std::vector<std::string> load_on_ranks(int world_size, int num_threads = 1) const {
    std::vector<std::string> results(static_cast<std::size_t>(world_size));
    autoglm::testing::run_ranks(world_size, {}, [&](Communicator& communicator) {
      std::string& result = results[static_cast<std::size_t>(communicator.rank())];
      try {
        result = text_of(load({&communicator, num_threads}));
      } catch (const AgreedError& error) {
        result = fmt::format("agreed {}: {}", static_cast<int>(error.code()), error.what());
      }
    });
    return results;
  }

  // Everything that a dataset says, as text.
  static std::string text_of(const Dataset& dataset) {
    std::string text;
    for (std::size_t i = 0; i < dataset.samples().size(); ++i) {
      for (const std::int32_t id : dataset.samples().ids(i)) text += std::to_string(id) + " ";
      for (const std::int32_t label : dataset.samples().labels(i)) text += std::to_string(label) + " ";
      text += "\n";
    }
    for (const std::uint32_t sample : dataset.training()) text += std::to_string(sample) + " ";
    for (const std::uint32_t sample : dataset.validation()) text += fmt::format("v{} ", sample);
    const DataSummary& summary = dataset.summary();
    for (const std::uint32_t length : summary.lengths) text += std::to_string(length) + " ";
    text +=
        fmt::format("{} {} {} {} {} {} {} {}", summary.num_kept, summary.tokens, summary.supervised_tokens,
                    summary.cut_tokens, summary.truncated.count, summary.dropped_cut.count,
                    summary.dropped_unsupervised.count, summary.dropped_overlong.count);
    if (summary.truncated.first) text += describe(dataset.options().files, *summary.truncated.first);
    return text;
  }

  std::string problem() const {
    try {
      load();
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return "nothing wrong";
  }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  DataOptions options_;
};

}  // namespace autoglm
