#include "trainer/data/dataset_part.h"

#include "base/error.h"
#include "base/json.h"
#include "trainer/data/byte_io.h"

namespace autoglm {
namespace {

constexpr std::uint64_t kProgressEvery = 256;  // samples

// The error's place in the file is the sample's, moved to where in its text the problem was noticed.
[[noreturn]] void fail_json(const std::vector<std::filesystem::path>& files, RawSample sample,
                            const JsonError& error) {
  const bool in_line = sample.place.number == 0;
  const bool cut_off = error.offset() >= sample.text.size();
  sample.place.offset += error.offset() > 0 ? error.offset() - 1 : 0;
  fail_at(files, sample.place,
          fmt::format("{}{}", error.what(),
                      in_line && cut_off
                          ? "; each line must hold one whole JSON object (or the file one JSON array)"
                          : ""));
}

Sample tokenize(const std::vector<std::filesystem::path>& files, const RawSample& raw,
                const SampleTokenizer& tokenizer) {
  try {
    return tokenizer.tokenize(parse_conversation(raw.text));
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

  void add(const Sample& sample, const SamplePlace& place) {
    DataSummary& summary = part_.summary;
    ++summary.samples_per_file[place.file];
    summary.lengths.push_back(static_cast<std::uint32_t>(sample.ids.size()));
    const auto row = static_cast<std::size_t>(options_.sequence_length);
    const bool overlong = sample.ids.size() > row;
    if (overlong && options_.overlong == Overlong::error) {
      fail_at(
          files_, place,
          fmt::format(
              "the sample has {} tokens, and a row has {} (--sequence-length); --overlong truncate or drop "
              "would go on",
              sample.ids.size(), row));
    }
    if (count_supervised(sample.labels) == 0) return summary.dropped_unsupervised.add(place);
    if (overlong && options_.overlong == Overlong::drop) return summary.dropped_overlong.add(place);
    const std::size_t length = overlong ? row : sample.ids.size();
    const std::size_t supervised = count_supervised(std::span(sample.labels).first(length));
    if (supervised == 0) return summary.dropped_cut.add(place);
    if (overlong) {
      summary.truncated.add(place);
      summary.cut_tokens += sample.ids.size() - length;
    }
    ++summary.num_kept;
    summary.tokens += length;
    summary.supervised_tokens += supervised;
    part_.samples.append(sample, length);
  }

  DatasetPart take() { return std::move(part_); }

 private:
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
}

void DataSummary::to_bytes(std::vector<std::byte>& bytes) const {
  write_array(samples_per_file, bytes);
  write_array(lengths, bytes);
  write_array(std::vector<std::uint64_t>{num_kept, tokens, supervised_tokens, cut_tokens}, bytes);
  for (const SampleCount* count : {&truncated, &dropped_overlong, &dropped_cut, &dropped_unsupervised}) {
    write_array(to_numbers(*count), bytes);
  }
}

DataSummary DataSummary::from_bytes(std::span<const std::byte>& bytes) {
  DataSummary summary;
  summary.samples_per_file = read_array<std::uint64_t>(bytes);
  summary.lengths = read_array<std::uint32_t>(bytes);
  const std::vector<std::uint64_t> totals = read_array<std::uint64_t>(bytes);
  AUTOGLM_CHECK(totals.size() == 4);
  summary.num_kept = totals[0];
  summary.tokens = totals[1];
  summary.supervised_tokens = totals[2];
  summary.cut_tokens = totals[3];
  for (SampleCount* count :
       {&summary.truncated, &summary.dropped_overlong, &summary.dropped_cut, &summary.dropped_unsupervised}) {
    *count = to_count(read_array<std::uint64_t>(bytes));
  }
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
