#include "trainer/ops/attention_calls.h"

#include <algorithm>
#include <limits>

#include "base/math.h"

namespace autoglm::ops {
namespace {

// Rows of documents of this many tokens on average are computed in one call.
constexpr std::int64_t kMeanDocument = 64;
// FlashAttention pads every document's partial sums by this, and walks keys in blocks of as many.
constexpr std::int64_t kBlock = 128;
// Shorter documents stay with their neighbours: so few calls are weighed whatever the rows hold.
constexpr std::int64_t kLongDocument = 512;
// What a call takes to start its kernels and to have its results copied, in the units of backward_time().
constexpr double kCallTime = 4;

std::int64_t splits(const AttentionShape& shape, std::int64_t documents) {
  return divide_up(shape.multiprocessors, documents * shape.heads);
}

std::int64_t begin_of(const PackedRows& rows, std::size_t document) {
  if (document == rows.document_starts.size()) return rows.batch * rows.length;
  return rows.document_starts[document];
}

AttentionCall call_of(const PackedRows& rows, std::size_t first, std::size_t last) {
  AttentionCall call{begin_of(rows, first), begin_of(rows, last), 2, {}};
  for (std::size_t i = first; i <= last; ++i) {
    const std::int64_t begin = begin_of(rows, i);
    call.offsets.push_back(static_cast<std::int32_t>(begin - call.begin));
    if (i < last) call.longest = std::max(call.longest, begin_of(rows, i + 1) - begin);
  }
  return call;
}

// Block products of one head: of a whole document, and of the block of threads that has the most of them.
double products_of(std::int64_t tokens, bool causal) {
  const auto blocks = static_cast<double>(divide_up(tokens, kBlock));
  return causal ? blocks * (blocks + 1) / 2 : blocks * blocks;
}

double longest_share(std::int64_t tokens, std::int64_t splits, bool causal) {
  const std::int64_t blocks = divide_up(tokens, kBlock), walked = divide_up(blocks, splits);
  if (!causal) return static_cast<double>(walked * blocks);
  return static_cast<double>(walked * blocks - splits * walked * (walked - 1) / 2);
}

// Where each weighed part begins, as indices of documents, with the number of documents at the end: a long document
// is one, and so are short ones that follow each other, as far as a call may take them.
std::vector<std::size_t> parts_of(const PackedRows& rows, const AttentionShape& shape) {
  const std::size_t documents = rows.document_starts.size();
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, shape.max_documents() / 4));
  std::vector<std::size_t> starts;
  bool short_before = false;
  for (std::size_t i = 0; i < documents; ++i) {
    const bool is_short = begin_of(rows, i + 1) - begin_of(rows, i) <= kLongDocument;
    if (!is_short || !short_before || i - starts.back() >= most) starts.push_back(i);
    short_before = is_short;
  }
  starts.push_back(documents);
  return starts;
}

// What is known of neighbouring documents without looking at each.
struct Documents {
  std::int64_t count = 0, tokens = 0, longest = 0;
  double products = 0;  // of one head

  void add(const Documents& other) {
    count += other.count;
    tokens += other.tokens;
    longest = std::max(longest, other.longest);
    products += other.products;
  }
  double time(const AttentionShape& shape, bool causal) const {
    const auto multiprocessors = static_cast<double>(shape.multiprocessors);
    const double last = longest_share(longest, splits(shape, count), causal);
    // What a list schedule takes at most.
    return static_cast<double>(shape.heads) * products / multiprocessors + last * (1 - 1 / multiprocessors) +
           kCallTime;
  }
};

Documents documents_of(const PackedRows& rows, std::size_t first, std::size_t last) {
  Documents sum;
  for (std::size_t i = first; i < last; ++i) {
    const std::int64_t tokens = begin_of(rows, i + 1) - begin_of(rows, i);
    sum.add({1, tokens, tokens, products_of(tokens, rows.causal)});
  }
  return sum;
}

// The calls of the least time, as indices of documents; empty where no division has calls that may be made.
std::vector<std::size_t> best_division(const PackedRows& rows, const AttentionShape& shape) {
  const std::vector<std::size_t> starts = parts_of(rows, shape);
  const std::int64_t space = backward_partial_rows(shape), most = shape.max_documents();
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const std::size_t count = starts.size() - 1;
  std::vector<Documents> parts;
  for (std::size_t i = 0; i < count; ++i) parts.push_back(documents_of(rows, starts[i], starts[i + 1]));
  std::vector<double> time(count + 1, kNever);
  std::vector<std::size_t> before(count + 1, 0);
  time[0] = 0;
  for (std::size_t last = 1; last <= count; ++last) {
    Documents call;
    for (std::size_t first = last; first-- > 0;) {
      call.add(parts[first]);
      if (call.count > most) break;
      const bool alone = first == 0 && last == count;
      if (partial_rows_of_call(shape, call.tokens, call.count, alone) > space) continue;
      const double whole = time[first] + call.time(shape, rows.causal);
      if (whole < time[last]) time[last] = whole, before[last] = first;
    }
  }
  if (time[count] == kNever) return {};
  std::vector<std::size_t> division = {starts[count]};
  for (std::size_t part = count; part > 0; part = before[part]) division.push_back(starts[before[part]]);
  return {division.rbegin(), division.rend()};
}

}  // namespace

std::int64_t rounded_head_dim(std::int64_t head_dim) {
  return round_up<std::int64_t>(head_dim, head_dim <= 128 ? 32 : 64);
}

std::int64_t AttentionShape::max_documents() const {
  return rows + rows * length / kMeanDocument;
}

std::vector<AttentionCall> forward_calls(const PackedRows& rows, const AttentionShape& shape) {
  const std::size_t documents = rows.document_starts.size();
  const auto most = static_cast<std::size_t>(shape.max_documents());
  const std::size_t each = documents <= most ? documents : std::max<std::size_t>(1, most / 4);
  std::vector<AttentionCall> calls;
  for (std::size_t first = 0; first < documents; first += each)
    calls.push_back(call_of(rows, first, std::min(first + each, documents)));
  return calls;
}

std::vector<AttentionCall> backward_calls(const PackedRows& rows, const AttentionShape& shape) {
  std::vector<std::size_t> starts = best_division(rows, shape);
  if (starts.empty()) {
    for (std::size_t i = 0; i <= rows.document_starts.size(); ++i) starts.push_back(i);
  }
  std::vector<AttentionCall> calls;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    calls.push_back(call_of(rows, starts[i], starts[i + 1]));
  return calls;
}

std::int64_t partial_rows_of_call(const AttentionShape& shape, std::int64_t tokens, std::int64_t documents,
                                  bool alone) {
  const std::int64_t partial = splits(shape, documents) * (tokens + kBlock * documents);
  if (alone) return partial;
  const std::int64_t row = 4 * shape.heads * rounded_head_dim(shape.head_dim);
  const std::int64_t token = 2 * shape.head_dim * (shape.heads + 2 * shape.key_heads) + 4 * shape.heads;
  // What each of the four is rounded up by.
  constexpr std::int64_t kAlignment = 512;
  return partial + divide_up(tokens * token + 4 * kAlignment, row);
}

std::int64_t backward_partial_rows(const AttentionShape& shape) {
  // A document by itself is always allowed.
  std::int64_t most = partial_rows_of_call(shape, shape.length, 1, false);
  for (std::int64_t documents = shape.rows; documents <= shape.max_documents(); ++documents)
    most = std::max(most, partial_rows_of_call(shape, shape.rows * shape.length, documents, true));
  return most;
}

double backward_time(std::span<const AttentionCall> calls, const AttentionShape& shape, bool causal) {
  double time = 0;
  for (const AttentionCall& call : calls) {
    Documents documents;
    for (std::size_t i = 0; i + 1 < call.offsets.size(); ++i) {
      const std::int64_t tokens = call.offsets[i + 1] - call.offsets[i];
      documents.add({1, tokens, tokens, products_of(tokens, causal)});
    }
    time += documents.time(shape, causal);
  }
  return time;
}

}  // namespace autoglm::ops
