// What one worker makes of its part of the data files.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/data_options.h"
#include "trainer/data/dataset_reader.h"
#include "trainer/data/sample.h"

namespace autoglm {

// How often something happened to samples, and where first.
struct SampleCount {
  std::uint64_t count = 0;
  std::optional<SamplePlace> first;

  void add(const SamplePlace& place) {
    if (count++ == 0) first = place;
  }
  void add(const SampleCount& later) {
    if (!first) first = later.first;
    count += later.count;
  }
};

// Fields that nobody reads, each with the number of samples that have it. Of a file that makes up a name for every
// sample, the first `kMostNames` names are kept and the others counted together, without a name.
class UnreadFields {
 public:
  static constexpr std::size_t kMostNames = 1000;

  void add(const UnreadField& field, const SampleCount& count);
  void add(const UnreadFields& later);
  const std::map<UnreadField, SampleCount>& counts() const { return counts_; }
  void to_bytes(std::vector<std::byte>& bytes) const;
  static UnreadFields from_bytes(std::span<const std::byte>& bytes);

 private:
  std::map<UnreadField, SampleCount> counts_;
};

// What was read, and what became of it. Every sample read is kept or dropped.
struct DataSummary {
  std::vector<std::uint64_t> samples_per_file;  // read
  std::vector<std::uint32_t> lengths;           // in tokens, of every sample read, before truncation
  std::uint64_t num_kept = 0;
  std::uint64_t tokens = 0;             // of the samples kept, after truncation
  std::uint64_t supervised_tokens = 0;  // of these
  SampleCount truncated;                // kept, but cut to the row's length
  std::uint64_t cut_tokens = 0;         // by truncation
  SampleCount dropped_overlong;         // --overlong drop
  SampleCount dropped_cut;              // nothing to supervise was left after truncation
  SampleCount dropped_unsupervised;     // nothing to supervise in the first place
  SampleCount split;                    // kept, but cut into several pieces of a row's length
  std::uint64_t num_pieces = 0;         // of the samples kept: one each, or what they were cut into
  SampleCount opened_otherwise;         // kept; an answer begins otherwise than the template's prompt ends
  SampleCount changed_answers;          // kept, but the template left out or rewrote a part of an answer
  UnreadFields unread;

  std::uint64_t num_read() const { return lengths.size(); }
  // Whether all is trained but the first token of each piece, as running text is.
  bool is_wholly_trained() const { return tokens == supervised_tokens + num_pieces; }
  void add(const DataSummary& later);
  void to_bytes(std::vector<std::byte>& bytes) const;
  static DataSummary from_bytes(std::span<const std::byte>& bytes);
};

struct DatasetPart {
  SampleSet samples;
  DataSummary summary;
};

// Called with bytes of this part done and its total; from the thread that reads.
using PartProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

// Reads, renders, tokenizes and cuts part `part` of `num_parts` of the files. Stops early, with what it has,
// when `cancelled` says so. Throws Error(bad_data) with file and line for a bad sample, and what SampleReader
// throws.
DatasetPart read_part(const std::vector<std::filesystem::path>& files, const DataOptions& options,
                      const SampleTokenizer& tokenizer, SampleSet empty, int part, int num_parts,
                      const PartProgress& progress, const std::function<bool()>& cancelled);

}  // namespace autoglm
