// What a step moves and computes, beside the bytes that it holds: counted while it is rehearsed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace autoglm {

enum class WorkKind : std::uint8_t {
  products,        // operands of matrix products, and results that go on as activations
  sums,            // fp32 sums of several products, until they are rounded
  norms,           // RMSNorm and LayerNorm
  rotary,          // rotary position embedding
  activations,     // SwiGLU and ReLU
  attention,       // scores, softmax, and the product with the values
  residuals,       // additions to the stream
  embedding,       // rows of the tables
  head,            // logits, their loss and their gradient
  gradients,       // of weights: zeroed, written or added to by products, added up over micro-batches
  optimizer,       // norm of the gradients and AdamW on the device
  host_optimizer,  // the same in host memory
  gathers,         // bytes that a rank sends to others, of weights
  reductions,      // the same of gradients, which are added up
  uploads,         // from host to device
  downloads,       // from device to host
};
inline constexpr std::size_t kNumWorkKinds = 16;

constexpr std::string_view work_name(WorkKind kind) {
  constexpr std::array<std::string_view, kNumWorkKinds> names = {
      "products",  "sums of products", "norms",   "rotary",    "activations", "attention",
      "residuals", "embedding",        "head",    "gradients", "optimizer",   "host optimizer",
      "gathered",  "reduced",          "uploads", "downloads"};
  return names[static_cast<std::size_t>(kind)];
}

// Bytes of memory or of a link, kernels started, and floating-point operations of products (two for each
// product of two numbers and its addition).
struct Work {
  std::int64_t read = 0;
  std::int64_t written = 0;
  std::int64_t launches = 0;
  std::int64_t operations = 0;

  std::int64_t bytes() const { return read + written; }
  void add(const Work& other, std::int64_t times = 1);
  bool operator==(const Work&) const = default;
};

class WorkCount {
 public:
  const Work& operator[](WorkKind kind) const { return by_kind_[static_cast<std::size_t>(kind)]; }
  void add(WorkKind kind, const Work& work, std::int64_t times = 1) {
    by_kind_[static_cast<std::size_t>(kind)].add(work, times);
  }
  void add(const WorkCount& other, std::int64_t times = 1);
  // Without it from here on.
  void leave_out(WorkKind kind) { by_kind_[static_cast<std::size_t>(kind)] = Work(); }

  bool operator==(const WorkCount&) const = default;

 private:
  std::array<Work, kNumWorkKinds> by_kind_{};
};

// Adds to the count of the calling thread, if one is kept.
void count_work(WorkKind kind, const Work& work);

// Keeps a count of what the calling thread declares, until it ends. Not nestable.
class WorkCounter {
 public:
  WorkCounter();
  ~WorkCounter();
  WorkCounter(const WorkCounter&) = delete;
  WorkCounter& operator=(const WorkCounter&) = delete;

  // What was counted since the last call.
  WorkCount take();

 private:
  friend void count_work(WorkKind kind, const Work& work);
  WorkCount count_;
};

// What is counted in its scope counts so many times: a rehearsal runs one of several equal pieces.
class RepeatedWork {
 public:
  explicit RepeatedWork(std::int64_t times);
  ~RepeatedWork();
  RepeatedWork(const RepeatedWork&) = delete;
  RepeatedWork& operator=(const RepeatedWork&) = delete;

 private:
  std::int64_t before_;
};

}  // namespace autoglm
