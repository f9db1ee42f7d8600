#include "tests/sharding/collective_checks.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/bf16.h"

namespace autoglm::testing {
namespace {

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

// Element i of a rank's contribution: of many magnitudes, so that another order of summation shows.
double value_of(int rank, std::int64_t i) {
  const std::uint64_t bits = mix(static_cast<std::uint64_t>(rank) * 1000003 + static_cast<std::uint64_t>(i));
  const double mantissa = static_cast<double>(bits >> 12) * 0x1p-52 - 0.5;
  return std::ldexp(mantissa, static_cast<int>(bits % 41) - 20);
}

std::byte byte_of(int rank, std::int64_t i) {
  return static_cast<std::byte>(
      mix(static_cast<std::uint64_t>(rank + 1) << 40 | static_cast<std::uint64_t>(i)));
}

// Sum of element i over ranks first, first + 1, ... (modulo size).
float sum_from(int first, int size, std::int64_t i, Parts parts) {
  const auto part = [&](int rank) {
    const auto value = static_cast<float>(value_of(rank % size, i));
    return parts == Parts::bf16 && size > 1 ? widen_bf16(round_bf16(value)) : value;
  };
  float sum = part(first);
  for (int step = 1; step < size; ++step) sum = sum + part(first + step);
  return sum;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

void check_reduce_scatter(Communicator& communicator, std::int64_t count, bool in_place, Parts parts) {
  const int rank = communicator.rank(), size = communicator.size();
  std::vector<float> input(static_cast<std::size_t>(count * size));
  for (std::size_t i = 0; i < input.size(); ++i) {
    input[i] = static_cast<float>(value_of(rank, static_cast<std::int64_t>(i)));
  }
  std::vector<float> output(static_cast<std::size_t>(count), -1.0f), expected(output), other_order(output);
  for (std::int64_t i = 0; i < count; ++i) {
    expected[static_cast<std::size_t>(i)] = sum_from(rank + 1, size, rank * count + i, parts);
    other_order[static_cast<std::size_t>(i)] = sum_from(rank + 2, size, rank * count + i, parts);
  }
  if (size > 2 && count > 100) {
    EXPECT_FALSE(same_bits(expected, other_order)) << "the data cannot tell orders apart";
  }
  float* const shard = input.data() + rank * count;
  communicator.reduce_scatter(input.data(), in_place ? shard : output.data(), count, parts, Event())
      .synchronize();
  if (in_place) output.assign(shard, shard + count);
  EXPECT_TRUE(same_bits(output, expected)) << "rank " << rank << " of " << size << ", count " << count;
}

void check_all_gather(Communicator& communicator, std::int64_t bytes, bool in_place) {
  const int rank = communicator.rank(), size = communicator.size();
  std::vector<std::byte> whole(static_cast<std::size_t>(bytes * size)), expected(whole);
  std::vector<std::byte> shard(static_cast<std::size_t>(bytes));
  for (std::int64_t i = 0; i < bytes * size; ++i) {
    expected[static_cast<std::size_t>(i)] = byte_of(static_cast<int>(i / bytes), i % bytes);
  }
  std::byte* const own = in_place ? whole.data() + rank * bytes : shard.data();
  for (std::int64_t i = 0; i < bytes; ++i) own[i] = byte_of(rank, i);
  communicator.all_gather(own, whole.data(), bytes, Event()).synchronize();
  EXPECT_TRUE(same_bits(whole, expected)) << "rank " << rank << " of " << size << ", " << bytes << " bytes";
}

void check_all_reduce(Communicator& communicator, std::size_t count) {
  const int rank = communicator.rank(), size = communicator.size();
  std::vector<double> values(count), expected(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = value_of(rank, static_cast<std::int64_t>(i));
    expected[i] = value_of(0, static_cast<std::int64_t>(i));
    for (int r = 1; r < size; ++r) expected[i] += value_of(r, static_cast<std::int64_t>(i));
  }
  communicator.all_reduce(values, Event()).synchronize();
  EXPECT_TRUE(same_bits(values, expected)) << "rank " << rank << " of " << size << ", " << count << " values";
}

void check_broadcast(Communicator& communicator, std::int64_t bytes, int root) {
  std::vector<std::byte> data(static_cast<std::size_t>(bytes)), expected(data);
  for (std::int64_t i = 0; i < bytes; ++i) {
    expected[static_cast<std::size_t>(i)] = byte_of(root, i);
    data[static_cast<std::size_t>(i)] = byte_of(communicator.rank(), i);
  }
  communicator.broadcast(data.data(), bytes, root, Event()).synchronize();
  EXPECT_TRUE(same_bits(data, expected))
      << "rank " << communicator.rank() << ", " << bytes << " bytes of " << root;
}

void check_exchange(Communicator& communicator) {
  // Rank 1 contributes nothing; the others lengths of their own.
  const auto length = [](int rank) { return rank == 1 ? 0 : 1 + 700 * static_cast<std::int64_t>(rank); };
  const auto content = [&](int rank) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(length(rank)));
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_of(rank, static_cast<std::int64_t>(i));
    return bytes;
  };
  const auto all = communicator.exchange(content(communicator.rank()));
  ASSERT_EQ(static_cast<int>(all.size()), communicator.size());
  for (int rank = 0; rank < communicator.size(); ++rank) {
    EXPECT_EQ(all[static_cast<std::size_t>(rank)], content(rank)) << "rank " << rank;
  }
}

void check_barrier(Communicator& communicator) {
  using Clock = std::chrono::steady_clock;  // one clock for all ranks of a host
  if (communicator.rank() + 1 == communicator.size())
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto arrived = Clock::now();
  communicator.barrier().synchronize();
  const auto passed = Clock::now();
  const auto ticks = [](Clock::time_point time) { return time.time_since_epoch().count(); };
  const std::array<Clock::rep, 2> mine = {ticks(arrived), ticks(passed)};
  Clock::rep last_arrival = mine[0], first_passing = mine[1];
  for (const auto& theirs : communicator.exchange(std::as_bytes(std::span(mine)))) {
    std::array<Clock::rep, 2> times{};
    ASSERT_EQ(theirs.size(), sizeof(times));
    std::memcpy(times.data(), theirs.data(), sizeof(times));
    last_arrival = std::max(last_arrival, times[0]);
    first_passing = std::min(first_passing, times[1]);
  }
  EXPECT_GE(first_passing, last_arrival);
}

void check_in_flight(Communicator& communicator) {
  constexpr std::int64_t count = 300;
  constexpr int rounds = 20;
  const int rank = communicator.rank(), size = communicator.size();
  // Each round sums ones, gathers the sums, and sums those: after k rounds every element is size^k.
  std::vector<float> whole(static_cast<std::size_t>(count * size), 1.0f);
  std::vector<float> shard(static_cast<std::size_t>(count));
  std::vector<Event> events;
  Event last;
  const int exact_rounds = size == 1 ? rounds : std::min(rounds, static_cast<int>(24 / std::log2(size)));
  for (int round = 0; round < exact_rounds; ++round) {
    last = communicator.reduce_scatter(whole.data(), shard.data(), count, last);
    events.push_back(last);
    last = communicator.all_gather(shard.data(), whole.data(), count * 4, last);
    events.push_back(last);
  }
  last.synchronize();
  for (const Event& event : events) EXPECT_TRUE(event.ready());
  for (const float value : whole) ASSERT_EQ(value, std::pow(static_cast<float>(size), exact_rounds)) << rank;
}

void check_after(Communicator& communicator) {
  auto producer = make_host_stream("producer");
  double value = -1;
  producer->submit([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    value = communicator.rank();
  });
  const Event done = communicator.all_reduce({&value, 1}, producer->record());
  done.synchronize();
  EXPECT_EQ(value, communicator.size() * (communicator.size() - 1) / 2);
}

}  // namespace autoglm::testing
