// Runs a collective's plan over messages between neighbours on a ring.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "sharding/abandonment.h"
#include "sharding/ring_plan.h"

namespace autoglm {

// Messages to the next rank and from the previous one. They arrive whole and in the order in which they were
// started; a message must be received with exactly its size. All calls come from one thread, and none of them
// blocks. Failures are Error(peer_lost).
class RingLink {
 public:
  // Messages that may be under way at a time in each direction.
  static constexpr int max_window = 16;

  virtual ~RingLink() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Starts a message; the bytes stay untouched until it is done. `slot`, less than max_window, names it.
  virtual void start_send(std::span<const std::byte> data, int slot) = 0;
  virtual void start_receive(std::span<std::byte> data, int slot) = 0;

  // Whether the message last started in `slot` is done. Makes progress on all messages.
  virtual bool send_done(int slot) = 0;
  virtual bool receive_done(int slot) = 0;
};

struct RingOptions {
  // Bytes of one message and number of messages under way in each direction. Neither changes a result.
  std::int64_t piece_bytes = std::int64_t{256} << 10;
  int window = 8;
  // How long a collective may stand still before the neighbour counts as lost.
  std::chrono::duration<double> timeout = std::chrono::minutes(30);
};

// Bytes of the buffers in which a rank of a ring of `size` ranks receives what it adds.
std::int64_t ring_scratch_bytes(int size, const RingOptions& options = {});

// Where the bytes of a piece live on this rank.
using RingPlace = std::function<std::byte*(const RingPiece&)>;

// Combines what was received for a piece with what lives there, before it is passed on.
using RingCombine = std::function<void(const RingPiece&, const std::byte* received)>;

// Blocks until the plan is carried out on this rank; sleeps rather than spins while neighbours are late.
// Without `combine` pieces are received in place; with it in `scratch` (ring_scratch_bytes) first, and
// combined in order. Throws Error(peer_lost) after the timeout, or soon after another thread has set
// `abandoned`.
void run_ring(RingLink& link, RingPlan plan, const RingPlace& place, const RingCombine& combine,
              std::span<std::byte> scratch, const RingOptions& options, const Abandonment& abandoned);

// Sends `mine` to the next rank and returns when the previous rank's message is in `theirs` and `mine` is
// sent. Both have the same size on all ranks. Errors as above.
void swap_with_neighbours(RingLink& link, std::span<const std::byte> mine, std::span<std::byte> theirs,
                          const RingOptions& options, const Abandonment& abandoned);

}  // namespace autoglm
