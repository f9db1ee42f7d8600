// What a step does beside matrix products, on one thread: bytes per second beside a plain copy's, and attention by every
// route of products: bench_step_parts [TOKENS [ROUNDS]]. Medians of rounds in turn. docs/measurements.md has tables.
#include <ATen/ATen.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "trainer/ops/attention.h"
#include "trainer/ops/norm.h"
#include "trainer/ops/products.h"
#include "trainer/ops/rotary.h"
#include "trainer/ops/swiglu.h"
#include "trainer/optim/adamw.h"
#include "trainer/simd/kernels.h"

namespace {

using namespace autoglm;

// SmolLM2-135M's.
constexpr std::int64_t kHidden = 576, kInner = 1536, kHeads = 9, kKeyHeads = 3, kHeadDim = 64, kRow = 512,
                       kVocabulary = 49152;

struct Part {
  std::string name;
  double amount;  // bytes read and written, or operations
  std::function<void()> work;
  std::vector<double> seconds = {};

  double rate() {
    std::ranges::sort(seconds);
    return 1e-9 * amount / seconds[seconds.size() / 2];
  }
};

// Of this thread alone: neighbours count less than on the clock.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void time_in_turns(std::vector<Part>& parts, int rounds) {
  for (int round = 0; round <= rounds; ++round) {
    for (Part& part : parts) {
      const double start = processor_seconds();
      part.work();
      if (round > 0) part.seconds.push_back(processor_seconds() - start);  // the first touches memory
    }
  }
}

double bytes_of(std::initializer_list<at::Tensor> tensors) {
  double bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += static_cast<double>(tensor.nbytes());
  return bytes;
}

// bf16 activations of the layers.
void add_layer_parts(std::int64_t tokens, std::vector<Part>& parts) {
  const auto bf16 = at::TensorOptions().dtype(at::kBFloat16);
  const at::Tensor x = at::randn({tokens, kHidden}).to(at::kBFloat16), dy = x.clone();
  auto weight = std::make_shared<Parameter>(ParameterSpec{"norm", {kHidden}});
  weight->bind_weight(at::ones({kHidden}, bf16));
  weight->bind_gradient(at::zeros({kHidden}));
  const ops::Norm norm{ops::NormKind::rms, weight.get(), 1e-5};
  const at::Tensor statistics = ops::norm_forward(x, norm).statistics;
  parts.push_back({"RMSNorm", bytes_of({x, x}), [=] { ops::norm_forward(x, norm); }});
  parts.push_back({"RMSNorm's backward", bytes_of({x, x, x}),
                   [=, kept = weight] { ops::norm_backward(dy, x, statistics, norm); }});
  const at::Tensor gate = at::randn({tokens, kInner}).to(at::kBFloat16), up = gate.clone(),
                   dout = gate.clone();
  parts.push_back({"SwiGLU", bytes_of({gate, up, dout}), [=] { ops::swiglu({gate, up}); }});
  parts.push_back({"SwiGLU's backward", bytes_of({gate, up, dout, gate, up}), [=] {
                     ops::swiglu_backward({gate, up}, dout);
                   }});
  const at::Tensor heads = at::randn({tokens / kRow, kRow, kHeads, kHeadDim}).to(at::kBFloat16);
  const at::Tensor positions = at::arange(kRow, at::kInt).repeat({tokens / kRow});
  const ops::RotaryTable table =
      ops::make_rotary_table({std::vector<float>(kHeadDim / 2, 0.5F)}, kRow, at::kCPU);
  parts.push_back({"rotary", bytes_of({heads, heads}), [=] { ops::rotary(heads, positions, table); }});
}

// fp32: what the head does with its logits, and the optimizer.
void add_flat_parts(std::vector<Part>& parts) {
  const at::Tensor logits = at::randn({256, kVocabulary});
  parts.push_back({"softmax of the head", bytes_of({logits, logits}), [=] {
                     const auto& math = simd::float_kernels();
                     for (std::int64_t row = 0; row < logits.size(0); ++row) {
                       float* line = logits.mutable_data_ptr<float>() + row * kVocabulary;
                       const float sum =
                           math.exp_and_sum(line, kVocabulary, 1, math.maximum(line, kVocabulary));
                       math.scale(line, kVocabulary, 1 / sum);
                     }
                   }});
  const std::int64_t count = 10'000'000;
  const at::Tensor master = at::randn({count}), moment1 = at::zeros({count}), moment2 = at::zeros({count}),
                   gradient = at::randn({count}), working = at::zeros({count}, at::kBFloat16),
                   remainder = at::zeros({count}, at::kShort);
  AdamWSlice slice;
  slice.count = count;
  slice.remainder = remainder.mutable_data_ptr<std::int16_t>();
  slice.working = working.mutable_data_ptr();
  slice.moment1 = moment1.mutable_data_ptr();
  slice.moment2 = moment2.mutable_data_ptr();
  slice.gradient = gradient.const_data_ptr();
  const AdamWUpdate update{adamw_factors({}, 1e-5, 2, 1, true), false, 0};
  parts.push_back(
      {"AdamW, split master",
       bytes_of({gradient, moment1, moment1, moment2, moment2, working, working, remainder, remainder}),
       [=, kept = std::vector{moment1, moment2, gradient, working, remainder}] { adamw(slice, update); }});
}

void bench_bandwidth(std::int64_t tokens, int rounds) {
  const at::Tensor from = at::randn({1 << 25}), to = at::empty_like(from);
  std::vector<Part> parts;
  parts.push_back({"copy", bytes_of({from, to}), [=] { to.copy_(from); }});
  add_layer_parts(tokens, parts);
  add_flat_parts(parts);
  time_in_turns(parts, rounds);
  const double copy = parts.front().rate();
  std::printf("| part | GB/s | of a copy's |\n|---|---|---|\n");
  for (Part& part : parts)
    std::printf("| %s | %.1f | %.2f |\n", part.name.c_str(), part.rate(), part.rate() / copy);
}

void bench_attention(std::int64_t tokens, int rounds) {
  ops::PackedRows rows{tokens / kRow, kRow, {}};
  for (std::int64_t row = 0; row < rows.batch; ++row)
    rows.document_starts.push_back(static_cast<std::int32_t>(row * kRow));
  // Of what a causal row sees; the backward's five products beside the forward's two.
  const double flops = 2.0 * 2 * static_cast<double>(tokens * kRow / 2 * kHeads * kHeadDim);
  std::printf("\n| attention, rows of %lld | GFLOP/s forward and backward |\n|---|---|\n",
              static_cast<long long>(kRow));
  std::vector<Part> parts;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const Word<Products>& word : kProducts) {
      if (!ops::products_problem(word.value).empty()) continue;
      const auto input = [&](std::int64_t heads) {
        return at::randn({rows.batch, kRow, heads, kHeadDim}).to(type).requires_grad_();
      };
      const at::Tensor q = input(kHeads), k = input(kKeyHeads), v = input(kKeyHeads),
                       dout = at::ones_like(q).detach();
      parts.push_back({std::string(type == at::kFloat ? "fp32, " : "bf16, ") + std::string(word.text),
                       flops * 3.5, [=, route = word.value] {
                         ops::set_products(route);
                         ops::attention(q, k, v, rows, 0.125F).backward(dout);
                       }});
    }
  }
  time_in_turns(parts, rounds);
  for (Part& part : parts) std::printf("| %s | %.0f |\n", part.name.c_str(), part.rate());
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t tokens = (argc > 1 ? std::atoll(argv[1]) : 8192) / kRow * kRow;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  at::set_num_threads(1);
  at::manual_seed(1);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // memory stays, as an arena's does
  mallopt(M_TRIM_THRESHOLD, -1);
  std::printf("%lld tokens, one thread, loops for %s\n\n", static_cast<long long>(tokens),
              simd::instruction_set());
  {
    const at::NoGradGuard no_grad;
    bench_bandwidth(tokens, rounds);
  }
  bench_attention(tokens, rounds);
  return 0;
}
