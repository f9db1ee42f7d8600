// What ranks tell each other: values by name, and failures, so that what one finds wrong every rank reports.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "sharding/communicator.h"

namespace autoglm {

// Every rank's value, in rank order. These travel as control messages, whatever memory the communicator is
// for. Blocking.
template <typename T>
std::vector<T> gather(Communicator& communicator, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> values;
  for (const std::vector<std::byte>& bytes : communicator.exchange(std::as_bytes(std::span(&mine, 1)))) {
    AUTOGLM_CHECK(bytes.size() == sizeof(T), "{} bytes instead of {}", bytes.size(), sizeof(T));
    std::memcpy(&values.emplace_back(), bytes.data(), sizeof(T));
  }
  return values;
}

// The same of texts, each of any length.
std::vector<std::string> gather_text(Communicator& communicator, std::string_view mine);

// The smallest and the largest of the ranks' numbers. Blocking.
template <typename Number>
Number least(Communicator& communicator, Number mine) {
  return std::ranges::min(gather(communicator, mine));
}
template <typename Number>
Number most(Communicator& communicator, Number mine) {
  return std::ranges::max(gather(communicator, mine));
}

// An error that every rank has thrown at the same point: no rank waits for another, and the job may end in
// order (MpiSession). One report, rank 0's, is enough.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// Every rank contributes its failure, or null. If any rank failed, all throw AgreedError with the code and
// message of the lowest rank that did; where the rank matters, the message opens with "rank R: " unless all
// ranks failed alike. OutOfMemory, also in words (as_out_of_memory), counts as ExitCode::does_not_fit, an exception of another kind as
// ExitCode::bug.
// Blocking.
void agree(Communicator& communicator, const std::exception_ptr& mine, bool rank_matters = true);

// Runs `work` on every rank and agrees on the outcome: returns its result when it succeeded everywhere.
// `work` must not use the communicator: a rank that fails early would leave the others in it.
template <typename Work>
std::invoke_result_t<Work> run_agreed(Communicator& communicator, Work&& work) {
  using Result = std::invoke_result_t<Work>;
  std::exception_ptr failure;
  if constexpr (std::is_void_v<Result>) {
    try {
      std::forward<Work>(work)();
    } catch (...) {
      failure = std::current_exception();
    }
    agree(communicator, failure);
  } else {
    std::optional<Result> result;
    try {
      result.emplace(std::forward<Work>(work)());
    } catch (...) {
      failure = std::current_exception();
    }
    agree(communicator, failure);
    return std::move(*result);
  }
}

// Throws AgreedError(unavailable) on every rank unless all passed the same value; it says which ranks have
// which value of `what`, showing long values around their first difference. Blocking.
void check_same(Communicator& communicator, std::string_view what, std::string_view value);

// The same after every rank has learned all ranks' values, which differ.
[[noreturn]] void fail_disagreement(std::string_view what, const std::vector<std::string>& values);

}  // namespace autoglm
