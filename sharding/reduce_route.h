// Which rank adds what when devices sum gradients by messages, in the order of communicator.h: each shard is
// added up host after host, on every host by one rank to which its neighbours there send directly.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace autoglm {

// Bytes of a device's memory in which a rank among `size` receives what it adds. They depend neither on the
// hosts nor on what is summed, so that a rehearsal can count them.
constexpr std::int64_t reduce_staging_bytes(int size) {
  return size > 1 ? std::int64_t{64} << 20 : 0;
}

// NCCL's channels between two devices that these messages take, over NVLink: few, since each costs some 15 MB of
// either device, and a multiprocessor while it moves something. Over PCIe NCCL opens two.
inline constexpr int kMessageChannels = 8;
inline constexpr int kPcieMessageChannels = 2;

// A number for each host, by rank; ranks with equal names share a host.
std::vector<int> number_hosts(const std::vector<std::string>& names);

// Consecutive ranks of one host (modulo the number of ranks), whose parts of a shard `worker` adds.
struct ReduceStage {
  int shard = 0;
  int hop = 0;  // stages of the shard before this one
  int first = 0, num_members = 0;
  int worker = 0;
  int before = -1;  // the worker from which the sum so far comes, none for the first stage
  int after = -1;   // the worker to which the sum goes on, none for the last one, whose sum is the shard
};

// All stages of all shards, by shard and hop. Between hosts move as many bytes as around a ring of all ranks.
std::vector<ReduceStage> plan_reduce_stages(const std::vector<int>& hosts);

// How often a partial sum goes from host to host, over all shards: the least when every host's ranks are
// consecutive.
std::int64_t count_crossings(const std::vector<int>& hosts);
// The same if they were.
std::int64_t least_crossings(const std::vector<int>& hosts);

// How many slots of the staging memory a piece of each takes: equal slots, as large as the smallest of these.
struct ReduceWidths {
  int sum = 1;   // of several ranks
  int part = 1;  // one rank's, where it is received
  int sent = 0;  // the same where it leaves from; 0: from where it lies
};
inline constexpr ReduceWidths kExactWidths;
inline constexpr ReduceWidths kRoundedWidths{2, 1, 1};

// What one rank sends or receives of every piece of a shard.
struct ReduceMessage {
  enum class Kind { receive_part, receive_sum, send_part, send_sum };
  Kind kind = Kind::receive_part;
  int peer = 0;
  int shard = 0;
  int hop = 0;   // of the stage that receives
  int slot = 0;  // where it is received, or leaves from

  bool receives() const { return kind == Kind::receive_part || kind == Kind::receive_sum; }
  bool is_sum() const { return kind == Kind::receive_sum || kind == Kind::send_sum; }
};

// What one rank adds of every piece of a shard.
struct ReduceSum {
  int shard = 0;
  int hop = 0;
  int sum_before = -1;                // slot of what comes first; -1: nothing does
  int first_slot = 0, num_parts = 0;  // what other ranks have sent, in order
  int own_place = -1;                 // how many of those come before the rank's own part; -1: it has none
  int slot = -1;                      // of the sum; -1: it is the rank's shard
};

struct ReduceRoute {
  // In an order in which the messages from one rank to another are the same on both.
  std::vector<ReduceMessage> messages;
  std::vector<ReduceSum> sums;
  int num_slots = 0;  // at most, on any rank
  int num_hops = 1;   // at most, of any shard
};
ReduceRoute plan_reduce_route(const std::vector<int>& hosts, int rank,
                              const ReduceWidths& widths = kExactWidths);

}  // namespace autoglm
