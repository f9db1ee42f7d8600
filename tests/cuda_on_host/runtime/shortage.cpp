#include "tests/cuda_on_host/runtime/shortage.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

constexpr std::array<const char*, 4> kNames = {"memory", "kernel", "product", "message"};

// Of one kind, this call, or all from it on.
struct Shortage {
  std::size_t kind = 0;
  long call = 0;
  bool lasts = false;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

[[noreturn]] void refuse(const std::string& text) {
  std::fprintf(stderr, "cuda_on_host: CUDA_ON_HOST_OUT_OF_MEMORY cannot be '%s'\n", text.c_str());
  std::_Exit(64);
}

class Shortages {
 public:
  Shortages() {
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    for (const std::string& one : split(settings().out_of_memory, ',')) {
      if (one == "count") {
        tells_ = true;
        continue;
      }
      const std::vector<std::string> words = split(one, ':');
      const auto name = words.empty() ? kNames.end() : std::ranges::find(kNames, words[0]);
      if (name == kNames.end() || words.size() < 2 || words.size() > 3) refuse(one);
      char* end = nullptr;
      Shortage shortage{static_cast<std::size_t>(name - kNames.begin()),
                        std::strtol(words[1].c_str(), &end, 10)};
      shortage.lasts = *end == '+';
      if (shortage.call < 1 || *(end + (shortage.lasts ? 1 : 0)) != '\0') refuse(one);
      if (words.size() < 3 || words[2] == (rank != nullptr ? rank : "0")) shortages_.push_back(shortage);
    }
  }

  bool count(Taker taker) {
    const std::lock_guard lock(mutex_);
    const auto kind = static_cast<std::size_t>(taker);
    const long call = ++calls_[kind];
    return std::ranges::any_of(shortages_, [&](const Shortage& one) {
      return one.kind == kind && (one.lasts ? call >= one.call : call == one.call);
    });
  }

  void tell() {
    if (!tells_) return;
    std::fprintf(stderr, "cuda_on_host: calls that take memory: %s %ld, %s %ld, %s %ld, %s %ld\n", kNames[0],
                 calls_[0], kNames[1], calls_[1], kNames[2], calls_[2], kNames[3], calls_[3]);
  }

 private:
  std::mutex mutex_;
  std::vector<Shortage> shortages_;
  std::array<long, 4> calls_{};
  bool tells_ = false;
};

Shortages& shortages() {
  static auto* const found = [] {
    std::atexit([] { shortages().tell(); });
    return new Shortages;
  }();
  return *found;
}

}  // namespace

bool finds_none(Taker taker) {
  return shortages().count(taker);
}

}  // namespace cuda_on_host

extern "C" bool cuda_on_host_finds_none(int taker) {
  return cuda_on_host::finds_none(static_cast<cuda_on_host::Taker>(taker));
}
