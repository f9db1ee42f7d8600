#include "checkpoint/step_store/step_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/checkpoint/step_store/toy_states.h"
#include "tests/checkpoint/test_support.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::read_text;
using testing::sentence_of;
using testing::TemporaryFolder;
using testing::ToyStates;
using testing::write_text;

std::vector<std::int64_t> steps_in(const fs::path& directory) {
  std::vector<std::int64_t> steps;
  for (const StepFolder& one : list_step_folders(directory)) steps.push_back(one.step);
  return steps;
}

std::set<std::string> names_in(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}

using Steps = std::vector<std::int64_t>;
using Names = std::set<std::string>;

TEST(StepStore, ListsCheckpointsTheNewestFirst) {
  const TemporaryFolder folder;
  EXPECT_EQ(steps_in(folder / "missing"), Steps());
  for (const char* const name :
       {"checkpoint-9", "checkpoint-10", "checkpoint-007", "checkpoint-", "checkpoint-1x",
        "checkpoint-5.tmp-0123456789abcdef0123456789abcdef", "checkpoint--3", "other"})
    fs::create_directory(folder / name);
  write_text(folder / "checkpoint-8", "a file");
  EXPECT_EQ(steps_in(folder.path()), (Steps{10, 9}));
}

// Where two names cannot be exchanged, and a job was killed between two renames.
TEST(StepStore, OneThatWasToBeReplacedIsACheckpointUntilItIs) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  for (const std::int64_t step : {3, 4}) states.save_whole(store, step, 1);
  const fs::path prior = folder / ("checkpoint-4.prior-" + states.run);
  fs::rename(store.folder_of(4), prior);
  store.remove_leftovers();
  EXPECT_EQ(steps_in(folder.path()), (Steps{4, 3}));
  EXPECT_TRUE(states.is_whole(list_step_folders(folder.path()).front().path, 4));
  states.save_whole(store, 4, 2);
  EXPECT_EQ(names_in(folder.path()), (Names{"checkpoint-3", "checkpoint-4", "latest"}));
  fs::rename(store.folder_of(3), folder / ("checkpoint-3.prior-" + states.run));
  store.rotate(4, 1, {});
  EXPECT_EQ(names_in(folder.path()), (Names{"checkpoint-4", "latest"}));
}

TEST(StepStore, ACommitLeavesACheckpointAndNothingBesideIt) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  states.save_whole(store, 3, 2);
  EXPECT_EQ(names_in(folder.path()), (Names{"checkpoint-3", "latest"}));
  EXPECT_EQ(names_in(folder / "checkpoint-3"), (Names{"manifest.json", "states-00000-of-00002.safetensors",
                                                      "states-00001-of-00002.safetensors"}));
  EXPECT_EQ(read_text(folder / "latest"), "checkpoint-3\n");
  EXPECT_TRUE(states.is_whole(store.folder_of(3), 3));
}

TEST(StepStore, ASecondCheckpointOfAStepTakesThePlaceOfTheFirst) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  states.save_whole(store, 3, 2);
  states.save_whole(store, 3, 1);
  EXPECT_EQ(names_in(folder.path()), (Names{"checkpoint-3", "latest"}));
  EXPECT_EQ(CheckpointReader::open(store.folder_of(3)).manifest().files.size(), 1U);
}

TEST(StepStore, KeepsTheNewestAndThoseThatItIsTold) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  for (const std::int64_t step : {1, 2, 3, 4, 5, 9}) states.save_whole(store, step, 1);
  store.rotate(5, 2, {1});
  EXPECT_EQ(steps_in(folder.path()), (Steps{9, 5, 4, 1}));
  store.rotate(9, 0, {});
  EXPECT_EQ(steps_in(folder.path()), Steps{9});
  EXPECT_EQ(names_in(folder.path()), (Names{"checkpoint-9", "latest"}));
}

TEST(StepStore, RemovesNothingThatItCannotProveItsOwn) {
  const ToyStates states;
  ToyStates others;
  others.run = std::string(32, 'b');
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run), other(folder.path(), others.run);
  others.save_whole(other, 1, 1);
  others.save(other, 6, 0, 2);
  fs::create_directory(folder / "checkpoint-2");
  write_text(folder / "checkpoint-2" / "trainer_state.json", "{}");
  for (const std::int64_t step : {3, 4, 5}) states.save_whole(store, step, 1);
  write_text(store.folder_of(3) / "notes.txt", "mine");
  const fs::path old = folder / ("checkpoint-3.old-" + states.run);
  EXPECT_EQ(store.rotate(5, 1, {}), StepStore::Remains{old});
  EXPECT_EQ(names_in(old), Names{"notes.txt"});
  EXPECT_EQ(store.remove_leftovers(), StepStore::Remains{old});
  fs::remove(old / "notes.txt");
  EXPECT_EQ(store.remove_leftovers(), StepStore::Remains());
  EXPECT_EQ(store.remove_all(), StepStore::Remains());
  EXPECT_EQ(names_in(folder.path()),
            (Names{"checkpoint-1", "checkpoint-2", "checkpoint-6.tmp-" + others.run, "latest"}));
  EXPECT_PRED2(contains, sentence_of(ExitCode::cannot_create, [&] { store.refuse_foreign(); }),
               "no checkpoint of this run");
  EXPECT_PRED2(contains, sentence_of(ExitCode::cannot_create, [&] { states.save_whole(store, 1, 1); }),
               "no checkpoint of this run");
  EXPECT_TRUE(others.is_whole(store.folder_of(1), 1));
}

// Somebody has moved a checkpoint to an archive and left a link.
TEST(StepStore, ALinkIsNoCheckpointAndWhatItLeadsToStays) {
  const ToyStates states;
  const TemporaryFolder folder;
  const fs::path archive = folder / "archive";
  const StepStore store(folder.path(), states.run);
  states.save_whole(store, 3, 1);
  fs::rename(store.folder_of(3), archive);
  fs::create_directory_symlink(archive, store.folder_of(3));
  EXPECT_EQ(steps_in(folder.path()), Steps());
  EXPECT_FALSE(store.is_ours({3, store.folder_of(3)}));
  sentence_of(ExitCode::cannot_create, [&] { store.refuse_foreign(); });
  store.refuse_foreign([](const StepFolder& one) { return one.step == 3; });
  sentence_of(ExitCode::cannot_create, [&] { states.save_whole(store, 3, 2); });
  fs::create_directory_symlink(archive, folder / ("checkpoint-2.old-" + states.run));
  store.remove_leftovers();
  store.remove_all();
  EXPECT_TRUE(states.is_whole(archive, 3));
}

TEST(StepStore, KnowsHowLargeItsCheckpointsAre) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run), other(folder.path(), std::string(32, 'b'));
  states.save_whole(store, 3, 2);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(store.folder_of(3)))
    if (entry.path().filename() != "manifest.json") bytes += entry.file_size();
  EXPECT_EQ(store.bytes_of({3, store.folder_of(3)}), bytes);
  EXPECT_EQ(other.bytes_of({3, store.folder_of(3)}), 0U);
  for (const std::int64_t step : {4, 5}) states.save_whole(store, step, 2);
  EXPECT_EQ(store.bytes_of_newest(2), 2 * bytes);
  EXPECT_EQ(store.bytes_of_newest(9), 3 * bytes);
}

TEST(StepStore, AFileThatIsNotThereIsNotCommitted) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  std::vector<StateFileRecord> files;
  for (int rank = 0; rank < 2; ++rank) files.push_back(states.save(store, 7, rank, 2));
  const fs::path second = store.aside_of(7) / files[1].name;
  fs::resize_file(second, files[1].bytes - 1);
  const auto refused = [&] {
    return sentence_of(ExitCode::io_failed, [&] { store.commit(states.manifest_of(7, files)); });
  };
  EXPECT_TRUE(contains(refused(), second.string() + ": has "));
  fs::remove(second);
  EXPECT_TRUE(contains(refused(), second.string() + ": was written, and is not there"));
  EXPECT_EQ(steps_in(folder.path()), Steps());
  EXPECT_FALSE(fs::exists(store.aside_of(7) / kManifestName));
}

TEST(StepStore, FindsWhatIsWhole) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  for (const std::int64_t step : {3, 4}) states.save_whole(store, step, 2);
  EXPECT_EQ(store.find_whole(3), store.folder_of(3));
  EXPECT_FALSE(store.find_whole(2));
  EXPECT_FALSE(StepStore(folder.path(), std::string(32, 'a')).find_whole(3));
  fs::resize_file(store.folder_of(3) / state_file_name(1, 2), 9);
  EXPECT_FALSE(store.find_whole(3));
  fs::remove(store.folder_of(4) / state_file_name(0, 2));
  EXPECT_FALSE(store.find_whole(4));
}

TEST(StepStore, WhatASaveLeftBehindIsRemoved) {
  const ToyStates states;
  const TemporaryFolder folder;
  const StepStore store(folder.path(), states.run);
  states.save(store, 8, 1, 2);
  store.discard(8);
  EXPECT_EQ(names_in(folder.path()), Names());
  states.save(store, 8, 0, 2);
  fs::create_directory(folder / ("checkpoint-4.old-" + states.run));
  write_text(folder / ("latest.tmp-" + states.run), "checkpoint-8");
  store.remove_leftovers();
  EXPECT_EQ(names_in(folder.path()), Names());
}

}  // namespace
}  // namespace autoglm
