// Where in the program a call comes from.
#pragma once

#include <string>

namespace cuda_on_host {

// Module and offset of the callers outside of this library, as addr2line takes them.
std::string describe_callers();

// Whether a wait of this caller is to be left out: the device is broken on purpose, to see what notices.
bool wait_is_left_out();

}  // namespace cuda_on_host
