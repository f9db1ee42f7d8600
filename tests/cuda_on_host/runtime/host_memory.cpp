// A host with memory for any model, where nothing is computed: what it says it has, and page-locked memory that takes
// next to none.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/cuda_on_host/runtime/device_memory.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

constexpr std::size_t kPiece = std::size_t{64} << 20;

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "cuda_on_host: page-locked memory that holds nothing: %s: %s\n", what,
               std::strerror(errno));
  std::abort();
}

int piece() {
  static const int file = [] {
    const int made = memfd_create("cuda_on_host", MFD_CLOEXEC);
    if (made < 0 || ftruncate(made, kPiece) != 0) give_up("cannot be made");
    return made;
  }();
  return file;
}

// A file of its own, since callers read by its descriptor.
std::FILE* file_of(const std::string& text) {
  const int made = memfd_create("meminfo", MFD_CLOEXEC);
  if (made < 0 || write(made, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    give_up("meminfo");
  lseek(made, 0, SEEK_SET);
  return fdopen(made, "r");
}

// What the kernel says of the host's memory; its control groups have no limits.
std::FILE* open_pretended(const char* path, bool& pretended) {
  const long long kibibytes = settings().host_bytes / 1024;
  pretended = kibibytes > 0;
  if (pretended && std::strcmp(path, "/proc/meminfo") == 0) {
    const std::string number = std::to_string(kibibytes);
    return file_of("MemTotal: " + number + " kB\nMemFree: " + number + " kB\nMemAvailable: " + number +
                   " kB\n");
  }
  pretended = pretended && std::strncmp(path, "/sys/fs/cgroup/", 15) == 0;
  if (pretended) errno = ENOENT;
  return nullptr;
}

std::FILE* open_file(const char* name, const char* path, const char* mode) {
  bool pretended = false;
  std::FILE* file = open_pretended(path, pretended);
  if (file != nullptr || pretended) return file;
  using Open = std::FILE* (*)(const char*, const char*);
  return reinterpret_cast<Open>(dlsym(RTLD_NEXT, name))(path, mode);
}

}  // namespace

void share_pages(void* pointer, std::size_t bytes) {
  auto* const begin = static_cast<char*>(pointer);
  for (std::size_t done = 0; done < bytes; done += kPiece) {
    const std::size_t part = bytes - done < kPiece ? bytes - done : kPiece;
    void* const at = mmap(begin + done, part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, piece(), 0);
    if (at == MAP_FAILED) give_up("cannot be mapped");
  }
}

void own_pages(void* pointer, std::size_t bytes) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (mmap(pointer, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0) == MAP_FAILED)
    give_up("cannot be unmapped");
}

}  // namespace cuda_on_host

extern "C" {

std::FILE* fopen(const char* path, const char* mode) {
  return cuda_on_host::open_file("fopen", path, mode);
}
std::FILE* fopen64(const char* path, const char* mode) {
  return cuda_on_host::open_file("fopen64", path, mode);
}

}  // extern "C"
