#include "sharding/reduce_route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "sharding/cuda/ordered_sum.h"

namespace autoglm {
namespace {

using Kind = ReduceMessage::Kind;

std::vector<int> hosts_of(const std::string& letters) {
  std::vector<std::string> names;
  for (const char letter : letters) names.emplace_back(1, letter);
  return number_hosts(names);
}

const char* const kMappings[] = {"a",    "aa",       "ab",       "aaaa",     "aabb",        "abab",
                                 "aaab", "abbbc",    "abca",     "aabbccdd", "abcdabcd",    "abcdefgh",
                                 "aba",  "abbaabba", "aaaabbbb", "aaaaaabb", "aaabbbcccddd"};

TEST(ReduceRoute, NumbersHosts) {
  EXPECT_EQ(number_hosts({"x", "y", "x", "z"}), (std::vector<int>{0, 1, 0, 2}));
  EXPECT_EQ(number_hosts({"", ""}), (std::vector<int>{0, 0}));
}

TEST(ReduceRoute, EveryShardAddsItsRanksInOrderOnTheirOwnHosts) {
  for (const char* mapping : kMappings) {
    SCOPED_TRACE(mapping);
    const std::vector<int> hosts = hosts_of(mapping);
    const int size = static_cast<int>(hosts.size());
    const auto host = [&](int rank) { return hosts[static_cast<std::size_t>(rank)]; };
    std::vector<std::vector<int>> added(hosts.size());
    std::vector<int> last_worker(hosts.size(), -1);
    for (const ReduceStage& stage : plan_reduce_stages(hosts)) {
      auto& ranks = added[static_cast<std::size_t>(stage.shard)];
      int& before = last_worker[static_cast<std::size_t>(stage.shard)];
      EXPECT_EQ(stage.before, before);
      EXPECT_EQ(stage.after < 0, static_cast<int>(ranks.size()) + stage.num_members == size);
      for (int i = 0; i < stage.num_members; ++i) {
        ranks.push_back((stage.first + i) % size);
        EXPECT_EQ(host(ranks.back()), host(stage.worker)) << "parts do not leave their host";
      }
      before = stage.worker;
    }
    for (int shard = 0; shard < size; ++shard) {
      std::vector<int> expected;
      for (int step = 1; step <= size; ++step) expected.push_back((shard + step) % size);
      EXPECT_EQ(added[static_cast<std::size_t>(shard)], expected);
      EXPECT_EQ(last_worker[static_cast<std::size_t>(shard)], shard);
    }
  }
}

TEST(ReduceRoute, BothEndsOfAMessageAgree) {
  for (const char* mapping : kMappings) {
    SCOPED_TRACE(mapping);
    const std::vector<int> hosts = hosts_of(mapping);
    std::map<std::pair<int, int>, std::vector<std::tuple<int, int, bool>>> sent, received;
    for (int rank = 0; rank < static_cast<int>(hosts.size()); ++rank) {
      for (const ReduceMessage& message : plan_reduce_route(hosts, rank).messages) {
        EXPECT_NE(message.peer, rank);
        auto& list = message.receives() ? received[std::pair(message.peer, rank)]
                                        : sent[std::pair(rank, message.peer)];
        list.emplace_back(message.shard, message.hop, message.is_sum());
      }
    }
    EXPECT_EQ(sent, received);
  }
}

// Every slot that a rank's messages and sums name, with what they take.
void check_slots(const ReduceRoute& route, int rank, const ReduceWidths& widths) {
  std::multiset<int> received, received_sums, parts, sums_before, sums, sent, all;
  const auto take = [&](int slot, int width) {
    for (int i = 0; i < width; ++i) all.insert(slot + i);
  };
  for (const ReduceMessage& message : route.messages) {
    if (message.kind == Kind::receive_part) {
      received.insert(message.slot);
      take(message.slot, widths.part);
    } else if (message.kind == Kind::receive_sum) {
      received_sums.insert(message.slot);
      take(message.slot, widths.sum);
    } else if (message.kind == Kind::send_sum) {
      sent.insert(message.slot);
    } else {
      take(message.slot, widths.sent);
    }
  }
  for (const ReduceSum& sum : route.sums) {
    for (int i = 0; i < sum.num_parts; ++i) parts.insert(sum.first_slot + i);
    if (sum.sum_before >= 0) sums_before.insert(sum.sum_before);
    if (sum.slot >= 0) {
      sums.insert(sum.slot);
      take(sum.slot, widths.sum);
    }
    EXPECT_LE(sum.own_place, sum.num_parts);
    EXPECT_EQ(sum.sum_before >= 0, sum.hop > 0);
    EXPECT_EQ(sum.slot < 0, sum.shard == rank && sum.own_place == sum.num_parts);
  }
  EXPECT_EQ(received, parts);
  EXPECT_EQ(received_sums, sums_before);
  EXPECT_EQ(sums, sent);
  EXPECT_EQ(std::set<int>(all.begin(), all.end()).size(), all.size()) << "one slot holds two things";
  EXPECT_TRUE(all.empty() || *all.rbegin() < route.num_slots);
}

TEST(ReduceRoute, EverySlotHoldsOneThing) {
  for (const char* mapping : kMappings) {
    SCOPED_TRACE(mapping);
    const std::vector<int> hosts = hosts_of(mapping);
    for (int rank = 0; rank < static_cast<int>(hosts.size()); ++rank) {
      for (const ReduceWidths& widths : {kExactWidths, kRoundedWidths})
        check_slots(plan_reduce_route(hosts, rank, widths), rank, widths);
    }
  }
}

TEST(ReduceRoute, RoundedPartsOfOneHostTakeAsManyBytesAsExactOnes) {
  for (const char* mapping : {"aa", "aaaa", "aaaaaaaa"}) {
    const std::vector<int> hosts = hosts_of(mapping);
    EXPECT_EQ(plan_reduce_route(hosts, 0, kRoundedWidths).num_slots,
              2 * plan_reduce_route(hosts, 0, kExactWidths).num_slots);
  }
}

TEST(ReduceRoute, CountsHowOftenSumsCrossBetweenHosts) {
  EXPECT_EQ(count_crossings(hosts_of("aaaa")), 0);
  EXPECT_EQ(count_crossings(hosts_of("aabb")), 2 * 4 - 2);
  EXPECT_EQ(least_crossings(hosts_of("abab")), 2 * 4 - 2);
  EXPECT_EQ(count_crossings(hosts_of("abab")), 4 * 3);
  EXPECT_EQ(count_crossings(hosts_of("abcdefgh")), least_crossings(hosts_of("abcdefgh")));
}

TEST(ReduceRoute, StagingMemoryDoesNotDependOnTheHosts) {
  EXPECT_EQ(reduce_staging_bytes(1), 0);
  EXPECT_EQ(reduce_staging_bytes(2), reduce_staging_bytes(64));
}

// A sum of parts in memory of its own, with what it must be.
class SumCase {
 public:
  static constexpr std::int64_t kStride = 1008;

  SumCase(bool rounded, std::int64_t offset, std::mt19937& random)
      : rounded_(rounded), offset_(offset), floats_(3 * kStride / 4 + 1), parts_(7 * kStride / 4 + 1) {
    std::normal_distribution<float> normal;
    const auto value = [&] { return normal(random) * std::ldexp(1.0F, static_cast<int>(random() % 20)); };
    for (std::int64_t i = 0; i < 3 * kStride; ++i) floats()[i] = value();
    for (std::int64_t i = 0; i < 7 * kStride; ++i) {
      if (rounded) {
        halves()[i] = round_bf16(value());
      } else {
        parts()[i] = value();
      }
    }
  }

  OrderedSum sum(int num_received, int own_place, bool has_before, std::int64_t count) {
    OrderedSum sum;
    sum.own = own_place < 0 ? nullptr : floats();
    sum.to = own_place < 0 ? floats() + kStride : floats();
    sum.before = has_before ? floats() + 2 * kStride : nullptr;
    sum.received = rounded_ ? static_cast<void*>(halves()) : parts();
    sum.stride = kStride;
    sum.num_received = num_received;
    sum.own_place = own_place;
    sum.count = count;
    sum.rounded = rounded_;
    return sum;
  }

  std::vector<float> expected(const OrderedSum& sum) {
    std::vector<float> totals;
    for (std::int64_t i = 0; i < sum.count; ++i) {
      std::vector<float> terms;
      for (int p = 0; p < sum.num_received; ++p)
        terms.push_back(rounded_ ? widen_bf16(halves()[p * kStride + i]) : parts()[p * kStride + i]);
      if (sum.own != nullptr)
        terms.insert(terms.begin() + sum.own_place,
                     rounded_ ? widen_bf16(round_bf16(sum.own[i])) : sum.own[i]);
      if (sum.before != nullptr) terms.insert(terms.begin(), sum.before[i]);
      float total = terms[0];
      for (std::size_t p = 1; p < terms.size(); ++p) total += terms[p];
      totals.push_back(total);
    }
    return totals;
  }

 private:
  using Line = SumRun<float, 4>;
  float* floats() { return floats_.front().values + offset_; }
  float* parts() { return parts_.front().values + offset_; }
  std::uint16_t* halves() { return reinterpret_cast<std::uint16_t*>(parts_.front().values) + offset_; }

  bool rounded_;
  std::int64_t offset_;  // off the alignment
  std::vector<Line> floats_, parts_;
};

void check_sum(SumCase& values, const OrderedSum& sum, bool wide) {
  const std::vector<float> expected = values.expected(sum);
  const float after = sum.to[sum.count];
  EXPECT_EQ(is_wide(sum), wide);
  sum_on_host(sum);
  EXPECT_EQ(std::vector<float>(sum.to, sum.to + sum.count), expected);
  EXPECT_EQ(sum.to[sum.count], after);
}

TEST(OrderedSum, AddsFromTheLeftWhereverItsPartsLie) {
  std::mt19937 random(1);
  for (const int num_received : {0, 1, 2, 7}) {
    for (const std::int64_t count : {1, 3, 4, 8, 1000, 1003}) {
      for (int own_place = -1; own_place <= num_received; ++own_place) {
        for (const int variant : {0, 1, 2, 3, 4, 5, 6, 7}) {
          const bool rounded = variant % 2 == 1, has_before = variant / 2 % 2 == 1, wide = variant < 4;
          if (num_received == 0 && own_place < 0) continue;
          SumCase values(rounded, wide ? 0 : 1, random);
          check_sum(values, values.sum(num_received, own_place, has_before, count), wide);
        }
      }
    }
  }
}

TEST(OrderedSum, RoundsToNearestEven) {
  for (const std::int64_t count : {1, 7, 8, 1003}) {
    for (const std::int64_t offset : {0, 1}) {
      std::vector<SumRun<float, 4>> from(300);
      std::vector<SumRun<std::uint16_t, 8>> to(150);
      float* const values = from.front().values + offset;
      std::uint16_t* const halves = to.front().values + offset;
      for (std::int64_t i = 0; i < count; ++i)
        values[i] = float_of_bits(0x3F800000U + static_cast<std::uint32_t>(i) * 0x2000U);
      EXPECT_EQ(is_wide(values, halves), offset == 0);
      halves[count] = 0x1234;
      round_on_host(values, halves, count);
      for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(halves[i], round_bf16(values[i])) << i;
      EXPECT_EQ(halves[count], 0x1234);
    }
  }
}

}  // namespace
}  // namespace autoglm
