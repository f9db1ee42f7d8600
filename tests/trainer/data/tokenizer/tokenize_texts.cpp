// Runs the tokenizer over files of texts or ids, for comparison with another implementation and for timing.
//
//   autoglm_tokenize_texts MODEL_DIR encode TEXTS OUT [REPEAT]   ids; with REPEAT, prints CPU seconds of each
//   round autoglm_tokenize_texts MODEL_DIR places TEXTS OUT            ids and the places where the tokens
//   begin autoglm_tokenize_texts MODEL_DIR special TEXTS OUT           ids with the post-processor's tokens
//   autoglm_tokenize_texts MODEL_DIR decode|decode-skip IDS OUT  texts
//
// All numbers are 32 bits, little-endian. TEXTS: per text its bytes' number and the bytes. IDS: per list its
// length and the ids. OUT: for texts the lengths of all, then the ids of all, then the places of all; for ids
// like TEXTS.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace {

using autoglm::Tokenizer;

std::string read_file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

template <typename T>
void write(std::ofstream& out, std::span<const T> values) {
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
}

// The records of a file: a count of items of `width` bytes, then the items.
std::vector<std::string_view> records_of(std::string_view data, std::size_t width) {
  std::vector<std::string_view> records;
  while (data.size() >= 4) {
    std::uint32_t count = 0;
    std::copy_n(data.data(), 4, reinterpret_cast<char*>(&count));
    records.push_back(data.substr(4, count * width));
    data.remove_prefix(4 + records.back().size());
  }
  return records;
}

void encode(const Tokenizer& tokenizer, std::string_view mode, std::span<const std::string_view> texts,
            std::ofstream& out) {
  std::vector<std::uint32_t> lengths, places;
  std::vector<std::int32_t> ids;
  for (const std::string_view text : texts) {
    autoglm::Encoding encoding;
    if (mode == "places")
      encoding = tokenizer.encode_with_offsets(text);
    else
      encoding.ids = mode == "special" ? tokenizer.encode_with_special_tokens(text) : tokenizer.encode(text);
    lengths.push_back(static_cast<std::uint32_t>(encoding.ids.size()));
    ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
    places.insert(places.end(), encoding.begins.begin(), encoding.begins.end());
  }
  write<std::uint32_t>(out, lengths);
  write<std::int32_t>(out, ids);
  write<std::uint32_t>(out, places);
}

void decode(const Tokenizer& tokenizer, bool skip, std::span<const std::string_view> lists,
            std::ofstream& out) {
  for (const std::string_view list : lists) {
    std::vector<std::int32_t> ids(list.size() / 4);
    std::copy_n(list.data(), ids.size() * 4, reinterpret_cast<char*>(ids.data()));
    const std::string text = tokenizer.decode(ids, skip);
    const std::uint32_t length[] = {static_cast<std::uint32_t>(text.size())};
    write<std::uint32_t>(out, length);
    write<char>(out, text);
  }
}

// CPU seconds of this process so far: what other processes do on the machine does not show in it.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void time_rounds(const Tokenizer& tokenizer, std::span<const std::string_view> texts, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const double begin = cpu_seconds();
    std::size_t tokens = 0;
    for (const std::string_view text : texts) tokens += tokenizer.encode(text).size();
    std::printf("%.6f %zu\n", cpu_seconds() - begin, tokens);
  }
}

int run(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s MODEL_DIR encode|places|special|decode|decode-skip INPUT OUT [REPEAT]\n",
                 argv[0]);
    return 64;
  }
  const double begin = cpu_seconds();
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const double seconds = cpu_seconds() - begin;
  const std::string_view mode = argv[2];
  const bool decodes = mode.substr(0, 6) == "decode";
  const std::string data = read_file(argv[3]);
  const std::vector<std::string_view> records = records_of(data, decodes ? 4 : 1);
  std::ofstream out(argv[4], std::ios::binary);
  if (decodes) {
    decode(tokenizer, mode == "decode-skip", records, out);
  } else if (argc > 5) {
    std::printf("%.6f load\n", seconds);
    time_rounds(tokenizer, records, std::stoi(argv[5]));
  } else {
    encode(tokenizer, mode, records, out);
  }
  out.flush();
  return out ? 0 : 74;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const autoglm::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
