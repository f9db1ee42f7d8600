// What could be trained where a full fine-tuning of the model does not fit.
#pragma once

#include <string>
#include <vector>

#include "launcher/plan/plan_context.h"

namespace autoglm {

// Ends of a sentence: the largest built-in model found to fit on the same devices with the same settings, and by
// how much less an adapter would do, as an estimate. Empty where nothing does.
std::vector<std::string> what_fits_instead(const PlanContext& context);

}  // namespace autoglm
