#include "sharding/nccl/ordered_reduce.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "sharding/cuda/ordered_sum.h"
#include "sharding/memory/out_of_memory.h"

namespace autoglm {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements

// Of a slot, so that as many as any rank has fit into one half of the staging memory on every rank.
std::int64_t elements_of_slot(const ReduceRoute& route, std::span<std::byte> staging) {
  if (route.num_slots == 0) return std::numeric_limits<std::int64_t>::max();
  const auto half = static_cast<std::int64_t>(staging.size() / 2 / sizeof(float));
  const std::int64_t elements = half / route.num_slots / kAlignment * kAlignment;
  AUTOGLM_CHECK(elements > 0, "{} bytes for 2 * {} slots", staging.size(), route.num_slots);
  return elements;
}

// One message, where it lies.
struct PlacedMessage {
  bool receives;
  int peer;
  float* data;
  std::size_t count;
};

// All at once: none waits for another of them.
ncclResult_t exchange_all(const NcclFunctions& nccl, const std::vector<PlacedMessage>& messages,
                          ncclComm_t comm, cudaStream_t stream) {
  const auto failed = [](ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; };
  ncclResult_t result = nccl.group_start();
  if (failed(result)) return result;
  for (const PlacedMessage& message : messages) {
    result = message.receives
                 ? nccl.receive(message.data, message.count, ncclFloat32, message.peer, comm, stream)
                 : nccl.send(message.data, message.count, ncclFloat32, message.peer, comm, stream);
    if (failed(result)) break;
  }
  const ncclResult_t ended =
      nccl.group_end();  // in any case: the thread's next call would fall into the group
  return failed(result) ? result : ended;
}

void run_sum(const OrderedSum& sum, void* stream) {
  if (stream == nullptr) return sum_on_host(sum);
  const char* const problem = sum_on_device(sum, stream);
  if (problem != nullptr) fail(exit_code_of_device(problem), "gradients could not be added: {}", problem);
}

}  // namespace

OrderedReduce::OrderedReduce(const std::vector<int>& hosts, int rank, std::span<std::byte> staging,
                             std::unique_ptr<Stream> sums)
    : route_(plan_reduce_route(hosts, rank)),
      staging_(staging),
      piece_elements_(elements_of_slot(route_, staging)),
      sums_(std::move(sums)) {}

void OrderedReduce::queue(NcclConnection& connection, const std::string& name, float* input, float* output,
                          std::int64_t count) {
  const Call call{input, output, count, count == 0 ? 0 : (count - 1) / piece_elements_ + 1};
  const std::int64_t num_rounds = call.num_pieces == 0 ? 0 : call.num_pieces + 2 * (route_.num_hops - 1);
  Stream& messages = connection.stream();
  std::array<Event, 2> added;  // what the halves of the staging memory hold
  for (std::int64_t round = 0; round < num_rounds; ++round) {
    Event& half = added[static_cast<std::size_t>(round % 2)];
    messages.wait(half);
    exchange(connection, name, call, round);
    sums_->wait(messages.record());
    add(call, round);
    half = sums_->record();
  }
  messages.wait(sums_->record());
}

OrderedReduce::Piece OrderedReduce::piece_in(const Call& call, std::int64_t round, int hop) const {
  const std::int64_t number = round - 2 * hop;
  if (number < 0 || number >= call.num_pieces) return {};
  const std::int64_t begin = number * piece_elements_;
  return {begin, std::min(piece_elements_, call.count - begin)};
}

float* OrderedReduce::slot(std::int64_t round, int number) const {
  const std::int64_t place = round % 2 * route_.num_slots + number;
  return reinterpret_cast<float*>(staging_.data()) + place * piece_elements_;
}

// Queues what this rank sends and receives in a round.
void OrderedReduce::exchange(NcclConnection& connection, const std::string& name, const Call& call,
                             std::int64_t round) {
  using Kind = ReduceMessage::Kind;
  std::vector<PlacedMessage> messages;
  for (const ReduceMessage& message : route_.messages) {
    const Piece piece = piece_in(call, round, message.hop);
    if (piece.count == 0) continue;
    float* const data = message.kind == Kind::send_own ? call.input + message.shard * call.count + piece.begin
                                                       : slot(round, message.slot);
    messages.push_back(
        {message.kind == Kind::receive, message.peer, data, static_cast<std::size_t>(piece.count)});
  }
  if (messages.empty()) return;
  connection.submit(
      name, NcclUse::messages,
      [messages = std::move(messages)](const NcclFunctions& nccl, ncclComm_t comm, cudaStream_t stream) {
        return exchange_all(nccl, messages, comm, stream);
      });
}

// Queues the sums of what this rank has received in a round.
void OrderedReduce::add(const Call& call, std::int64_t round) {
  for (const ReduceSum& part : route_.sums) {
    const Piece piece = piece_in(call, round, part.hop);
    if (piece.count == 0) continue;
    OrderedSum sum;
    sum.to = part.slot < 0 ? call.output + piece.begin : slot(round, part.slot);
    sum.received = part.num_slots == 0 ? nullptr : slot(round, part.first_slot);
    sum.stride = route_.num_slots == 0 ? 0 : piece_elements_;
    sum.num_received = part.num_slots;
    if (part.own_place >= 0) {
      sum.own = call.input + part.shard * call.count + piece.begin;
      sum.own_place = part.own_place;
    }
    sum.count = piece.count;
    sums_->submit([sum, stream = sums_->native_handle()] { run_sum(sum, stream); });
  }
}

}  // namespace autoglm
