// Sizes and durations as a person writes and reads them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace autoglm {

// Bytes of "40GB" (10^9), "40GiB" (2^30), "512MiB", "1.5GiB" or plain "1024". Throws Error(usage) that names
// `option` when the text is anything else, negative, or above 2^62.
std::int64_t parse_bytes(std::string_view text, std::string_view option);

// Seconds of "90s", "10m", "2h", "1.5h". Throws Error(usage) that names `option`.
std::chrono::duration<double> parse_duration(std::string_view text, std::string_view option);

// "1.25 GiB", "3.4 MiB", "17 B".
std::string format_bytes(std::int64_t bytes);

// "22,471": with commas between thousands.
std::string format_count(double count);

// "1h02m", "3m05s", "12s", "0.4s".
std::string format_duration(double seconds);

}  // namespace autoglm
