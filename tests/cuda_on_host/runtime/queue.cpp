#include "tests/cuda_on_host/runtime/queue.h"

#include <atomic>
#include <cstdio>
#include <exception>
#include <utility>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {

void Ticket::finish() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    when_ = std::chrono::steady_clock::now();
  }
  changed_.notify_all();
}

void Ticket::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_; });
}

bool Ticket::ready() {
  const std::lock_guard lock(mutex_);
  return done_;
}

std::chrono::steady_clock::time_point Ticket::when() {
  const std::lock_guard lock(mutex_);
  return when_;
}

namespace {

// Every stream has delays of its own.
unsigned next_seed() {
  static std::atomic<unsigned> seed{1};
  return seed.fetch_add(7919);
}

}  // namespace

Queue::Queue(int card) : card_(card), random_(next_seed()) {
  if (!settings().immediate) thread_ = std::thread([this] { run(); });
}

Queue::~Queue() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Queue::push(Work work) {
  if (settings().immediate) {
    perform(work);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
  }
  changed_.notify_all();
}

std::shared_ptr<Ticket> Queue::mark() {
  auto ticket = std::make_shared<Ticket>();
  push([ticket] { ticket->finish(); });
  return ticket;
}

bool Queue::idle() {
  const std::lock_guard lock(mutex_);
  return queue_.empty() && !busy_;
}

void Queue::perform(const Work& work) {
  try {
    work();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_on_host: work on a stream failed: %s\n", error.what());
    fail_device(cudaErrorLaunchFailure);
  }
}

void Queue::run() {
  work_on_card(card_);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ended_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    if (const int longest = settings().longest_delay_us; longest > 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % longest));
    }
    perform(work);
    work = nullptr;
    lock.lock();
    busy_ = false;
  }
}

}  // namespace cuda_on_host
