#include "launcher/report/data_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/math.h"

namespace autoglm {
namespace {

constexpr std::size_t kMostBars = 16;

// 12,345
std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  return digits;
}

// Text without characters that would act on a terminal.
std::string make_visible(const std::string& text) {
  std::string visible;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) {
      visible += fmt::format("\\x{:02x}", byte);
    } else {
      visible += c;
    }
  }
  return visible;
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "0 %"
                    : fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void add_count(std::string& text, const char* what, const SampleCount& count,
               const std::vector<std::filesystem::path>& files) {
  if (count.count == 0) return;
  text += fmt::format("{}{} {}; the first is {}\n", std::string(13, ' '), grouped(count.count), what,
                      describe(files, *count.first));
}

constexpr std::size_t kMostFields = 40;

// The fields of samples that nobody reads, with where each stands first.
void add_unread(std::string& text, const UnreadFields& unread,
                const std::vector<std::filesystem::path>& files) {
  std::size_t shown = 0;
  for (const auto& [field, count] : unread.counts()) {
    if (++shown > kMostFields) break;
    const std::string name =
        field.name.empty() ? "further fields" : fmt::format("a field \"{}\"", make_visible(field.name));
    const std::string place =
        field.place == FieldPlace::sample ? "" : fmt::format(" in a {}", to_string(field.place));
    add_count(text, fmt::format("with {}{} that nothing reads", name, place).c_str(), count, files);
  }
  if (shown > kMostFields)
    text += fmt::format("{}and {} more such fields\n", std::string(13, ' '),
                        grouped(unread.counts().size() - kMostFields));
}

// What was read from one set of files.
std::string format_reading(const DataSummary& summary, const std::vector<std::filesystem::path>& files,
                           const DataOptions& options) {
  std::string text;
  for (std::size_t i = 0; i < files.size(); ++i) {
    text += fmt::format("  {:<10} {}: {} samples\n", i == 0 ? "files" : "", files[i].string(),
                        grouped(summary.samples_per_file[i]));
  }
  text += fmt::format("  {:<10} {} read, {} kept\n", "samples", grouped(summary.num_read()),
                      grouped(summary.num_kept));
  add_count(text, "dropped: they hold nothing to supervise", summary.dropped_unsupervised, files);
  add_count(text, "dropped: nothing to supervise is left after truncation", summary.dropped_cut, files);
  add_count(text, "dropped: longer than a row (--overlong drop)", summary.dropped_overlong, files);
  add_count(text, fmt::format("cut to {} tokens (--overlong truncate)", options.sequence_length).c_str(),
            summary.truncated, files);
  const std::uint64_t pieces = summary.num_pieces - (summary.num_kept - summary.split.count);
  add_count(text,
            fmt::format("cut into {} pieces of up to {} tokens (--overlong split)", grouped(pieces),
                        options.sequence_length)
                .c_str(),
            summary.split, files);
  add_count(text, "with an answer that does not begin as the template prompts for one",
            summary.opened_otherwise, files);
  add_count(text, "with an answer of which the template leaves out or rewrites a part",
            summary.changed_answers, files);
  add_unread(text, summary.unread, files);
  text += fmt::format("  {:<10} {}, of which {} are supervised ({})", "tokens", grouped(summary.tokens),
                      grouped(summary.supervised_tokens), percent(summary.supervised_tokens, summary.tokens));
  if (summary.cut_tokens > 0) text += fmt::format("; {} were cut off", grouped(summary.cut_tokens));
  return text + "\n";
}

std::uint64_t count_tokens(const Dataset& dataset, std::span<const std::uint32_t> samples) {
  return std::accumulate(
      samples.begin(), samples.end(), std::uint64_t{0},
      [&](std::uint64_t sum, std::uint32_t sample) { return sum + dataset.samples().length(sample); });
}

// Of how many samples these, in ascending order, are the whole or pieces.
std::uint64_t count_whole(const SampleSet& set, std::span<const std::uint32_t> samples) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < samples.size(); ++i)
    count += i == 0 || !set.continues(samples[i]) || samples[i - 1] + 1 != samples[i];
  return count;
}

std::string format_rows(const char* name, const Dataset& dataset, const RowPlan& rows,
                        std::span<const std::uint32_t> samples) {
  const auto places = rows.num_rows() * static_cast<std::uint64_t>(dataset.options().sequence_length);
  const SampleSet& set = dataset.samples();
  const bool has_pieces = std::any_of(samples.begin(), samples.end(), [&](std::uint32_t sample) {
    return set.continues(sample) || (sample + 1 < set.size() && set.continues(sample + 1));
  });
  const std::string pieces = has_pieces ? fmt::format("{} pieces of ", grouped(samples.size())) : "";
  return fmt::format("  {:<10} {}{} samples in {} rows of {} tokens, {} filled\n", name, pieces,
                     grouped(count_whole(set, samples)), grouped(rows.num_rows()),
                     dataset.options().sequence_length, percent(count_tokens(dataset, samples), places));
}

// A round bar width such that nearly all lengths fit into kMostBars bars.
std::uint32_t choose_width(std::vector<std::uint32_t> lengths) {
  const auto place = lengths.begin() + static_cast<std::ptrdiff_t>((lengths.size() * 99 + 99) / 100 - 1);
  std::nth_element(lengths.begin(), place, lengths.end());
  std::uint32_t width = 1;
  for (std::uint32_t unit = 1; *place / width >= kMostBars; unit *= 10) {
    for (const std::uint32_t factor : {1U, 2U, 5U, 10U}) {
      width = unit * factor;
      if (*place / width < kMostBars) break;
    }
  }
  return width;
}

std::string mark_trained(const std::string& text, bool color) {
  if (!color) return fmt::format("⟦{}⟧", text);
  std::string marked = "\x1b[32m";
  for (const char c : text) {
    if (c == '\n') marked += "↵";
    marked += c;
  }
  return marked + "\x1b[0m";
}

// Decodes piece by piece. A decoder may treat the beginning of a text specially, so each piece is what its
// tokens add to the text before them.
class PieceDecoder {
 public:
  PieceDecoder(const Tokenizer& tokenizer, std::span<const std::int32_t> ids)
      : tokenizer_(tokenizer), ids_(ids) {}

  std::string next(std::size_t end) {
    std::string whole = tokenizer_.decode(ids_.first(end), false);
    std::string piece = whole.rfind(before_, 0) == 0
                            ? whole.substr(before_.size())
                            : tokenizer_.decode(ids_.subspan(begin_, end - begin_), false);
    before_ = std::move(whole);
    begin_ = end;
    return piece;
  }

 private:
  const Tokenizer& tokenizer_;
  std::span<const std::int32_t> ids_;
  std::string before_;
  std::size_t begin_ = 0;
};

template <typename Values>
void append_numbers(std::string& text, const Values& values) {
  text += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += ',';
    fmt::format_to(std::back_inserter(text), "{}", values[i]);
  }
  text += ']';
}

}  // namespace

std::string format_data_summary(const Dataset& dataset) {
  const DataOptions& options = dataset.options();
  std::string text = fmt::format("Data for training, template {}, loss on {}\n", dataset.template_name(),
                                 options.loss_on == LossOn::all ? "all tokens" : "assistant turns");
  text += format_reading(dataset.summary(), options.files, options);
  text += format_rows("training", dataset, dataset.training_rows(0), dataset.training());
  if (dataset.validation().empty()) return text;
  if (options.validation.file) {
    text += "Data for validation\n" +
            format_reading(dataset.validation_summary(), {*options.validation.file}, options);
  }
  return text + format_rows("validation", dataset, dataset.validation_rows(), dataset.validation());
}

std::string format_length_histogram(std::span<const std::uint32_t> lengths, std::int64_t row_length,
                                    int columns) {
  if (lengths.empty()) return "";
  const std::uint32_t width = choose_width({lengths.begin(), lengths.end()});
  std::vector<std::uint64_t> bars(kMostBars + 1);  // the last one holds all that is longer
  for (const std::uint32_t length : lengths) ++bars[std::min<std::size_t>(length / width, kMostBars)];
  const std::uint64_t highest = *std::max_element(bars.begin(), bars.end());
  while (bars.size() > 1 && bars.back() == 0) bars.pop_back();
  const std::uint64_t most_columns = static_cast<std::uint64_t>(std::clamp(columns, 40, 120)) - 34;
  std::string text = "Lengths in tokens, before truncation\n";
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const std::uint64_t first = i * width;
    const bool open = i == kMostBars;
    const std::string range = open ? fmt::format("{}-", grouped(first))
                                   : fmt::format("{}-{}", grouped(first), grouped(first + width - 1));
    const bool cut = static_cast<std::int64_t>(first) > row_length;
    std::string bar;
    const std::uint64_t size = divide_up(bars[i] * most_columns, highest);
    for (std::uint64_t j = 0; j < size; ++j) bar += cut ? "░" : "█";
    text += fmt::format("  {:>15} {:>9} {}\n", range, grouped(bars[i]), bar);
  }
  const auto longest = *std::max_element(lengths.begin(), lengths.end());
  text += fmt::format("  the longest has {}", grouped(longest));
  return text + (longest > row_length ? fmt::format("; ░ is longer than a row\n") : "\n");
}

std::string format_sample(const Dataset& dataset, std::size_t index, const Tokenizer& tokenizer, bool color) {
  const std::span<const std::int32_t> ids = dataset.samples().ids(index);
  const std::vector<std::int32_t> labels = dataset.samples().labels(index);
  std::string text = fmt::format("Sample {}: {} tokens, {} supervised{}\n", index + 1, ids.size(),
                                 dataset.samples().supervised(index),
                                 dataset.samples().continues(index) ? "; goes on from the one before" : "");
  PieceDecoder decoder(tokenizer, ids);
  // A piece is a run of tokens of one kind; a relabelled token is one by itself.
  const auto kind = [&](std::size_t i) {
    return labels[i] == kIgnoredLabel ? 0 : labels[i] == ids[i] ? 1 : 2;
  };
  for (std::size_t begin = 0, end = 0; begin < ids.size(); begin = end) {
    for (end = begin + 1; end < ids.size() && kind(end) == kind(begin) && kind(begin) != 2; ++end) {
    }
    const std::string piece = make_visible(decoder.next(end));
    if (kind(begin) == 0) text += piece;
    if (kind(begin) == 1) text += mark_trained(piece, color);
    if (kind(begin) == 2) {
      const std::int32_t label = labels[begin];
      text +=
          piece + mark_trained(fmt::format("→{}", make_visible(tokenizer.decode({&label, 1}, false))), color);
    }
  }
  return text + "\n";
}

std::string format_sample_json(const Dataset& dataset, std::size_t index) {
  std::string text = "{\"ids\": ";
  append_numbers(text, dataset.samples().ids(index));
  text += ", \"labels\": ";
  append_numbers(text, dataset.samples().labels(index));
  return text + "}\n";
}

}  // namespace autoglm
