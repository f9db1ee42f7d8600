// libFuzzer's entry, which driver.cpp calls too, and the memory that an input may take.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "tests/fuzz/fuzz.h"

std::size_t autoglm::fuzz::num_accepted = 0;

extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=256:hard_rss_limit_mb=1536:detect_leaks=1:detect_stack_use_after_return=1";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace autoglm;
  try {
    fuzz::read({reinterpret_cast<const char*>(data), size});
    ++fuzz::num_accepted;
  } catch (const Error& error) {
    AUTOGLM_CHECK(error.code() == ExitCode::bad_data || error.code() == ExitCode::missing_input, "{}",
                  error.what());
  }
  return 0;
}
