#include "sharding/reduce_route.h"

#include <algorithm>
#include <map>

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
  RouteBuilder(std::size_t size, int rank) : used_(size), rank_(rank) {}

  void add(const ReduceStage& stage) {
    const int worker = stage.worker;
    ReduceSum sum{stage.shard, stage.hop, used(worker), 0, -1, -1};
    if (stage.before >= 0) {
      message(ReduceMessage::Kind::send_sum, stage.before, worker, stage, sum_slot_, sum);
    }
    for (int i = 0; i < stage.num_members; ++i) {
      const int member = (stage.first + i) % static_cast<int>(used_.size());
      if (member == worker) {
        sum.own_place = sum.num_slots;
      } else {
        message(ReduceMessage::Kind::send_own, member, worker, stage, 0, sum);
      }
    }
    used(worker) += sum.num_slots;
    if (stage.after >= 0) sum.slot = sum_slot_ = used(worker)++;
    if (worker == rank_) route_.sums.push_back(sum);
    route_.num_hops = std::max(route_.num_hops, stage.hop + 1);
  }

  ReduceRoute finish() {
    route_.num_slots = *std::max_element(used_.begin(), used_.end());
    return std::move(route_);
  }

 private:
  int& used(int rank) { return used_[static_cast<std::size_t>(rank)]; }

  void message(ReduceMessage::Kind kind, int from, int to, const ReduceStage& stage, int sent_slot,
               ReduceSum& sum) {
    const int slot = sum.first_slot + sum.num_slots++;
    if (from == rank_) route_.messages.push_back({kind, to, stage.shard, stage.hop, sent_slot});
    if (to == rank_) {
      route_.messages.push_back({ReduceMessage::Kind::receive, from, stage.shard, stage.hop, slot});
    }
  }

  std::vector<int> used_;
  int rank_;
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

ReduceRoute plan_reduce_route(const std::vector<int>& hosts, int rank) {
  AUTOGLM_CHECK(0 <= rank && rank < static_cast<int>(hosts.size()), "rank {} of {}", rank, hosts.size());
  RouteBuilder builder(hosts.size(), rank);
  for (const ReduceStage& stage : plan_reduce_stages(hosts)) builder.add(stage);
  return builder.finish();
}

}  // namespace autoglm
