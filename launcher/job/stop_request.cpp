#include "launcher/job/stop_request.h"

#include "launcher/job/ending_signals.h"

namespace autoglm {

StopRequest::StopRequest(std::optional<double> seconds) {
  if (seconds)
    time_ =
        std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                               std::chrono::duration<double>(*seconds));
}

bool StopRequest::asked() const noexcept {
  return asked_ || stop_signal_came() || (time_ && std::chrono::steady_clock::now() >= *time_);
}

}  // namespace autoglm
