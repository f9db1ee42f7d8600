// LibTorch's kernels, which substitutes play, do to known tensors what LibTorch does to them on the CPU; and arguments that are
// laid out otherwise are refused.
#include <ATen/ATen.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "sharding/cuda/cuda_allocator.h"
#include "sharding/cuda/cuda_devices.h"
#include "sharding/cuda/cuda_memory.h"
#include "sharding/memory/job_memory.h"
#include "trainer/states/streams.h"

// What nvcc calls before main, for each file of device code and each kernel in it.
extern "C" void** __cudaRegisterFatBinary(void* image);
extern "C" void __cudaRegisterFunction(void** binary, const char* function, char*, const char* name, int,
                                       uint3*, uint3*, dim3*, dim3*, int*);

namespace autoglm {
namespace {

const at::Device kCard(at::kCUDA, 0);

class AtenLayout : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    use_cuda_device(0);
    install_job_memory(std::nullopt, make_cuda_locked_mapping(1));
    install_cuda_arena(0, std::int64_t{64} << 20);
    streams = std::make_unique<EngineStreams>(kCard);
  }
  static void TearDownTestSuite() { streams.reset(); }

  static at::Tensor on_card(const at::Tensor& host) {
    return at::empty(host.sizes(), host.options().device(kCard)).copy_(host);
  }
  static void expect_same(const at::Tensor& card, const at::Tensor& host, const char* what) {
    const at::Tensor found = at::empty(card.sizes(), card.options().device(at::kCPU)).copy_(card);
    EXPECT_TRUE(at::equal(found, host)) << what << ": " << found << " instead of " << host;
  }
  static at::Tensor numbers(at::IntArrayRef sizes) {
    return (at::arange(c10::multiply_integers(sizes), at::kFloat) * 0.37f - 3).view(sizes);
  }

  static std::unique_ptr<EngineStreams> streams;
};
std::unique_ptr<EngineStreams> AtenLayout::streams;

TEST_F(AtenLayout, Fills) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kInt, at::kLong}) {
    const at::Tensor host = at::full({37}, 3, type);
    expect_same(at::zeros({37}, host.options().device(kCard)).fill_(3), host, c10::toString(type));
  }
}

TEST_F(AtenLayout, Sums) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor a = numbers({41}).to(type), b = numbers({41}).flip(0).to(type);
    expect_same(on_card(a).add_(on_card(b), 0.5), a.add(b, 0.5), c10::toString(type));
  }
}

TEST_F(AtenLayout, Casts) {
  const at::Tensor host = numbers({43});
  const at::Tensor card = on_card(host);
  expect_same(card.to(at::kBFloat16), host.to(at::kBFloat16), "fp32 to bf16");
  expect_same(on_card(host.to(at::kBFloat16)).to(at::kFloat), host.to(at::kBFloat16).to(at::kFloat),
              "bf16 to fp32");
  expect_same(on_card(host.to(at::kInt)).to(at::kFloat), host.to(at::kInt).to(at::kFloat),
              "integers to fp32");
}

TEST_F(AtenLayout, StridedCopies) {
  const at::Tensor host = numbers({5, 7}), card = on_card(host);
  expect_same(card.t().contiguous(), host.t().contiguous(), "fp32");
  expect_same(at::empty({7, 5}, card.options().dtype(at::kBFloat16)).copy_(card.t()),
              host.t().contiguous().to(at::kBFloat16), "fp32 to bf16");
  const at::Tensor narrow = host.to(at::kBFloat16);
  expect_same(on_card(narrow).t().contiguous(), narrow.t().contiguous(), "bf16");
}

TEST_F(AtenLayout, Reductions) {
  const at::Tensor host = (at::arange(4 * 3 * 6, at::kFloat).remainder(11)).view({4, 3, 6});
  expect_same(on_card(host.to(at::kBFloat16)).sum(1), host.sum(1).to(at::kBFloat16), "sum");
  expect_same(on_card(host.view({12, 6})[5]).argmax(), host.view({12, 6})[5].argmax(), "largest");
}

// Of a file of device code that has some for sm_80.
struct Entry {
  std::uint16_t kind = 2, version = 1;
  std::uint32_t header_bytes = sizeof(Entry);
  std::uint64_t bytes = 0;
  std::uint32_t compressed_bytes = 0, address_bytes = 0;
  std::uint16_t minor = 0, major = 1;
  std::uint32_t architecture = 80, name_offset = 0, name_bytes = 0;
  std::uint64_t flags = 0;
};
struct Binary {
  std::uint32_t magic = 0xBA55ED50;
  std::uint16_t version = 1, header_bytes = 16;
  std::uint64_t bytes = sizeof(Entry);
  Entry entry;
};
struct Image {
  std::uint32_t magic = 0x466243B1, version = 1;
  const Binary* binary = nullptr;
};

TEST_F(AtenLayout, OtherArgumentsAreRefused) {
  static Binary binary;
  static Image image{.binary = &binary};
  static const char function = 0;
  __cudaRegisterFunction(
      __cudaRegisterFatBinary(&image), &function, nullptr,
      "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, "
      "std::array<char*, 1ul> >(int, at::native::FillFunctor<float>, std::array<char*, 1ul>)",
      -1, nullptr, nullptr, nullptr, nullptr, nullptr);
  const at::Tensor card = on_card(numbers({8}));
  int count = 8;
  float value = 2;
  void* data = card.data_ptr();
  const auto launch = [&](std::array<void*, 3> arguments) {
    return cudaLaunchKernel(&function, dim3(1), dim3(128), arguments.data(), 0,
                            static_cast<cudaStream_t>(streams->compute().native_handle()));
  };
  EXPECT_EQ(launch({&count, &value, &data}), cudaSuccess);
  streams->compute().synchronize();
  expect_same(card, at::full({8}, 2, at::kFloat), "filled");
  ::testing::internal::CaptureStderr();
  EXPECT_NE(launch({&count, &data, &value}), cudaSuccess);
  count = 1 << 30;
  EXPECT_NE(launch({&count, &value, &data}), cudaSuccess);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("arguments of another layout than that of LibTorch 2.11"));
  static_cast<void>(cudaGetLastError());
}

}  // namespace
}  // namespace autoglm
