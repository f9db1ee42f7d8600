// LibTorch's FlashAttention over documents of different lengths, causal, in bf16.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "tests/cuda_on_host/aten/substitutes.h"
#include "tests/cuda_on_host/runtime/bf16.h"

namespace cuda_on_host::aten {
namespace {

// An operand of [tokens, heads, dimensions]; strides count elements.
struct Heads {
  std::uint16_t* data;
  std::int64_t row_stride, head_stride;

  std::uint16_t* of(std::int64_t row, int head) const { return data + row * row_stride + head * head_stride; }
};

float dot(const std::uint16_t* a, const std::uint16_t* b, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += widen(a[i]) * widen(b[i]);
  return sum;
}

// Where the kernels' parameter block holds what is used here.
class Parameters {
 public:
  void check() const {
    const float kept = at<float>(372);  // of attention: dropout is not emulated
    if (heads() < 1 || key_heads() < 1 || heads() % key_heads() != 0 || dimensions() < 1 ||
        dimensions() > 256 || documents() < 1 || starts() == nullptr || kept != 1.0f) {
      throw std::runtime_error("FlashAttention's parameters are not those of LibTorch 2.11");
    }
  }

  // Of those that both passes have, the first element of each, and where the documents begin.
  void require_operands() const {
    for (const Heads& operand : {query(), key(), value(), output()}) require_operand(operand.data, 2);
    require_operand(starts(), (static_cast<std::size_t>(documents()) + 1) * sizeof(int));
  }

  Heads query() const { return {at<std::uint16_t*>(0), at<std::int64_t>(48), at<std::int64_t>(72)}; }
  Heads key() const { return {at<std::uint16_t*>(8), at<std::int64_t>(56), at<std::int64_t>(80)}; }
  Heads value() const { return {at<std::uint16_t*>(16), at<std::int64_t>(64), at<std::int64_t>(88)}; }
  Heads output() const { return {at<std::uint16_t*>(112), at<std::int64_t>(136), at<std::int64_t>(144)}; }
  Heads d_output() const { return {at<std::uint16_t*>(472), at<std::int64_t>(536), at<std::int64_t>(544)}; }
  Heads d_query() const { return {at<std::uint16_t*>(480), at<std::int64_t>(576), at<std::int64_t>(600)}; }
  Heads d_key() const { return {at<std::uint16_t*>(488), at<std::int64_t>(584), at<std::int64_t>(608)}; }
  Heads d_value() const { return {at<std::uint16_t*>(496), at<std::int64_t>(592), at<std::int64_t>(616)}; }
  int heads() const { return at<int>(96); }
  int key_heads() const { return at<int>(100); }
  int key_head(int head) const { return head / (heads() / key_heads()); }
  int documents() const { return at<int>(176); }
  int dimensions() const { return at<int>(192); }
  float scale() const { return at<float>(216); }
  const int* starts() const { return at<const int*>(224); }
  float& log_sum(int head, int row) const { return at<float*>(160)[std::int64_t{head} * at<int>(212) + row]; }

 private:
  template <typename T>
  T at(int offset) const {
    T value;
    std::memcpy(&value, bytes_ + offset, sizeof value);
    return value;
  }

  alignas(8) char bytes_[656];
};

template <typename Function>
void for_each_document_and_head(const Parameters& p, Function function) {
  for (int document = 0; document < p.documents(); ++document) {
    for (int head = 0; head < p.heads(); ++head)
      function(p.starts()[document], p.starts()[document + 1], head);
  }
}

void attend(const Parameters& p, int first, int row, int head, std::vector<float>& scores,
            std::vector<float>& sum) {
  const int size = p.dimensions(), key_head = p.key_head(head);
  scores.assign(static_cast<std::size_t>(row - first + 1), 0);
  sum.assign(static_cast<std::size_t>(size), 0);
  float largest = -std::numeric_limits<float>::infinity(), all = 0;
  for (int i = first; i <= row; ++i) {
    scores[i - first] = dot(p.query().of(row, head), p.key().of(i, key_head), size) * p.scale();
    largest = std::max(largest, scores[i - first]);
  }
  for (int i = first; i <= row; ++i) {
    const float weight = std::exp(scores[i - first] - largest);
    const std::uint16_t* const value = p.value().of(i, key_head);
    all += weight;
    for (int d = 0; d < size; ++d) sum[d] += widen(narrow(weight)) * widen(value[d]);
  }
  for (int d = 0; d < size; ++d) p.output().of(row, head)[d] = narrow(sum[d] / all);
  p.log_sum(head, row) = largest + std::log(all);
}

void forward(const Parameters& p) {
  std::vector<float> scores, sum;
  for_each_document_and_head(p, [&](int first, int end, int head) {
    for (int row = first; row < end; ++row) attend(p, first, row, head, scores, sum);
  });
}

// Gradients of a document's keys and values, of one query head.
struct KeySums {
  std::vector<float> key, value;
};

void attend_backward(const Parameters& p, int first, int row, int head, KeySums& sums,
                     std::vector<float>& query) {
  const int size = p.dimensions(), key_head = p.key_head(head);
  const std::uint16_t *const q = p.query().of(row, head), *const d_output = p.d_output().of(row, head);
  const float delta = dot(d_output, p.output().of(row, head), size);
  query.assign(static_cast<std::size_t>(size), 0);
  for (int i = first; i <= row; ++i) {
    const std::uint16_t* const key = p.key().of(i, key_head);
    const float weight = std::exp(dot(q, key, size) * p.scale() - p.log_sum(head, row));
    const float d_weight = dot(d_output, p.value().of(i, key_head), size);
    const float d_score = widen(narrow(weight * (d_weight - delta))), rounded = widen(narrow(weight));
    float* const key_sum = sums.key.data() + (i - first) * size;
    float* const value_sum = sums.value.data() + (i - first) * size;
    for (int d = 0; d < size; ++d) {
      query[d] += d_score * widen(key[d]);
      key_sum[d] += d_score * widen(q[d]);
      value_sum[d] += rounded * widen(d_output[d]);
    }
  }
  for (int d = 0; d < size; ++d) p.d_query().of(row, head)[d] = narrow(query[d] * p.scale());
}

void backward(const Parameters& p) {
  KeySums sums;
  std::vector<float> query;
  const int size = p.dimensions();
  for_each_document_and_head(p, [&](int first, int end, int head) {
    sums.key.assign(static_cast<std::size_t>(end - first) * size, 0);
    sums.value.assign(static_cast<std::size_t>(end - first) * size, 0);
    for (int row = first; row < end; ++row) attend_backward(p, first, row, head, sums, query);
    for (int row = first; row < end; ++row) {
      for (int d = 0; d < size; ++d) {
        const std::size_t place = static_cast<std::size_t>(row - first) * size + d;
        p.d_key().of(row, head)[d] = narrow(sums.key[place] * p.scale());
        p.d_value().of(row, head)[d] = narrow(sums.value[place]);
      }
    }
  });
}

void nothing(const Parameters&) {}

template <void (*Function)(const Parameters&)>
Work bind(const Launch&, void** arguments) {
  const auto parameters = argument<Parameters>(arguments, 0);
  parameters.check();
  raw_argument<Parameters>(arguments, 0).require_operands();
  return [=] { Function(parameters); };
}

// The backward pass is several kernels of which the substitute is one.
Binder find(const std::string& name) {
  if (contains(name, "flash_fwd_kernel<")) return bind<forward>;
  if (contains(name, "flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<")) return bind<backward>;
  if (contains(name, "flash_bwd_dot_do_o_kernel<")) return bind<nothing>;
  if (contains(name, "flash_bwd_convert_dq_kernel<")) return bind<nothing>;
  return nullptr;
}

[[maybe_unused]] const bool added = (add_finder(find), true);

}  // namespace
}  // namespace cuda_on_host::aten
