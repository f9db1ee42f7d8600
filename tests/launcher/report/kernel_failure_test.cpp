// What a person reads when a kernel meets a broken invariant, where there is a device.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <exception>
#include <string>

#include "base/error.h"
#include "launcher/report/failure.h"
#include "sharding/cuda/cuda_allocator.h"
#include "sharding/cuda/cuda_devices.h"
#include "sharding/cuda/cuda_stream.h"
#include "trainer/ops/embedding.h"

namespace autoglm {
namespace {

constexpr std::int64_t kRows = 12;

// Rows of a table by ids, one of which is none of its rows.
void gather_outside_of_the_table() {
  const at::TensorOptions card = at::TensorOptions().device(at::kCUDA, 0);
  const at::Tensor table = at::empty({kRows, 8}, card.dtype(at::kFloat));
  const at::Tensor ids = at::full({2, 4}, kRows, card.dtype(at::kLong));
  at::Tensor rows = at::empty({2, 4, 8}, card.dtype(at::kFloat));
  ops::embedding_forward_cuda(ids, table, rows);
}

FailureSummary summary_of(const std::exception_ptr& failure) {
  return failure ? summarize_failure(failure) : FailureSummary{0, "nothing failed"};
}

TEST(KernelFailure, IsABugThatItNamesForWhoeverAsksNext) {
  if (probe_cuda().num_devices == 0) GTEST_SKIP() << "no CUDA device";
  load_libtorch_cuda();
  use_cuda_device(0);
  const auto stream = make_cuda_stream(0);
  std::exception_ptr of_libtorch, of_stream;
  testing::internal::CaptureStderr();
  gather_outside_of_the_table();
  try {
    at::empty({1}, at::TensorOptions().device(at::kCUDA, 0)).to(at::kCPU);
  } catch (...) {
    of_libtorch = std::current_exception();
  }
  try {
    stream->record().synchronize();
  } catch (...) {
    of_stream = std::current_exception();
  }
  EXPECT_NE(testing::internal::GetCapturedStderr().find("rows that are gathered lie in the table"),
            std::string::npos);
  for (const std::exception_ptr& failure : {of_libtorch, of_stream}) {
    const FailureSummary summary = summary_of(failure);
    EXPECT_EQ(summary.exit_code, static_cast<int>(ExitCode::bug)) << summary.sentence;
    EXPECT_NE(summary.sentence.find("a kernel met a broken invariant"), std::string::npos)
        << summary.sentence;
  }
}

}  // namespace
}  // namespace autoglm
