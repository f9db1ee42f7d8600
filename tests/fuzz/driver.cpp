// Feeds a fuzz target with changed inputs, and keeps those that reach new code, where the compiler marks it
// (-fsanitize-coverage=trace-pc). For compilers without libFuzzer:
//
//   NAME_fuzz SECONDS [SEED]           tries new inputs for so long
//   NAME_fuzz --inputs COUNT [SEED]    tries so many
//   NAME_fuzz FILE...                  tries these inputs
//   NAME_fuzz --seeds FOLDER           writes the inputs to begin with
//
// One input may take kMostSeconds of a processor, and the memory that entry.cpp names; else the program ends there.
// The input that is being tried lies in NAME_fuzz.input, to be looked at where it ends the program.
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/json_changes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::size_t kPlaces = std::size_t{1} << 16, kLongest = std::size_t{1} << 16;
// Sanitized code is slow: what takes so long takes a second or less without.
constexpr int kMostSeconds = 10;
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

// One of the texts of an input, or one of its lines, with a value of it changed.
void change_a_json(std::string& input, const std::vector<std::string>& tokens, Random& random) {
  const std::string_view between = below(random, 4) == 0 ? "\n" : kBetween;
  std::vector<std::size_t> begins = {0};
  for (std::size_t at = input.find(between); at != std::string::npos; at = input.find(between, begins.back()))
    begins.push_back(at + between.size());
  const std::size_t begin = begins[below(random, begins.size())];
  const std::size_t end = std::min(input.find(between, begin), input.size());
  input.replace(begin, end - begin,
                change_json(std::string_view(input).substr(begin, end - begin), tokens, random));
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

// Whether it was accepted.
bool run_one(const std::string& input) {
  const itimerval limit{{0, 0}, {kMostSeconds, 0}};
  ::setitimer(ITIMER_PROF, &limit, nullptr);
  ::alarm(kMostSeconds * 20);  // for one that waits
  const std::size_t before = num_accepted;
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  return num_accepted > before;
}

bool reached_more() {
  bool more = false;
  for (std::size_t i = 0; i < kPlaces; i += sizeof(std::uint64_t)) {
    std::uint64_t now = 0, before = 0;
    std::memcpy(&now, &reached[i], sizeof now);
    std::memcpy(&before, &known[i], sizeof before);
    if ((now & ~before) == 0) continue;
    more = true;
    before |= now;
    std::memcpy(&known[i], &before, sizeof before);
  }
  return more;
}

struct Amount {
  std::size_t inputs = std::numeric_limits<std::size_t>::max();
  int seconds = std::numeric_limits<int>::max();
};

int run_for(const Amount& amount, std::uint64_t seed, const std::string& name) {
  Random random(seed);
  std::vector<std::string> corpus = seeds(), tokens = words();
  for (const char* const word :
       {"{", "}", "[", "]", "\"", ",", ":", "null", "-1", "0", "1", "1e999", "1.5", "\\u0000",
        "9223372036854775807", "18446744073709551615", "18446744073709551616", "4294967296"})
    tokens.emplace_back(word);
  tokens.emplace_back(100, '[');
  InputFile file(name + ".input");
  const std::size_t num_seeds = corpus.size();
  std::vector<std::string>
      accepted;  // most that reach new code are refused: what begins with these gets further
  for (const std::string& one : corpus) {
    file.put(one);
    if (run_one(one)) accepted.push_back(one);
  }
  if (accepted.empty()) {
    std::printf("none of the %zu inputs to begin with is accepted\n", num_seeds);
    return 1;
  }
  reached_more();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(amount.seconds);
  std::size_t tried = 0;
  for (; tried < amount.inputs && std::chrono::steady_clock::now() < end; ++tried) {
    const std::vector<std::string>& source = below(random, 2) == 0 ? accepted : corpus;
    std::string input = source[below(random, source.size())];
    const bool stays_json = below(random, 2) == 0;
    for (std::size_t i = 0, changes = 1 + below(random, 4); i < changes; ++i) {
      if (stays_json)
        change_a_json(input, tokens, random);
      else
        change(input, corpus, tokens, random);
    }
    file.put(input);
    reached.fill(0);
    const bool is_accepted = run_one(input);
    if (!reached_more()) continue;
    if (is_accepted) accepted.push_back(input);
    corpus.push_back(std::move(input));
  }
  std::printf("seed %llu: %zu inputs, of which %zu were accepted and %zu reached new code; %td places\n",
              static_cast<unsigned long long>(seed), tried, num_accepted, corpus.size() - num_seeds,
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
  const std::string name = std::filesystem::path(arguments[0]).filename();
  if (count > 2 && first == "--inputs")
    return autoglm::fuzz::run_for({.inputs = std::stoull(arguments[2])},
                                  count > 3 ? std::stoull(arguments[3]) : 1, name);
  if (first.find_first_not_of("0123456789") != std::string::npos)
    return autoglm::fuzz::run_files(arguments + 1, arguments + count);
  return autoglm::fuzz::run_for({.seconds = std::stoi(first)}, count > 2 ? std::stoull(arguments[2]) : 1,
                                name);
}
