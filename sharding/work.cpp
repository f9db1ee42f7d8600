#include "sharding/work.h"

#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

thread_local WorkCounter* counter_of_thread = nullptr;
thread_local std::int64_t times_of_thread = 1;

}  // namespace

void Work::add(const Work& other, std::int64_t times) {
  read += times * other.read;
  written += times * other.written;
  launches += times * other.launches;
  operations += times * other.operations;
}

void WorkCount::add(const WorkCount& other, std::int64_t times) {
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) by_kind_[i].add(other.by_kind_[i], times);
}

void count_work(WorkKind kind, const Work& work) {
  if (counter_of_thread != nullptr) counter_of_thread->count_.add(kind, work, times_of_thread);
}

WorkCounter::WorkCounter() {
  AUTOGLM_CHECK(counter_of_thread == nullptr, "work is counted already");
  counter_of_thread = this;
}

WorkCounter::~WorkCounter() {
  counter_of_thread = nullptr;
}

WorkCount WorkCounter::take() {
  return std::exchange(count_, WorkCount());
}

RepeatedWork::RepeatedWork(std::int64_t times) : before_(std::exchange(times_of_thread, times)) {}

RepeatedWork::~RepeatedWork() {
  times_of_thread = before_;
}

}  // namespace autoglm
