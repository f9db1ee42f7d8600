#include "sharding/mpi/mpi_communicator.h"

#include <mpi.h>

#include <array>
#include <limits>
#include <string>

#include "base/error.h"
#include "sharding/ring_communicator.h"

namespace autoglm {
namespace {

std::string error_text(int status) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  return {text.data(), static_cast<std::size_t>(length)};
}

// All links share MPI_COMM_WORLD and are told apart by their tags: making a communicator for each would block
// inside of MPI, which spins.
class MpiLink : public RingLink {
 public:
  MpiLink(int rank, int size, int tag) : rank_(rank), size_(size), tag_(tag) {
    for (Message& message : sends_) message.peer = (rank_ + 1) % size_;
    for (Message& message : receives_) message.peer = (rank_ + size_ - 1) % size_;
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void start_send(std::span<const std::byte> data, int slot) override {
    Message& message = begin(sends_, slot, data.size());
    check(
        MPI_Isend(data.data(), message.bytes, MPI_BYTE, message.peer, tag_, MPI_COMM_WORLD, &message.request),
        "sending to", message);
  }

  void start_receive(std::span<std::byte> data, int slot) override {
    Message& message = begin(receives_, slot, data.size());
    check(
        MPI_Irecv(data.data(), message.bytes, MPI_BYTE, message.peer, tag_, MPI_COMM_WORLD, &message.request),
        "receiving from", message);
  }

  bool send_done(int slot) override {
    int done = 0;
    Message& message = sends_[static_cast<std::size_t>(slot)];
    check(MPI_Test(&message.request, &done, MPI_STATUS_IGNORE), "sending to", message);
    return done != 0;
  }

  bool receive_done(int slot) override {
    int done = 0, received = 0;
    MPI_Status status;
    Message& message = receives_[static_cast<std::size_t>(slot)];
    check(MPI_Test(&message.request, &done, &status), "receiving from", message);
    if (!done) return false;
    MPI_Get_count(&status, MPI_BYTE, &received);
    AUTOGLM_CHECK(received == message.bytes, "{} bytes instead of {}", received, message.bytes);
    return true;
  }

 private:
  struct Message {
    MPI_Request request = MPI_REQUEST_NULL;
    int peer = 0;
    int bytes = 0;
  };
  using Messages = std::array<Message, max_window>;

  static Message& begin(Messages& messages, int slot, std::size_t bytes) {
    AUTOGLM_CHECK(bytes <= static_cast<std::size_t>(std::numeric_limits<int>::max()), "{} bytes", bytes);
    Message& message = messages[static_cast<std::size_t>(slot)];
    message.bytes = static_cast<int>(bytes);
    return message;
  }

  static void check(int status, const char* what, const Message& message) {
    if (status == MPI_SUCCESS) return;
    fail(ExitCode::peer_lost, "{} rank {} ({} bytes) failed: {}", what, message.peer, message.bytes,
         error_text(status));
  }

  int rank_;
  int size_;
  int tag_;
  Messages sends_;
  Messages receives_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MpiSession& session, const RingOptions& options) {
  auto link = std::make_unique<MpiLink>(session.rank(), session.size(), session.new_tag());
  return make_ring_communicator(std::move(link), session.stream(), options);
}

}  // namespace autoglm
