// Signals that end a run, and what is still done when one comes.
#pragma once

#include <functional>

namespace autoglm {

// From now on SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGXCPU are waited for by a thread of their own, which runs what is
// registered and then lets the signal end the process as it would have. SIGUSR1 and SIGUSR2, which schedulers send before
// a job's end, are only remembered, after what is registered. SIGPIPE is ignored, so that a reader of the console who goes
// away ends nothing. To be called before other threads are started, once.
void watch_ending_signals();

// Whether SIGUSR1 or SIGUSR2 has come.
bool stop_signal_came() noexcept;

enum class AfterSignal { end, go_on };

// While it lives, `action` is run when such a signal comes, in the thread that waits for it, and says whether the
// signal then ends the process. One at a time.
class OnEndingSignal {
 public:
  explicit OnEndingSignal(std::function<AfterSignal(int signal)> action);
  OnEndingSignal(const OnEndingSignal&) = delete;
  OnEndingSignal& operator=(const OnEndingSignal&) = delete;
  ~OnEndingSignal();
};

}  // namespace autoglm
