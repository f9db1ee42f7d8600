// What autoglm-plan prints.
#pragma once

#include <string>

#include "launcher/plan/plan_options.h"
#include "launcher/plan/plan_tables.h"

namespace autoglm {

// The whole answer, for a screen. Throws Error: usage for unknown names,
// bad_data for a config.json that is not supported. `exit_code` becomes 78 when nothing fits.
std::string answer_plan(const PlanOptions& options, const Screen& screen, int& exit_code);

}  // namespace autoglm
