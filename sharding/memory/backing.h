// What stands behind an arena's addresses.
#pragma once

#include <cstdint>
#include <string>

namespace autoglm {

// A range of addresses of which an arena hands out parts. This one has no memory at all; what derives from it
// brings some.
class Backing {
 public:
  Backing(char* base, std::int64_t capacity) : base_(base), capacity_(capacity) {}
  virtual ~Backing() = default;
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;

  char* base() const { return base_; }

  // Bytes that can be handed out: all the addresses, or less once a device had no more.
  std::int64_t capacity() const { return capacity_; }

  // Makes `bytes` from `offset` on usable. Returns why not, in the system's words, or nothing.
  virtual std::string take(std::int64_t /*offset*/, std::int64_t /*bytes*/) { return {}; }

  // What take() made usable is free again; `bytes` are rounded to the arena's alignment.
  virtual void give_back(std::int64_t /*offset*/, std::int64_t /*bytes*/) {}

  // Returns what memory a free range still has to the system.
  virtual void trim(std::int64_t /*offset*/, std::int64_t /*bytes*/) {}

  // Nothing from `top` on is in use: returns what memory there is to the system.
  virtual void trim_end(std::int64_t /*top*/) {}

  // Bytes that are taken from the system when the first `extent` bytes have been used.
  virtual std::int64_t backed(std::int64_t extent) const { return extent; }

 protected:
  char* base_;
  std::int64_t capacity_;
};

}  // namespace autoglm
