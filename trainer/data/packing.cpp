#include "trainer/data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

// Beyond a few hundred open rows, nothing is gained.
constexpr std::size_t kOpenRows = 512;
// Longest first within so many samples: a third of the waste of taking them as they come.
constexpr std::size_t kGroup = 512;

// Rows that are being filled.
class OpenRows {
 public:
  explicit OpenRows(std::int64_t sequence_length) : sequence_length_(sequence_length) {}

  // The row for a sample of this length.
  std::uint32_t place(std::int64_t length) {
    const auto best = rows_.lower_bound({length, 0});
    std::pair<std::int64_t, std::uint32_t> row{sequence_length_, num_rows_};
    if (best != rows_.end()) {
      row = *best;
      rows_.erase(best);
    } else {
      ++num_rows_;
      if (rows_.size() == kOpenRows) rows_.erase(rows_.begin());
    }
    row.first -= length;
    if (row.first > 0) rows_.insert(row);
    return row.second;
  }

  std::uint32_t num_rows() const { return num_rows_; }

 private:
  std::int64_t sequence_length_;
  std::uint32_t num_rows_ = 0;
  // Free tokens and number: the fullest row, then the oldest, first.
  std::set<std::pair<std::int64_t, std::uint32_t>> rows_;
};

// The row of every sample, in the order given.
std::vector<std::uint32_t> assign_rows(const SampleSet& samples, std::span<const std::uint32_t> order,
                                       std::int64_t sequence_length, std::uint32_t& num_rows) {
  OpenRows open(sequence_length);
  std::vector<std::uint32_t> rows(order.size());
  std::vector<std::pair<std::int64_t, std::size_t>> group;  // minus the length, and the place in `order`
  for (std::size_t begin = 0; begin < order.size(); begin += kGroup) {
    group.clear();
    for (std::size_t i = begin; i < std::min(begin + kGroup, order.size()); ++i) {
      const auto length = static_cast<std::int64_t>(samples.length(order[i]));
      AUTOGLM_CHECK(length >= 1 && length <= sequence_length, "a sample of {} tokens", length);
      group.emplace_back(-length, i);
    }
    std::sort(group.begin(), group.end());
    for (const auto& [minus_length, i] : group) rows[i] = open.place(-minus_length);
  }
  num_rows = open.num_rows();
  return rows;
}

}  // namespace

std::span<const std::uint32_t> RowPlan::row(std::size_t index) const {
  const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
  return {samples_.data() + begin, ends_[index] - begin};
}

void RowPlan::add_row(std::span<const std::uint32_t> samples) {
  samples_.insert(samples_.end(), samples.begin(), samples.end());
  ends_.push_back(samples_.size());
}

RowPlan RowPlan::in_order(std::span<const std::uint32_t> rows) const {
  RowPlan plan;
  for (const std::uint32_t index : rows) plan.add_row(row(index));
  return plan;
}

RowPlan pack_rows(const SampleSet& samples, std::span<const std::uint32_t> order,
                  std::int64_t sequence_length, bool packing) {
  RowPlan plan;
  if (!packing) {
    for (const std::uint32_t& sample : order) plan.add_row({&sample, 1});
    return plan;
  }
  std::uint32_t num_rows = 0;
  const std::vector<std::uint32_t> rows = assign_rows(samples, order, sequence_length, num_rows);
  // Counting sort by row keeps the samples of a row in the order given.
  std::vector<std::size_t> begins(num_rows + 1, 0);
  for (const std::uint32_t row : rows) ++begins[row + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  std::vector<std::uint32_t> sorted(order.size());
  std::vector<std::size_t> next(begins.begin(), begins.end() - 1);
  for (std::size_t i = 0; i < rows.size(); ++i) sorted[next[rows[i]]++] = order[i];
  for (std::uint32_t row = 0; row < num_rows; ++row) {
    plan.add_row(std::span<const std::uint32_t>(sorted).subspan(begins[row], begins[row + 1] - begins[row]));
  }
  return plan;
}

std::vector<std::int32_t> write_row(const SampleSet& samples, std::span<const std::uint32_t> row,
                                    std::int32_t pad_id, const RowBuffers& buffers) {
  const std::size_t row_length = buffers.ids.size();
  AUTOGLM_CHECK(buffers.targets.size() == row_length && buffers.positions.size() == row_length);
  std::vector<std::int32_t> boundaries{0};
  std::size_t at = 0;
  for (const std::uint32_t sample : row) {
    const std::span<const std::int32_t> ids = samples.ids(sample);
    AUTOGLM_CHECK(at + ids.size() <= row_length, "a row of {} tokens overflows", row_length);
    std::copy(ids.begin(), ids.end(), buffers.ids.begin() + static_cast<std::ptrdiff_t>(at));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      buffers.targets[at + i] = i + 1 < ids.size() ? samples.label(sample, i + 1) : kIgnoredLabel;
      buffers.positions[at + i] = static_cast<std::int32_t>(i);
    }
    at += ids.size();
    boundaries.push_back(static_cast<std::int32_t>(at));
  }
  if (at == row_length) return boundaries;
  for (std::size_t i = at; i < row_length; ++i) {
    buffers.ids[i] = pad_id;
    buffers.targets[i] = kIgnoredLabel;
    buffers.positions[i] = static_cast<std::int32_t>(i - at);
  }
  boundaries.push_back(static_cast<std::int32_t>(row_length));
  return boundaries;
}

}  // namespace autoglm
