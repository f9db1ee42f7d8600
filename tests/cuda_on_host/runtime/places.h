// Where in the program a call comes from.
#pragma once

#include <string>

namespace cuda_on_host {

// Module and offset of the callers outside of this library, as addr2line takes them.
std::string describe_callers();

// Whether a wait of this caller is to be left out: the device is broken on purpose, to see what notices. What waits is
// "stream", for another one; "function", a stream for the host; or "host", for a stream.
bool wait_is_left_out(const char* what_waits);

}  // namespace cuda_on_host
