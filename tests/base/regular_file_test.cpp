#include "base/regular_file.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A folder with something of each kind.
class RegularFileTest : public ::testing::Test {
 protected:
  RegularFileTest() : root_(top_.path() / "model") {
    fs::create_directories(root_ / "sub");
    top_.write("outside", "secret");
    top_.write("model/inside", "text");
    top_.write("model/sub/deep", "text");
    fs::create_symlink("inside", root_ / "link");
    fs::create_symlink("../outside", root_ / "link_outside");
    fs::create_symlink("nothing", root_ / "dangling");
    fs::create_symlink("circle", root_ / "circle");
    fs::create_symlink("/dev/zero", root_ / "zero");
    fs::create_symlink("sub", root_ / "link_to_folder");
    EXPECT_EQ(::mkfifo((root_ / "pipe").c_str(), 0600), 0);
    fs::create_symlink("pipe", root_ / "link_to_pipe");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = (root_ / "socket").string();
    EXPECT_LT(name.size(), sizeof address.sun_path);
    std::memcpy(address.sun_path, name.data(), name.size());
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(socket);
  }

  std::string kept_within() const {
    std::string wrong;
    const auto expect = [&](const std::string& name, bool opened, int error) {
      const RegularFile file = RegularFile::open_within(root_, name);
      if (file.is_open() != opened || (!opened && file.error() != error)) wrong += name + " ";
    };
    expect("inside", true, 0);
    expect("none", false, ENOENT);
    for (const char* const name : {"link",
                                   "link_outside",
                                   "dangling",
                                   "circle",
                                   "zero",
                                   "link_to_folder",
                                   "pipe",
                                   "link_to_pipe",
                                   "socket",
                                   "sub",
                                   "",
                                   ".",
                                   "..",
                                   "../outside",
                                   "sub/deep",
                                   "./inside",
                                   "sub/../inside",
                                   "inside/",
                                   "/dev/zero",
                                   "/etc/passwd"})
      expect(name, false, 0);
    expect(std::string("inside\0x", 8), false, 0);
    return wrong;
  }

  TemporaryFolder top_;
  fs::path root_;
};

// Makes the kernel one that has no openat2, or a container that forbids it.
bool forbid_openat2(unsigned error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST_F(RegularFileTest, OpensRegularFilesAndLinksToThem) {
  for (const char* const name :
       {"inside", "link", "link_outside", "sub/deep", "link_to_folder/deep", "../outside"})
    EXPECT_TRUE(RegularFile::open(root_ / name).is_open()) << name;
  for (const char* const name :
       {"zero", "link_to_folder", "pipe", "link_to_pipe", "socket", "sub", "", ".", ".."}) {
    const RegularFile file = RegularFile::open(root_ / name);
    EXPECT_FALSE(file.is_open()) << name;
    EXPECT_EQ(file.error(), 0) << name;
  }
  EXPECT_EQ(RegularFile::open(root_ / "none").error(), ENOENT);
  EXPECT_EQ(RegularFile::open(root_ / "dangling").error(), ENOENT);
  EXPECT_EQ(RegularFile::open(root_ / "circle").error(), ELOOP);
  EXPECT_EQ(RegularFile::open(root_ / "inside/x").error(), ENOTDIR);
}

TEST_F(RegularFileTest, KeepsWithinTheFolder) {
  EXPECT_EQ(kept_within(), "");
  // The folder's own path is the person's.
  EXPECT_TRUE(RegularFile::open_within(root_ / "link_to_folder", "deep").is_open());
  EXPECT_EQ(RegularFile::open_within(root_ / "none", "deep").error(), ENOENT);
  EXPECT_EQ(RegularFile::open_within(root_ / "inside", "deep").error(), ENOTDIR);
}

TEST_F(RegularFileTest, KeepsWithinTheFolderWithoutOpenat2) {
  for (const unsigned error : {ENOSYS, EPERM}) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(!forbid_openat2(error) ? 2 : kept_within().empty() ? 0 : 1);
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2) GTEST_SKIP() << "this kernel filters no calls";
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

TEST_F(RegularFileTest, SaysWhatIsWrong) {
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { read_text_file(root_ / "pipe", 9); }),
              HasSubstr("pipe: is not a regular file"));
  EXPECT_THAT(error_of(ExitCode::missing_input, [&] { read_text_file(root_ / "none", 9); }),
              HasSubstr("none: cannot be read: No such file"));
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { read_text_file(root_ / "inside", 3); }),
              HasSubstr("has 4 bytes, more than the 3"));
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { read_text_file_within(root_, "link", 9); }),
              HasSubstr("link: is not a regular file"));
  EXPECT_EQ(read_text_file(root_ / "link_outside", 6), "secret");
  EXPECT_EQ(read_text_file_within(root_, "inside", 4), "text");
}

}  // namespace
}  // namespace autoglm
