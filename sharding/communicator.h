// Collectives among the ranks of a job: started now, awaited later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "sharding/stream.h"

namespace autoglm {

// How each rank's part of a sum is rounded before anything is added: not at all, or to bf16, to nearest.
enum class Parts : std::uint8_t { fp32, bf16 };

// All ranks must start the same collectives with the same sizes in the same order. Every asynchronous
// call returns at once with an event that is ready when the result is in place on this rank; buffers must
// stay valid and untouched until then. `after` names what must have happened before the buffers are
// read or written. Collectives run one after the other in the order in which they were started. Calls are
// for one thread at a time. A communicator for host memory takes host pointers, one for device memory
// device pointers. Failures surface from the event and from every later one: Error(peer_lost) naming the
// rank that failed or stopped answering and the operation, Error(bug) where two ranks started different
// collectives.
class Communicator {
 public:
  static constexpr std::string_view kFailedElsewhere = "this rank failed elsewhere";

  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // output[i] = sum over ranks r of input_r[rank() * count + i], 0 <= i < count. `input` holds
  // size() * count fp32 elements, `output` count; output may be &input[rank() * count]; the rest of `input`
  // may be overwritten as scratch space. The order of summation is fixed: shard s adds ranks s+1, s+2,
  // ..., s (modulo size), in fp32, so results do not depend on timing. With Parts::bf16 all of `input` may be
  // overwritten, and a communicator may send parts in two bytes an element; a rank alone rounds nothing.
  virtual Event reduce_scatter(float* input, float* output, std::int64_t count, Parts parts,
                               const Event& after) = 0;
  Event reduce_scatter(float* input, float* output, std::int64_t count, const Event& after) {
    return reduce_scatter(input, output, count, Parts::fp32, after);
  }

  // whole[r * bytes ...] = shard_r. `whole` holds size() * bytes; shard may be its own place in whole.
  virtual Event all_gather(const void* shard, void* whole, std::int64_t bytes, const Event& after) = 0;

  // values[i] = sum over ranks in rank order 0, 1, ..., the same bits on every rank.
  virtual Event all_reduce(std::span<double> values, const Event& after) = 0;

  // Copies root's bytes to every rank.
  virtual Event broadcast(void* data, std::int64_t bytes, int root, const Event& after) = 0;

  // Ready when every rank has started it.
  virtual Event barrier() = 0;

  // Control messages, blocking: every rank contributes bytes (any length) and receives everyone's,
  // ordered by rank. Always host memory.
  virtual std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) = 0;

  // Makes the collective under way fail within a millisecond, and all later ones at once, with
  // Error(peer_lost): for an owner of buffers that ends because of an exception, so that it can wait for its
  // events and free them though other ranks may never come; and where a rank is known to be lost. The first
  // reason counts. From any thread. A communicator that is destroyed by a passing exception does so itself.
  virtual void abandon(std::string_view /*why*/ = kFailedElsewhere) noexcept {}

  // The reason, if that was called. From any thread.
  virtual std::optional<std::string> abandoned() const { return std::nullopt; }

  // Bytes that the communicator holds from construction to destruction, of the memory that it is for. No
  // collective but exchange() allocates more than a few hundred bytes of bookkeeping (and 8 per rank).
  virtual std::int64_t scratch_bytes() const = 0;

 protected:
  Communicator() = default;
};

// One rank. Collectives are copies on the calling thread; events are ready on return.
std::unique_ptr<Communicator> make_self_communicator();

// One rank whose collectives are copies queued on `stream`, which must outlive the communicator: with a
// CUDA stream the buffers are in device memory.
std::unique_ptr<Communicator> make_self_communicator(Stream& stream);

// Answers every collective at once without touching any buffer: for rehearsing rank `rank` of `size`.
// Pointers may be null. What it would send is counted (work.h). exchange() returns `mine` for every rank; scratch_bytes() is that of a communicator
// for host memory between that many ranks.
std::unique_ptr<Communicator> make_rehearsal_communicator(int rank, int size);

}  // namespace autoglm
