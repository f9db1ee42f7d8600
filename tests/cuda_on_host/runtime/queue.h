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
  void finish();
  void wait();
  bool ready();
  std::chrono::steady_clock::time_point when();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
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
  void run();
  static void perform(const Work& work);

  int card_;
  std::minstd_rand random_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  bool busy_ = false, ended_ = false;
  std::thread thread_;
};

// Null for a handle that is no stream.
std::shared_ptr<Queue> find_queue(cudaStream_t stream);

// Waits for all streams of the card.
void synchronize_card(int card);

}  // namespace cuda_on_host
