// LibTorch's reductions: the sum over grouped heads, and the largest logit of generation.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "tests/cuda_on_host/aten/offsets.h"
#include "tests/cuda_on_host/aten/substitutes.h"
#include "tests/cuda_on_host/runtime/bf16.h"

namespace cuda_on_host::aten {
namespace {

// The argument of reduce_kernel, whose functor and start value take `Functor` bytes.
template <int Functor>
struct Reduction {
  char functor[Functor];
  int element_bytes, inputs, outputs, configuration[13];
  Offsets<1> input;
  Offsets<2> output;
  const char* from;
  char* to[2];
  void* buffers[3];
  std::int64_t base;
  bool accumulates, final;

  template <typename Function>
  void for_each_input(const char* begin, Function function) const {
    for (int i = 0; i < inputs; ++i) function(i, begin + input.of(static_cast<std::uint32_t>(i))[0]);
  }
};
static_assert(offsetof(Reduction<8>, input) == 72 && offsetof(Reduction<8>, from) == 984);

template <int Functor, typename Reduce>
Binder bind(Reduce reduce) {
  return [reduce](const Launch&, void** arguments) -> Work {
    const auto one = argument<Reduction<Functor>>(arguments, 0);
    if (one.accumulates || !one.final || one.to[1] != nullptr || one.inputs < 1 || one.outputs < 1) {
      throw std::runtime_error("a reduction of another layout than that of LibTorch 2.11");
    }
    one.input.check(static_cast<std::uint32_t>(one.inputs));
    one.output.check(static_cast<std::uint32_t>(one.outputs));
    const auto seen = raw_argument<Reduction<Functor>>(arguments, 0);
    require_operand(seen.to[0], one.output.extents()[0] + 1);
    require_operand(seen.from, one.output.extents()[1] + one.input.extents()[0] + 1);
    return [one, reduce] {
      for (int i = 0; i < one.outputs; ++i) {
        const auto place = one.output.of(static_cast<std::uint32_t>(i));
        reduce(one, one.from + place[1], one.to[0] + place[0]);
      }
    };
  };
}

void sum_bf16(const Reduction<8>& one, const char* from, char* to) {
  float sum = 0;
  one.for_each_input(from,
                     [&](int, const char* at) { sum += widen(*reinterpret_cast<const std::uint16_t*>(at)); });
  *reinterpret_cast<std::uint16_t*>(to) = narrow(sum);
}

// The first of the largest; a NaN is larger than any number.
void find_largest(const Reduction<24>& one, const char* from, char* to) {
  float largest = -std::numeric_limits<float>::infinity();
  std::int64_t place = 0;
  one.for_each_input(from, [&](int i, const char* at) {
    const float value = *reinterpret_cast<const float*>(at);
    if (value > largest || (std::isnan(value) && !std::isnan(largest))) {
      largest = value;
      place = i;
    }
  });
  *reinterpret_cast<std::int64_t*>(to) = place;
}

Binder find(const std::string& name) {
  if (!contains(name, "at::native::reduce_kernel<")) return nullptr;
  if (contains(name, "ReduceOp<c10::BFloat16") && contains(name, "sum_functor")) return bind<8>(sum_bf16);
  if (contains(name, "ReduceOp<float, at::native::ArgMaxOps<float>, unsigned int, long, 4, 4>")) {
    return bind<24>(find_largest);
  }
  return nullptr;
}

[[maybe_unused]] const bool added = (add_finder(find), true);

}  // namespace
}  // namespace cuda_on_host::aten
