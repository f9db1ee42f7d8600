// What the other pretend libraries and the substitutes of kernels ask of the runtime.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

extern "C" {

// Device pointers are addresses at which nothing is mapped, so that a host thread that follows one faults. Work on
// streams uses the second mapping of the same memory, which this finds.
void* cuda_on_host_view(const void* pointer);

// Whether all these bytes lie in device memory of the card, or with card -1 in that of any.
bool cuda_on_host_covers(const void* pointer, std::size_t bytes, int card);

// Queues work that is the library's own; it is not bound by what a host function may do.
cudaError_t cuda_on_host_submit(cudaStream_t stream, void (*work)(void*), void* data);

// The card of a stream; the default stream's is the thread's.
int cuda_on_host_card(cudaStream_t stream);

bool cuda_on_host_charge(int card, std::int64_t bytes);

// finds_none() of shortage.h; the number is that of a Taker.
bool cuda_on_host_finds_none(int taker);
bool cuda_on_host_bytes_only();
bool cuda_on_host_sees_dead_peers();
bool cuda_on_host_traces();
bool cuda_on_host_counts_messages();
int cuda_on_host_refuse(const char* function);
}

namespace cuda_on_host {

// Queues a callable.
template <typename Work>
cudaError_t submit(cudaStream_t stream, Work work) {
  if (cuda_on_host_bytes_only()) return cudaSuccess;
  auto* const owned = new Work(std::move(work));
  const auto run = [](void* raw) {
    const std::unique_ptr<Work> mine(static_cast<Work*>(raw));
    (*mine)();
  };
  const cudaError_t status = cuda_on_host_submit(stream, run, owned);
  if (status != cudaSuccess) delete owned;
  return status;
}

template <typename T>
T* view(T* pointer) {
  return static_cast<T*>(cuda_on_host_view(pointer));
}

}  // namespace cuda_on_host
