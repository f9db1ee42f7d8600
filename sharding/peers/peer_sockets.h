// TCP connections between the processes of a job, for what has to arrive whatever MPI and NCCL do.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace autoglm {

// A socket that is closed with its owner.
class Socket {
 public:
  explicit Socket(int number = -1) : number_(number) {}
  ~Socket();
  Socket(Socket&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;

  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_;
};

// What the others are told of a process that listens: where it is, and what it knows its own peers by.
struct PeerAddress {
  std::uint64_t token = 0;
  int port = 0;
  std::vector<std::string> addresses;  // numbers, the likeliest first
};
std::string to_text(const PeerAddress& address);
PeerAddress peer_address_from(const std::string& text);

// Listens on all addresses of this host, at a port that the system chooses.
class PeerListener {
 public:
  // Throws Error(unavailable).
  PeerListener();

  // With all addresses of this host.
  const PeerAddress& address() const { return address_; }

  // The next peer that comes with the token until `end`, and the number that it gave; none when time is up. Throws
  // Error(unavailable) when this process may open no more files.
  std::optional<std::pair<int, Socket>> accept_until(std::chrono::steady_clock::time_point end);

 private:
  PeerAddress address_;
  Socket socket_;
};

// Connects to one that listens, by the first of its addresses that leads there, and gives it this number. Throws
// Error(unavailable) when `end` has come, or no address does.
Socket connect_to_peer(const PeerAddress& address, int number, std::chrono::steady_clock::time_point end);

}  // namespace autoglm
