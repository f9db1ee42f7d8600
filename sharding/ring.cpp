#include "sharding/ring.h"

#include <algorithm>
#include <array>
#include <thread>

#include "base/error.h"
#include "base/units.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

// Waits between polls: at first not at all, then by sleeping for an eighth of the time already waited. So a
// wait is lengthened by an eighth at most, and a core that computes is hardly disturbed by a neighbour that
// is late. Never by yielding: beside a thread that computes, a yield costs a whole time slice of several
// milliseconds.
class Patience {
 public:
  Patience(const RingLink& link, const RingOptions& options, const Abandonment& abandoned)
      : link_(link), timeout_(options.timeout), abandoned_(abandoned) {}

  void reset() { since_ = Clock::now(); }

  // Throws when it has come to its end; `receiving` tells which neighbour is waited for.
  void pause(bool receiving) {
    using std::chrono::microseconds;
    abandoned_.check();
    const auto waited = Clock::now() - since_;
    if (waited >= timeout_) {
      const int neighbour = (link_.rank() + (receiving ? link_.size() - 1 : 1)) % link_.size();
      fail(ExitCode::peer_lost, "rank {} has not {} anything for {}", neighbour, receiving ? "sent" : "taken",
           format_duration(timeout_.count()));
    }
    if (waited < microseconds(50)) return;
    std::this_thread::sleep_for(std::clamp<Clock::duration>(waited / 8, microseconds(5), microseconds(250)));
  }

 private:
  const RingLink& link_;
  std::chrono::duration<double> timeout_;
  const Abandonment& abandoned_;
  Clock::time_point since_ = Clock::now();
};

// One collective under way on one rank.
class RingRun {
 public:
  RingRun(RingLink& link, RingPlan plan, const RingPlace& place, const RingCombine& combine,
          std::span<std::byte> scratch, const RingOptions& options)
      : link_(link),
        plan_(std::move(plan)),
        place_(place),
        combine_(combine),
        scratch_(scratch),
        options_(options),
        num_sends_(plan_.sends.count()),
        num_receives_(plan_.receives.count()) {}

  void run(Patience patience) {
    while (sent_ < num_sends_ || received_ < num_receives_) {
      start_receives();
      start_sends();
      if (finish_one()) {
        patience.reset();
      } else {
        patience.pause(received_ < receives_started_);
      }
    }
  }

 private:
  int slot(std::int64_t number) const { return static_cast<int>(number % options_.window); }

  std::byte* scratch_of(std::int64_t number) const {
    return scratch_.data() + slot(number) * options_.piece_bytes;
  }

  void start_receives() {
    for (; receives_started_ < num_receives_ && receives_started_ - received_ < options_.window;
         ++receives_started_) {
      RingPiece& piece = incoming_[static_cast<std::size_t>(slot(receives_started_))];
      piece = plan_.receives.next();
      std::byte* to = combine_ ? scratch_of(receives_started_) : place_(piece);
      link_.start_receive({to, static_cast<std::size_t>(piece.bytes)}, slot(receives_started_));
    }
  }

  void start_sends() {
    for (; sends_started_ < num_sends_ && sends_started_ - sent_ < options_.window &&
           sends_started_ - plan_.head_start < received_;
         ++sends_started_) {
      const RingPiece piece = plan_.sends.next();
      link_.start_send({place_(piece), static_cast<std::size_t>(piece.bytes)}, slot(sends_started_));
    }
  }

  bool finish_one() {
    bool moved = false;
    if (sent_ < sends_started_ && link_.send_done(slot(sent_))) {
      ++sent_;
      moved = true;
    }
    if (received_ < receives_started_ && link_.receive_done(slot(received_))) {
      if (combine_) combine_(incoming_[static_cast<std::size_t>(slot(received_))], scratch_of(received_));
      ++received_;
      moved = true;
    }
    return moved;
  }

  RingLink& link_;
  RingPlan plan_;
  const RingPlace& place_;
  const RingCombine& combine_;
  std::span<std::byte> scratch_;
  const RingOptions& options_;
  const std::int64_t num_sends_;
  const std::int64_t num_receives_;
  std::int64_t sends_started_ = 0, sent_ = 0;
  std::int64_t receives_started_ = 0, received_ = 0;
  std::array<RingPiece, RingLink::max_window> incoming_;
};

}  // namespace

std::int64_t ring_scratch_bytes(int size, const RingOptions& options) {
  return size > 1 ? options.window * options.piece_bytes : 0;
}

void run_ring(RingLink& link, RingPlan plan, const RingPlace& place, const RingCombine& combine,
              std::span<std::byte> scratch, const RingOptions& options, const Abandonment& abandoned) {
  AUTOGLM_CHECK(0 < options.window && options.window <= RingLink::max_window);
  AUTOGLM_CHECK(!combine ||
                static_cast<std::int64_t>(scratch.size()) >= options.window * options.piece_bytes);
  RingRun(link, std::move(plan), place, combine, scratch, options).run(Patience(link, options, abandoned));
}

void swap_with_neighbours(RingLink& link, std::span<const std::byte> mine, std::span<std::byte> theirs,
                          const RingOptions& options, const Abandonment& abandoned) {
  link.start_receive(theirs, 0);
  link.start_send(mine, 0);
  Patience patience(link, options, abandoned);
  bool sent = false, received = false;
  while (!sent || !received) {
    const bool was_sent = sent, was_received = received;
    sent = sent || link.send_done(0);
    received = received || link.receive_done(0);
    if (sent != was_sent || received != was_received) {
      patience.reset();
    } else {
      patience.pause(!received);
    }
  }
}

}  // namespace autoglm
