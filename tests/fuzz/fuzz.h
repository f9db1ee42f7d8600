// What a fuzz target is: it reads bytes of any kind, and may refuse them with an Error alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// libFuzzer's entry, which driver.cpp calls too. Always 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace autoglm::fuzz {

// Inputs that are right, to begin with.
std::vector<std::string> seeds();

// Words of the format, which changes put in.
std::vector<std::string> words();

}  // namespace autoglm::fuzz
