// Addresses of the host whose pages are locked into memory while they are in use, so that a device can copy to
// and from them at full speed and in the background.
#pragma once

#include <cstdint>
#include <string>

#include "sharding/memory/host_mapping.h"

namespace autoglm {

// For an arena that places whole pages, each allocation locked for itself: a copy to or from a device never
// crosses from one into the next.
class LockedMapping : public HostMapping {
 public:
  LockedMapping();

  std::string take(std::int64_t offset, std::int64_t bytes) override;
  void give_back(std::int64_t offset, std::int64_t bytes) override;

 private:
  // Whole pages, which may not have been touched yet. Returns why not, in the system's words, or nothing.
  virtual std::string lock(char* data, std::int64_t bytes) = 0;

  // What lock() was called with.
  virtual void unlock(char* data, std::int64_t bytes) = 0;
};

}  // namespace autoglm
