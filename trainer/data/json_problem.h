// What is wrong with a sample that is not JSON, in the words of whoever wrote the file.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace autoglm {

// One sentence with the way out. `text` is what was to be a sample, `error` what the parser said of it, `is_line`
// whether it is a line of its own (else an element of an array).
std::string describe_json_problem(std::string_view text, const JsonError& error, bool is_line);

// "UTF-16" or "UTF-32" where a file that begins so is written in that; else empty.
std::string_view wide_encoding_of(std::string_view begin);

}  // namespace autoglm
