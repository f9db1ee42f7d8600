// Preloaded (LD_PRELOAD), it counts the calls by which a program works on files below a folder, keeps a journal of
// them, and lets one of them go wrong. Settings come from the environment:
//
//   FAULTS_ROOT     the folder, absolute; calls on other files are let through
//   FAULTS_JOURNAL  a file to which every call adds a line (fault_runs.py reads it); its order is that of the effects,
//                   also of several processes
//   FAULTS_AT       RANK:CALL:ACTION: the rank's call of this number, from 1 on, goes wrong. ACTION is "kill" (the
//                   process is killed before the call), "tear" (killed in the middle of a write), "short" (a write or
//                   read of half the bytes), "flip" (a write of other bytes), or the number of an errno. CALL+ is that
//                   call and all later ones: of a full disk those that need room, else all.
//   FAULTS_REFUSE   NAME=ERRNO: a function that this file system does not have
//
// The rank is FAULTS_RANK or OMPI_COMM_WORLD_RANK, else 0. What a program writes to its standard output is in the
// journal, too, so that it is known what it had promised when.
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>

namespace {

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}
#define REAL(name) (*real<decltype(::name)>(#name))

std::string setting(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

int rank() {
  const std::string given = setting("FAULTS_RANK");
  return std::atoi((given.empty() ? setting("OMPI_COMM_WORLD_RANK") : given).c_str());
}

std::string path_of(int descriptor) {
  char path[PATH_MAX];
  const auto length = ::readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), path, sizeof path);
  return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : "";
}

std::string absolute(int folder, const char* path) {
  if (*path == '/') return path;
  char here[PATH_MAX];
  const std::string base = folder == AT_FDCWD ? (::getcwd(here, sizeof here) ? here : "") : path_of(folder);
  return base + "/" + path;
}

bool is_watched(const std::string& path) {
  static const std::string root = setting("FAULTS_ROOT");
  return !root.empty() && (path == root || path.starts_with(root + "/"));
}

std::string inode_of(const std::string& path) {
  struct stat status {};
  return std::to_string(::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0);
}

std::string inode_of(int descriptor) {
  struct stat status {};
  return std::to_string(::fstat(descriptor, &status) == 0 ? status.st_ino : 0);
}

std::string joined(std::initializer_list<std::string> parts) {
  std::string line;
  for (const std::string& part : parts) {
    if (!line.empty()) line += '\t';
    line += part;
  }
  return line;
}

// A folder's inode and the name in it.
std::string entry(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return joined({inode_of(path.substr(0, slash)), path.substr(slash + 1)});
}

std::string hexadecimal(const void* bytes, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    const auto byte = static_cast<const unsigned char*>(bytes)[i];
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

struct Fault {
  bool kill = false, half = false;
  int error = 0;
  bool flip = false;
};

bool needs_room(std::string_view name) {
  for (const std::string_view one : {"create", "mkdir", "write", "pwrite", "fallocate", "fsync", "fdatasync"})
    if (name == one) return true;
  return false;
}

// What the file system does not have.
int refusal_of(std::string_view name) {
  static const std::string refused = setting("FAULTS_REFUSE");
  const auto at = refused.find('=');
  return at != std::string::npos && refused.compare(0, at, name) == 0 ? std::atoi(&refused[at + 1]) : 0;
}

Fault fault_of(std::string_view name, int call) {
  static const std::string all = setting("FAULTS_AT");
  const Fault none{false, false, refusal_of(name)};
  int faulty_rank = 0, faulty_call = 0;
  char action[32] = "";
  if (std::sscanf(all.c_str(), "%d:%d%31s", &faulty_rank, &faulty_call, action) != 3) return none;
  const bool lasts = action[0] == '+';
  const std::string_view what = std::string_view(action).substr(lasts ? 2 : 1);
  if (faulty_rank != rank() || call < faulty_call || (call > faulty_call && !lasts)) return none;
  if (what == "kill") return {true, false, 0};
  if (what == "tear") return {true, true, 0};
  if (what == "short") return {false, true, 0};
  if (what == "flip") return {false, false, 0, true};
  const int error = std::atoi(what.data());
  const bool full = error == ENOSPC || error == EDQUOT;
  return lasts && full && !needs_room(name) ? none : Fault{false, false, error};
}

// One call at a time, of all threads and, by the journal's lock, of all processes.
class Turn {
 public:
  Turn() : lock_(mutex()) {
    static const std::string path = setting("FAULTS_JOURNAL");
    if (path.empty()) return;
    journal_ = REAL(open)(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    struct flock whole {};
    whole.l_type = F_WRLCK;
    while (::fcntl(journal_, F_SETLKW, &whole) != 0 && errno == EINTR) {
    }
  }
  ~Turn() {
    if (journal_ >= 0) REAL(close)(journal_);
  }

  void add(const std::string& line) const {
    if (journal_ >= 0 && REAL(write)(journal_, line.data(), line.size()) < 0) std::abort();
  }

 private:
  static std::recursive_mutex& mutex() {
    static std::recursive_mutex one;
    return one;
  }
  std::lock_guard<std::recursive_mutex> lock_;
  int journal_ = -1;
};

int next_call() {
  static pid_t counted_in = 0;
  static int calls = 0;
  if (counted_in != ::getpid()) calls = 0;  // a rank that was forked counts for itself
  counted_in = ::getpid();
  return ++calls;
}

// `body(fault)` does the call, or half of it; `details()` says afterwards what it did.
template <typename Body, typename Details>
auto counted(const char* name, const std::string& path, Body&& body, Details&& details) {
  if (!is_watched(path)) return body(Fault());
  const Turn turn;
  const int call = next_call();
  const Fault fault = fault_of(name, call);
  if (fault.kill && !fault.half) ::kill(::getpid(), SIGKILL);
  errno = fault.error;
  const auto result = fault.error ? decltype(body(fault))(-1) : body(fault);
  if (fault.kill) ::kill(::getpid(), SIGKILL);
  const int error = errno;
  std::string line =
      joined({std::to_string(rank()), std::to_string(call), name, std::to_string(result < 0 ? error : 0)});
  if (result >= 0) line.append("\t").append(details(result));
  turn.add(line.append("\n"));
  errno = error;
  return result;
}

const auto nothing = [](auto) { return std::string(); };

int open_at(int folder, const char* path, int flags, mode_t mode) {
  const std::string whole = absolute(folder, path);
  struct stat status {};
  const bool creates = (flags & O_CREAT) != 0 && ::lstat(whole.c_str(), &status) != 0;
  return counted(
      creates                      ? "create"
      : (flags & O_DIRECTORY) != 0 ? "opendir"
                                   : "open",
      whole, [&](const Fault&) { return REAL(openat)(folder, path, flags, mode); },
      [&](int descriptor) {
        return creates ? joined({inode_of(descriptor), entry(whole)}) : "";
      });
}

int rename_at(const char* name, int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) {
  const std::string old = absolute(from_folder, from);
  return counted(
      name, old, [&](const Fault&) { return REAL(renameat2)(from_folder, from, to_folder, to, flags); },
      [&](int) {
        return joined({entry(old), entry(absolute(to_folder, to)), std::to_string(flags)});
      });
}

int unlink_at(int folder, const char* path, int flags) {
  const std::string whole = absolute(folder, path);
  return counted((flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink", whole,
                 [&](const Fault&) { return REAL(unlinkat)(folder, path, flags); },
                 [&](int) { return entry(whole); });
}

int make_folder_at(int folder, const char* path, mode_t mode) {
  const std::string whole = absolute(folder, path);
  return counted(
      "mkdir", whole, [&](const Fault&) { return REAL(mkdirat)(folder, path, mode); },
      [&](int) {
        return joined({inode_of(whole), entry(whole)});
      });
}

std::string size_details(int descriptor) {
  struct stat status {};
  ::fstat(descriptor, &status);
  return joined({inode_of(descriptor), std::to_string(status.st_size)});
}

}  // namespace

extern "C" {

#define MODE_AFTER(flags)                                                                     \
  va_list rest;                                                                               \
  va_start(rest, flags);                                                                      \
  const auto mode = static_cast<mode_t>((flags & O_CREAT) != 0 ? va_arg(rest, unsigned) : 0); \
  va_end(rest)

int open(const char* path, int flags, ...) {
  MODE_AFTER(flags);
  return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  MODE_AFTER(flags);
  return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  MODE_AFTER(flags);
  return open_at(folder, path, flags, mode);
}
int openat64(int folder, const char* path, int flags, ...) {
  MODE_AFTER(flags);
  return open_at(folder, path, flags, mode);
}

// openat2 has no function of its own.
long syscall(long number, ...) {
  va_list rest;
  va_start(rest, number);
  long values[6];
  for (long& value : values) value = va_arg(rest, long);
  va_end(rest);
  const auto call = [&] {
    return REAL(syscall)(number, values[0], values[1], values[2], values[3], values[4], values[5]);
  };
  if (number != SYS_openat2) return call();
  const std::string whole = absolute(static_cast<int>(values[0]), reinterpret_cast<const char*>(values[1]));
  return counted(
      "open", whole, [&](const Fault&) { return call(); }, nothing);
}

int mkdir(const char* path, mode_t mode) {
  return make_folder_at(AT_FDCWD, path, mode);
}
int mkdirat(int folder, const char* path, mode_t mode) {
  return make_folder_at(folder, path, mode);
}

int rename(const char* from, const char* to) {
  return rename_at("rename", AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  return rename_at("rename", from_folder, from, to_folder, to, 0);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  return rename_at("renameat2", from_folder, from, to_folder, to, flags);
}

int unlink(const char* path) {
  return unlink_at(AT_FDCWD, path, 0);
}
int rmdir(const char* path) {
  return unlink_at(AT_FDCWD, path, AT_REMOVEDIR);
}
int unlinkat(int folder, const char* path, int flags) {
  return unlink_at(folder, path, flags);
}
int remove(const char* path) {
  struct stat status {};
  const bool folder = ::lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
  return unlink_at(AT_FDCWD, path, folder ? AT_REMOVEDIR : 0);
}

ssize_t write(int descriptor, const void* bytes, size_t count) {
  if (descriptor == STDOUT_FILENO) {
    const Turn turn;
    const std::string_view text(static_cast<const char*>(bytes), count);
    turn.add(joined({std::to_string(rank()), "0", "say", "0", std::string(text)}));
    return REAL(write)(descriptor, bytes, count);
  }
  const off_t at = ::lseek(descriptor, 0, SEEK_CUR);
  return counted(
      "write", path_of(descriptor),
      [&](const Fault& fault) {
        return REAL(write)(descriptor, bytes, fault.half ? (count + 1) / 2 : count);
      },
      [&](ssize_t done) {
        return joined(
            {inode_of(descriptor), std::to_string(at), hexadecimal(bytes, static_cast<std::size_t>(done))});
      });
}
ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t at) {
  return counted(
      "pwrite", path_of(descriptor),
      [&](const Fault& fault) {
        std::string flipped(static_cast<const char*>(bytes), count);
        if (fault.flip) flipped.front() ^= 1;
        return REAL(pwrite)(descriptor, flipped.data(), fault.half ? (count + 1) / 2 : count, at);
      },
      [&](ssize_t done) {
        return joined(
            {inode_of(descriptor), std::to_string(at), hexadecimal(bytes, static_cast<std::size_t>(done))});
      });
}
ssize_t pwrite64(int descriptor, const void* bytes, size_t count, off_t at) {
  return pwrite(descriptor, bytes, count, at);
}
ssize_t pread(int descriptor, void* bytes, size_t count, off_t at) {
  return counted(
      "pread", path_of(descriptor),
      [&](const Fault& fault) {
        return REAL(pread)(descriptor, bytes, fault.half ? (count + 1) / 2 : count, at);
      },
      nothing);
}
ssize_t pread64(int descriptor, void* bytes, size_t count, off_t at) {
  return pread(descriptor, bytes, count, at);
}

int fallocate(int descriptor, int mode, off_t from, off_t count) {
  return counted(
      "fallocate", path_of(descriptor),
      [&](const Fault&) { return REAL(fallocate)(descriptor, mode, from, count); },
      [&](int) { return size_details(descriptor); });
}
int fallocate64(int descriptor, int mode, off_t from, off_t count) {
  return fallocate(descriptor, mode, from, count);
}
int ftruncate(int descriptor, off_t size) {
  return counted(
      "ftruncate", path_of(descriptor), [&](const Fault&) { return REAL(ftruncate)(descriptor, size); },
      [&](int) { return size_details(descriptor); });
}
int ftruncate64(int descriptor, off_t size) {
  return ftruncate(descriptor, size);
}

int fsync(int descriptor) {
  return counted(
      "fsync", path_of(descriptor), [&](const Fault&) { return REAL(fsync)(descriptor); },
      [&](int) { return inode_of(descriptor); });
}
int fdatasync(int descriptor) {
  return counted(
      "fdatasync", path_of(descriptor), [&](const Fault&) { return REAL(fdatasync)(descriptor); },
      [&](int) { return inode_of(descriptor); });
}
// Whatever it answers, the descriptor is closed.
int close(int descriptor) {
  const std::string path = path_of(descriptor);
  const int result = counted(
      "close", path, [&](const Fault&) { return REAL(close)(descriptor); }, nothing);
  const int error = errno;
  if (result != 0 && error != EBADF) REAL(close)(descriptor);
  errno = error;
  return result;
}

}  // extern "C"
