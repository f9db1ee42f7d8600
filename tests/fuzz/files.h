// Inputs that come as files in a folder, in memory where possible.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>

#include "base/error.h"
#include "checkpoint/file.h"
#include "checkpoint/safetensors_header.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {

// Takes the text up to the next kBetween off the input.
inline std::string_view next_text(std::string_view& input) {
  const std::size_t end = std::min(input.find(kBetween), input.size());
  const std::string_view text = input.substr(0, end);
  input.remove_prefix(std::min(end + kBetween.size(), input.size()));
  return text;
}

// Gone when the program ends as it should.
struct Folder {
  std::filesystem::path path;

  Folder()
      : path((std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path()) /
             ("fuzz-" + random_name())) {
    std::filesystem::create_directories(path);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

inline const std::filesystem::path& folder() {
  static const Folder one;
  return one.path;
}

inline void write(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Takes one text off the input for each of these files of folder(), and writes it there; an empty one is no file.
inline void write_texts(std::string_view& input, std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    const std::string_view text = next_text(input);
    if (text.empty())
      std::filesystem::remove(folder() / name);
    else
      write(folder() / name, text);
  }
}

// One input that holds all of them.
inline std::string joined(std::initializer_list<std::string_view> texts) {
  std::string input;
  for (const std::string_view text : texts) input.append(input.empty() ? "" : kBetween).append(text);
  return input;
}

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A safetensors file of this header, with as many bytes of data as it says.
inline std::string file_of(std::string_view header) {
  std::string file(kSafetensorsLengthBytes, '\0');
  for (std::size_t i = 0; i < file.size(); ++i) file[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  file += header;
  try {
    const std::uint64_t bytes = parse_safetensors_header(std::string(header), "header").data_bytes;
    file.append(std::min<std::uint64_t>(bytes, 1 << 16), 'x');
  } catch (const Error&) {
    // The reader will say so.
  }
  return file;
}

}  // namespace autoglm::fuzz
