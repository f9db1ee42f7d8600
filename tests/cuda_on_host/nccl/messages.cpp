// Messages between two ranks. Those of a group pass side by side; between the same two they pass in the order of calls.
#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/nccl/communicator.h"
#include "tests/cuda_on_host/nccl/width.h"
#include "tests/cuda_on_host/runtime/interface.h"

using namespace cuda_on_host;

namespace {

struct Message {
  bool sends = false;
  int peer = 0;
  char* data = nullptr;
  std::size_t bytes = 0, passed = 0;
};

// What a group does on one stream of one communicator.
struct Group {
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<Message> messages;
};

thread_local int t_depth = 0;
thread_local std::vector<Group> t_groups;

// Passes a piece if the mailbox is ready for one. False when sender and receiver think of messages of other sizes.
bool pass_piece(ncclComm_t comm, Message& message, bool& passed) {
  Mailbox& box = message.sends ? comm->meeting.mailbox(comm->rank, message.peer)
                               : comm->meeting.mailbox(message.peer, comm->rank);
  const bool full = box.written != box.taken;
  if (full == message.sends) return true;
  const std::size_t piece = std::min(Mailbox::kPiece, message.bytes - message.passed);
  if (message.sends) {
    box.message_bytes = message.bytes;
    std::memcpy(box.data, message.data + message.passed, piece);
    ++box.written;
  } else {
    if (box.message_bytes != message.bytes) return false;
    std::memcpy(message.data + message.passed, box.data, piece);
    ++box.taken;
  }
  message.passed += piece;
  passed = true;
  return true;
}

// All of the group's messages by turns, since none may wait for another.
void pass_all(ncclComm_t comm, const std::vector<Message>& messages) {
  std::map<std::pair<int, bool>, std::deque<Message>> lanes;
  for (const Message& message : messages) lanes[{message.peer, message.sends}].push_back(message);
  while (!lanes.empty()) {
    bool passed = false, fits = true;
    const Met met = comm->meeting.wait_until([&] {
      for (auto lane = lanes.begin(); lane != lanes.end();) {
        Message& first = lane->second.front();
        fits = fits && pass_piece(comm, first, passed);
        if (first.passed == first.bytes) {
          if (first.sends) comm->count_message(first.peer, first.bytes);
          lane->second.pop_front();
        }
        lane = lane->second.empty() ? lanes.erase(lane) : std::next(lane);
      }
      return passed || !fits;
    });
    if (!fits) comm->fail(ncclInvalidUsage, "a message of another size than its receiver expects");
    if (!fits || !comm->went_well(met)) return;
  }
}

ncclResult_t queue_group(const Group& group) {
  return group.comm->queue_messages(
      group.stream, [comm = group.comm, messages = group.messages] { pass_all(comm, messages); });
}

ncclResult_t add(ncclComm_t comm, cudaStream_t stream, const Message& message) {
  if (message.peer < 0 || message.peer >= comm->size || message.peer == comm->rank || message.bytes == 0) {
    comm->fail(ncclInvalidArgument, "a message to nobody, or of nothing");
    return ncclInvalidArgument;
  }
  if (t_depth == 0) return queue_group({comm, stream, {message}});
  for (Group& group : t_groups) {
    if (group.comm != comm || group.stream != stream) continue;
    group.messages.push_back(message);
    return ncclSuccess;
  }
  t_groups.push_back({comm, stream, {message}});
  return ncclSuccess;
}

ncclResult_t add_message(bool sends, const void* data, std::size_t count, ncclDataType_t type, int peer,
                         ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * width(type);
  if (!cuda_on_host_covers(data, bytes, comm->card)) {
    comm->fail(ncclInvalidArgument, "a message does not lie in memory of the card");
    return ncclInvalidArgument;
  }
  return add(comm, stream, {sends, peer, static_cast<char*>(cuda_on_host_view(data)), bytes});
}

}  // namespace

extern "C" {

ncclResult_t ncclGroupStart() {
  ++t_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (t_depth == 0) return ncclInvalidUsage;
  if (--t_depth > 0) return ncclSuccess;
  ncclResult_t result = ncclSuccess;
  for (const Group& group : std::exchange(t_groups, {})) {
    const ncclResult_t one = queue_group(group);
    if (result == ncclSuccess) result = one;
  }
  return result;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_message(true, data, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_message(false, data, count, type, peer, comm, stream);
}

}  // extern "C"
