// What autoglm-plan finds out, as programs read it: one object per question.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "launcher/plan/plan_answers.h"

namespace autoglm {

nlohmann::ordered_json to_json(TrainingAnswer& answer);
nlohmann::ordered_json to_json(const TiersAnswer& answer);
nlohmann::ordered_json to_json(const InferenceAnswer& answer);
nlohmann::ordered_json to_json(const NamesAnswer& answer);

}  // namespace autoglm
