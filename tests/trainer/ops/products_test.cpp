#include "trainer/ops/products.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>

#include "base/bf16.h"

namespace autoglm::ops {
namespace {

// A matrix of random values that its type holds exactly, and as fp64.
struct Matrix {
  std::vector<std::byte> bytes;
  std::vector<double> values;  // row after row of what is multiplied
  MatrixLayout layout;

  Matrix(std::int64_t rows, std::int64_t columns, DType dtype, bool transposed, std::int64_t padding,
         std::mt19937& random)
      : layout{dtype, (transposed ? rows : columns) + padding, transposed} {
    const std::int64_t lines = transposed ? columns : rows;
    bytes.resize(static_cast<std::size_t>(lines * layout.stride) * dtype_size(dtype) + 64);
    std::normal_distribution<float> normal;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < columns; ++column) {
        const float value = widen_bf16(round_bf16(normal(random)));
        values.push_back(value);
        store(transposed ? column * layout.stride + row : row * layout.stride + column, value);
      }
    }
  }

  void store(std::int64_t place, float value) {
    if (layout.dtype == DType::float32) {
      reinterpret_cast<float*>(bytes.data())[place] = value;
    } else {
      reinterpret_cast<std::uint16_t*>(bytes.data())[place] = round_bf16(value);
    }
  }
  float at(std::int64_t row, std::int64_t column) const {
    const std::int64_t place = row * layout.stride + column;
    if (layout.dtype == DType::float32) return reinterpret_cast<const float*>(bytes.data())[place];
    return widen_bf16(reinterpret_cast<const std::uint16_t*>(bytes.data())[place]);
  }
};

struct Case {
  std::int64_t m, n, k;
  DType in, out;
  bool a_transposed, b_transposed, adds, has_bias;
};

void run(const TiledProduct& product, const Matrix& a, const Matrix& b, const Matrix* bias, Matrix& c) {
  ProductScratch scratch({&product, 1}, at::empty({1}));
  scratch.run(product, a.bytes.data(), b.bytes.data(), bias ? bias->bytes.data() : nullptr, c.bytes.data());
}

class ProductsTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!onednn().present) GTEST_SKIP() << onednn().problem;
    if (GetParam().in == DType::bfloat16 && !onednn().multiplies_bf16)
      GTEST_SKIP() << "this processor multiplies no bf16";
  }
};

TEST_P(ProductsTest, AgreesWithFp64AndDoesNotDependOnThreads) {
  const Case& one = GetParam();
  std::mt19937 random(7);
  const Matrix a(one.m, one.k, one.in, one.a_transposed, 3, random),
      b(one.k, one.n, one.in, one.b_transposed, 5, random), bias(1, one.n, one.in, false, 0, random);
  const Matrix before(one.m, one.n, one.out, false, 1, random);
  const TiledProduct product(
      {one.m, one.n, one.k, a.layout, b.layout, before.layout, one.adds, one.has_bias});
  const int threads_before = at::get_num_threads();
  std::vector<std::byte> bits;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    Matrix c = before;
    run(product, a, b, one.has_bias ? &bias : nullptr, c);
    if (threads > 1) {
      EXPECT_EQ(c.bytes, bits) << threads << " threads";
      continue;
    }
    bits = c.bytes;
    double worst = 0;
    for (std::int64_t row = 0; row < one.m; ++row) {
      for (std::int64_t column = 0; column < one.n; ++column) {
        const auto place = static_cast<std::size_t>(row * one.n + column);
        double sum = one.adds ? before.values[place] : 0;
        if (one.has_bias) sum += bias.values[static_cast<std::size_t>(column)];
        for (std::int64_t i = 0; i < one.k; ++i)
          sum += a.values[static_cast<std::size_t>(row * one.k + i)] *
                 b.values[static_cast<std::size_t>(i * one.n + column)];
        const double rounding = one.out == DType::bfloat16 ? std::abs(sum) / 256 : 0;
        worst = std::max(worst, std::abs(c.at(row, column) - sum) - rounding);
      }
    }
    EXPECT_LT(worst, 1e-5 * std::sqrt(static_cast<double>(one.k)) * 8);
  }
  at::set_num_threads(threads_before);
}

constexpr DType kFp32 = DType::float32, kBf16 = DType::bfloat16;
INSTANTIATE_TEST_SUITE_P(All, ProductsTest,
                         ::testing::Values(Case{70, 600, 33, kFp32, kFp32, false, true, false, true},
                                           Case{70, 600, 33, kBf16, kBf16, false, true, false, true},
                                           Case{70, 600, 33, kBf16, kBf16, false, true, false, false},
                                           Case{129, 65, 300, kFp32, kFp32, false, false, true, false},
                                           Case{129, 65, 300, kBf16, kFp32, false, false, true, false},
                                           Case{129, 65, 300, kBf16, kBf16, false, false, false, false},
                                           Case{700, 48, 90, kFp32, kFp32, true, false, true, false},
                                           Case{700, 48, 90, kBf16, kFp32, true, false, true, false},
                                           Case{48, 700, 90, kBf16, kFp32, true, false, true, false},
                                           Case{1, 1, 1, kBf16, kBf16, false, true, false, true}));

// Files that are mapped into this process and whose names begin with one of those.
std::set<std::string> mapped_libraries(std::initializer_list<std::string_view> beginnings) {
  std::set<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t name = line.rfind('/') + 1;  // 0 without a path
    for (const std::string_view beginning : beginnings) {
      if (name > 0 && line.compare(name, beginning.size(), beginning) == 0)
        found.insert(line.substr(line.find('/')));
    }
  }
  return found;
}

std::ptrdiff_t num_threads_of_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

// LibTorch and oneDNN bring a runtime of OpenMP each: two pools would spin beside each other.
TEST(Products, OneRuntimeOfOpenMpServesLibTorchAndOneDnn) {
  if (!onednn().present) GTEST_SKIP() << onednn().problem;
  const int threads_before = at::get_num_threads();
  at::set_num_threads(2);
  at::parallel_for(0, 2, 1, [](std::int64_t, std::int64_t) {});
  const std::ptrdiff_t with_libtorch = num_threads_of_process();
  std::mt19937 random(1);
  const Matrix a(64, 64, DType::float32, false, 0, random), b(64, 600, DType::float32, false, 0, random);
  Matrix c(64, 600, DType::float32, false, 0, random);
  run(TiledProduct({64, 600, 64, a.layout, b.layout, c.layout}), a, b, nullptr, c);
  EXPECT_EQ(num_threads_of_process(), with_libtorch);
  EXPECT_EQ(mapped_libraries({"libgomp", "libiomp", "libomp"}).size(), 1U);
  at::set_num_threads(threads_before);
}

TEST(Products, TheBestRouteHasNoProblem) {
  EXPECT_EQ(products_problem(best_products()), "");
  EXPECT_EQ(products_problem(Products::mkl), "");
  if (!onednn().multiplies_bf16) {
    EXPECT_NE(products_problem(Products::onednn), "");
  }
}

}  // namespace
}  // namespace autoglm::ops
