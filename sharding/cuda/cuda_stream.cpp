#include "sharding/cuda/cuda_stream.h"

#include <cuda_runtime_api.h>

#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "sharding/cuda/cuda_check.h"

namespace autoglm {
namespace {

// The device that this thread has entered; none at first, when the runtime takes 0 for it.
thread_local int entered = -1;

// Makes a device the calling thread's, for good: a process computes on one device. Threads begin with device 0,
// and one that used it, or went back to it, would make a context there, of half a gigabyte.
cudaError_t try_to_enter(int device) {
  int now = -1;
  const cudaError_t status = cudaGetDevice(&now);
  if (status == cudaSuccess && now == device && entered == device) return cudaSuccess;
  entered = device;
  return cudaSetDevice(device);
}

void enter(int device) {
  check_cuda(try_to_enter(device), "cudaSetDevice");
}

// Where nothing may be thrown: what follows reports the failure, or nobody asks for it.
void enter_quietly(int device) noexcept {
  static_cast<void>(try_to_enter(device));
}

// The first exception of a host event that a CUDA stream waited for. CUDA cannot carry it from stream to
// stream, so, as after an error of its own, every stream reports it from then on.
class HostFailure {
 public:
  static HostFailure& instance() {
    static HostFailure failure;
    return failure;
  }
  void set(std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(failure);
  }
  void rethrow() const {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  mutable std::mutex mutex_;
  std::exception_ptr failure_;
};

class CudaEvent : public Event::State {
 public:
  // Of the calling thread's device, which is `device`.
  CudaEvent(int device, cudaStream_t stream) : device_(device) {
    // Waiting threads sleep: a spinning one would take a core from the data loader.
    AUTOGLM_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync));
    const cudaError_t status = cudaEventRecord(event_, stream);
    if (status == cudaSuccess) return;
    static_cast<void>(cudaEventDestroy(event_));
    check_cuda(status, "cudaEventRecord");
  }
  ~CudaEvent() override {
    enter_quietly(device_);
    static_cast<void>(cudaEventDestroy(event_));
  }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  // A failed device is ready: wait() tells.
  bool ready() const override {
    enter_quietly(device_);
    return cudaEventQuery(event_) != cudaErrorNotReady;
  }

  void wait() const override {
    enter(device_);
    AUTOGLM_CUDA_CHECK(cudaEventSynchronize(event_));
    HostFailure::instance().rethrow();
  }

  cudaEvent_t handle() const { return event_; }

 private:
  int device_;
  cudaEvent_t event_ = nullptr;
};

// A host event that a CUDA stream waits for; owned by the callback.
struct HostWait {
  Event event;

  static void run(void* raw) noexcept {
    const std::unique_ptr<HostWait> self(static_cast<HostWait*>(raw));
    try {
      self->event.synchronize();
    } catch (...) {
      HostFailure::instance().set(std::current_exception());
    }
  }
};

class CudaStream : public Stream {
 public:
  CudaStream(int device, bool high_priority) : device_(device) {
    enter(device_);
    int least = 0, greatest = 0;
    AUTOGLM_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    AUTOGLM_CUDA_CHECK(
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, high_priority ? greatest : least));
  }
  CudaStream(int device, cudaStream_t borrowed) : device_(device), owns_(false), stream_(borrowed) {}

  ~CudaStream() override {
    if (!owns_) return;
    enter_quietly(device_);
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }

  void submit(std::function<void()> work) override {
    enter(device_);
    work();
  }

  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes == 0) return;
    enter(device_);
    AUTOGLM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
  }

  Event record() override {
    enter(device_);
    return Event(std::make_shared<CudaEvent>(device_, stream_));
  }

  void wait(const Event& event) override {
    if (!event.state()) return;
    enter(device_);
    if (const auto* cuda = dynamic_cast<const CudaEvent*>(event.state())) {
      AUTOGLM_CUDA_CHECK(cudaStreamWaitEvent(stream_, cuda->handle(), 0));
      return;
    }
    auto waiting = std::make_unique<HostWait>(HostWait{event});
    AUTOGLM_CUDA_CHECK(cudaLaunchHostFunc(stream_, &HostWait::run, waiting.get()));
    static_cast<void>(waiting.release());
  }

  void synchronize() override {
    enter(device_);
    AUTOGLM_CUDA_CHECK(cudaStreamSynchronize(stream_));
    HostFailure::instance().rethrow();
  }

  void* native_handle() const override { return stream_; }

 private:
  int device_;
  bool owns_ = true;
  cudaStream_t stream_ = nullptr;
};

// Pairs of events, reused once they were read.
class EventStopwatch : public CudaStopwatch {
 public:
  explicit EventStopwatch(int device) : device_(device) {}
  ~EventStopwatch() override {
    enter_quietly(device_);
    for (const Piece& piece : pieces_) {
      static_cast<void>(cudaEventDestroy(piece.begin));
      static_cast<void>(cudaEventDestroy(piece.end));
    }
  }
  EventStopwatch(const EventStopwatch&) = delete;
  EventStopwatch& operator=(const EventStopwatch&) = delete;

  void start(Stream& stream) override {
    enter(device_);
    if (used_ == pieces_.size()) {
      pieces_.emplace_back();
      AUTOGLM_CUDA_CHECK(cudaEventCreate(&pieces_.back().begin));
      AUTOGLM_CUDA_CHECK(cudaEventCreate(&pieces_.back().end));
    }
    AUTOGLM_CUDA_CHECK(
        cudaEventRecord(pieces_[used_].begin, static_cast<cudaStream_t>(stream.native_handle())));
  }
  void stop(Stream& stream) override {
    enter(device_);
    AUTOGLM_CUDA_CHECK(
        cudaEventRecord(pieces_[used_].end, static_cast<cudaStream_t>(stream.native_handle())));
    ++used_;
  }
  double take_seconds() override {
    enter(device_);
    double milliseconds = 0;
    for (std::size_t i = 0; i < used_; ++i) {
      float piece = 0;
      AUTOGLM_CUDA_CHECK(cudaEventSynchronize(pieces_[i].end));
      AUTOGLM_CUDA_CHECK(cudaEventElapsedTime(&piece, pieces_[i].begin, pieces_[i].end));
      milliseconds += static_cast<double>(piece);
    }
    used_ = 0;
    return milliseconds / 1000;
  }

 private:
  struct Piece {
    cudaEvent_t begin = nullptr, end = nullptr;
  };
  int device_;
  std::vector<Piece> pieces_;
  std::size_t used_ = 0;
};

}  // namespace

std::unique_ptr<Stream> make_cuda_stream(int device, bool high_priority) {
  return std::make_unique<CudaStream>(device, high_priority);
}

std::unique_ptr<Stream> wrap_cuda_stream(int device, void* stream) {
  return std::make_unique<CudaStream>(device, static_cast<cudaStream_t>(stream));
}

std::unique_ptr<CudaStopwatch> make_cuda_stopwatch(int device) {
  return std::make_unique<EventStopwatch>(device);
}

void check_cuda_launch(const char* what) {
  check_cuda(cudaGetLastError(), what);
}

}  // namespace autoglm
