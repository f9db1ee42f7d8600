// run.json: what was run, with what, and how it ended.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace autoglm {

struct RunVersions {
  std::string libtorch;
  std::string mpi;
  bool with_cuda = false;  // this program has device code
};

struct RunRecord {
  std::string run;  // 32 hexadecimal digits, which the run's checkpoints share
  std::optional<std::int64_t> resumed_at_step = {};
  nlohmann::ordered_json options;  // to_json(TrainOptions)
  nlohmann::ordered_json inputs;   // to_json(InputMarks)
  nlohmann::ordered_json plan;     // what was decided, and the bytes foreseen
  RunVersions versions;
  nlohmann::ordered_json ranks;  // one object per rank, with its host and the number of its process
  std::chrono::system_clock::time_point started;
  std::optional<std::chrono::system_clock::time_point> ended;
  // "running", "finished", "failed" or "stopped", by a signal. One that stays "running" was ended from outside,
  // by what leaves a process no time to say so.
  std::string state = "running";
  nlohmann::ordered_json result;  // null until the run ends
  // Why it ended before it was finished: {"exit_code", "message"}, or {"signal", "message"}; null otherwise.
  nlohmann::ordered_json failure;
};

// Keys: run, options, inputs, plan, versions, ranks, started_at, ended_at, state, result, and failure where there is one.
// OutputDirectory::write_run_record writes it.
nlohmann::ordered_json to_json(const RunRecord& record);

// "2026-03-01T12:34:56Z"
std::string utc_text(std::chrono::system_clock::time_point time);

}  // namespace autoglm
