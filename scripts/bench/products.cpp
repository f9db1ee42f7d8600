// GFLOP/s of every route of matrix products at the shapes of a model's step: bench_products [TOKENS [ROUNDS [THREADS]]].
// Medians of rounds in turn. docs/measurements.md has tables; best_products() goes by them.
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "trainer/ops/products.h"
#include "trainer/ops/projection.h"

namespace {

using namespace autoglm;

struct Layer {
  const char* name;
  std::int64_t in, out;
};
constexpr Layer kLayers[] = {{"SmolLM2-135M q, o", 576, 576},      {"SmolLM2-135M k, v", 576, 192},
                             {"SmolLM2-135M gate, up", 576, 1536}, {"SmolLM2-135M down", 1536, 576},
                             {"2048 square", 2048, 2048},          {"4096 square", 4096, 4096}};

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// A weight with a gradient, and what goes through it.
struct Bench {
  ops::Projection projection;
  Parameter weight;
  at::Tensor x, dy;

  Bench(const Layer& layer, std::int64_t tokens, at::ScalarType type)
      : weight({"weight", {layer.out, layer.in}}) {
    weight.bind_weight(at::randn({layer.out, layer.in}).to(type));
    weight.bind_gradient(at::zeros({layer.out, layer.in}));
    x = at::randn({tokens, layer.in}).to(type);
    dy = at::randn({tokens, layer.out}).to(type);
    projection.weight = &weight;
  }
  void forward() { ops::project(x, {&projection, 1}); }
  void backward() { ops::project_backward({&dy, 1}, x, {&projection, 1}, true); }
};

void bench_layer(const Layer& layer, std::int64_t tokens, int rounds) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    std::vector<Products> routes;
    for (const Word<Products>& word : kProducts) {
      if (ops::products_problem(word.value).empty()) routes.push_back(word.value);
    }
    Bench bench(layer, tokens, type);
    std::vector<std::vector<double>> forward(routes.size()), backward(routes.size());
    for (int round = 0; round <= rounds; ++round) {
      for (std::size_t i = 0; i < routes.size(); ++i) {
        ops::set_products(routes[i]);
        const double first = seconds_of([&] { bench.forward(); }),
                     second = seconds_of([&] { bench.backward(); });
        if (round == 0) continue;  // compiles and touches memory
        forward[i].push_back(first);
        backward[i].push_back(second);
      }
    }
    const double flops = 2e-9 * static_cast<double>(tokens * layer.in * layer.out);
    std::printf("| %s, %lld to %lld | %s |", layer.name, static_cast<long long>(layer.in),
                static_cast<long long>(layer.out), type == at::kFloat ? "fp32" : "bf16");
    for (const Word<Products>& word : kProducts) {
      const auto at = std::ranges::find(routes, word.value);
      if (at == routes.end()) {
        std::printf(" - |");
        continue;
      }
      const auto i = static_cast<std::size_t>(at - routes.begin());
      std::printf(" %.0f, %.0f |", flops / median(forward[i]), 2 * flops / median(backward[i]));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t tokens = argc > 1 ? std::atoll(argv[1]) : 1024;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  at::set_num_threads(argc > 3 ? std::atoi(argv[3]) : 1);
  at::manual_seed(1);
  const ops::OneDnn& library = ops::onednn();
  std::printf(
      "%lld tokens, %d threads, oneDNN %s, best here: %s\nGFLOP/s forward, backward (both gradients)\n\n| | "
      "|",
      static_cast<long long>(tokens), at::get_num_threads(),
      library.present ? library.version.c_str() : library.problem.c_str(),
      std::string(word_of(kProducts, ops::best_products())).c_str());
  for (const Word<Products>& word : kProducts) std::printf(" %s |", std::string(word.text).c_str());
  std::printf("\n|---|---|---|---|---|\n");
  for (const Layer& layer : kLayers) bench_layer(layer, tokens, rounds);
  return 0;
}
