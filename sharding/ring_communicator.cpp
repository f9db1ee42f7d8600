#include "sharding/ring_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/bf16.h"
#include "base/error.h"

#ifdef __linux__
#include <sys/prctl.h>
#endif

namespace autoglm {
namespace {

enum class Operation : std::uint32_t { reduce_scatter, all_gather, all_reduce, broadcast, barrier, exchange };

constexpr std::array<std::string_view, 6> operation_names = {"reduce_scatter", "all_gather", "all_reduce",
                                                             "broadcast",      "barrier",    "exchange"};

// What neighbours tell each other before a collective.
struct Header {
  std::uint64_t number = 0;  // of collectives before this one
  std::int64_t bytes = 0;
  Operation operation = Operation::barrier;
  std::int32_t root = 0;

  bool operator==(const Header&) const = default;
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) == 24);

std::string describe(const Header& header) {
  const auto index = static_cast<std::size_t>(header.operation);
  std::string text = fmt::format("{} number {}", index < 6 ? operation_names[index] : "?", header.number);
  if (header.bytes > 0) text += fmt::format(" of {} bytes", header.bytes);
  if (header.operation == Operation::broadcast) text += fmt::format(" from rank {}", header.root);
  return text;
}

// sum[i] = partial[i] + own[i]; sum may be own.
void add(const float* partial, const float* own, float* sum, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] = partial[i] + own[i];
}

void round_to_bf16(std::span<float> values) {
  for (float& value : values) value = widen_bf16(round_bf16(value));
}

// The unit of the scratch buffer: aligned, so that no vector load straddles two cache lines.
struct alignas(64) CacheLine {
  std::array<std::byte, 64> bytes;
};

// The collectives themselves, blocking; used on the communication thread only.
class Ring {
 public:
  Ring(std::unique_ptr<RingLink> link, const RingOptions& options)
      : rank(link->rank()), size(link->size()), link_(std::move(link)), options_(options) {
    AUTOGLM_CHECK(options_.piece_bytes > 0 && options_.piece_bytes % 64 == 0, "{} bytes",
                  options_.piece_bytes);
    scratch_.resize(static_cast<std::size_t>(scratch_bytes()) / sizeof(CacheLine));
  }

  std::int64_t scratch_bytes() const { return ring_scratch_bytes(size, options_); }

  // Runs `work` between agreeing neighbours; failures name the collective.
  template <typename Work>
  void collective(Header header, Work&& work) {
    header.number = num_collectives_++;
    if (size == 1) return work();
    try {
      abandoned_.check();
      Header theirs;
      swap_with_neighbours(*link_, std::as_bytes(std::span(&header, 1)),
                           std::as_writable_bytes(std::span(&theirs, 1)), options_, abandoned_);
      if (theirs != header) {
        fail(ExitCode::bug, "rank {} started {} instead", (rank + size - 1) % size, describe(theirs));
      }
      work();
    } catch (const Error& error) {
      fail(error.code(), "rank {}, {}: {}", rank, describe(header), error.what());
    }
  }

  void reduce_scatter(float* input, float* output, std::int64_t count, Parts parts) {
    constexpr std::int64_t element = sizeof(float);
    if (size == 1) {
      if (input != output) std::copy_n(input, count, output);
      return;
    }
    if (parts == Parts::bf16) round_to_bf16(std::span(input, static_cast<std::size_t>(count * size)));
    const auto at = [&](const RingPiece& piece) {
      return input + piece.segment * count + piece.offset / element;
    };
    const auto place = [&](const RingPiece& piece) { return reinterpret_cast<std::byte*>(at(piece)); };
    const auto combine = [&](const RingPiece& piece, const std::byte* received) {
      float* const sum = piece.segment == rank ? output + piece.offset / element : at(piece);
      add(reinterpret_cast<const float*>(received), at(piece), sum, piece.bytes / element);
    };
    run(plan_reduce_scatter(rank, size, count * element, options_.piece_bytes), place, combine);
  }

  // pieces[r] holds sizes[r] bytes of rank r.
  void all_gather(const std::vector<std::byte*>& shards, const std::vector<std::int64_t>& sizes) {
    run(plan_all_gather(rank, sizes, options_.piece_bytes), [&](const RingPiece& piece) {
      return shards[static_cast<std::size_t>(piece.segment)] + piece.offset;
    });
  }

  void all_gather(std::byte* whole, std::int64_t bytes) {
    run(plan_all_gather(rank, std::vector<std::int64_t>(static_cast<std::size_t>(size), bytes),
                        options_.piece_bytes),
        [&](const RingPiece& piece) { return whole + piece.segment * bytes + piece.offset; });
  }

  // Gathers as many values of every rank as the scratch buffer holds, and sums those in rank order.
  void all_reduce(std::span<double> values) {
    if (size == 1) return;
    double* const gathered = reinterpret_cast<double*>(scratch_.data());
    const auto most =
        static_cast<std::size_t>(scratch_bytes()) / sizeof(double) / static_cast<std::size_t>(size);
    AUTOGLM_CHECK(most > 0, "{} ranks", size);
    while (!values.empty()) {
      const std::span<double> part = values.first(std::min(most, values.size()));
      std::copy(part.begin(), part.end(), gathered + static_cast<std::size_t>(rank) * part.size());
      all_gather(reinterpret_cast<std::byte*>(gathered), static_cast<std::int64_t>(part.size_bytes()));
      for (std::size_t i = 0; i < part.size(); ++i) {
        double sum = gathered[i];
        for (int r = 1; r < size; ++r) sum += gathered[static_cast<std::size_t>(r) * part.size() + i];
        part[i] = sum;
      }
      values = values.subspan(part.size());
    }
  }

  void broadcast(std::byte* data, std::int64_t bytes, int root) {
    if (size == 1) return;
    run(plan_broadcast(rank, size, root, bytes, options_.piece_bytes),
        [&](const RingPiece& piece) { return data + piece.offset; });
  }

  // A rank has heard from every other one, so all have started.
  void barrier() {
    std::vector<std::byte> tokens(static_cast<std::size_t>(size));
    all_gather(tokens.data(), 1);
  }

  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(size));
    sizes[static_cast<std::size_t>(rank)] = static_cast<std::int64_t>(mine.size());
    all_gather(reinterpret_cast<std::byte*>(sizes.data()), sizeof(std::int64_t));
    std::vector<std::vector<std::byte>> all;
    std::vector<std::byte*> places;
    for (const std::int64_t bytes : sizes) {
      places.push_back(all.emplace_back(static_cast<std::size_t>(bytes)).data());
    }
    std::copy(mine.begin(), mine.end(), places[static_cast<std::size_t>(rank)]);
    all_gather(places, sizes);
    return all;
  }

  Abandonment& abandoned() { return abandoned_; }

  const int rank;
  const int size;

 private:
  void run(RingPlan plan, const RingPlace& place, const RingCombine& combine = {}) {
    run_ring(*link_, std::move(plan), place, combine, std::as_writable_bytes(std::span(scratch_)), options_,
             abandoned_);
  }

  std::unique_ptr<RingLink> link_;
  RingOptions options_;
  Abandonment abandoned_;
  std::vector<CacheLine> scratch_;
  std::uint64_t num_collectives_ = 0;
};

class RingCommunicator : public Communicator {
 public:
  RingCommunicator(std::unique_ptr<RingLink> link, Stream& stream, const RingOptions& options)
      : ring_(std::make_shared<Ring>(std::move(link), options)), stream_(stream) {
#ifdef __linux__
    // By default Linux stretches every sleep of a thread by 50 us.
    stream_.submit([] { prctl(PR_SET_TIMERSLACK, 1000UL); });
#endif
  }

  // Waits for what was started. The ring ends on the thread that uses it, be the stream failed or not.
  ~RingCommunicator() override {
    if (std::uncaught_exceptions() > 0) abandon(kFailedElsewhere);
    stream_.submit([ring = std::move(ring_)] {});
    try {
      stream_.synchronize();
    } catch (const std::exception&) {  // whoever waited for the work has seen it
    }
  }

  RingCommunicator(const RingCommunicator&) = delete;
  RingCommunicator& operator=(const RingCommunicator&) = delete;

  int rank() const override {
    return ring_->rank;
  }
  int size() const override {
    return ring_->size;
  }
  void abandon(std::string_view why) noexcept override {
    ring_->abandoned().set(why);
  }
  std::optional<std::string> abandoned() const override {
    return ring_->abandoned().why();
  }
  std::int64_t scratch_bytes() const override {
    return ring_->scratch_bytes();
  }

  using Communicator::reduce_scatter;
  Event reduce_scatter(float* input, float* output, std::int64_t count, Parts parts,
                       const Event& after) override {
    AUTOGLM_CHECK(count >= 0, "{} elements", count);
    const auto bytes = count * static_cast<std::int64_t>(sizeof(float));
    return start(Operation::reduce_scatter, bytes, 0, after,
                 [=](Ring& ring) { ring.reduce_scatter(input, output, count, parts); });
  }

  Event all_gather(const void* shard, void* whole, std::int64_t bytes, const Event& after) override {
    AUTOGLM_CHECK(bytes >= 0, "{} bytes", bytes);
    return start(Operation::all_gather, bytes, 0, after, [=](Ring& ring) {
      auto* const to = static_cast<std::byte*>(whole);
      if (bytes > 0 && to + ring.rank * bytes != shard) {
        std::memcpy(to + ring.rank * bytes, shard, static_cast<std::size_t>(bytes));
      }
      ring.all_gather(to, bytes);
    });
  }

  Event all_reduce(std::span<double> values, const Event& after) override {
    return start(Operation::all_reduce, static_cast<std::int64_t>(values.size_bytes()), 0, after,
                 [=](Ring& ring) { ring.all_reduce(values); });
  }

  Event broadcast(void* data, std::int64_t bytes, int root, const Event& after) override {
    AUTOGLM_CHECK(bytes >= 0 && 0 <= root && root < ring_->size, "{} bytes from rank {}", bytes, root);
    return start(Operation::broadcast, bytes, root, after,
                 [=](Ring& ring) { ring.broadcast(static_cast<std::byte*>(data), bytes, root); });
  }

  Event barrier() override {
    return start(Operation::barrier, 0, 0, Event(), [](Ring& ring) { ring.barrier(); });
  }

  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    std::vector<std::vector<std::byte>> all;
    start(Operation::exchange, 0, 0, Event(), [&](Ring& ring) { all = ring.exchange(mine); }).synchronize();
    return all;
  }

 private:
  template <typename Work>
  Event start(Operation operation, std::int64_t bytes, int root, const Event& after, Work work) {
    stream_.wait(after);
    stream_.submit([ring = ring_.get(), header = Header{0, bytes, operation, root}, work] {
      ring->collective(header, [&] { work(*ring); });
    });
    return stream_.record();
  }

  std::shared_ptr<Ring> ring_;
  Stream& stream_;
};

}  // namespace

std::unique_ptr<Communicator> make_ring_communicator(std::unique_ptr<RingLink> link, Stream& stream,
                                                     const RingOptions& options) {
  return std::make_unique<RingCommunicator>(std::move(link), stream, options);
}

}  // namespace autoglm
