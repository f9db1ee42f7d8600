#include "base/regular_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

// Without O_NONBLOCK, opening a pipe would wait for a writer.
constexpr int kFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
// Linux moves at most 2 GiB per call.
constexpr std::uint64_t kLargestTransfer = std::uint64_t{1} << 30;

// Some file systems let a signal break off the wait for a server.
template <typename Open>
int open_again(Open&& open) {
  int descriptor = -1;
  do {
    descriptor = open();
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

int open_beneath(int folder, const char* name) {
  open_how how{};
  how.flags = kFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  const int descriptor =
      open_again([&] { return static_cast<int>(::syscall(SYS_openat2, folder, name, &how, sizeof(how))); });
  // A kernel without it, or a container that does not know it and forbids it.
  if (descriptor >= 0 || (errno != ENOSYS && errno != EPERM)) return descriptor;
  // Of a plain name, the last part is all there is.
  return open_again([&] { return ::openat(folder, name, kFlags | O_NOFOLLOW); });
}

std::string words_of(int error) {
  return std::generic_category().message(error);
}

std::string read_all(const RegularFile& file, const std::filesystem::path& path, std::uint64_t max_bytes) {
  struct stat status {};
  if (::fstat(file.require_open(path).descriptor(), &status) != 0)
    fail(ExitCode::io_failed, "{}: cannot be read: {}", path.string(), words_of(errno));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > max_bytes) {
    fail(ExitCode::bad_data, "{}: has {} bytes, more than the {} that such a file may have", path.string(),
         size, max_bytes);
  }
  std::string text(size, '\0');
  for (std::uint64_t at = 0; at < size;) {
    const ssize_t count = ::pread(file.descriptor(), text.data() + at, std::min(size - at, kLargestTransfer),
                                  static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      fail(ExitCode::io_failed, "{}: reading failed at byte {}: {}", path.string(), at, words_of(errno));
    if (count == 0)
      fail(ExitCode::io_failed, "{}: ends at byte {} while it is being read; was it replaced or shortened?",
           path.string(), at);
    at += static_cast<std::uint64_t>(count);
  }
  return text;
}

}  // namespace

RegularFile RegularFile::checked(int descriptor) {
  if (descriptor < 0) return {-1, errno};
  RegularFile file(descriptor, 0);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return {-1, errno};
  if (!S_ISREG(status.st_mode)) return {-1, 0};
  return file;
}

RegularFile RegularFile::open(const std::filesystem::path& path) {
  // Opening a device may do something by itself, such as rewinding a tape.
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) return {-1, 0};
  return checked(open_again([&] { return ::open(path.c_str(), kFlags); }));
}

RegularFile RegularFile::open_within(const std::filesystem::path& folder, const std::string& name) {
  if (!is_plain_name(name)) return {-1, 0};
  const std::filesystem::path named = folder.empty() ? std::filesystem::path(".") : folder;
  const int place = open_again([&] { return ::open(named.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC); });
  if (place < 0) return {-1, errno};
  struct stat status {};
  const bool irregular =
      ::fstatat(place, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(status.st_mode);
  RegularFile file = irregular ? RegularFile(-1, 0) : checked(open_beneath(place, name.c_str()));
  ::close(place);
  if (file.error_ == ELOOP) file.error_ = 0;  // became a link a moment ago
  return file;
}

RegularFile::RegularFile(RegularFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), error_(other.error_) {}

RegularFile& RegularFile::operator=(RegularFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(error_, other.error_);
  return *this;
}

RegularFile::~RegularFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int RegularFile::release() {
  return std::exchange(descriptor_, -1);
}

const RegularFile& RegularFile::require_open(const std::filesystem::path& path) const {
  if (is_open()) return *this;
  if (error_ == 0) fail(ExitCode::bad_data, "{}: is not a regular file", path.string());
  const bool exhausted = error_ == EMFILE || error_ == ENFILE || error_ == ENOMEM || error_ == EIO;
  fail(exhausted ? ExitCode::io_failed : ExitCode::missing_input, "{}: cannot be read: {}", path.string(),
       words_of(error_));
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_all(RegularFile::open(path), path, max_bytes);
}

std::string read_text_file_within(const std::filesystem::path& folder, const std::string& name,
                                  std::uint64_t max_bytes) {
  return read_all(RegularFile::open_within(folder, name), folder / name, max_bytes);
}

}  // namespace autoglm
