// Streams and events: ordered queues of work, and points in them that others can wait for.
//
// One interface over two implementations: CUDA streams, and host streams (a worker thread with a queue),
// so that the protocol a GPU sees is exercised on machines without one. Compute on a host runs on the
// calling thread: its stream is an inline one, whose waits block the caller.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "sharding/work.h"

namespace autoglm {

// A point in a stream. Cheap to copy (a shared handle); thread-safe. A default-constructed event has
// completed already.
class Event {
 public:
  // What an implementation provides. `wait` blocks the calling thread; it rethrows the exception of the
  // work that failed before the event, if any.
  class State {
   public:
    virtual ~State() = default;
    virtual bool ready() const = 0;
    virtual void wait() const = 0;
  };

  Event() = default;
  explicit Event(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  // True once all work submitted before the event was recorded is finished. Never blocks.
  bool ready() const { return !state_ || state_->ready(); }

  // Blocks the calling thread until ready. Rethrows what the stream's work threw before this point.
  void synchronize() const {
    if (state_) state_->wait();
  }

  const State* state() const { return state_.get(); }

 private:
  std::shared_ptr<const State> state_;
};

// Blocks until the event is ready, whatever came of the work before it: for owners of buffers that end.
inline void wait_quietly(const Event& event) {
  try {
    event.synchronize();
  } catch (const std::exception&) {
  }
}

// Work in order. Submitting is asynchronous unless the stream is an inline one. All calls are for one thread
// at a time. After work has thrown on a host stream, its later work is skipped, and every event recorded
// later, as well as synchronize(), rethrows that first exception; so does a stream that waits for such an
// event. Work that is called by the submitting thread itself (inline and CUDA streams) throws to the caller
// of submit() and leaves the stream as it was.
class Stream {
 public:
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Queues `work`. On a host stream it runs on the worker thread, and what it captured is destroyed before
  // a later event is ready; on a CUDA stream it is called at once by the caller and must only launch onto
  // native_handle().
  virtual void submit(std::function<void()> work) = 0;

  // Queues a copy of `bytes` bytes; the ranges must not overlap and must stay valid until it is done.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;

  // Marks the present end of the queue.
  virtual Event record() = 0;

  // Later work of this stream starts only once `event` is ready. Does not block the caller, except on
  // an inline stream.
  virtual void wait(const Event& event) = 0;

  // Blocks the calling thread until the queue is empty.
  virtual void synchronize() = 0;

  // cudaStream_t of a CUDA stream, null otherwise.
  virtual void* native_handle() const { return nullptr; }

 protected:
  Stream() = default;
};

// A worker thread with a queue; `name` shows in debuggers (at most 15 characters are kept). The
// destructor drains the queue and joins; events may outlive the stream.
std::unique_ptr<Stream> make_host_stream(const std::string& name);

// Runs everything at once on the calling thread.
std::unique_ptr<Stream> make_inline_stream();

// The same for a rehearsal: copies are only counted, as work of that kind. Pointers may be null.
std::unique_ptr<Stream> make_counting_stream(WorkKind copies);

// Test hook: before each piece of work, host streams sleep for a random time of up to `microseconds`,
// drawn from `seed` and the stream's name. 0 turns it off. Set before streams are made.
void set_host_stream_delay(unsigned microseconds, unsigned seed);

}  // namespace autoglm
