#include "trainer/data/file_window.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "trainer/data/data_file_problem.h"
#include "trainer/data/json_problem.h"

namespace autoglm {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

std::string first_bytes_of(int descriptor) {
  std::string begin(kFormatBytes, '\0');
  const ssize_t count = ::pread(descriptor, begin.data(), begin.size(), 0);
  begin.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return begin;
}

}  // namespace

FileWindow::FileWindow(const std::filesystem::path& path, std::uint64_t begin)
    : path_(path), file_(RegularFile::open(path)), offset_(begin) {
  if (!file_.is_open()) {
    if (file_.error() == 0)
      fail(ExitCode::missing_input, "the data file {} {}", path.string(), describe_irregular(path));
    fail(ExitCode::missing_input, "the data file {} cannot be opened: {}", path.string(),
         describe_unopened(path, file_.error()));
  }
  const std::string seen = first_bytes_of(file_.descriptor());
  if (const std::string format = foreign_format_of(seen); !format.empty())
    fail(ExitCode::bad_data, "the data file {} is {}; --data takes JSONL and JSON files, unpacked",
         path.string(), format);
  if (const std::string_view encoding = wide_encoding_of(seen); !encoding.empty())
    fail(ExitCode::bad_data,
         "the data file {} is written in {}; convert it to UTF-8: iconv -f {} -t UTF-8 OLD > NEW",
         path.string(), encoding, encoding);
  struct stat status {};
  if (::fstat(file_.descriptor(), &status) != 0)
    fail(ExitCode::io_failed, "reading {} failed: {}", path.string(), std::strerror(errno));
  file_size_ = static_cast<std::uint64_t>(status.st_size);
}

bool FileWindow::extend(std::size_t keep_from) {
  const std::uint64_t end = offset_ + bytes_.size();
  if (end >= file_size_) return false;
  bytes_.erase(0, keep_from);
  offset_ += keep_from;
  const std::size_t held = bytes_.size();
  const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, file_size_ - end));
  bytes_.resize(held + wanted);
  std::size_t got = 0;
  while (got < wanted) {
    const ssize_t count =
        ::pread(file_.descriptor(), bytes_.data() + held + got, wanted - got, static_cast<off_t>(end + got));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(ExitCode::io_failed, "reading {} failed: {}", path_.string(), std::strerror(errno));
    if (count == 0) fail(ExitCode::io_failed, "{} became shorter while it was read", path_.string());
    got += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace autoglm
