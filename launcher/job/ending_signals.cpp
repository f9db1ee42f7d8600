#include "launcher/job/ending_signals.h"

#include <signal.h>

#include <atomic>
#include <initializer_list>
#include <mutex>
#include <thread>
#include <utility>

namespace autoglm {
namespace {

std::atomic<bool> stop_signal = false;

// Never destroyed: the thread may use it while the process ends.
struct Registered {
  std::mutex mutex;
  std::function<AfterSignal(int)> action;
};
Registered& registered() {
  static auto* const instance = new Registered;
  return *instance;
}

// Those that the process was told to ignore (nohup) stay ignored.
sigset_t ending_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int one : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU}) {
    struct sigaction now {};
    if (sigaction(one, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) sigaddset(&signals, one);
  }
  return signals;
}

[[noreturn]] void wait_for(const sigset_t& signals) {
  while (true) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    const bool remembered = signal == SIGUSR1 || signal == SIGUSR2;
    if (remembered) stop_signal = true;
    {
      const std::lock_guard lock(registered().mutex);
      const bool goes_on = registered().action && registered().action(signal) == AfterSignal::go_on;
      if (goes_on || remembered) continue;
    }
    ::signal(signal, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    raise(signal);
  }
}

}  // namespace

void watch_ending_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = ending_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] { wait_for(signals); }).detach();
}

bool stop_signal_came() noexcept {
  return stop_signal;
}

OnEndingSignal::OnEndingSignal(std::function<AfterSignal(int signal)> action) {
  const std::lock_guard lock(registered().mutex);
  registered().action = std::move(action);
}

OnEndingSignal::~OnEndingSignal() {
  const std::lock_guard lock(registered().mutex);
  registered().action = nullptr;
}

}  // namespace autoglm
