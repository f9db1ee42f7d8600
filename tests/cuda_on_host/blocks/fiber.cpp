#include "tests/cuda_on_host/blocks/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <utility>

// Saves the registers that a call keeps, and goes on where another stack was left.
extern "C" void cuda_on_host_switch_stack(void** save, void* next);
asm(R"(
.text
.type cuda_on_host_switch_stack,@function
cuda_on_host_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

#ifdef __SANITIZE_THREAD__
extern "C" void* __tsan_create_fiber(unsigned flags);
extern "C" void* __tsan_get_current_fiber();
extern "C" void __tsan_switch_to_fiber(void* fiber, unsigned flags);
#else
namespace {
void* __tsan_create_fiber(unsigned) {
  return nullptr;
}
void* __tsan_get_current_fiber() {
  return nullptr;
}
void __tsan_switch_to_fiber(void*, unsigned) {}
}  // namespace
#endif

namespace cuda_on_host {
namespace {

constexpr std::size_t kStack = 64 << 10;
constexpr int kSavedRegisters = 6;

thread_local Fibers* t_running = nullptr;

int place_of(int turn, int count, int order) {
  if (order == 0) return turn;
  if (order == 1) return count - 1 - turn;
  constexpr std::int64_t kPrime = 100003;  // of no common divisor with a block's size
  return static_cast<int>((turn * kPrime + order) % count);
}

}  // namespace

Fibers::~Fibers() {
  for (const Fiber& fiber : fibers_) munmap(fiber.stack, kStack);
}

void Fibers::make(int count) {
  while (static_cast<int>(fibers_.size()) < count) {
    Fiber fiber;
    void* at =
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    fiber.stack = static_cast<char*>(at);
    fiber.sanitizer = __tsan_create_fiber(0);
    fibers_.push_back(fiber);
  }
}

// A stack as the switch leaves one, with entry() to return to.
void Fibers::prepare(Fiber& fiber) {
  auto** top = reinterpret_cast<void**>(fiber.stack + kStack);
  *--top = nullptr;  // keeps the stack aligned as at a call
  *--top = reinterpret_cast<void*>(&Fibers::entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber.top = top;
  fiber.done = false;
}

__attribute__((no_sanitize("thread"))) void Fibers::entry() {
  Fibers& all = *t_running;
  try {
    (*all.body_)(all.current_);
  } catch (...) {
    if (!all.failure_) all.failure_ = std::current_exception();
  }
  all.fibers_[all.current_].done = true;
  --all.alive_;
  all.progressed();
  all.give_way();
  std::abort();
}

__attribute__((no_sanitize("thread"))) void Fibers::give_way() {
  __tsan_switch_to_fiber(caller_sanitizer_, 0);
  cuda_on_host_switch_stack(&fibers_[current_].top, caller_top_);
}

__attribute__((no_sanitize("thread"))) void Fibers::resume(int place) {
  current_ = place;
  __tsan_switch_to_fiber(fibers_[place].sanitizer, 0);
  cuda_on_host_switch_stack(&caller_top_, fibers_[place].top);
}

void Fibers::run(int count, int order, const std::function<void(int)>& body) {
  make(count);
  for (int i = 0; i < count; ++i) prepare(fibers_[i]);
  body_ = &body;
  alive_ = count;
  caller_sanitizer_ = __tsan_get_current_fiber();
  t_running = this;
  while (alive_ > 0) {
    const long before = progress_;
    for (int turn = 0; turn < count; ++turn) {
      const int place = place_of(turn, count, order);
      if (!fibers_[place].done) resume(place);
    }
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    if (progress_ == before) throw std::runtime_error("a barrier that not all threads of a block reach");
  }
}

}  // namespace cuda_on_host
