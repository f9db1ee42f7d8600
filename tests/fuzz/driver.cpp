// Feeds a fuzz target with changed inputs, and keeps those that reach new code, where the compiler marks it
// (-fsanitize-coverage=trace-pc). For compilers without libFuzzer:
//
//   NAME_fuzz SECONDS [SEED]     tries new inputs for so long; a second for one input is too long
//   NAME_fuzz FILE...            tries these inputs
//   NAME_fuzz --seeds FOLDER     writes the inputs to begin with
//
// The input that is being tried lies in NAME_fuzz.input, to be looked at where it ends the program.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include "tests/fuzz/fuzz.h"

namespace {

constexpr std::size_t kPlaces = std::size_t{1} << 16, kLongest = std::size_t{1} << 16;
std::array<unsigned char, kPlaces> reached, known;

}  // namespace

// Called at every edge of the code that is tested.
extern "C" void __sanitizer_cov_trace_pc() {
  const auto place = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  reached[(place ^ place >> 16) % kPlaces] = 1;
}

namespace autoglm::fuzz {
namespace {

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t end) {
  return end == 0 ? 0 : random() % end;
}

void change(std::string& input, const std::vector<std::string>& corpus,
            const std::vector<std::string>& tokens, Random& random) {
  const std::size_t at = below(random, input.size() + 1),
                    count = below(random, std::min<std::size_t>(input.size() - at, 40));
  switch (below(random, 8)) {
    case 0:
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << below(random, 8));
      break;
    case 1:
      if (at < input.size()) input[at] = static_cast<char>(random());
      break;
    case 2:
      input.erase(at, count);
      break;
    case 3:
      input.insert(at, input.substr(at, count));
      break;
    case 4:
      input.insert(at, tokens[below(random, tokens.size())]);
      break;
    case 5: {
      // Another number in the place of one.
      const std::size_t digit = input.find_first_of("0123456789", at);
      if (digit == std::string::npos) break;
      const std::size_t end = std::min(input.find_first_not_of("0123456789", digit), input.size());
      input.replace(digit, end - digit, tokens[below(random, tokens.size())]);
      break;
    }
    case 6: {
      const std::string& other = corpus[below(random, corpus.size())];
      const std::size_t from = below(random, other.size() + 1);
      input.replace(at, count, other.substr(from, below(random, 200)));
      break;
    }
    default: {
      // One word in the place of another.
      const std::string &from = tokens[below(random, tokens.size())],
                        &to = tokens[below(random, tokens.size())];
      const std::size_t found = input.find(from, at);
      if (found != std::string::npos) input.replace(found, from.size(), to);
    }
  }
  if (input.size() > kLongest) input.resize(kLongest);
}

// Shared with the file, so that the input is there when the program ends amid it.
class InputFile {
 public:
  explicit InputFile(const std::string& path) : path_(path) {
    std::ofstream(path, std::ios::binary) << std::string(kLongest, ' ');
    FILE* const file = std::fopen(path.c_str(), "r+b");
    if (file == nullptr) std::abort();
    memory_ = static_cast<char*>(::mmap(nullptr, kLongest, PROT_WRITE, MAP_SHARED, ::fileno(file), 0));
    std::fclose(file);
  }
  ~InputFile() { std::filesystem::remove(path_); }
  void put(const std::string& input) {
    std::memcpy(memory_, input.data(), input.size());
    std::memset(memory_ + input.size(), ' ', std::min<std::size_t>(kLongest - input.size(), 4096));
  }

 private:
  std::string path_;
  char* memory_ = nullptr;
};

void run_one(const std::string& input) {
  ::alarm(5);  // sanitized code on a busy machine; an input that takes a second takes many
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

bool reached_more() {
  bool more = false;
  for (std::size_t i = 0; i < kPlaces; ++i) {
    more = more || (reached[i] && !known[i]);
    known[i] |= reached[i];
  }
  return more;
}

int run_for(int seconds, std::uint64_t seed, const std::string& name) {
  Random random(seed);
  std::vector<std::string> corpus = seeds(), tokens = words();
  for (const char* const word :
       {"{", "}", "[", "]", "\"", ",", ":", "null", "-1", "0", "1", "1e999", "1.5", "\\u0000",
        "9223372036854775807", "18446744073709551615", "18446744073709551616", "4294967296"})
    tokens.emplace_back(word);
  tokens.emplace_back(100, '[');
  InputFile file(name + ".input");
  for (const std::string& one : corpus) run_one(one);
  reached_more();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  std::size_t tried = 0;
  for (; std::chrono::steady_clock::now() < end; ++tried) {
    std::string input = corpus[below(random, corpus.size())];
    for (std::size_t i = 0, changes = 1 + below(random, 4); i < changes; ++i)
      change(input, corpus, tokens, random);
    file.put(input);
    reached.fill(0);
    run_one(input);
    if (reached_more()) corpus.push_back(std::move(input));
  }
  std::printf("seed %llu: %zu inputs, of which %zu reached new code; %td places\n",
              static_cast<unsigned long long>(seed), tried, corpus.size() - seeds().size(),
              std::count(known.begin(), known.end(), 1));
  return 0;
}

int run_files(char** begin, char** end) {
  for (; begin != end; ++begin) {
    std::ifstream file(*begin, std::ios::binary);
    run_one({std::istreambuf_iterator<char>(file), {}});
  }
  return 0;
}

int write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  int number = 0;
  for (const std::string& one : seeds())
    std::ofstream(folder / std::to_string(number++), std::ios::binary) << one;
  return 0;
}

}  // namespace
}  // namespace autoglm::fuzz

int main(int count, char** arguments) {
  const std::string first = count > 1 ? arguments[1] : "";
  if (count == 3 && first == "--seeds") return autoglm::fuzz::write_seeds(arguments[2]);
  if (count < 2) return 64;
  if (first.find_first_not_of("0123456789") != std::string::npos)
    return autoglm::fuzz::run_files(arguments + 1, arguments + count);
  const std::uint64_t seed = count > 2 ? std::stoull(arguments[2]) : 1;
  return autoglm::fuzz::run_for(std::stoi(first), seed, std::filesystem::path(arguments[0]).filename());
}
