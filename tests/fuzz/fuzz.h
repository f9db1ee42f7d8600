// What a fuzz target is: it reads bytes of any kind, and may refuse them with an Error alone.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm::fuzz {

// Stands between the texts that one input holds.
inline constexpr std::string_view kBetween = "\n====\n";

// Inputs that are right, to begin with.
std::vector<std::string> seeds();

// Words of the format, which changes put in.
std::vector<std::string> words();

// Reads the input. What is thrown must be an Error that says that the data are bad, or that some are missing.
void read(std::string_view input);

// How many inputs were read to their end.
extern std::size_t num_accepted;

}  // namespace autoglm::fuzz
