// The data of one job: what `--data` and `--validation` name, as samples in memory, packed row by row on
// demand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "trainer/data/chat_template.h"
#include "trainer/data/data_options.h"
#include "trainer/data/dataset_part.h"
#include "trainer/data/packing.h"
#include "trainer/data/sample.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

class Communicator;

// How the data is loaded. Each rank reads its share of the bytes, with `num_threads` threads.
struct LoadContext {
  Communicator* communicator = nullptr;  // one rank without it
  int num_threads = 1;
  // Bytes done and bytes in all, of this rank's part. May be empty. Called from loading threads, one at a
  // time.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress = {};
};

// The samples are immutable after load; the same on every rank.
class Dataset {
 public:
  // Samples to train on and samples to validate with, which index into samples(). All pieces of a sample are on the
  // same side; only where there is no more than one sample, its last pieces are held out.
  const SampleSet& samples() const { return samples_; }
  const std::vector<std::uint32_t>& training() const { return training_; }
  const std::vector<std::uint32_t>& validation() const { return validation_; }

  // What was read from --data, and from the file of --validation (all zero without one).
  const DataSummary& summary() const { return summary_; }
  const DataSummary& validation_summary() const { return validation_summary_; }

  const DataOptions& options() const { return options_; }
  const std::string& template_name() const { return template_name_; }
  // Fills rows up: the tokenizer's pad token, else 0.
  std::int32_t pad_id() const { return pad_id_; }
  // Any will do: padding is masked.
  void set_pad_id(std::int32_t id) { pad_id_ = id; }

  // The rows of an epoch (from 0): the same on every rank and for every number of ranks.
  RowPlan training_rows(std::uint64_t epoch) const;
  // The rows that every validation goes through, in file order.
  RowPlan validation_rows() const;

  // Labels of a row that bring a loss.
  std::int64_t supervised_tokens(std::span<const std::uint32_t> row) const;
  // As write_row() of packing.h; an empty row is all padding.
  std::vector<std::int32_t> write_row(std::span<const std::uint32_t> row, const RowBuffers& buffers) const;

 private:
  friend Dataset load_dataset(const DataOptions&, const Tokenizer&, const ChatTemplate&, const LoadContext&);

  SampleSet samples_;
  std::vector<std::uint32_t> training_;
  std::vector<std::uint32_t> validation_;
  DataSummary summary_;
  DataSummary validation_summary_;
  DataOptions options_;
  std::string template_name_;
  std::int32_t pad_id_ = 0;
};

// Loads the data sets on all ranks together and gives every rank the whole. A failure on any rank is thrown
// on all as AgreedError, with the code and the sentence of the first failing one in rank order: no rank is
// left waiting. Throws Error: bad_data (a bad sample with its file and line; a file without samples; nothing
// to supervise), missing_input, io_failed, usage, and unavailable when ranks see files of different sizes.
Dataset load_dataset(const DataOptions& options, const Tokenizer& tokenizer,
                     const ChatTemplate& chat_template, const LoadContext& context = {});

}  // namespace autoglm
