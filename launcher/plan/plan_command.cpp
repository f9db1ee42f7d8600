#include "launcher/plan/plan_command.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launcher/plan/plan_answers.h"
#include "launcher/plan/plan_context.h"
#include "launcher/plan/plan_json.h"
#include "launcher/plan/plan_tables.h"
#include "launcher/planner/configs_folder.h"

namespace autoglm {

std::string answer_plan(const PlanOptions& options, const Screen& screen, int& exit_code) {
  const auto written = [&](auto&& answer) {
    return options.json ? to_json(answer).dump(2) + "\n" : to_text(answer, screen);
  };
  exit_code = 0;
  const std::filesystem::path configs = configs_folder();
  if (options.list) return written(answer_names(configs));
  const PlanContext context = plan_context(options, configs);
  if (options.inference) return written(answer_inference(context));
  if (!options.memory_tiers.empty()) return written(answer_tiers(context));
  TrainingAnswer answer(context);
  if (!answer.plan()) exit_code = static_cast<int>(ExitCode::does_not_fit);
  return written(answer);
}

}  // namespace autoglm
