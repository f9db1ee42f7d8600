// Failures that a person sees: one sentence and a typed exit code.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace autoglm {

// What the process returns to the shell. The numbers follow sysexits.h where it has one.
enum class ExitCode : int {
  done = 0,
  usage = 64,          // wrong or contradicting options
  bad_data = 65,       // a data or model file holds something wrong
  missing_input = 66,  // an input file or folder does not exist or cannot be read
  unavailable = 69,    // ranks, devices or links are not usable
  bug = 70,            // a broken invariant of this program
  cannot_create = 73,  // the output cannot be created
  io_failed = 74,      // reading or writing failed midway
  stopped = 75,        // stopped on request after a verified checkpoint
  peer_lost = 76,      // a rank or a collective stopped answering
  not_finite = 77,     // the loss is not finite
  does_not_fit = 78,   // nothing fits in memory
};

// A failure with a cause outside the program. what() is one sentence that says what, where and what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Throws Error with a formatted message.
template <typename... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error(ExitCode::bug) naming the broken invariant and its place.
[[noreturn]] void fail_invariant(const char* condition, const char* file, int line,
                                 const std::string& detail);

}  // namespace autoglm

// Asserts an invariant of this program, in every build type. Not for user errors: those use fail().
#define AUTOGLM_CHECK(condition, ...)                                                           \
  do {                                                                                          \
    if (!(condition)) [[unlikely]]                                                              \
      ::autoglm::fail_invariant(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
