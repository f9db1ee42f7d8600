// Files that are read, whatever lies where they should be: nothing is waited for, and nothing is opened that is no
// regular file. Every reader in the other folders opens its files through here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace autoglm {

// Owns the descriptor of a regular file that is open for reading, or knows why there is none.
class RegularFile {
 public:
  // Follows links. What is no regular file (a pipe, a device, a socket, a folder) is looked at and left alone.
  static RegularFile open(const std::filesystem::path& path);

  // Opens a file by its plain name, where only what lies in the folder itself is meant: links are not followed, and
  // a name that leads elsewhere ("../x", "/x", "a/b", "") is none. The folder's own path may hold links.
  static RegularFile open_within(const std::filesystem::path& folder, const std::string& name);

  RegularFile(RegularFile&& other) noexcept;
  RegularFile& operator=(RegularFile&& other) noexcept;
  ~RegularFile();

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  // The descriptor, which is the caller's from now on.
  int release();

  // Of one that is not open: an errno value, 0 where it is no regular file.
  int error() const { return error_; }
  // Throws Error(missing_input) when it does not exist or may not be read, Error(bad_data) when it is no regular file,
  // Error(io_failed) when the system cannot open any file.
  const RegularFile& require_open(const std::filesystem::path& path) const;

 private:
  RegularFile(int descriptor, int error) : descriptor_(descriptor), error_(error) {}
  static RegularFile checked(int descriptor);

  int descriptor_ = -1;
  int error_ = 0;
};

// Whole contents of a regular file; links are followed. Throws as RegularFile::require_open(), Error(bad_data) above
// `max_bytes`, and Error(io_failed).
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

// The same of a file that lies in the folder itself, as of RegularFile::open_within().
std::string read_text_file_within(const std::filesystem::path& folder, const std::string& name,
                                  std::uint64_t max_bytes);

}  // namespace autoglm
