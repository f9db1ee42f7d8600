#include "tests/cuda_on_host/runtime/settings.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <sstream>

namespace cuda_on_host {
namespace {

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::string text(const char* name, const std::string& otherwise) {
  const char* value = std::getenv((std::string("CUDA_ON_HOST_") + name).c_str());
  return value != nullptr && *value != '\0' ? value : otherwise;
}

[[noreturn]] void refuse(const char* name, const std::string& value) {
  std::fprintf(stderr, "cuda_on_host: CUDA_ON_HOST_%s cannot be '%s'\n", name, value.c_str());
  std::_Exit(64);
}

std::int64_t number(const char* name, std::int64_t otherwise) {
  const std::string value = text(name, std::to_string(otherwise));
  char* end = nullptr;
  const std::int64_t result = std::strtoll(value.c_str(), &end, 10);
  if (*end != '\0') refuse(name, value);
  return result;
}

// The place of the value among those that are known; the first is the default.
int choice(const char* name, std::initializer_list<const char*> known) {
  const std::string value = text(name, *known.begin());
  int place = 0;
  for (const char* one : known) {
    if (value == one) return place;
    ++place;
  }
  refuse(name, value);
}

// What stands between semicolons.
std::set<std::string> pieces(const std::string& text) {
  std::set<std::string> found;
  std::istringstream stream(text);
  for (std::string piece; std::getline(stream, piece, ';');) found.insert(piece);
  return found;
}

// Ranks of one mpirun share the cards of their host; other programs have cards of their own.
std::string default_ledger() {
  const char* job = std::getenv("PMIX_NAMESPACE");
  return job != nullptr ? "job-" + std::string(job) + "-" + host_name() : "";
}

Settings read() {
  constexpr std::int64_t kMiB = std::int64_t{1} << 20;
  Settings found;
  found.cards = static_cast<int>(number("CARDS", 1));
  if (found.cards < 0 || found.cards > 16) refuse("CARDS", std::to_string(found.cards));
  found.card_bytes = number("CARD_BYTES", 42298834944);
  found.card_name = text("CARD_NAME", "NVIDIA A100-SXM4-40GB");
  found.capability = static_cast<int>(number("CAPABILITY", 80));
  if (found.capability < 50 || found.capability > 130) refuse("CAPABILITY", std::to_string(found.capability));
  found.gives = number("GIVES", 0);
  found.out_of_memory = text("OUT_OF_MEMORY", "");
  found.driver = static_cast<int>(number("DRIVER", 13000));
  found.context_bytes = number("CONTEXT_BYTES", 412 * kMiB);
  found.kernel_bytes = number("KERNEL_BYTES", kMiB);
  found.ledger = text("LEDGER", default_ledger());
  found.sees_dead_peers = choice("DEAD_PEERS", {"seen", "unseen"}) == 0;
  found.taken = choice("COMPUTE_MODE", {"default", "taken"}) == 1;
  found.immediate = choice("SCHEDULE", {"threads", "immediate"}) == 1;
  found.late_queries = choice("QUERIES", {"prompt", "late"}) == 1;
  found.longest_delay_us = static_cast<int>(number("DELAY_US", 0));
  found.fibers = choice("BLOCKS", {"serial", "fibers"}) == 1;
  found.thread_order = static_cast<int>(number("THREAD_ORDER", 0));
  found.bytes_only = choice("BYTES_ONLY", {"no", "yes"}) == 1;
  found.host_bytes = number("HOST_BYTES", 0);
  const int reads_host = choice("READS_HOST", {"no", "yes", "unsaid"});
  found.reads_host = reads_host > 0;
  found.says_so = reads_host == 1;
  found.fresh_nan = choice("FRESH_MEMORY", {"nan", "zero"}) == 0;
  found.misuse = static_cast<Misuse>((choice("MISUSE", {"tell", "stop", "ignore"}) + 1) % 3);
  const std::string left_out = text("LEAVE_OUT_WAIT", "none");
  found.no_waits = left_out == "all";
  if (left_out != "all" && left_out != "none") found.left_out_waits = pieces(left_out);
  found.counts_messages = choice("COUNT_MESSAGES", {"no", "yes"}) == 1;
  found.list_waits = choice("LIST_WAITS", {"no", "yes"}) == 1;
  found.trace = choice("TRACE", {"no", "yes"}) == 1;
  return found;
}

}  // namespace

const Settings& settings() {
  static const Settings* const found = new Settings(read());  // threads may outlive main
  return *found;
}

}  // namespace cuda_on_host
