#include "checkpoint/step_store/checkpoint_reader.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "tests/checkpoint/step_store/toy_states.h"
#include "tests/checkpoint/test_support.h"

namespace autoglm {
namespace {

using testing::contains;
using testing::failure_of;
using testing::read_text;
using testing::TemporaryFolder;
using testing::ToyStates;
using testing::write_text;

TEST(CheckpointReader, ReadsWhatAnyNumberOfRanksWrote) {
  const ToyStates states;
  for (const int ranks : {1, 2, 3, 4, 50}) {
    const TemporaryFolder folder;
    const StepStore store(folder.path(), states.run);
    states.save_whole(store, 7, ranks);
    EXPECT_TRUE(states.is_whole(store.folder_of(7), 7)) << ranks;
    const CheckpointReader reader = CheckpointReader::open(store.folder_of(7));
    for (const Manifest::Kind& kind : states.kinds) {
      EXPECT_EQ(reader.dtype_of(kind.name), kind.dtype);
      const Manifest::Parameter& a = states.parameters[0];
      const std::string all = states.bytes_of(kind, a, 7);
      const std::size_t width = dtype_size(kind.dtype);
      for (std::int64_t begin = 0; begin < a.num_elements(); begin += 3) {
        std::string part(
            width * static_cast<std::size_t>(std::min<std::int64_t>(11, a.num_elements() - begin)), ' ');
        reader.read(kind.name, a.name, begin, std::as_writable_bytes(std::span(part)));
        EXPECT_EQ(part, all.substr(width * static_cast<std::size_t>(begin), part.size()));
      }
    }
    EXPECT_EQ(reader.dtype_of("gradient"), std::nullopt);
  }
}

TEST(CheckpointReader, EveryByteOfEveryFileIsSeen) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  states.save_whole(store, 1, 2);
  for (const auto& entry : std::filesystem::directory_iterator(store.folder_of(1))) {
    const std::string bytes = read_text(entry.path()), name = entry.path().filename().string();
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      std::string broken = bytes;
      broken[i] = static_cast<char>(broken[i] ^ (1 << i % 8));
      write_text(entry.path(), broken);
      EXPECT_PRED2(contains, failure_of(store.folder_of(1)), name) << i;
    }
    for (std::size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 97) {
      write_text(entry.path(), bytes.substr(0, length));
      EXPECT_PRED2(contains, failure_of(store.folder_of(1)), name) << length;
    }
    write_text(entry.path(), bytes + "x");
    EXPECT_PRED2(contains, failure_of(store.folder_of(1)), name);
    std::filesystem::remove(entry.path());
    EXPECT_PRED2(contains, failure_of(store.folder_of(1)), name);
    write_text(entry.path(), bytes);
  }
  EXPECT_TRUE(states.is_whole(store.folder_of(1), 1));
}

TEST(CheckpointReader, FilesLieInTheFolderItself) {
  const ToyStates states;
  const TemporaryFolder folder, elsewhere;
  const StepStore store(folder.path(), states.run);
  states.save_whole(store, 1, 2);
  for (const std::string& name : {std::string(kManifestName), state_file_name(1, 2)}) {
    const auto place = store.folder_of(1) / name, other = elsewhere / name;
    std::filesystem::copy_file(place, other);
    std::filesystem::remove(place);
    std::filesystem::create_symlink(other, place);
    EXPECT_PRED2(contains, failure_of(store.folder_of(1)), name + ": is not a regular file");
    std::filesystem::remove(place);
    ASSERT_EQ(::mkfifo(place.c_str(), 0600), 0);
    EXPECT_PRED2(contains, failure_of(store.folder_of(1)), name + ": is not a regular file");
    std::filesystem::remove(place);
    std::filesystem::copy_file(other, place);
  }
  EXPECT_TRUE(states.is_whole(store.folder_of(1), 1));
  // The way to it may be a link.
  std::filesystem::create_directory_symlink(store.folder_of(1), elsewhere / "link");
  EXPECT_TRUE(states.is_whole(elsewhere / "link", 1));
}

TEST(CheckpointReader, FilesOfOthersAreSeen) {
  const ToyStates states;
  ToyStates others;
  others.run = std::string(32, 'a');
  const TemporaryFolder folder, elsewhere;
  const StepStore store(folder.path(), states.run), other(elsewhere.path(), others.run);
  states.save_whole(store, 1, 2);
  states.save_whole(store, 2, 2);
  others.save_whole(other, 1, 2);
  const auto first = store.folder_of(1) / state_file_name(0, 2),
             second = store.folder_of(1) / state_file_name(1, 2);
  const std::string bytes = read_text(first);
  write_text(first, read_text(store.folder_of(2) / state_file_name(0, 2)));
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), "another checkpoint");
  write_text(first, read_text(other.folder_of(1) / state_file_name(0, 2)));
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), "another checkpoint");
  write_text(first, read_text(second));
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), store.folder_of(1).string());
  write_text(second, bytes);  // the two have changed places
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), "states-0000");
  write_text(second, read_text(first));
  write_text(first, bytes);
  write_text(store.folder_of(1) / kManifestName, read_text(other.folder_of(1) / kManifestName));
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), "another checkpoint");
  write_text(store.folder_of(1) / kManifestName, read_text(store.folder_of(2) / kManifestName));
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), "another checkpoint");
}

TEST(CheckpointReader, AnOffsetOfAnySizeIsRefused) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  store.create_aside(1);
  std::vector<StateRun> runs = states.runs_of(0, 1);
  std::uint64_t bytes = 0;
  for (const StateRun& run : runs) bytes += run.bytes();
  runs[0].offset = std::numeric_limits<std::int64_t>::max();
  StateFileWriter writer(store.aside_of(1), state_file_name(0, 1), runs,
                         {{"run", states.run}, {"step", "1"}});
  writer.append(as_bytes(std::string(bytes, 'x')));
  store.commit(states.manifest_of(1, {writer.finish()}));
  EXPECT_PRED2(contains, failure_of(store.folder_of(1)), "a.weight: the files do not hold each");
}

bool finds(const CheckpointReader& reader, int part, int parts) {
  try {
    reader.verify(part, parts);
    return false;
  } catch (const Error&) {
    return true;
  }
}

TEST(CheckpointReader, RanksDivideTheChecksumsAmongThemselves) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  states.save_whole(store, 1, 5);
  for (int file = 0; file < 5; ++file) {
    const auto path = store.folder_of(1) / state_file_name(file, 5);
    const std::string bytes = read_text(path);
    std::string broken = bytes;
    broken.back() = static_cast<char>(broken.back() ^ 1);
    write_text(path, broken);
    const CheckpointReader reader = CheckpointReader::open(store.folder_of(1));
    for (const int parts : {1, 2, 3, 8}) {
      int found = 0;
      for (int part = 0; part < parts; ++part) found += finds(reader, part, parts) ? 1 : 0;
      EXPECT_EQ(found, 1) << file << " " << parts;
    }
    write_text(path, bytes);
  }
}

}  // namespace
}  // namespace autoglm
