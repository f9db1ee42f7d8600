#include "launcher/report/failure.h"

#include <fmt/format.h>

#include <new>
#include <optional>
#include <string>

#include "base/error.h"
#include "sharding/agree.h"
#include "sharding/memory/host_memory.h"
#include "sharding/memory/out_of_memory.h"

namespace autoglm {
namespace {

// Libraries append a trace of calls to the sentence.
std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

// A kernel that met a broken invariant (require() in trainer/ops/cuda_group.h), whoever asked the device first after that.
bool is_of_kernel(std::string_view sentence) {
  return sentence.find("device-side assert triggered") != std::string_view::npos;
}

struct Report {
  ExitCode code;
  std::string sentence;
  bool one_rank_reports = false;  // all ranks of a command line, or of the job, meet the same failure
};

Report describe_exception(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const AgreedError& error) {
    return {error.code(), error.what(), true};
  } catch (const Error& error) {
    return {error.code(), error.what(), error.code() == ExitCode::usage};
  } catch (const OutOfMemory& error) {
    return {ExitCode::does_not_fit, error.what()};
  } catch (const std::bad_alloc&) {
    const std::optional<AddressLimit> limit = address_limit();
    if (!limit) return {ExitCode::does_not_fit, "out of host memory"};
    return {ExitCode::does_not_fit, fmt::format("out of host memory, or of what {} {} allows: raise it",
                                                limit->name, limit->bytes >> 10)};
  } catch (const std::exception& error) {
    if (const auto full = as_out_of_memory(error.what())) return {ExitCode::does_not_fit, full->what()};
    return {ExitCode::bug, fmt::format("internal error: {}", first_line(error.what()))};
  } catch (...) {
    return {ExitCode::bug, "internal error: an exception of an unknown kind"};
  }
}

Report describe_failure(const std::exception_ptr& failure) {
  Report report = describe_exception(failure);
  if (!is_of_kernel(report.sentence)) return report;
  return {ExitCode::bug,
          fmt::format(
              "internal error: a kernel met a broken invariant, which the line with \"Assertion\" names: {}",
              report.sentence)};
}

}  // namespace

FailureSummary summarize_failure(const std::exception_ptr& failure) {
  const Report report = describe_failure(failure);
  return {static_cast<int>(report.code), report.sentence};
}

int report_failure(std::string_view program, Console& console, const RankEnvironment& environment,
                   const std::exception_ptr& failure) {
  const Report report = describe_failure(failure);
  console.set_live_line("");
  const std::string rank = environment.rank == 0 ? "" : fmt::format("rank {}: ", environment.rank);
  if (!report.one_rank_reports || environment.speaks_for_command_line)
    console.print(fmt::format("{}: {}{}", program, rank, report.sentence));
  return static_cast<int>(report.code);
}

}  // namespace autoglm
