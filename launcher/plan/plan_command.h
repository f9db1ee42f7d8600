// What autoglm-plan prints.
#pragma once

#include <string>

#include "launcher/plan/plan_options.h"

namespace autoglm {

// The whole answer, with `columns` of a terminal (0: none, no colour). Throws Error: usage for unknown names,
// bad_data for a config.json that is not supported. `exit_code` becomes 78 when nothing fits.
std::string answer_plan(const PlanOptions& options, int columns, int& exit_code);

}  // namespace autoglm
