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

// One message, where it lies.
struct PlacedMessage {
  bool receives;
  int peer;
  void* data;
  std::size_t count;
  ncclDataType_t type;
};

// All at once: none waits for another of them.
ncclResult_t exchange_all(const NcclFunctions& nccl, const std::vector<PlacedMessage>& messages,
                          ncclComm_t comm, cudaStream_t stream) {
  const auto failed = [](ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; };
  ncclResult_t result = nccl.group_start();
  if (failed(result)) return result;
  for (const PlacedMessage& message : messages) {
    result = message.receives
                 ? nccl.receive(message.data, message.count, message.type, message.peer, comm, stream)
                 : nccl.send(message.data, message.count, message.type, message.peer, comm, stream);
    if (failed(result)) break;
  }
  const ncclResult_t ended =
      nccl.group_end();  // in any case: the thread's next call would fall into the group
  return failed(result) ? result : ended;
}

void check_queued(const char* problem) {
  if (problem != nullptr) fail(exit_code_of_device(problem), "gradients could not be added: {}", problem);
}

void run_sum(const OrderedSum& sum, void* stream) {
  if (stream == nullptr) return sum_on_host(sum);
  check_queued(sum_on_device(sum, stream));
}

void run_rounding(const float* from, std::uint16_t* to, std::int64_t count, void* stream) {
  if (stream == nullptr) return round_on_host(from, to, count);
  check_queued(round_on_device(from, to, count, stream));
}

}  // namespace

// Pieces are so small that as many slots as any rank has fit into one half of the staging memory on every rank.
OrderedReduce::Way OrderedReduce::plan_way(const std::vector<int>& hosts, int rank, Parts parts,
                                           std::size_t staging) {
  const bool rounded = parts == Parts::bf16;
  Way way{plan_reduce_route(hosts, rank, rounded ? kRoundedWidths : kExactWidths),
          rounded ? std::int64_t{sizeof(std::uint16_t)} : std::int64_t{sizeof(float)},
          std::numeric_limits<std::int64_t>::max()};
  const std::int64_t slots = way.route.num_slots;
  if (slots == 0) return way;
  const auto half = static_cast<std::int64_t>(staging / 2) / way.slot_width;
  way.piece_elements = half / slots / kAlignment * kAlignment;
  AUTOGLM_CHECK(way.piece_elements > 0, "{} bytes for 2 * {} slots", staging, slots);
  return way;
}

OrderedReduce::OrderedReduce(const std::vector<int>& hosts, int rank, std::span<std::byte> staging,
                             std::unique_ptr<Stream> sums)
    : staging_(staging),
      exact_(plan_way(hosts, rank, Parts::fp32, staging.size())),
      rounded_(plan_way(hosts, rank, Parts::bf16, staging.size())),
      sums_(std::move(sums)) {}

void OrderedReduce::queue(NcclConnection& connection, const std::string& name, float* input, float* output,
                          std::int64_t count, Parts parts) {
  const bool rounded = parts == Parts::bf16 && rounded_.route.num_slots > 0;  // a rank alone rounds nothing
  const Way& way = rounded ? rounded_ : exact_;
  const std::int64_t num_pieces = count == 0 ? 0 : (count - 1) / way.piece_elements + 1;
  const Call call{way, input, output, count, num_pieces, rounded};
  const std::int64_t num_rounds = num_pieces == 0 ? 0 : num_pieces + 2 * (way.route.num_hops - 1);
  Stream& messages = connection.stream();
  std::array<Event, 2> added;  // what the halves of the staging memory hold
  for (std::int64_t round = 0; round < num_rounds; ++round) {
    Event& half = added[static_cast<std::size_t>(round % 2)];
    if (rounded) round_parts(messages, call, round);
    messages.wait(half);
    exchange(connection, name, call, round);
    sums_->wait(messages.record());
    add(call, round);
    half = sums_->record();
  }
  messages.wait(sums_->record());
}

OrderedReduce::Piece OrderedReduce::piece_in(const Call& call, std::int64_t round, int hop) {
  const std::int64_t number = round - 2 * hop;
  if (number < 0 || number >= call.num_pieces) return {};
  const std::int64_t begin = number * call.way.piece_elements;
  return {begin, std::min(call.way.piece_elements, call.count - begin)};
}

template <typename T>
T* OrderedReduce::slot(const Call& call, std::int64_t round, int number) const {
  const std::int64_t place = round % 2 * call.way.route.num_slots + number;
  return reinterpret_cast<T*>(staging_.data() + place * call.way.piece_elements * call.way.slot_width);
}

// Queues, on the stream of the messages, what makes this rank's parts ready to leave in a round. The half of the
// staging memory has been free of what left before since the messages of two rounds ago.
void OrderedReduce::round_parts(Stream& stream, const Call& call, std::int64_t round) {
  for (const ReduceMessage& message : call.way.route.messages) {
    if (message.kind != ReduceMessage::Kind::send_part) continue;
    const Piece piece = piece_in(call, round, message.hop);
    if (piece.count == 0) continue;
    stream.submit([from = call.own(message.shard, piece), to = slot<std::uint16_t>(call, round, message.slot),
                   count = piece.count,
                   native = stream.native_handle()] { run_rounding(from, to, count, native); });
  }
}

// Queues what this rank sends and receives in a round.
void OrderedReduce::exchange(NcclConnection& connection, const std::string& name, const Call& call,
                             std::int64_t round) {
  std::vector<PlacedMessage> messages;
  for (const ReduceMessage& message : call.way.route.messages) {
    const Piece piece = piece_in(call, round, message.hop);
    if (piece.count == 0) continue;
    const bool as_it_lies = message.kind == ReduceMessage::Kind::send_part && !call.rounded;
    void* const data = as_it_lies ? call.own(message.shard, piece) : slot<void>(call, round, message.slot);
    messages.push_back({message.receives(), message.peer, data, static_cast<std::size_t>(piece.count),
                        call.rounded && !message.is_sum() ? ncclBfloat16 : ncclFloat32});
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
  for (const ReduceSum& part : call.way.route.sums) {
    const Piece piece = piece_in(call, round, part.hop);
    if (piece.count == 0) continue;
    OrderedSum sum;
    sum.to = part.slot < 0 ? call.output + piece.begin : slot<float>(call, round, part.slot);
    if (part.sum_before >= 0) sum.before = slot<float>(call, round, part.sum_before);
    if (part.num_parts > 0) {
      sum.received = slot<void>(call, round, part.first_slot);
      sum.stride = call.way.piece_elements;
      sum.num_received = part.num_parts;
    }
    if (part.own_place >= 0) {
      sum.own = call.own(part.shard, piece);
      sum.own_place = part.own_place;
    }
    sum.count = piece.count;
    sum.rounded = call.rounded;
    sums_->submit([sum, stream = sums_->native_handle()] { run_sum(sum, stream); });
  }
}

}  // namespace autoglm
