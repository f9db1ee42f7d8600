#include "checkpoint/file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"

namespace autoglm {
namespace {

// Linux moves at most 2 GiB per call.
constexpr std::size_t kLargestTransfer = std::size_t{1} << 30;
constexpr std::size_t kCopyBuffer = std::size_t{4} << 20;

[[noreturn]] void fail_writing(const std::filesystem::path& path, int error) {
  fail_system(ExitCode::io_failed, path, "writing failed", error);
}

// Some file systems let a signal break off the wait for a server.
int open_file(const std::filesystem::path& path, int flags, mode_t mode = 0) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// Runs `fill`, and removes the new file when that fails.
template <typename Fill>
void fill_new_file(const std::filesystem::path& path, Fill&& fill) {
  File file = File::create(path);
  try {
    fill(file);
    file.sync_and_close();
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace

void fail_system(ExitCode code, const std::filesystem::path& path, std::string_view what, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  const std::string sentence = fmt::format(
      "{}: {}: {}{}", path.string(), what, errno_text(error),
      full || error == EFBIG ? "; free some space, or choose an output folder with more of it" : "");
  if (full) throw DiskFull(ExitCode::io_failed, sentence);
  throw Error(code, sentence);
}

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

bool name_exists(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

File::File(int descriptor, std::filesystem::path path) : descriptor_(descriptor), path_(std::move(path)) {}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File File::open(const std::filesystem::path& path) {
  RegularFile file = RegularFile::open(path);
  file.require_open(path);
  return {file.release(), path};
}

File File::open_within(const std::filesystem::path& folder, const std::string& name) {
  RegularFile file = RegularFile::open_within(folder, name);
  file.require_open(folder / name);
  return {file.release(), folder / name};
}

File File::create(const std::filesystem::path& path) {
  File file(open_file(path, O_RDWR | O_CREAT | O_EXCL, 0666), path);
  if (file.descriptor_ < 0) fail_system(ExitCode::cannot_create, path, "cannot be created", errno);
  return file;
}

File File::open_for_writing(const std::filesystem::path& path) {
  File file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW), path);
  if (file.descriptor_ < 0) fail_system(ExitCode::cannot_create, path, "cannot be written to", errno);
  struct stat status {};
  if (::fstat(file.descriptor_, &status) != 0 || !S_ISREG(status.st_mode))
    fail(ExitCode::cannot_create, "{}: is not a regular file", path.string());
  return file;
}

std::uint64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    fail(ExitCode::io_failed, "{}: cannot be read: {}", path_.string(), errno_text(errno));
  }
  return static_cast<std::uint64_t>(status.st_size);
}

void File::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::pread(descriptor_, bytes.data(), std::min(bytes.size(), kLargestTransfer),
                                  static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      fail(ExitCode::io_failed, "{}: reading failed at byte {}: {}", path_.string(), offset,
           errno_text(errno));
    }
    if (count == 0) {
      fail(ExitCode::io_failed, "{}: ends at byte {} while it is being read; was it replaced or shortened?",
           path_.string(), offset);
    }
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void File::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), kLargestTransfer),
                                   static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_writing(path_, errno);
    if (count == 0) fail_writing(path_, ENOSPC);
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void File::reserve(std::uint64_t bytes) {
  if (bytes == 0) return;
  int result = 0;
  do {
    result = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) fail_writing(path_, errno);
}

void File::truncate(std::uint64_t size) noexcept {
  while (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0 && errno == EINTR) {
  }
}

void File::forget_cached() const noexcept {
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
}

bool File::is_in_place() const {
  struct stat mine {
  }, there{};
  return ::fstat(descriptor_, &mine) == 0 && ::stat(path_.c_str(), &there) == 0 &&
         mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

void File::sync() const {
  int result = 0;
  do {
    result = ::fsync(descriptor_);
  } while (result != 0 && errno == EINTR);
  if (result != 0) fail_writing(path_, errno);
}

void File::sync_and_close() {
  sync();
  // After EINTR the descriptor is closed all the same on Linux.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail_writing(path_, errno);
}

void write_new_file(const std::filesystem::path& path, std::string_view contents) {
  fill_new_file(path, [&](File& file) { file.write_at(0, as_bytes(contents)); });
}

void replace_file(const std::filesystem::path& path, std::string_view contents) {
  std::filesystem::path aside = path;
  aside += ".tmp-" + random_name();
  try {
    write_new_file(aside, contents);
    if (::rename(aside.c_str(), path.c_str()) != 0) fail_writing(path, errno);
  } catch (...) {
    ::unlink(aside.c_str());
    throw;
  }
  sync_directory(path.parent_path());
}

void copy_file_durably(const File& source, const std::filesystem::path& to) {
  const std::uint64_t size = source.size();
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min<std::uint64_t>(size, kCopyBuffer));
  fill_new_file(to, [&](File& target) {
    for (std::uint64_t offset = 0; offset < size; offset += kCopyBuffer) {
      const std::span<std::byte> part(buffer.get(), std::min<std::uint64_t>(size - offset, kCopyBuffer));
      source.read_at(offset, part);
      target.write_at(offset, part);
    }
  });
}

void create_folders(const std::filesystem::path& path) {
  std::error_code error;
  std::vector<std::filesystem::path> parents;
  for (auto at = path; at.has_relative_path() && !std::filesystem::exists(at, error); at = at.parent_path())
    parents.push_back(at.parent_path());
  std::filesystem::create_directories(path, error);
  if (error) fail_system(ExitCode::cannot_create, path, "cannot be created", error.value());
  // Or all that comes to lie in them would go with them when the power does.
  for (const auto& parent : parents) sync_directory(parent);
}

std::optional<std::uint64_t> free_space_of(const std::filesystem::path& folder) {
  struct statvfs status {};
  // A file system that counts no blocks (some network ones) says nothing about its space.
  if (::statvfs(folder.c_str(), &status) != 0 || status.f_blocks == 0) return std::nullopt;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

void sync_directory(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.empty() ? std::filesystem::path(".") : path;
  const int descriptor = open_file(folder, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0 && errno == EACCES) return;  // a folder may allow passing through and not reading
  if (descriptor < 0) fail_writing(folder, errno);
  int result = 0;
  do {
    result = ::fsync(descriptor);
  } while (result != 0 && errno == EINTR);
  const int error = errno;
  ::close(descriptor);
  // Network and user-space file systems may not know how to sync a folder; there is nothing else to ask them.
  if (result != 0 && error != EINVAL && error != ENOTSUP && error != ENOSYS) fail_writing(folder, error);
}

std::string random_name() {
  std::array<unsigned char, 16> random{};
  for (std::size_t filled = 0; filled < random.size();) {
    const ssize_t count = ::getrandom(random.data() + filled, random.size() - filled, 0);
    if (count > 0) filled += static_cast<std::size_t>(count);
    AUTOGLM_CHECK(count > 0 || errno == EINTR, "getrandom: {}", errno_text(errno));
  }
  std::string name;
  for (const unsigned char byte : random) name += fmt::format("{:02x}", byte);
  return name;
}

}  // namespace autoglm
