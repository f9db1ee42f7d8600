#include "launcher/report/run_record.h"

#include <array>
#include <ctime>

namespace autoglm {

nlohmann::ordered_json to_json(const RunRecord& record) {
  nlohmann::ordered_json object;
  object["run"] = record.run;
  if (record.resumed_at_step) object["resumed_at_step"] = *record.resumed_at_step;
  object["options"] = record.options;
  object["inputs"] = record.inputs;
  object["plan"] = record.plan;
  object["versions"] = {{"autoglm-train", AUTOGLM_VERSION},
                        {"build", AUTOGLM_BUILD_TYPE},
                        {"libtorch", record.versions.libtorch},
                        {"mpi", record.versions.mpi},
                        {"cuda", record.versions.with_cuda}};
  object["ranks"] = record.ranks;
  object["started_at"] = utc_text(record.started);
  object["ended_at"] = record.ended ? nlohmann::ordered_json(utc_text(*record.ended)) : nullptr;
  object["state"] = record.state;
  object["result"] = record.result;
  if (!record.failure.is_null()) object["failure"] = record.failure;
  return object;
}

std::string utc_text(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return std::string(text.data(), size);
}

}  // namespace autoglm
