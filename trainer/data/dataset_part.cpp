#include "trainer/data/dataset_part.h"

#include "base/error.h"
#include "base/json.h"
#include "trainer/data/byte_io.h"
#include "trainer/data/json_problem.h"

namespace autoglm {
namespace {

constexpr std::uint64_t kProgressEvery = 256;  // samples

// The error's place in the file is the sample's, moved to where in its text the problem was noticed.
[[noreturn]] void fail_json(const std::vector<std::filesystem::path>& files, RawSample sample,
                            const JsonError& error) {
  const std::string problem = describe_json_problem(sample.text, error, sample.place.number == 0);
  sample.place.offset += error.offset() > 0 ? error.offset() - 1 : 0;
  fail_at(files, sample.place, problem);
}

struct TokenizedSample {
  Sample tokens;
  Conversation::Form form;
  std::vector<UnreadField> unread;
};

TokenizedSample tokenize(const std::vector<std::filesystem::path>& files, const RawSample& raw,
                         const SampleTokenizer& tokenizer) {
  try {
    Conversation conversation = parse_conversation(raw.text);
    return {tokenizer.tokenize(conversation), conversation.form, std::move(conversation.unread)};
  } catch (const JsonError& error) {
    fail_json(files, raw, error);
  } catch (const SampleError& error) {
    fail_at(files, raw.place, error.what());
  }
}

class PartBuilder {
 public:
  PartBuilder(const std::vector<std::filesystem::path>& files, const DataOptions& options, SampleSet empty)
      : files_(files), options_(options), part_{std::move(empty), {}} {
    part_.summary.samples_per_file.resize(files.size());
  }

  void add(const TokenizedSample& tokenized, const SamplePlace& place) {
    const Sample& sample = tokenized.tokens;
    DataSummary& summary = part_.summary;
    for (const UnreadField& field : tokenized.unread) summary.unread.add(field, {1, place});
    ++summary.samples_per_file[place.file];
    summary.lengths.push_back(static_cast<std::uint32_t>(sample.ids.size()));
    const auto row = static_cast<std::size_t>(options_.sequence_length);
    const bool overlong = sample.ids.size() > row;
    if (overlong && options_.overlong == Overlong::error) {
      fail_at(files_, place,
              fmt::format("the sample has {} tokens, and a row has {} (--sequence-length); --overlong split, "
                          "truncate or drop would go on",
                          sample.ids.size(), row));
    }
    if (count_supervised(sample.labels) == 0) return summary.dropped_unsupervised.add(place);
    if (overlong && options_.overlong == Overlong::drop) return summary.dropped_overlong.add(place);
    if (overlong && options_.overlong == Overlong::split && tokenized.form == Conversation::Form::text)
      return add_pieces(sample, place);
    const std::size_t length = overlong ? row : sample.ids.size();
    const std::size_t supervised = count_supervised(std::span(sample.labels).first(length));
    if (supervised == 0) return summary.dropped_cut.add(place);
    if (overlong) {
      summary.truncated.add(place);
      summary.cut_tokens += sample.ids.size() - length;
    }
    if (sample.opens_otherwise) summary.opened_otherwise.add(place);
    if (sample.changes_answer) summary.changed_answers.add(place);
    ++summary.num_kept;
    keep(sample, length, 0);
  }

  DatasetPart take() { return std::move(part_); }

 private:
  void keep(const Sample& sample, std::size_t length, std::size_t begin) {
    part_.summary.tokens += length;
    part_.summary.supervised_tokens += count_supervised(std::span(sample.labels).subspan(begin, length));
    ++part_.summary.num_pieces;
    part_.samples.append(sample, length, begin);
  }

  // Cuts running text into pieces of a row's length, one after another, nothing between them. What is left at the
  // end is a piece too; as a piece's first token brings no loss, one of a single token takes another from the
  // piece before it.
  void add_pieces(const Sample& sample, const SamplePlace& place) {
    const auto row = static_cast<std::size_t>(options_.sequence_length);
    const std::size_t size = sample.ids.size();
    for (std::size_t begin = 0, length = 0; begin < size; begin += length) {
      length = std::min(row, size - begin);
      if (size - begin == row + 1 && row > 2) --length;
      keep(sample, length, begin);
    }
    ++part_.summary.num_kept;
    part_.summary.split.add(place);
  }

  const std::vector<std::filesystem::path>& files_;
  const DataOptions& options_;
  DatasetPart part_;
};

// SampleCount with a fixed layout.
std::vector<std::uint64_t> to_numbers(const SampleCount& count) {
  const SamplePlace place = count.first.value_or(SamplePlace{});
  return {count.count, place.file, place.offset, place.number};
}

SampleCount to_count(const std::vector<std::uint64_t>& numbers) {
  AUTOGLM_CHECK(numbers.size() == 4);
  SampleCount count{numbers[0], std::nullopt};
  if (count.count > 0)
    count.first = SamplePlace{static_cast<std::size_t>(numbers[1]), numbers[2], numbers[3]};
  return count;
}

}  // namespace

void UnreadFields::add(const UnreadField& field, const SampleCount& count) {
  const bool known = counts_.contains(field) || counts_.size() < kMostNames;
  counts_[known ? field : UnreadField{field.place, ""}].add(count);
}

void UnreadFields::add(const UnreadFields& later) {
  for (const auto& [field, count] : later.counts_) add(field, count);
}

void UnreadFields::to_bytes(std::vector<std::byte>& bytes) const {
  write_array(std::vector<std::uint64_t>{counts_.size()}, bytes);
  for (const auto& [field, count] : counts_) {
    write_array(std::vector<FieldPlace>{field.place}, bytes);
    write_array(std::vector<char>(field.name.begin(), field.name.end()), bytes);
    write_array(to_numbers(count), bytes);
  }
}

UnreadFields UnreadFields::from_bytes(std::span<const std::byte>& bytes) {
  UnreadFields fields;
  for (std::uint64_t left = read_array<std::uint64_t>(bytes).at(0); left > 0; --left) {
    const FieldPlace place = read_array<FieldPlace>(bytes).at(0);
    const std::vector<char> name = read_array<char>(bytes);
    fields.counts_[{place, {name.begin(), name.end()}}] = to_count(read_array<std::uint64_t>(bytes));
  }
  return fields;
}

void DataSummary::add(const DataSummary& later) {
  samples_per_file.resize(std::max(samples_per_file.size(), later.samples_per_file.size()));
  for (std::size_t i = 0; i < later.samples_per_file.size(); ++i)
    samples_per_file[i] += later.samples_per_file[i];
  lengths.insert(lengths.end(), later.lengths.begin(), later.lengths.end());
  num_kept += later.num_kept;
  tokens += later.tokens;
  supervised_tokens += later.supervised_tokens;
  truncated.add(later.truncated);
  cut_tokens += later.cut_tokens;
  dropped_overlong.add(later.dropped_overlong);
  dropped_cut.add(later.dropped_cut);
  dropped_unsupervised.add(later.dropped_unsupervised);
  split.add(later.split);
  num_pieces += later.num_pieces;
  opened_otherwise.add(later.opened_otherwise);
  changed_answers.add(later.changed_answers);
  unread.add(later.unread);
}

void DataSummary::to_bytes(std::vector<std::byte>& bytes) const {
  write_array(samples_per_file, bytes);
  write_array(lengths, bytes);
  write_array(std::vector<std::uint64_t>{num_kept, tokens, supervised_tokens, cut_tokens, num_pieces}, bytes);
  for (const SampleCount* count : {&truncated, &dropped_overlong, &dropped_cut, &dropped_unsupervised, &split,
                                   &opened_otherwise, &changed_answers}) {
    write_array(to_numbers(*count), bytes);
  }
  unread.to_bytes(bytes);
}

DataSummary DataSummary::from_bytes(std::span<const std::byte>& bytes) {
  DataSummary summary;
  summary.samples_per_file = read_array<std::uint64_t>(bytes);
  summary.lengths = read_array<std::uint32_t>(bytes);
  const std::vector<std::uint64_t> totals = read_array<std::uint64_t>(bytes);
  AUTOGLM_CHECK(totals.size() == 5);
  summary.num_kept = totals[0];
  summary.tokens = totals[1];
  summary.supervised_tokens = totals[2];
  summary.cut_tokens = totals[3];
  summary.num_pieces = totals[4];
  for (SampleCount* count :
       {&summary.truncated, &summary.dropped_overlong, &summary.dropped_cut, &summary.dropped_unsupervised,
        &summary.split, &summary.opened_otherwise, &summary.changed_answers}) {
    *count = to_count(read_array<std::uint64_t>(bytes));
  }
  summary.unread = UnreadFields::from_bytes(bytes);
  return summary;
}

DatasetPart read_part(const std::vector<std::filesystem::path>& files, const DataOptions& options,
                      const SampleTokenizer& tokenizer, SampleSet empty, int part, int num_parts,
                      const PartProgress& progress, const std::function<bool()>& cancelled) {
  SampleReader reader(files, part, num_parts);
  PartBuilder builder(files, options, std::move(empty));
  RawSample raw;
  for (std::uint64_t count = 1; reader.next(raw); ++count) {
    builder.add(tokenize(files, raw, tokenizer), raw.place);
    if (count % kProgressEvery != 0) continue;
    if (cancelled()) break;
    progress(reader.bytes_done(), reader.bytes_total());
  }
  progress(reader.bytes_total(), reader.bytes_total());
  return builder.take();
}

}  // namespace autoglm
