// Failing together: what one rank finds wrong, every rank reports.
#pragma once

#include <exception>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "sharding/communicator.h"

namespace autoglm {

// An error that every rank has thrown at the same point: no rank waits for another, and the job may end in
// order (MpiSession). One report, rank 0's, is enough.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// Every rank contributes its failure, or null. If any rank failed, all throw AgreedError with the code and
// message of the lowest rank that did; the message opens with "rank R: " unless all ranks failed alike. An
// exception that is no Error counts as ExitCode::bug. Blocking.
void agree(Communicator& communicator, const std::exception_ptr& mine);

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

}  // namespace autoglm
