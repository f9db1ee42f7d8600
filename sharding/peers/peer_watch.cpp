#include "sharding/peers/peer_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/units.h"
#include "sharding/agree.h"

namespace autoglm {

// What goes over a connection.
struct PeerWatch::Message {
  enum class Kind : std::uint32_t { beat, leaving, ended, silent };
  Kind kind = Kind::beat;
  std::int32_t rank = 0;  // that has ended or is silent
};

namespace {

std::pair<Socket, Socket> make_pipe() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    fail(ExitCode::unavailable, "no pipe: {}", std::strerror(errno));
  return {Socket(ends[0]), Socket(ends[1])};
}

template <typename Duration>
auto ticks(const Duration& duration) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(duration);
}

}  // namespace

PeerWatch::PeerWatch(Communicator& control, const std::string& host, const PeerPatience& patience,
                     PeerActions actions)
    : rank_(control.rank()), size_(control.size()), patience_(patience), actions_(std::move(actions)) {
  if (size_ == 1) return;
  hosts_ = gather_text(control, host);
  connect(control);
  if (problem_.empty()) thread_ = std::thread([this] { run(); });
}

PeerWatch::~PeerWatch() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  static_cast<void>(write(wake_writer_.number(), "", 1));
  thread_.join();
  if (std::uncaught_exceptions() == 0) send_to_all({Message::Kind::leaving, rank_});
}

std::optional<LostPeer> PeerWatch::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

bool PeerWatch::speaks() const {
  const std::lock_guard lock(mutex_);
  return lost_ && rank_ == (lost_->rank == 0 ? 1 : 0);
}

// Every rank tells what kept it from its connections.
void PeerWatch::connect(Communicator& control) {
  std::string problem;
  std::optional<PeerListener> listener;
  const auto attempt = [&problem](auto&& work) {
    try {
      work();
    } catch (const Error& error) {
      problem = error.what();
    }
  };
  attempt([&] {
    std::tie(wake_reader_, wake_writer_) = make_pipe();
    if (rank_ == 0) listener.emplace();
  });
  const std::string address = gather_text(control, listener ? to_text(listener->address()) : "")[0];
  const Clock::time_point end = Clock::now() + ticks(patience_.connect);
  attempt([&] {
    if (address.empty()) return;
    if (rank_ != 0) {
      links_.push_back({0, connect_to_peer(peer_address_from(address), rank_, end)});
      return;
    }
    while (static_cast<int>(links_.size()) < size_ - 1) {
      auto peer = listener->accept_until(end);
      if (!peer) fail(ExitCode::unavailable, "{} of {} ranks have come", links_.size(), size_ - 1);
      links_.push_back({peer->first, std::move(peer->second)});
    }
  });
  const std::vector<std::string> problems = gather_text(control, problem);
  // What a rank met on its way to rank 0 says more than that it did not come.
  for (std::size_t i = 1; i <= problems.size() && problem_.empty(); ++i) {
    const std::size_t rank = i % problems.size();
    if (!problems[rank].empty())
      problem_ = fmt::format("rank {} on {}: {}", rank, hosts_[rank], problems[rank]);
  }
}

void PeerWatch::run() {
  Clock::time_point next_beat = looked_ = Clock::now();
  while (true) {
    const Clock::time_point now = Clock::now();
    if (now >= next_beat) {
      send_to_all({Message::Kind::beat, rank_});
      next_beat = now + ticks(patience_.beat);
    }
    wait_for_messages(std::min(next_beat, next_action_));
    look_for_silence();
    if (Clock::now() >= next_action_) act();
    const std::lock_guard lock(mutex_);
    if (ending_) return;
  }
}

void PeerWatch::wait_for_messages(Clock::time_point until) {
  std::vector<pollfd> all{{wake_reader_.number(), POLLIN, 0}};
  for (const Link& link : links_) all.push_back({link.watched ? link.socket.number() : -1, POLLIN, 0});
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  if (poll(all.data(), all.size(), static_cast<int>(std::max<std::int64_t>(left, 0))) <= 0) return;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (all[i + 1].revents != 0) receive(links_[i]);
  }
}

void PeerWatch::receive(Link& link) {
  std::array<char, 512> bytes{};
  const ssize_t count = recv(link.socket.number(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    link.watched = false;
    return lose(link.rank, false);
  }
  link.heard = Clock::now();
  link.unread.append(bytes.data(), static_cast<std::size_t>(count));
  while (link.unread.size() >= sizeof(Message) && link.watched) {
    Message message;
    std::memcpy(&message, link.unread.data(), sizeof message);
    link.unread.erase(0, sizeof message);
    take(link, message);
  }
}

void PeerWatch::take(Link& link, const Message& message) {
  switch (message.kind) {
    case Message::Kind::beat:
      return;
    case Message::Kind::leaving:
      link.watched = false;
      return;
    case Message::Kind::ended:
    case Message::Kind::silent:
      return lose(message.rank, message.kind == Message::Kind::silent);
  }
}

void PeerWatch::look_for_silence() {
  const Clock::time_point now = Clock::now();
  // Where this process itself was stopped, perhaps with the whole job, it cannot tell whether others are silent.
  const bool stopped = now - looked_ > ticks(patience_.beat) * 3;
  looked_ = now;
  for (Link& link : links_) {
    if (stopped) link.heard = now;
    if (!link.watched || now - link.heard < patience_.silence) continue;
    link.watched = false;
    lose(link.rank, true);
  }
}

// The first loss counts: what follows may be its consequence.
void PeerWatch::lose(int rank, bool silent) {
  {
    const std::lock_guard lock(mutex_);
    if (lost_) return;
    const std::string who = fmt::format("rank {} on {}", rank, hosts_[static_cast<std::size_t>(rank)]);
    const std::string what = silent ? fmt::format(
                                          "has given no sign of life for {}: its process is stopped, or its "
                                          "host or the network is down",
                                          format_duration(patience_.silence.count()))
                                    : "has ended before its time: it was killed or has crashed, of which its "
                                      "own messages or that host's system "
                                      "log may tell";
    lost_ = LostPeer{rank, who + " " + what};
  }
  if (rank_ == 0) send_to_all({silent ? Message::Kind::silent : Message::Kind::ended, rank});
  next_action_ = Clock::now() + (silent ? Clock::duration(0) : ticks(patience_.grace));
}

void PeerWatch::act() {
  const LostPeer peer = *lost();
  if (num_actions_++ == 0) {
    next_action_ = Clock::now() + ticks(patience_.ending);
    actions_.on_loss(peer);
  } else {
    next_action_ = Clock::time_point::max();
    actions_.on_stuck(peer);
  }
}

// What a peer cannot take now it does not need: it has not read for long.
void PeerWatch::send_to_all(const Message& message) {
  for (const Link& link : links_) {
    if (link.watched)
      static_cast<void>(send(link.socket.number(), &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT));
  }
}

}  // namespace autoglm
