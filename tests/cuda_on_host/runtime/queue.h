// A stream is a queue of work with a thread; an event is the ticket of a place in it.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

namespace cuda_on_host {

using Work = std::function<void()>;

class Ticket {
 public:
  Ticket() : owner_(std::this_thread::get_id()) {}

  void finish();
  void wait();
  // Orders the work before it and that which the caller queues later, if the caller has made the ticket: other threads
  // watch streams for other reasons.
  bool ready();
  bool is_of_caller() const { return owner_ == std::this_thread::get_id(); }
  bool host_has_waited();  // some thread of the host, by wait()
  std::chrono::steady_clock::time_point when();

 private:
  std::thread::id owner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false, host_has_waited_ = false;
  std::chrono::steady_clock::time_point when_;
};

class Queue {
 public:
  explicit Queue(int card);
  ~Queue();  // after all of its work
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Exceptions of work become the device's lasting error.
  void push(Work work);
  std::shared_ptr<Ticket> mark();
  void synchronize() { mark()->wait(); }
  bool idle();
  int card() const { return card_; }

 private:
  // What a call has queued: the call comes before it, and with it nothing that the caller did later.
  struct Item {
    Work work;
  };

  void run();
  std::unique_ptr<Item> take();
  static void perform(const Work& work);

  int card_;
  std::minstd_rand random_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Item>> queue_;
  bool busy_ = false, ended_ = false;
  std::thread thread_;
};

// Null for a handle that is no stream.
std::shared_ptr<Queue> find_queue(cudaStream_t stream);

// Waits for all streams of the card.
void synchronize_card(int card);

}  // namespace cuda_on_host
