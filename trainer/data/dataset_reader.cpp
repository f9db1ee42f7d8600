#include "trainer/data/dataset_reader.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "trainer/data/file_window.h"

namespace autoglm {
namespace {

constexpr std::size_t kLongestSample = std::size_t{64} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool begins_with_mark(std::string_view text) {
  return text.substr(0, kByteOrderMark.size()) == kByteOrderMark;
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_space);
}

std::uint64_t line_of(const std::filesystem::path& file, std::uint64_t offset) {
  FileWindow window(file);
  std::uint64_t line = 1;
  while (window.offset() + window.bytes().size() < offset && window.extend(window.bytes().size())) {
    const std::size_t count =
        static_cast<std::size_t>(std::min<std::uint64_t>(window.bytes().size(), offset - window.offset()));
    line += static_cast<std::uint64_t>(std::count(
        window.bytes().begin(), window.bytes().begin() + static_cast<std::ptrdiff_t>(count), '\n'));
  }
  return line;
}

}  // namespace

std::string describe(const std::vector<std::filesystem::path>& files, const SamplePlace& place) {
  std::string text =
      fmt::format("{}:{}", files[place.file].string(), line_of(files[place.file], place.offset));
  if (place.number > 0) text += fmt::format(" (sample {})", place.number);
  return text;
}

void fail_at(const std::vector<std::filesystem::path>& files, const SamplePlace& place,
             const std::string& problem) {
  fail(ExitCode::bad_data, "{}: {}", describe(files, place), problem);
}

// The open file: `at` is the index in the window of the next byte that is not consumed.
struct SampleReader::Cursor {
  const std::vector<std::filesystem::path>& files;
  std::size_t file;
  FileWindow window;
  std::size_t at = 0;
  bool array = false;
  std::uint64_t number = 0;  // elements seen in the array
  bool ended = false;

  Cursor(const std::vector<std::filesystem::path>& all, std::size_t index)
      : files(all), file(index), window(all[index]) {
    window.extend(0);
    if (begins_with_mark(window.bytes())) at = kByteOrderMark.size();
    if (skip_space()) array = window.bytes()[at] == '[';
    if (array) {
      ++at;
    } else if (window.offset() == 0) {
      at = 0;
    }
  }

  // A cursor into a JSONL file at the first line that begins at `offset` or later.
  Cursor(const std::vector<std::filesystem::path>& all, std::size_t index, std::uint64_t offset)
      : files(all), file(index), window(all[index], offset - 1) {
    window.extend(0);
    next_line();
  }

  std::uint64_t position() const { return window.offset() + at; }

  [[noreturn]] void fail_here(std::size_t index, const std::string& problem) const {
    fail_at(files, {file, window.offset() + index, number}, problem);
  }

  bool grow(std::size_t& start) {
    const std::size_t kept = start;
    if (at - start > kLongestSample) fail_here(start, "a sample is longer than 64 MiB");
    if (!window.extend(kept)) return false;
    at -= kept;
    start = 0;
    return true;
  }

  bool skip_space() {
    for (;;) {
      while (at < window.bytes().size() && is_space(window.bytes()[at])) ++at;
      if (at < window.bytes().size()) return true;
      std::size_t start = at;
      if (!grow(start)) return false;
    }
  }

  // Moves behind the next newline and returns what stood before it.
  std::string_view next_line() {
    std::size_t start = at;
    for (;;) {
      const std::string& bytes = window.bytes();
      const void* newline = std::memchr(bytes.data() + at, '\n', bytes.size() - at);
      if (newline != nullptr) {
        const auto end = static_cast<std::size_t>(static_cast<const char*>(newline) - bytes.data());
        at = end + 1;
        return std::string_view(bytes).substr(start, end - start);
      }
      at = bytes.size();
      if (!grow(start)) {
        ended = true;
        return std::string_view(window.bytes()).substr(start);
      }
    }
  }

  bool next_jsonl(std::uint64_t end, RawSample& sample) {
    while (!ended && position() < end) {
      const std::uint64_t begin = position();
      std::string_view line = next_line();
      // Files that were joined may bring one each.
      if (begins_with_mark(line)) line.remove_prefix(kByteOrderMark.size());
      if (is_blank(line)) continue;
      sample = {line, {file, begin, 0}};
      return true;
    }
    return false;
  }

  // Moves behind one JSON value by its brackets and quotes alone; whether it is valid shows when it is
  // parsed.
  std::string_view next_value() {
    std::size_t start = at;
    int depth = 0;
    bool quoted = false;
    for (;;) {
      const std::string& bytes = window.bytes();
      for (; at < bytes.size(); ++at) {
        const char c = bytes[at];
        if (quoted) {
          if (c == '\\') {
            if (at + 1 == bytes.size()) break;
            ++at;
          } else if (c == '"') {
            quoted = false;
          }
          continue;
        }
        if (c == '"') quoted = true;
        if (c == '{' || c == '[') ++depth;
        const bool closes = c == '}' || c == ']';
        if (depth == 0 && (c == ',' || closes || is_space(c)))
          return std::string_view(bytes).substr(start, at - start);
        if (closes && --depth == 0) {
          ++at;
          return std::string_view(bytes).substr(start, at - start);
        }
      }
      if (!grow(start))
        fail_here(start,
                  "the array ends in the middle of a sample: the file is cut off, or a bracket or quote in "
                  "it is wrong");
    }
  }

  bool next_element(std::uint64_t begin, std::uint64_t end, RawSample& sample) {
    while (!ended) {
      if (!skip_space())
        fail_here(at, "the array is not closed: the file is cut off, or a bracket or quote in it is wrong");
      if (window.bytes()[at] == ']' && number == 0) {
        finish_array();
        return false;
      }
      if (window.bytes()[at] == ']')
        fail_here(at, "a comma stands before the bracket that closes the array; take that comma out");
      if (position() >= end) return false;
      ++number;
      const std::uint64_t place = position();
      element_ = next_value();
      if (!skip_space())
        fail_here(at, "the array is not closed: the file is cut off, or a bracket or quote in it is wrong");
      const char separator = window.bytes()[at];
      if (separator == ']') {
        finish_array();
      } else if (separator == ',') {
        ++at;
      } else {
        fail_here(at, separator == '/' || separator == '#' || element_.starts_with('/')
                          ? "a comment stands in the array; JSON has none: take it out"
                          : "a comma is missing between two samples");
      }
      if (place < begin) continue;
      sample = {element_, {file, place, number}};
      return true;
    }
    return false;
  }

  void finish_array() {
    ended = true;
    ++at;
    if (!skip_space()) return;
    if (window.bytes()[at] == '\0')
      fail_here(at, "NUL bytes follow the end of the array, as after a crash of the host; cut them off");
    fail_here(
        at,
        "something follows the end of the array; put all samples into one array, or each as an object on a "
        "line of its own");
  }

  std::string element_;
};

SampleReader::SampleReader(std::vector<std::filesystem::path> files, int part, int num_parts)
    : files_(std::move(files)) {
  AUTOGLM_CHECK(num_parts > 0 && part >= 0 && part < num_parts);
  std::uint64_t total = 0;
  for (const auto& file : files_) {
    sizes_.push_back(FileWindow(file).file_size());
    total += sizes_.back();
  }
  const auto bound = [&](int index) {
    return total / static_cast<std::uint64_t>(num_parts) * static_cast<std::uint64_t>(index) +
           total % static_cast<std::uint64_t>(num_parts) * static_cast<std::uint64_t>(index) /
               static_cast<std::uint64_t>(num_parts);
  };
  range_begin_ = bound(part);
  range_end_ = bound(part + 1);
}

SampleReader::~SampleReader() = default;

std::uint64_t SampleReader::bytes_done() const {
  const std::uint64_t at = cursor_ ? file_base_ + cursor_->position() : opened_bytes_;
  return std::clamp(at, range_begin_, range_end_) - range_begin_;
}

// Opens the next file that this part's range touches.
bool SampleReader::open_next_file() {
  cursor_.reset();
  for (; next_file_ < files_.size(); ++next_file_) {
    file_base_ = opened_bytes_;
    opened_bytes_ += sizes_[next_file_];
    if (opened_bytes_ <= range_begin_ || file_base_ >= range_end_) continue;
    cursor_ = std::make_unique<Cursor>(files_, next_file_);
    if (!cursor_->array && range_begin_ > file_base_) {
      cursor_ = std::make_unique<Cursor>(files_, next_file_, range_begin_ - file_base_);
    }
    ++next_file_;
    return true;
  }
  return false;
}

bool SampleReader::next(RawSample& sample) {
  while (cursor_ || open_next_file()) {
    const std::uint64_t begin = range_begin_ > file_base_ ? range_begin_ - file_base_ : 0;
    const std::uint64_t end = range_end_ - file_base_;
    if (cursor_->array ? cursor_->next_element(begin, end, sample) : cursor_->next_jsonl(end, sample))
      return true;
    cursor_.reset();
  }
  return false;
}

}  // namespace autoglm
