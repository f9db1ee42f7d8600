#include "sharding/reduce_route.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

// A rank's place among those of its host.
std::vector<int> local_ranks(const std::vector<int>& hosts) {
  std::map<int, int> seen;
  std::vector<int> places;
  for (const int host : hosts) places.push_back(seen[host]++);
  return places;
}

// The stages of one shard. The owner adds on its own host, so that it sends and receives no more than the
// others; elsewhere owners of a host spread over its ranks.
void append_stages(const std::vector<int>& hosts, int shard, int place, std::vector<ReduceStage>& stages) {
  const int size = static_cast<int>(hosts.size());
  const auto host_of = [&](int rank) { return hosts[static_cast<std::size_t>(rank)]; };
  const std::size_t begin = stages.size();
  for (int step = 1; step <= size;) {
    ReduceStage stage;
    stage.shard = shard;
    stage.hop = static_cast<int>(stages.size() - begin);
    stage.first = (shard + step) % size;
    const int host = host_of(stage.first);
    for (; step <= size && host_of((shard + step) % size) == host; ++step) ++stage.num_members;
    stage.worker = host == host_of(shard) ? shard : (stage.first + place % stage.num_members) % size;
    if (stage.hop > 0) {
      stage.before = stages.back().worker;
      stages.back().after = stage.worker;
    }
    stages.push_back(stage);
  }
}

// Collects what `rank` does while slots are dealt to all ranks.
class RouteBuilder {
 public:
  RouteBuilder(std::size_t size, int rank, const ReduceWidths& widths)
      : used_(size), rank_(rank), widths_(widths) {}

  void add(const ReduceStage& stage) {
    const int worker = stage.worker;
    ReduceSum sum{.shard = stage.shard, .hop = stage.hop};
    if (stage.before >= 0) {
      sum.sum_before = take(worker, widths_.sum);
      add_message(Kind::send_sum, stage.before, worker, stage, sum_slot_);
      add_message(Kind::receive_sum, worker, stage.before, stage, sum.sum_before);
    }
    sum.first_slot = used(worker);
    for (int i = 0; i < stage.num_members; ++i) {
      const int member = (stage.first + i) % static_cast<int>(used_.size());
      if (member == worker) {
        sum.own_place = sum.num_parts;
        continue;
      }
      add_message(Kind::send_part, member, worker, stage, take(member, widths_.sent));
      add_message(Kind::receive_part, worker, member, stage, take(worker, widths_.part));
      ++sum.num_parts;
    }
    if (stage.after >= 0) sum.slot = sum_slot_ = take(worker, widths_.sum);
    if (worker == rank_) route_.sums.push_back(sum);
    route_.num_hops = std::max(route_.num_hops, stage.hop + 1);
  }

  ReduceRoute finish() {
    route_.num_slots = *std::max_element(used_.begin(), used_.end());
    return std::move(route_);
  }

 private:
  using Kind = ReduceMessage::Kind;

  int& used(int rank) { return used_[static_cast<std::size_t>(rank)]; }
  int take(int rank, int slots) { return std::exchange(used(rank), used(rank) + slots); }

  void add_message(Kind kind, int rank, int peer, const ReduceStage& stage, int slot) {
    if (rank == rank_) route_.messages.push_back({kind, peer, stage.shard, stage.hop, slot});
  }

  std::vector<int> used_;
  int rank_;
  ReduceWidths widths_;
  int sum_slot_ = 0;  // of the stage before
  ReduceRoute route_;
};

}  // namespace

std::vector<int> number_hosts(const std::vector<std::string>& names) {
  std::map<std::string, int> numbers;
  std::vector<int> hosts;
  for (const std::string& name : names) {
    hosts.push_back(numbers.try_emplace(name, static_cast<int>(numbers.size())).first->second);
  }
  return hosts;
}

std::vector<ReduceStage> plan_reduce_stages(const std::vector<int>& hosts) {
  const std::vector<int> places = local_ranks(hosts);
  std::vector<ReduceStage> stages;
  for (std::size_t shard = 0; shard < hosts.size(); ++shard) {
    append_stages(hosts, static_cast<int>(shard), places[shard], stages);
  }
  return stages;
}

std::int64_t count_crossings(const std::vector<int>& hosts) {
  const std::vector<ReduceStage> stages = plan_reduce_stages(hosts);
  return std::ranges::count_if(stages, [](const ReduceStage& stage) { return stage.hop > 0; });
}

std::int64_t least_crossings(const std::vector<int>& hosts) {
  std::vector<int> sorted = hosts;
  std::ranges::sort(sorted);
  return count_crossings(sorted);
}

ReduceRoute plan_reduce_route(const std::vector<int>& hosts, int rank, const ReduceWidths& widths) {
  AUTOGLM_CHECK(0 <= rank && rank < static_cast<int>(hosts.size()), "rank {} of {}", rank, hosts.size());
  RouteBuilder builder(hosts.size(), rank, widths);
  for (const ReduceStage& stage : plan_reduce_stages(hosts)) builder.add(stage);
  return builder.finish();
}

}  // namespace autoglm
