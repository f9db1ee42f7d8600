// A failure becomes one sentence on standard error and an exit code.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "launcher/report/console.h"
#include "sharding/launch.h"

namespace autoglm {

struct FailureSummary {
  int exit_code = 0;
  std::string sentence;
};

// What report_failure makes of an exception.
FailureSummary summarize_failure(const std::exception_ptr& failure);

// Prints the failure's sentence and returns its exit code. Error: its own; std::bad_alloc: 78; any other
// exception is a bug here, 70, and so is what follows a kernel that met a broken invariant, whatever was thrown. A wrong command line is reported once, however many ranks were started with
// it, and what all ranks agreed on (AgreedError) by rank 0 alone; any other failure by each rank that meets
// it, which names itself unless it is rank 0.
int report_failure(std::string_view program, Console& console, const RankEnvironment& environment,
                   const std::exception_ptr& failure);

}  // namespace autoglm
