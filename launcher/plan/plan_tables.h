// What autoglm-plan finds out, as a person reads it. With `color`, bars are coloured for a terminal.
#pragma once

#include <string>

#include "launcher/plan/plan_answers.h"

namespace autoglm {

std::string to_text(TrainingAnswer& answer, bool color);
std::string to_text(const TiersAnswer& answer);
std::string to_text(const InferenceAnswer& answer);
std::string to_text(const NamesAnswer& answer);

}  // namespace autoglm
