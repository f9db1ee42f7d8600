#include "tests/cuda_on_host/runtime/queue.h"

#include <atomic>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <utility>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/sanitizer.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

thread_local bool t_is_stream = false;

}  // namespace

void Ticket::finish() {
  happened(this);
  const Unseen unseen;
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    when_ = std::chrono::steady_clock::now();
  }
  changed_.notify_all();
}

void Ticket::wait() {
  {
    const Unseen unseen;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
    if (!t_is_stream) host_has_waited_ = true;
  }
  seen(this);
}

bool Ticket::host_has_waited() {
  const Unseen unseen;
  const std::lock_guard lock(mutex_);
  return host_has_waited_;
}

bool Ticket::ready() {
  bool done = false;
  {
    const Unseen unseen;
    const std::lock_guard lock(mutex_);
    done = done_;
  }
  if (done && is_of_caller()) seen(this);
  return done;
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
  auto item = std::make_unique<Item>(Item{std::move(work)});
  happened(item.get());
  const Unseen unseen;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
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
  } catch (const std::logic_error& broken) {  // of device code, which stops a device so
    std::fprintf(stderr, "cuda_on_host: Assertion `%s` failed.\n", broken.what());
    fail_device(cudaErrorAssert);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_on_host: work on a stream failed: %s\n", error.what());
    fail_device(cudaErrorLaunchFailure);
  }
}

// The next piece of work; null at the end.
std::unique_ptr<Queue::Item> Queue::take() {
  const Unseen unseen;
  std::unique_lock lock(mutex_);
  busy_ = false;
  changed_.wait(lock, [&] { return ended_ || !queue_.empty(); });
  if (queue_.empty()) return nullptr;
  std::unique_ptr<Item> item = std::move(queue_.front());
  queue_.pop_front();
  busy_ = true;
  return item;
}

void Queue::run() {
  t_is_stream = true;
  work_on_card(card_);
  while (std::unique_ptr<Item> item = take()) {
    if (const int longest = settings().longest_delay_us; longest > 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % longest));
    }
    seen(item.get());
    perform(item->work);
    const Unseen unseen;
    item.reset();
  }
}

}  // namespace cuda_on_host
