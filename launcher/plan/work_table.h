// What a step moves and computes, as a person reads it and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "launcher/planner/step_work.h"

namespace autoglm {

std::string work_text(const StepWork& work, const Rates& rates);

nlohmann::ordered_json work_json(const StepWork& work, const Rates& rates);

}  // namespace autoglm
