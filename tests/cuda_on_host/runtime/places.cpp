#include "tests/cuda_on_host/runtime/places.h"

#include <dlfcn.h>
#include <execinfo.h>

#include <cstdint>
#include <cstdio>
#include <mutex>
#include <set>
#include <vector>

#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

constexpr int kFrames = 16;
constexpr std::size_t kNearest = 8;  // that make a place

std::vector<void*> callers_outside() {
  void* frames[kFrames];
  const int count = backtrace(frames, kFrames);
  Dl_info own{}, info{};
  dladdr(reinterpret_cast<void*>(&callers_outside), &own);
  std::vector<void*> outside;
  bool in_own = false;  // ThreadSanitizer's backtrace() begins with itself
  for (int i = 0; i < count; ++i) {
    const bool is_own = dladdr(frames[i], &info) != 0 && info.dli_fbase == own.dli_fbase;
    in_own = in_own || is_own;
    if (in_own && !is_own) outside.push_back(frames[i]);
  }
  return outside;
}

std::string describe(const std::vector<void*>& frames) {
  std::string text;
  for (void* frame : frames) {
    Dl_info info{};
    dladdr(frame, &info);
    const std::string path = info.dli_fname != nullptr ? info.dli_fname : "?";
    char offset[32];
    std::snprintf(offset, sizeof offset, "+0x%zx",
                  reinterpret_cast<std::uintptr_t>(frame) - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
    if (!text.empty()) text += ' ';
    text += path.substr(path.rfind('/') + 1);
    text += offset;
  }
  return text.empty() ? "an unknown place" : text;
}

}  // namespace

std::string describe_callers() {
  return describe(callers_outside());
}

bool wait_is_left_out(const char* what_waits) {
  if (settings().no_waits) return true;
  if (settings().left_out_waits.empty() && !settings().list_waits) return false;
  static std::mutex mutex;
  static auto* places = new std::set<std::string>;
  std::vector<void*> callers = callers_outside();
  if (callers.size() > kNearest) callers.resize(kNearest);
  const std::string place = std::string(what_waits) + " " + describe(callers);
  const std::lock_guard lock(mutex);
  if (settings().list_waits && places->insert(place).second) {
    std::fprintf(stderr, "cuda_on_host: wait at %s\n", place.c_str());
  }
  return settings().left_out_waits.count(place) > 0;
}

}  // namespace cuda_on_host
