// The files of another host's kernel, in a folder.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace autoglm {

class AnotherHost : public testing::Test {
 protected:
  AnotherHost() {
    std::string pattern = (std::filesystem::temp_directory_path() / "autoglm_host_XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp: " + pattern);
    root_ = pattern;
  }
  ~AnotherHost() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  const std::filesystem::path& root() const { return root_; }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  // A machine of so many KiB.
  void write_memory(long total, long available) const {
    write("proc/meminfo", "MemTotal:       " + std::to_string(total) +
                              " kB\nMemFree:        1 kB\nMemAvailable:   " + std::to_string(available) +
                              " kB\n");
  }

  // Version 1, each controller mounted below /sys/fs/cgroup and showing the group `shown`.
  void mount_version_1(const std::string& shown = "/") const {
    write("proc/self/mountinfo",
          "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
          "35 31 0:32 " +
              shown +
              " /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
              "32 31 0:29 " +
              shown + " /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
  }

  void mount_version_2(const std::string& shown = "/") const {
    write("proc/self/mountinfo",
          "31 23 0:28 " + shown + " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  }

 private:
  std::filesystem::path root_;
};

}  // namespace autoglm
