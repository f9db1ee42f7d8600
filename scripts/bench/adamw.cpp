// AdamW of this project beside LibTorch's fused one and beside what memory gives, in turns:
// bench_adamw [ELEMENTS [ROUNDS [THREADS]]]. Memory comes from the pool that a job has.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "sharding/memory/job_memory.h"
#include "trainer/optim/adamw.h"

namespace autoglm {
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

// What is read and written of every element, whose time is measured.
struct Case {
  std::string name;
  int bytes;
  std::function<void()> run;
  std::vector<double> times;
};

struct States {
  at::Tensor master, m1, m2, gradient, working, remainder, step = at::ones({});
  AdamWSlice fp32, plain, split;

  explicit States(std::int64_t count)
      : master(at::randn({count})),
        m1(at::zeros({count})),
        m2(at::zeros({count})),
        gradient(at::randn({count})),
        working(at::zeros({count}, at::kBFloat16)),
        remainder(at::zeros({count}, at::kShort)) {
    fp32.count = count;
    fp32.master = master.mutable_data_ptr<float>();
    fp32.moment1 = m1.mutable_data_ptr();
    fp32.moment2 = m2.mutable_data_ptr();
    fp32.gradient = gradient.const_data_ptr();
    fp32.bf16_working = false;
    plain = split = fp32;
    plain.working = split.working = working.mutable_data_ptr();
    plain.bf16_working = split.bf16_working = true;
    split.master = nullptr;
    split.remainder = remainder.mutable_data_ptr<std::int16_t>();
  }
};

void each_part(std::int64_t count, const std::function<void(std::int64_t, std::int64_t)>& work) {
  at::parallel_for(0, count, 1 << 15, work);
}

// STREAM's third loop.
void triad(const States& s) {
  float* to = s.m2.mutable_data_ptr<float>();
  const float *a = s.gradient.const_data_ptr<float>(), *b = s.m1.const_data_ptr<float>();
  each_part(s.fp32.count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] = a[i] + 0.5F * b[i];
  });
}

// Reads and writes what AdamW does in fp32, with one addition each.
void three_sums(const States& s) {
  float *a = s.fp32.master, *b = s.m1.mutable_data_ptr<float>(), *c = s.m2.mutable_data_ptr<float>();
  const float* from = s.gradient.const_data_ptr<float>();
  each_part(s.fp32.count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      a[i] += from[i];
      b[i] += from[i];
      c[i] += from[i];
    }
  });
}

std::vector<Case> cases_of(States& s, const AdamWUpdate& update) {
  constexpr int kFp32 = 4 + 3 * 8;
  return {
      {"LibTorch's fused AdamW, fp32",
       kFp32,
       [&] {
         at::_fused_adamw_({s.master}, {s.gradient}, {s.m1}, {s.m2}, {}, {s.step}, 1e-5, 0.9, 0.95, 0, 1e-8,
                           false, false);
       },
       {}},
      {"ours, fp32", kFp32, [&] { adamw(s.fp32, update); }, {}},
      {"ours, plain master, bf16 weights written too", kFp32 + 2, [&] { adamw(s.plain, update); }, {}},
      {"ours, split master, bf16 weights written too",
       4 + 2 * 8 + 2 * 4,
       [&] { adamw(s.split, update); },
       {}},
      {"memory: a = b + s c", 12, [&] { triad(s); }, {}},
      {"memory: four read, three of them written", kFp32, [&] { three_sums(s); }, {}},
  };
}

int run(int argc, char** argv) {
  const std::int64_t count = argc > 1 ? std::atoll(argv[1]) : 10'000'000;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 15, threads = argc > 3 ? std::atoi(argv[3]) : 1;
  install_job_memory();
  at::set_num_threads(threads);
  at::manual_seed(1);
  States states(count);
  const AdamWUpdate update{adamw_factors({}, 1e-5, 2, 1, true), false, 0};
  std::vector<Case> cases = cases_of(states, update);
  for (int round = 0; round < rounds; ++round) {
    states.m2.fill_(1e-4);  // a second moment again, after the sums
    for (Case& one : cases) one.times.push_back(milliseconds(one.run));
  }
  std::printf("%lld elements, %d threads, medians of %d rounds\n", static_cast<long long>(count), threads,
              rounds);
  for (const Case& one : cases) {
    const double time = median(one.times);
    std::printf("%-46s %8.2f ms %7.2f GB/s\n", one.name.c_str(), time,
                static_cast<double>(count) * one.bytes / time / 1e6);
  }
  return 0;
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  return autoglm::run(argc, argv);
}
