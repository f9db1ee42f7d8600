// Streams and events, as the program calls them.
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/ledger.h"
#include "tests/cuda_on_host/runtime/places.h"
#include "tests/cuda_on_host/runtime/queue.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

std::mutex g_mutex;
std::map<cudaStream_t, std::shared_ptr<Queue>>& streams() {
  static auto* streams = new std::map<cudaStream_t, std::shared_ptr<Queue>>;
  return *streams;
}

std::shared_ptr<Queue> default_queue(int card) {
  static auto* queues = new std::shared_ptr<Queue>[kMostCards];
  const std::lock_guard lock(g_mutex);
  if (queues[card] == nullptr) queues[card] = std::make_shared<Queue>(card);
  return queues[card];
}

// Only the last record counts. The handle is the event's address.
struct EventState {
  int card = 0;
  bool timed = true;
  std::shared_ptr<Ticket> ticket;
};

std::map<cudaEvent_t, EventState>& events() {
  static auto* events = new std::map<cudaEvent_t, EventState>;
  return *events;
}

cudaEvent_t add_event(bool timed) {
  static std::uintptr_t next = 0x1000;
  const std::lock_guard lock(g_mutex);
  const auto handle = reinterpret_cast<cudaEvent_t>(next += 16);
  events()[handle] = {current_card(), timed, nullptr};
  return handle;
}

bool find_event(cudaEvent_t handle, EventState& found) {
  const std::lock_guard lock(g_mutex);
  const auto it = events().find(handle);
  if (it != events().end()) found = it->second;
  return it != events().end();
}

cudaError_t unknown_handle() {
  return report(cudaErrorInvalidResourceHandle);
}

}  // namespace

std::shared_ptr<Queue> find_queue(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return default_queue(current_card());
  const std::lock_guard lock(g_mutex);
  const auto it = streams().find(stream);
  return it == streams().end() ? nullptr : it->second;
}

void synchronize_card(int card) {
  std::vector<std::shared_ptr<Queue>> queues{default_queue(card)};
  {
    const std::lock_guard lock(g_mutex);
    for (const auto& [handle, queue] : streams()) {
      if (queue->card() == card) queues.push_back(queue);
    }
  }
  for (const auto& queue : queues) queue->synchronize();
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

extern "C" {

cudaError_t cuda_on_host_submit(cudaStream_t stream, void (*work)(void*), void* data) {
  const auto queue = find_queue(stream);
  if (queue == nullptr) return unknown_handle();
  if (const cudaError_t status = outcome()) return status;
  queue->push([=] { work(data); });
  return cudaSuccess;
}

int cuda_on_host_card(cudaStream_t stream) {
  const auto queue = find_queue(stream);
  return queue == nullptr ? -1 : queue->card();
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  if (const cudaError_t status = enter("cudaStreamCreateWithPriority")) return status;
  if (flags != cudaStreamNonBlocking) {
    return static_cast<cudaError_t>(cuda_on_host_refuse("a stream that waits for the default stream"));
  }
  auto queue = std::make_shared<Queue>(current_card());
  *stream = reinterpret_cast<cudaStream_t>(queue.get());
  const std::lock_guard lock(g_mutex);
  streams()[*stream] = std::move(queue);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t entered = enter("cudaStreamDestroy");
  std::shared_ptr<Queue> last;  // ends outside of the lock
  const std::lock_guard lock(g_mutex);
  const auto it = streams().find(stream);
  if (it == streams().end()) return unknown_handle();
  last = std::move(it->second);
  streams().erase(it);
  return entered;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const cudaError_t entered = enter("cudaStreamSynchronize");
  const auto queue = find_queue(stream);
  if (queue == nullptr) return unknown_handle();
  queue->synchronize();
  return entered != cudaSuccess ? entered : outcome();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t status = enter("cudaStreamQuery")) return status;
  const auto queue = find_queue(stream);
  if (queue == nullptr) return unknown_handle();
  return queue->idle() ? outcome() : cudaErrorNotReady;  // which is not kept as an error
}

cudaError_t cudaDeviceSynchronize() {
  const cudaError_t entered = enter("cudaDeviceSynchronize");
  synchronize_card(current_card());
  return entered != cudaSuccess ? entered : outcome();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t status = enter("cudaStreamWaitEvent")) return status;
  EventState state;
  const auto queue = find_queue(stream);
  if (queue == nullptr || !find_event(event, state)) return unknown_handle();
  if (state.ticket == nullptr || wait_is_left_out("stream")) return cudaSuccess;
  queue->push([ticket = state.ticket] { ticket->wait(); });
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (const cudaError_t status = enter("cudaLaunchHostFunc")) return status;
  const auto queue = find_queue(stream);
  if (queue == nullptr) return unknown_handle();
  if (wait_is_left_out("function")) {
    std::thread([=] { function(data); }).detach();
    return outcome();
  }
  queue->push([=] {
    const HostFunctionScope scope;
    function(data);
  });
  return outcome();
}

// Nothing is ever captured into a graph.
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**,
                                     std::size_t*) {
  *status = cudaStreamCaptureStatusNone;
  if (id != nullptr) *id = 0;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t status = enter("cudaEventCreateWithFlags")) return status;
  *event = add_event((flags & cudaEventDisableTiming) == 0);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const cudaError_t entered = enter("cudaEventDestroy");
  const std::lock_guard lock(g_mutex);
  return events().erase(event) == 1 ? entered : unknown_handle();
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  if (const cudaError_t status = enter("cudaEventRecord")) return status;
  EventState state;
  const auto queue = find_queue(stream);
  if (queue == nullptr || !find_event(event, state) || queue->card() != state.card) return unknown_handle();
  auto ticket = queue->mark();
  const std::lock_guard lock(g_mutex);
  events()[event].ticket = std::move(ticket);
  return outcome();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t status = enter("cudaEventQuery")) return status;
  EventState state;
  if (!find_event(event, state)) return unknown_handle();
  if (state.ticket == nullptr) return outcome();
  const bool hidden = settings().late_queries && !state.ticket->host_has_waited();
  return !hidden && state.ticket->ready() ? outcome() : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const cudaError_t entered = enter("cudaEventSynchronize");
  EventState state;
  if (!find_event(event, state)) return unknown_handle();
  if (state.ticket == nullptr || wait_is_left_out("host"))
    return entered != cudaSuccess ? entered : outcome();
  state.ticket->wait();
  // Work on the host is late too.
  const std::chrono::microseconds delay(settings().longest_delay_us);
  if (!state.ticket->is_of_caller()) std::this_thread::sleep_for(delay);
  return entered != cudaSuccess ? entered : outcome();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (const cudaError_t status = enter("cudaEventElapsedTime")) return status;
  EventState from, to;
  if (!find_event(begin, from) || !find_event(end, to)) return unknown_handle();
  if (!from.timed || !to.timed || from.ticket == nullptr || to.ticket == nullptr) return unknown_handle();
  if (!from.ticket->ready() || !to.ticket->ready()) return report(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(to.ticket->when() - from.ticket->when()).count();
  return cudaSuccess;
}

}  // extern "C"
