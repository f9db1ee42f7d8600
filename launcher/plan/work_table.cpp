#include "launcher/plan/work_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/units.h"
#include "launcher/planner/work_seconds.h"

namespace autoglm {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kRow = "  {:<17}{:>11} {:>11} {:>9} {:>9} {:>9}\n";

// "12.3", and nothing for nothing.
std::string scaled(double value, double unit) {
  return value == 0 ? "" : fmt::format("{:.4g}", value / unit);
}

std::string row(std::string_view name, const Work& work, double seconds) {
  return fmt::format(
      fmt::runtime(kRow), name, work.read == 0 ? "" : format_bytes(work.read),
      work.written == 0 ? "" : format_bytes(work.written), format_count(static_cast<double>(work.launches)),
      scaled(static_cast<double>(work.operations), 1e12), fmt::format("{:.1f}", 1e3 * seconds));
}

// "forward 213.9 kB in 15 kernels"
std::string pass_text(std::string_view name, const WorkCount& pass, std::int64_t tokens) {
  const Work work = elementwise_work(pass);
  Work all;
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) {
    const auto kind = static_cast<WorkKind>(i);
    if (on_device(kind)) all.add(pass[kind]);
  }
  return fmt::format("{} {:.1f} kB a token, {} kernels", name,
                     static_cast<double>(work.bytes()) / static_cast<double>(tokens) / 1e3, all.launches);
}

ordered_json json_of(const Work& work) {
  return {{"read_bytes", work.read},
          {"written_bytes", work.written},
          {"launches", work.launches},
          {"operations", work.operations}};
}

ordered_json json_of(const WorkCount& count) {
  ordered_json object = ordered_json::object();
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) {
    const auto kind = static_cast<WorkKind>(i);
    if (count[kind] != Work()) object[std::string(work_name(kind))] = json_of(count[kind]);
  }
  return object;
}

}  // namespace

std::string work_text(const StepWork& work, const Rates& rates) {
  std::string text = "work of a step on a rank, counted in its rehearsal, and how long it takes alone:\n";
  text += fmt::format(fmt::runtime(kRow), "", "read", "written", "launches", "TFLOP", "ms");
  double device = 0;
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) {
    const auto kind = static_cast<WorkKind>(i);
    if (work.step[kind] == Work()) continue;
    const double seconds = seconds_of(kind, work.step[kind], work.tokens, rates);
    if (on_device(kind)) device += seconds;
    text += row(work_name(kind), work.step[kind], seconds);
  }
  text += fmt::format("  on the device in all {:.3g} s\n", device);
  text += fmt::format("  elementwise passes of layer {}: {}; {}\n", work.layer,
                      pass_text("forward", work.forward, work.tokens),
                      pass_text("backward", work.backward, work.tokens));
  return text;
}

ordered_json work_json(const StepWork& work, const Rates& rates) {
  ordered_json step = json_of(work.step);
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) {
    const auto kind = static_cast<WorkKind>(i);
    const std::string name(work_name(kind));
    if (step.contains(name)) step[name]["seconds"] = seconds_of(kind, work.step[kind], work.tokens, rates);
  }
  return {{"layer", work.layer},
          {"tokens_of_a_micro_batch", work.tokens},
          {"forward", json_of(work.forward)},
          {"backward", json_of(work.backward)},
          {"backward_of_a_later_micro_batch", json_of(work.later_backward)},
          {"head", json_of(work.head)},
          {"step", std::move(step)}};
}

}  // namespace autoglm
