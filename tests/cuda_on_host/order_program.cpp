// Two streams fill the same memory: order_program CASE. With what the case does between them, the second comes after the
// first or not; ThreadSanitizer must see just that, however the threads happened to run.
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace {

constexpr std::size_t kBytes = 4096;

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "order_program: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

void linger() {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

struct Streams {
  cudaStream_t first = nullptr, second = nullptr;
  cudaEvent_t filled = nullptr;
  void* memory = nullptr;
  void* elsewhere = nullptr;

  Streams() {
    check(cudaSetDevice(0));
    check(cudaMalloc(&memory, kBytes));
    check(cudaMalloc(&elsewhere, kBytes));
    check(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    check(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    check(cudaEventCreateWithFlags(&filled, cudaEventDisableTiming));
    check(cudaMemsetAsync(memory, 1, kBytes, first));
    check(cudaEventRecord(filled, first));
  }
  void fill_on_second() { check(cudaMemsetAsync(memory, 2, kBytes, second)); }
  void touch(cudaStream_t stream) { check(cudaMemsetAsync(elsewhere, 3, kBytes / 2, stream)); }
};

void wait_on_stream(Streams& streams) {
  check(cudaStreamWaitEvent(streams.second, streams.filled, 0));
  streams.fill_on_second();
}

void wait_on_host(Streams& streams) {
  check(cudaStreamSynchronize(streams.first));
  streams.fill_on_second();
}

void ask(Streams& streams) {
  while (cudaEventQuery(streams.filled) == cudaErrorNotReady) linger();
  streams.fill_on_second();
}

void wait_by_chance(Streams& streams) {
  linger();
  streams.fill_on_second();
}

// The caller and the first stream meet at the locks of its queue and of its event.
void queue_more(Streams& streams) {
  linger();
  streams.touch(streams.first);
  check(cudaEventDestroy(streams.filled));
  streams.fill_on_second();
}

// What a caller waits for comes before what it queues then, not before what it has queued already.
void wait_too_late(Streams& streams) {
  const auto sleep = [](void*) { linger(); };
  check(cudaLaunchHostFunc(streams.second, sleep, nullptr));
  streams.fill_on_second();
  check(cudaEventSynchronize(streams.filled));
  check(cudaLaunchHostFunc(streams.second, sleep, nullptr));
}

// Another thread sees the event, and meets the caller at a lock.
void watch(Streams& streams) {
  std::mutex mutex;
  std::thread watcher([&] {
    check(cudaSetDevice(0));
    while (cudaEventQuery(streams.filled) == cudaErrorNotReady) linger();
    const std::lock_guard lock(mutex);
  });
  linger();
  {
    const std::lock_guard lock(mutex);
    streams.fill_on_second();
  }
  watcher.join();
}

const std::map<std::string, std::function<void(Streams&)>> kCases = {
    {"wait_on_stream", wait_on_stream},
    {"wait_on_host", wait_on_host},
    {"ask", ask},
    {"wait_by_chance", wait_by_chance},
    {"queue_more", queue_more},
    {"wait_too_late", wait_too_late},
    {"watch", watch},
};

}  // namespace

int main(int count, char** words) {
  const auto found = count == 2 ? kCases.find(words[1]) : kCases.end();
  if (found == kCases.end()) {
    std::fprintf(stderr, "order_program: no such case\n");
    return 64;
  }
  Streams streams;
  found->second(streams);
  check(cudaDeviceSynchronize());
  return 0;
}
