#include "checkpoint/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "tests/checkpoint/test_support.h"

namespace autoglm {
namespace {

using testing::contains;
using testing::read_text;
using testing::sentence_of;
using testing::TemporaryFolder;
using testing::write_text;

// While it lives, no file of this process can grow beyond `bytes`: the one full disk that needs no
// privileges.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST(File, WritesAndReadsRanges) {
  const TemporaryFolder folder;
  File file = File::create(folder / "f");
  file.write_at(3, as_bytes("def"));
  file.write_at(0, as_bytes("abc"));
  file.sync_and_close();
  EXPECT_EQ(read_text(folder / "f"), "abcdef");
  const File again = File::open(folder / "f");
  EXPECT_EQ(again.size(), 6);
  std::string part(3, ' ');
  again.read_at(2, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "cde");
  EXPECT_TRUE(contains(
      sentence_of(ExitCode::io_failed, [&] { again.read_at(4, std::as_writable_bytes(std::span(part))); }),
      "ends at byte 6"));
}

TEST(File, OpensRegularFilesOnly) {
  const TemporaryFolder folder;
  EXPECT_TRUE(
      contains(sentence_of(ExitCode::missing_input, [&] { File::open(folder / "none"); }), "No such file"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(
      contains(sentence_of(ExitCode::bad_data, [&] { File::open(folder / "pipe"); }), "not a regular"));
  sentence_of(ExitCode::bad_data, [&] { File::open(folder.path()); });
  sentence_of(ExitCode::bad_data, [&] { File::open("/dev/zero"); });
  write_text(folder / "f", "x");
  std::filesystem::create_symlink("f", folder / "link");
  EXPECT_EQ(File::open(folder / "link").size(), 1);
  std::filesystem::create_symlink("nothing", folder / "dangling");
  sentence_of(ExitCode::missing_input, [&] { File::open(folder / "dangling"); });
}

TEST(File, CreatesNewFilesOnly) {
  const TemporaryFolder folder;
  write_text(folder / "f", "x");
  EXPECT_TRUE(
      contains(sentence_of(ExitCode::cannot_create, [&] { File::create(folder / "f"); }), "File exists"));
  sentence_of(ExitCode::cannot_create, [&] { File::create(folder / "none" / "f"); });
}

TEST(File, SaysThatTheDiskIsFull) {
  File full(::open("/dev/full", O_RDWR | O_CLOEXEC), "out/model.safetensors");
  const std::string sentence = sentence_of(ExitCode::io_failed, [&] { full.write_at(0, as_bytes("x")); });
  EXPECT_TRUE(
      contains(sentence, "out/model.safetensors: writing failed: No space left on device; free some space"))
      << sentence;
}

TEST(File, MeetsTheLimitWhenWritingAndWhenReserving) {
  const TemporaryFolder folder;
  File file = File::create(folder / "f");
  const SizeLimit limit(4096);
  const std::string sentence =
      sentence_of(ExitCode::io_failed, [&] { file.write_at(0, as_bytes(std::string(5000, 'x'))); });
  EXPECT_TRUE(contains(sentence, "File too large")) << sentence;
  sentence_of(ExitCode::io_failed, [&] { file.reserve(5000); });
  EXPECT_NO_THROW(file.reserve(4096));
}

TEST(File, ReplacesAsAWhole) {
  const TemporaryFolder folder;
  replace_file(folder / "run.json", "one");
  replace_file(folder / "run.json", "two");
  EXPECT_EQ(read_text(folder / "run.json"), "two");
  {
    const SizeLimit limit(10);
    sentence_of(ExitCode::io_failed, [&] { replace_file(folder / "run.json", std::string(100, 'x')); });
  }
  EXPECT_EQ(read_text(folder / "run.json"), "two");
  EXPECT_EQ(testing::names_below(folder.path()), std::vector<std::string>{"run.json"});
}

TEST(File, CopiesLargeAndEmptyFiles) {
  const TemporaryFolder folder;
  std::string text(9'000'001, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 7);
  write_text(folder / "large", text);
  write_text(folder / "empty", "");
  copy_file_durably(File::open(folder / "large"), folder / "large2");
  copy_file_durably(File::open(folder / "empty"), folder / "empty2");
  EXPECT_EQ(read_text(folder / "large2"), text);
  EXPECT_EQ(read_text(folder / "empty2"), "");
}

TEST(File, BoundsTextFiles) {
  const TemporaryFolder folder;
  write_text(folder / "f", "12345");
  EXPECT_EQ(read_text_file(folder / "f", 5), "12345");
  EXPECT_TRUE(
      contains(sentence_of(ExitCode::bad_data, [&] { read_text_file(folder / "f", 4); }), "has 5 bytes"));
}

TEST(File, RandomNamesDiffer) {
  EXPECT_EQ(random_name().size(), 32);
  EXPECT_NE(random_name(), random_name());
}

}  // namespace
}  // namespace autoglm
