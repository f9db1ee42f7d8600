// Values as JSON.
#pragma once

#include <string>

#include "trainer/data/jinja/value.h"

namespace autoglm::jinja {

// As Python's json.dumps(value, ensure_ascii=False, indent=indent), which is what transformers gives templates for
// |tojson; `indent` is undefined or none for a single line. Throws TemplateError for what JSON cannot hold.
std::string to_json(const Value& value, const Value& indent);

}  // namespace autoglm::jinja
