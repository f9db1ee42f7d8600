// Files by descriptor: reads and writes that either do all of their bytes or fail with a sentence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/regular_file.h"

namespace autoglm {

// There is no room on the file system, or no quota left: what may pass when somebody frees some.
class DiskFull : public Error {
 public:
  using Error::Error;
};

// An open file. Reads go through pread, because a mapped file that another process shortens kills the reader.
// Concurrent read_at and write_at calls from several threads are allowed.
class File {
 public:
  // Takes ownership of `descriptor`; `path` is what messages name.
  File(int descriptor, std::filesystem::path path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // Opens a regular file for reading (symbolic links are followed, a pipe never blocks).
  // Throws Error(missing_input) when it does not exist or may not be read, Error(bad_data) when it is not a
  // regular file.
  static File open(const std::filesystem::path& path);

  // The same of a file with this plain name that lies in the folder itself; a link is no regular file.
  static File open_within(const std::filesystem::path& folder, const std::string& name);

  // Creates a file that does not exist yet. Throws Error(cannot_create), or DiskFull.
  static File create(const std::filesystem::path& path);

  // Opens a regular file that is there, to be read and written. Throws Error(cannot_create).
  static File open_for_writing(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }

  // Bytes in the file now. Throws Error(io_failed).
  std::uint64_t size() const;

  // Fills `bytes` from `offset`. Throws Error(io_failed), also when the file ends too early.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;

  // Writes all of `bytes` at `offset`. Throws Error(io_failed), DiskFull where room is missing.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);

  // Asks the file system for `bytes` of space now, so that a full disk is met before the work and not after.
  // A file system that cannot reserve is no error. Throws Error(io_failed) when there is no space.
  void reserve(std::uint64_t bytes);

  // Drops what lies behind `size`. Whatever happens, nothing is thrown.
  void truncate(std::uint64_t size) noexcept;

  // Lets the system drop what it holds of the file in memory, so that reads go to the disk, and memory is free for
  // others. What is not durable yet stays.
  void forget_cached() const noexcept;

  // Whether the path still leads to this file.
  bool is_in_place() const;

  // Makes the contents durable. Throws as sync_and_close().
  void sync() const;

  // Makes the contents durable and closes. Throws Error(io_failed): some file systems report a full disk only
  // here.
  void sync_and_close();

 private:
  int descriptor_ = -1;
  std::filesystem::path path_;
};

// The system's words for an errno value ("No space left on device").
std::string errno_text(int error);

// Whether something has this name, be it a symbolic link to nothing.
bool name_exists(const std::filesystem::path& path);

// The bytes of a string, to be written.
std::span<const std::byte> as_bytes(std::string_view text);

// Creates `path` with these contents and makes them durable; of a file that fails midway nothing is left.
// Throws Error(cannot_create), Error(io_failed) or DiskFull.
void write_new_file(const std::filesystem::path& path, std::string_view contents);

// Replaces `path` by these contents: written aside, made durable, renamed. Whatever happens, the name holds
// either the old contents or the new. Throws Error(cannot_create) or Error(io_failed).
void replace_file(const std::filesystem::path& path, std::string_view contents);

// Copies the contents of an open file to a new one and makes it durable; of one that fails midway nothing is
// left.
void copy_file_durably(const File& source, const std::filesystem::path& to);

// Creates a folder and its parents where they are missing, and makes their names durable. Throws Error(cannot_create),
// Error(io_failed) or DiskFull.
void create_folders(const std::filesystem::path& path);

// Throws Error(`code`) that says what could not be done with `path` and why, DiskFull where room is missing.
[[noreturn]] void fail_system(ExitCode code, const std::filesystem::path& path, std::string_view what,
                              int error);

// Bytes that may be written to a folder's file system; none when it does not say.
std::optional<std::uint64_t> free_space_of(const std::filesystem::path& folder);

// Makes the names in a folder durable. Throws Error(io_failed).
void sync_directory(const std::filesystem::path& path);

// 32 random hexadecimal digits, for names that must not meet another process's.
std::string random_name();

}  // namespace autoglm
