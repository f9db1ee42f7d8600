#include "tests/cuda_on_host/runtime/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

constexpr int kMostProcesses = 64;

struct Shared {
  bool ready;
  pthread_mutex_t mutex;
  struct Process {
    pid_t pid;
    std::int64_t used[kMostCards];
  } process[kMostProcesses];
};

bool lives(pid_t pid) {
  return pid != 0 && (kill(pid, 0) == 0 || errno != ESRCH);
}

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "cuda_on_host: the ledger of cards: %s\n", what);
  std::abort();
}

class Ledger {
 public:
  Ledger() : name_(settings().ledger.empty() ? "" : "/cuda_on_host-" + settings().ledger) {
    if (name_.empty()) {
      map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
      make_mutex();
    } else {
      attach();
    }
    const Lock lock(*shared_);
    for (auto& process : shared_->process) {
      if (lives(process.pid)) continue;
      process = {};
      process.pid = getpid();
      mine_ = &process;
      return;
    }
    give_up("too many processes");
  }

  // The last process takes the file along. A fork of the owner is not the owner.
  ~Ledger() {
    if (name_.empty() || mine_->pid != getpid()) return;
    const int file = shm_open(name_.c_str(), O_RDWR, 0600);
    if (file >= 0) flock(file, LOCK_EX);
    mine_->pid = 0;
    bool alone = true;
    for (const auto& process : shared_->process) alone = alone && !lives(process.pid);
    if (alone) shm_unlink(name_.c_str());
    if (file >= 0) close(file);
  }
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  bool charge(int card, std::int64_t bytes) {
    const Lock lock(*shared_);
    if (bytes > 0 && sum(card) + bytes > settings().card_bytes) return false;
    const std::int64_t most = settings().gives;
    if (bytes > 0 && most > 0 && mine_->used[card] + bytes > most) return false;
    mine_->used[card] += bytes;
    return true;
  }

  std::int64_t used(int card) {
    const Lock lock(*shared_);
    return sum(card);
  }

 private:
  // A process that was killed while it held the lock has changed at most its own numbers.
  class Lock {
   public:
    explicit Lock(Shared& shared) : shared_(shared) {
      if (pthread_mutex_lock(&shared_.mutex) == EOWNERDEAD) pthread_mutex_consistent(&shared_.mutex);
    }
    ~Lock() { pthread_mutex_unlock(&shared_.mutex); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    Shared& shared_;
  };

  void attach() {
    for (;;) {
      const int file = shm_open(name_.c_str(), O_RDWR | O_CREAT, 0600);
      if (file < 0 || flock(file, LOCK_EX) != 0) give_up("no shared memory");
      struct stat status {};
      if (fstat(file, &status) == 0 && status.st_nlink == 0) {  // the last process has just left
        close(file);
        continue;
      }
      if (ftruncate(file, sizeof(Shared)) != 0) give_up("no room in shared memory");
      map(MAP_SHARED, file);
      if (!shared_->ready) make_mutex();
      flock(file, LOCK_UN);  // closing does not, since the mapping holds the file open
      close(file);
      return;
    }
  }

  void map(int flags, int file) {
    void* at = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, flags, file, 0);
    if (at == MAP_FAILED) give_up("cannot be mapped");
    shared_ = static_cast<Shared*>(at);
  }

  void make_mutex() {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared_->mutex, &kind);
    pthread_mutexattr_destroy(&kind);
    shared_->ready = true;
  }

  std::int64_t sum(int card) const {
    std::int64_t bytes = 0;
    for (const auto& process : shared_->process) {
      if (lives(process.pid)) bytes += process.used[card];
    }
    return bytes;
  }

  std::string name_;
  Shared* shared_ = nullptr;
  Shared::Process* mine_ = nullptr;
};

Ledger& ledger() {
  static Ledger ledger;
  return ledger;
}

}  // namespace

bool charge(int card, std::int64_t bytes) {
  return ledger().charge(card, bytes);
}

std::int64_t used_on(int card) {
  return ledger().used(card);
}

}  // namespace cuda_on_host
