// AdamW of this project beside LibTorch's fused one, in turns: bench_adamw [ELEMENTS [ROUNDS]].
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "trainer/optim/adamw.h"

namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace autoglm;
  const std::int64_t count = argc > 1 ? std::atoll(argv[1]) : 10'000'000;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 15;
  at::set_num_threads(1);
  at::manual_seed(1);
  at::Tensor master = at::randn({count}), m1 = at::zeros({count}), m2 = at::zeros({count});
  at::Tensor gradient = at::randn({count}), step = at::ones({}), working = at::empty({count}, at::kBFloat16);
  at::Tensor remainder = at::zeros({count}, at::kShort);
  const AdamWUpdate update{adamw_factors({}, 1e-5, 2, 1, true), false, 0};
  AdamWSlice fp32;
  fp32.count = count;
  fp32.master = master.mutable_data_ptr<float>();
  fp32.moment1 = m1.mutable_data_ptr();
  fp32.moment2 = m2.mutable_data_ptr();
  fp32.gradient = gradient.const_data_ptr();
  fp32.bf16_working = false;
  AdamWSlice plain = fp32, split = fp32;
  plain.working = split.working = working.mutable_data_ptr();
  plain.bf16_working = split.bf16_working = true;
  split.master = nullptr;
  split.remainder = remainder.mutable_data_ptr<std::int16_t>();
  std::vector<double> theirs, ours, with_plain, with_split;
  for (int round = 0; round < rounds; ++round) {
    theirs.push_back(milliseconds([&] {
      at::_fused_adamw_({master}, {gradient}, {m1}, {m2}, {}, {step}, 1e-5, 0.9, 0.95, 0, 1e-8, false, false);
    }));
    ours.push_back(milliseconds([&] { adamw(fp32, update); }));
    with_plain.push_back(milliseconds([&] { adamw(plain, update); }));
    with_split.push_back(milliseconds([&] { adamw(split, update); }));
  }
  std::printf("%lld elements, one thread, medians of %d rounds\n", static_cast<long long>(count), rounds);
  std::printf("LibTorch's fused AdamW, fp32                   %6.2f ms\n", median(theirs));
  std::printf("ours, fp32                                     %6.2f ms\n", median(ours));
  std::printf("ours, plain master, bf16 weights written too   %6.2f ms\n", median(with_plain));
  std::printf("ours, split master, bf16 weights written too   %6.2f ms\n", median(with_split));
  return 0;
}
