#include "trainer/states/activation_store.h"

#include <ATen/ops/empty.h>

#include <utility>

#include "base/error.h"
#include "trainer/states/block_state.h"

namespace autoglm {

ActivationStore::ActivationStore(std::int64_t first, std::span<const std::int64_t> elements,
                                 at::ScalarType type, at::Device device, EngineStreams& streams)
    : first_(first), device_(device), streams_(streams), entries_(elements.size()) {
  for (std::size_t i = 0; i < elements.size(); ++i) {
    entries_[i].on_host =
        allocate_flat(elements[i], type, device, MemoryCategory::activations, MemoryPool::host);
  }
}

ActivationStore::~ActivationStore() {
  for (const Entry& entry : entries_) {
    wait_quietly(entry.saved);
    wait_quietly(entry.loaded);
  }
}

void ActivationStore::save(std::int64_t layer, const at::Tensor& input) {
  Entry& saved = entry(layer);
  AUTOGLM_CHECK(input.numel() == saved.on_host.numel() && input.is_contiguous());
  saved.shape.assign(input.sizes().begin(), input.sizes().end());
  Stream& stream = streams_.download();
  // By then compute has waited for what this buffer held before: take() or clear() came between.
  stream.wait(streams_.compute().record());
  queue_copy(stream, saved.on_host, 0, input.view({-1}), 0, input.numel());
  saved.saved = stream.record();
}

void ActivationStore::settle(std::int64_t layer) {
  streams_.wait_exposed(entry(layer).saved);
}

void ActivationStore::prefetch(std::int64_t layer) {
  Entry& saved = entry(layer);
  if (saved.on_device.defined()) return;
  const CategoryScope scope(MemoryCategory::activations);
  saved.on_device = at::empty({saved.on_host.numel()}, saved.on_host.options().device(device_));
  Stream& stream = streams_.upload();
  // The memory may have been another tensor's until now. Compute has waited for the copy to the host in settle().
  stream.wait(streams_.compute().record());
  queue_copy(stream, saved.on_device, 0, saved.on_host, 0, saved.on_host.numel());
  saved.loaded = stream.record();
}

void ActivationStore::clear() {
  for (Entry& entry : entries_) {
    entry.saved.synchronize();
    entry.loaded.synchronize();
    entry.on_device.reset();
  }
}

at::Tensor ActivationStore::take(std::int64_t layer) {
  prefetch(layer);
  Entry& saved = entry(layer);
  streams_.wait_exposed(saved.loaded);
  return std::exchange(saved.on_device, at::Tensor()).view(saved.shape);
}

}  // namespace autoglm
