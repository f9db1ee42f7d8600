// Threads of a block as fibers: each has a stack of its own, and runs until it gives way.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <vector>

namespace cuda_on_host {

class Fibers {
 public:
  Fibers() = default;
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  // Runs body(i) for i below count, turn by turn in the order of the seed: 0 upwards, 1 downwards, others mixed.
  // Throws what a body throws, and when a whole turn came to nothing.
  void run(int count, int order, const std::function<void(int)>& body);

  // In a body: lets the others run. progressed() says that this turn came to something.
  void give_way();
  void progressed() { ++progress_; }

 private:
  struct Fiber {
    char* stack = nullptr;
    void* top = nullptr;        // of the stack while it does not run
    void* sanitizer = nullptr;  // its name for the fiber
    bool done = true;
  };

  void make(int count);
  void prepare(Fiber& fiber);
  void resume(int place);
  static void entry();

  std::vector<Fiber> fibers_;
  int current_ = 0, alive_ = 0;
  long progress_ = 0;
  void* caller_top_ = nullptr;
  void* caller_sanitizer_ = nullptr;
  const std::function<void(int)>* body_ = nullptr;
  std::exception_ptr failure_;
};

}  // namespace cuda_on_host
