#include <ATen/Functions.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "scripts/gpu_check/run_training.h"
#include "sharding/agree.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

double elapsed_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Seconds of a collective: the median of `times` of the slowest rank each, after one that connects. `prepare` leaves
// nothing under way.
template <typename Prepare, typename Collective>
double time_collective(Communicator& communicator, int times, const Prepare& prepare,
                       const Collective& collective) {
  std::vector<double> seconds;
  for (int i = -1; i < times; ++i) {
    prepare();
    communicator.barrier().synchronize();
    const Clock::time_point start = Clock::now();
    collective().synchronize();
    const double slowest = most(communicator, elapsed_since(start));
    if (i >= 0) seconds.push_back(slowest);
  }
  const auto middle = seconds.begin() + times / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

void fill(at::Tensor& values, float number) {
  values.fill_(number);
  static_cast<void>(values.narrow(0, 0, 1).cpu());  // waits
}

// The ends of what was received hold one number everywhere.
void check(const char* what, const at::Tensor& received, int size, float wanted) {
  const std::int64_t count = std::min<std::int64_t>(received.numel(), std::int64_t{1} << 18);
  for (const std::int64_t start : {std::int64_t{0}, received.numel() - count}) {
    const at::Tensor part = received.narrow(0, start, count).cpu();
    const auto* const values = part.const_data_ptr<float>();
    const auto* const wrong =
        std::find_if(values, values + count, [&](float value) { return value != wanted; });
    if (wrong != values + count) {
      fail(ExitCode::bug, "{} among {} ranks gave {} instead of {}", what, size, *wrong, wanted);
    }
  }
}

}  // namespace

json run_width(const RunRequest& request, std::span<const std::int64_t> sizes, JobDevice& device) {
  const Clock::time_point begin = Clock::now();
  Communicator& communicator = device.communicator();
  const int size = communicator.size(), rank = communicator.rank();
  // On a CPU any memory will do, and the device's pool may be small.
  const PoolScope pool(device.is_cuda() ? MemoryPool::device : MemoryPool::host);
  const CategoryScope category(MemoryCategory::staging);
  json measured = json::array();
  for (const std::int64_t bytes : sizes) {
    if (most(communicator, elapsed_since(begin)) > request.seconds) break;
    const std::int64_t count = bytes / 4 / size;
    at::Tensor whole =
        at::zeros({count * size}, at::TensorOptions().dtype(at::kFloat).device(device.device()));
    auto* const values = static_cast<float*>(whole.mutable_data_ptr());
    float* const mine = values + count * rank;
    const int times = bytes >= (std::int64_t{1} << 28) ? 5 : 11;
    const double reduce = time_collective(
        communicator, times, [&] { fill(whole, static_cast<float>(rank + 1)); },
        [&] { return communicator.reduce_scatter(values, mine, count, Event()); });
    const auto sum = static_cast<float>(size * (size + 1) / 2);
    check("a reduce-scatter", whole.narrow(0, count * rank, count), size, sum);
    fill(whole, static_cast<float>(rank + 1) + (size > 1 ? 1.0F / 1024 : 0));  // the fraction is rounded away
    communicator.reduce_scatter(values, mine, count, Parts::bf16, Event()).synchronize();
    check("a reduce-scatter in bf16", whole.narrow(0, count * rank, count), size, sum);
    fill(whole, 7);
    const double gather = time_collective(
        communicator, times, [] {},
        [&] { return communicator.all_gather(mine, values, count * 4, Event()); });
    check("a gather", whole, size, 7);
    const double sent = 4.0 * static_cast<double>(count) * (size - 1);
    measured.push_back(
        {{"bytes", count * size * 4}, {"all_gather", sent / gather}, {"reduce_scatter", sent / reduce}});
  }
  const Rates rates = device.guessed_rates(size, request.precision);
  return {{"device", device.name()},
          {"ranks", size},
          {"sizes", measured},
          {"foreseen",
           {{"all_gather", rates.link_bandwidth},
            {"reduce_scatter", rates.message_bandwidth}}}};
}

}  // namespace autoglm
