#include "sharding/peers/peer_sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <sstream>

#include "base/error.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLongestAttempt = std::chrono::seconds(3);   // at one address, which may lead nowhere
constexpr auto kLongestGreeting = std::chrono::seconds(1);  // of one that has connected, while others wait

// What a peer says first; the one that listens answers with the same, and hears it once more: a peer that has given up
// meanwhile, and comes by another address, is so not taken twice.
struct Greeting {
  std::uint64_t token = 0;
  std::int64_t number = 0;
};

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000));
}

bool wait_for(const Socket& socket, short events, Clock::time_point end) {
  pollfd one{socket.number(), events, 0};
  while (true) {
    const int found = poll(&one, 1, milliseconds_until(end));
    if (found > 0) return true;
    if (found == 0 || errno != EINTR) return false;
  }
}

bool send_greeting(const Socket& socket, const Greeting& greeting) {
  return send(socket.number(), &greeting, sizeof greeting, MSG_NOSIGNAL) == sizeof greeting;
}

std::optional<Greeting> receive_greeting(const Socket& socket, Clock::time_point end) {
  Greeting greeting;
  auto* const to = reinterpret_cast<char*>(&greeting);
  for (std::size_t received = 0; received < sizeof greeting;) {
    if (!wait_for(socket, POLLIN, end)) return std::nullopt;
    const ssize_t more = recv(socket.number(), to + received, sizeof greeting - received, MSG_DONTWAIT);
    if (more < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (more <= 0) return std::nullopt;
    received += static_cast<std::size_t>(more);
  }
  return greeting;
}

void send_at_once(const Socket& socket) {
  const int on = 1;
  static_cast<void>(setsockopt(socket.number(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
}

std::vector<std::string> own_addresses() {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(found, freeifaddrs);
  std::vector<std::string> addresses;
  for (const ifaddrs* one = found; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    char text[NI_MAXHOST] = {};
    if (getnameinfo(one->ifa_addr, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    if (std::strchr(text, '%') != nullptr) continue;  // of a link, and no other
    // A host's own address is tried first: it is right on this host, and refused at once on others.
    addresses.insert((one->ifa_flags & IFF_LOOPBACK) != 0 ? addresses.begin() : addresses.end(), text);
  }
  return addresses;
}

// Both protocols where the host has both.
Socket listen_somewhere(int& port) {
  for (const int family : {AF_INET6, AF_INET}) {
    Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) continue;
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    const int off = 0;
    if (family == AF_INET6) {
      static_cast<void>(setsockopt(socket.number(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    }
    if (bind(socket.number(), reinterpret_cast<sockaddr*>(&address), size) != 0) continue;
    if (listen(socket.number(), SOMAXCONN) != 0) continue;
    if (getsockname(socket.number(), reinterpret_cast<sockaddr*>(&address), &size) != 0) continue;
    port = ntohs(family == AF_INET ? reinterpret_cast<sockaddr_in*>(&address)->sin_port
                                   : reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
    return socket;
  }
  fail(ExitCode::unavailable, "no port to listen on: {}", std::strerror(errno));
}

Socket connect_at(const std::string& address, int port, Clock::time_point end) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return Socket();
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  Socket socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return Socket();
  if (connect(socket.number(), found->ai_addr, found->ai_addrlen) != 0) {
    int error = errno;
    socklen_t size = sizeof error;
    if (error != EINPROGRESS || !wait_for(socket, POLLOUT, end)) return Socket();
    if (getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return Socket();
  }
  send_at_once(socket);
  return socket;
}

}  // namespace

Socket::~Socket() {
  if (number_ >= 0) close(number_);
}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

std::string to_text(const PeerAddress& address) {
  std::string text = fmt::format("{} {}", address.token, address.port);
  for (const std::string& one : address.addresses) text += " " + one;
  return text;
}

PeerAddress peer_address_from(const std::string& text) {
  PeerAddress address;
  std::istringstream words(text);
  words >> address.token >> address.port;
  AUTOGLM_CHECK(!words.fail(), "{}", text);
  for (std::string one; words >> one;) address.addresses.push_back(one);
  return address;
}

PeerListener::PeerListener() : socket_(listen_somewhere(address_.port)) {
  std::random_device random;
  address_.token = std::uint64_t{random()} << 32 | random();
  address_.addresses = own_addresses();
}

std::optional<std::pair<int, Socket>> PeerListener::accept_until(Clock::time_point end) {
  while (wait_for(socket_, POLLIN, end)) {
    Socket peer(accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!peer && (errno == EMFILE || errno == ENFILE)) {
      fail(ExitCode::unavailable, "a connection could not be taken: {}", std::strerror(errno));
    }
    if (!peer) continue;
    send_at_once(peer);
    const Clock::time_point greeting_end = std::min(end, Clock::now() + kLongestGreeting);
    const auto greeting = receive_greeting(peer, greeting_end);
    if (!greeting || greeting->token != address_.token || !send_greeting(peer, *greeting)) continue;
    const auto again = receive_greeting(peer, greeting_end);
    if (!again || again->token != greeting->token || again->number != greeting->number) continue;
    return std::pair(static_cast<int>(greeting->number), std::move(peer));
  }
  return std::nullopt;
}

Socket connect_to_peer(const PeerAddress& address, int number, Clock::time_point end) {
  for (const std::string& one : address.addresses) {
    const Clock::time_point attempt_end = std::min(end, Clock::now() + kLongestAttempt);
    Socket socket = connect_at(one, address.port, attempt_end);
    const Greeting greeting{address.token, number};
    if (!socket || !send_greeting(socket, greeting)) continue;
    const auto answer = receive_greeting(socket, attempt_end);
    if (!answer || answer->token != address.token || answer->number != number) continue;
    if (send_greeting(socket, greeting)) return socket;
  }
  std::string tried;
  for (const std::string& one : address.addresses) tried += (tried.empty() ? "" : ", ") + one;
  fail(ExitCode::unavailable, "no answer at port {} of {}", address.port, tried);
}

}  // namespace autoglm
