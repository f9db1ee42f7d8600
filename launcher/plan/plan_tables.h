// What autoglm-plan finds out, as a person reads it.
#pragma once

#include <string>

#include "launcher/plan/plan_answers.h"

namespace autoglm {

// Where a text is shown. Lines are no longer than a terminal's `columns` (0: none; then they are as long as they
// are); with `color`, bars are coloured.
struct Screen {
  int columns = 0;
  bool color = false;
};

std::string to_text(TrainingAnswer& answer, const Screen& screen);
std::string to_text(const TiersAnswer& answer, const Screen& screen);
std::string to_text(const InferenceAnswer& answer, const Screen& screen);
std::string to_text(const NamesAnswer& answer, const Screen& screen);

// Lines longer than `columns` are broken between words; what follows is indented further than they are.
std::string wrapped_to(std::string_view text, int columns);

}  // namespace autoglm
