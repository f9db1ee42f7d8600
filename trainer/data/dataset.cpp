#include "trainer/data/dataset.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "trainer/data/dataset_exchange.h"
#include "trainer/data/sample_order.h"

namespace autoglm {
namespace {

std::vector<std::uint32_t> numbers(std::size_t begin, std::size_t end) {
  std::vector<std::uint32_t> list(end - begin);
  std::iota(list.begin(), list.end(), static_cast<std::uint32_t>(begin));
  return list;
}

// What is held out of all samples: some of them with all their pieces, as pieces of one text give each other away.
// Of a single one its last pieces are.
std::vector<std::uint32_t> hold_out(const SampleSet& samples, double fraction, std::uint64_t seed) {
  const std::size_t num_whole = samples.num_whole(samples.size());
  if (num_whole == 1) {
    const std::size_t count = choose_validation(samples.size(), fraction, seed).size();
    return numbers(samples.size() - count, samples.size());
  }
  const std::vector<std::uint32_t> chosen = choose_validation(num_whole, fraction, seed);
  std::vector<std::uint32_t> held_out;
  std::size_t whole = 0;
  auto next = chosen.begin();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (i > 0 && !samples.continues(i)) ++whole;
    while (next != chosen.end() && *next < whole) ++next;
    if (next != chosen.end() && *next == whole) held_out.push_back(static_cast<std::uint32_t>(i));
  }
  return held_out;
}

}  // namespace

RowPlan Dataset::training_rows(std::uint64_t epoch) const {
  const RowPlan rows = pack_rows(samples_, shuffle(training_, options_.seed, epoch), options_.sequence_length,
                                 options_.packing);
  // Packing opens rows with long samples first; no step should see only such rows.
  return rows.in_order(shuffle(numbers(0, rows.num_rows()), options_.seed, epoch, RandomPurpose::row_order));
}

RowPlan Dataset::validation_rows() const {
  return pack_rows(samples_, validation_, options_.sequence_length, options_.packing);
}

std::int64_t Dataset::supervised_tokens(std::span<const std::uint32_t> row) const {
  std::int64_t count = 0;
  for (const std::uint32_t sample : row) count += static_cast<std::int64_t>(samples_.supervised(sample));
  return count;
}

std::vector<std::int32_t> Dataset::write_row(std::span<const std::uint32_t> row,
                                             const RowBuffers& buffers) const {
  return autoglm::write_row(samples_, row, pad_id_, buffers);
}

Dataset load_dataset(const DataOptions& options, const Tokenizer& tokenizer,
                     const ChatTemplate& chat_template, const LoadContext& context) {
  check(options);
  Dataset dataset;
  dataset.options_ = options;
  dataset.template_name_ = chat_template.name();
  if (const auto& pad = chat_template.special_tokens().pad)
    dataset.pad_id_ = tokenizer.token_to_id(*pad).value_or(0);

  const SampleTokenizer sample_tokenizer(tokenizer, chat_template, options.loss_on);
  const SampleSet empty(chat_template.eos_id(tokenizer));
  DatasetPart loaded = load_files(options.files, options, sample_tokenizer, empty, context);
  const std::size_t num_samples = loaded.samples.size();
  AUTOGLM_CHECK(num_samples <= UINT32_MAX, "{} samples", num_samples);
  dataset.samples_ = std::move(loaded.samples);
  dataset.summary_ = std::move(loaded.summary);

  if (options.validation.file) {
    const std::vector<std::filesystem::path> files{*options.validation.file};
    DatasetPart held_out = load_files(files, options, sample_tokenizer, empty, context);
    dataset.samples_.append(held_out.samples);
    dataset.validation_summary_ = std::move(held_out.summary);
    dataset.training_ = numbers(0, num_samples);
    dataset.validation_ = numbers(num_samples, dataset.samples_.size());
    return dataset;
  }
  dataset.validation_ = hold_out(dataset.samples_, options.validation.fraction, options.seed);
  const std::vector<std::uint32_t> all = numbers(0, num_samples);
  std::set_difference(all.begin(), all.end(), dataset.validation_.begin(), dataset.validation_.end(),
                      std::back_inserter(dataset.training_));
  return dataset;
}

}  // namespace autoglm
