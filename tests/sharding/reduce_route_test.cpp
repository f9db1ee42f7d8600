#include "sharding/reduce_route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

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
    std::map<std::pair<int, int>, std::vector<std::pair<int, int>>> sent, received;
    for (int rank = 0; rank < static_cast<int>(hosts.size()); ++rank) {
      for (const ReduceMessage& message : plan_reduce_route(hosts, rank).messages) {
        EXPECT_NE(message.peer, rank);
        const bool receives = message.kind == Kind::receive;
        auto& list = receives ? received[std::pair(message.peer, rank)] : sent[std::pair(rank, message.peer)];
        list.emplace_back(message.shard, message.hop);
      }
    }
    EXPECT_EQ(sent, received);
  }
}

TEST(ReduceRoute, EverySlotHoldsOneThing) {
  for (const char* mapping : kMappings) {
    SCOPED_TRACE(mapping);
    const std::vector<int> hosts = hosts_of(mapping);
    for (int rank = 0; rank < static_cast<int>(hosts.size()); ++rank) {
      const ReduceRoute route = plan_reduce_route(hosts, rank);
      std::multiset<int> received, added, sums, sent;
      for (const ReduceMessage& message : route.messages) {
        if (message.kind == Kind::receive) received.insert(message.slot);
        if (message.kind == Kind::send_sum) sent.insert(message.slot);
      }
      for (const ReduceSum& sum : route.sums) {
        for (int i = 0; i < sum.num_slots; ++i) added.insert(sum.first_slot + i);
        if (sum.slot >= 0) sums.insert(sum.slot);
        EXPECT_LE(sum.own_place, sum.num_slots);
        EXPECT_EQ(sum.slot < 0, sum.shard == rank && sum.own_place == sum.num_slots);
      }
      EXPECT_EQ(received, added);
      EXPECT_EQ(sums, sent);
      std::set<int> all(received.begin(), received.end());
      all.insert(sums.begin(), sums.end());
      EXPECT_EQ(all.size(), received.size() + sums.size());
      EXPECT_TRUE(all.empty() || *all.rbegin() < route.num_slots);
    }
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

TEST(OrderedSum, AddsFromTheLeftWhereverItsPartsLie) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int num_received : {0, 1, 2, 7}) {
    for (const std::int64_t count : {1, 3, 4, 1000, 1003}) {
      for (int own_place = -1; own_place <= num_received; ++own_place) {
        for (const std::int64_t offset : {0, 1}) {  // aligned, and not
          if (num_received == 0 && own_place < 0) continue;
          const std::int64_t stride = 1004;
          std::vector<FourFloats> storage(2 * 8 * 251 + 8);
          float* const base = storage.front().values + offset;
          for (FourFloats& four : storage) {
            for (float& value : four.values)
              value = normal(random) * std::ldexp(1.0F, static_cast<int>(random() % 20));
          }
          float* const own = base + 8 * stride;
          std::vector<float> expected(static_cast<std::size_t>(count));
          for (std::int64_t i = 0; i < count; ++i) {
            std::vector<float> parts;
            for (int p = 0; p < num_received; ++p) parts.push_back(base[p * stride + i]);
            if (own_place >= 0) parts.insert(parts.begin() + own_place, own[i]);
            float total = parts[0];
            for (std::size_t p = 1; p < parts.size(); ++p) total += parts[p];
            expected[static_cast<std::size_t>(i)] = total;
          }
          float* const to = own_place >= 0 ? own : base + 9 * stride;
          const float after = to[count];
          const OrderedSum sum{to,        base, stride, num_received, own_place < 0 ? nullptr : own,
                               own_place, count};
          EXPECT_EQ(is_wide(sum), offset == 0);
          sum_on_host(sum);
          EXPECT_EQ(std::vector<float>(to, to + count), expected);
          EXPECT_EQ(to[count], after);
        }
      }
    }
  }
}

}  // namespace
}  // namespace autoglm
