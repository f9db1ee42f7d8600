#include "checkpoint/output_directory.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/directory_listing.h"
#include "checkpoint/model_writer.h"
#include "checkpoint/output_inspection.h"
#include "tests/checkpoint/model_fixture.h"

namespace autoglm {
namespace {

using namespace autoglm::testing;
using ::testing::Test;

class OutputDirectoryTest : public Test {
 protected:
  OutputDirectoryTest() { write_single_model(model_path_); }

  ModelDirectory open() const { return ModelDirectory::open(model_path_); }

  // Both the look and the real thing refuse, in the same words, and change nothing.
  std::string refusal(ExitCode code, const fs::path& output, bool overwrite = false) const {
    const ModelDirectory model = open();
    const std::vector<std::string> before = names_below(folder_.path());
    const std::string sentence = sentence_of(code, [&] { OutputDirectory(output, model, overwrite); });
    EXPECT_EQ(sentence_of(code, [&] { OutputDirectory::check(output, model, overwrite); }), sentence);
    EXPECT_EQ(names_below(folder_.path()), before);
    return sentence;
  }

  // What a run does, up to a finished model or up to a crash in its midst.
  void run(bool overwrite, bool finish) const {
    const ModelDirectory model = open();
    OutputDirectory directory(output_, model, overwrite);
    directory.begin();
    directory.write_run_record({{"options", {{"seed", 42}}}}, false);
    write_text(output_ / "metrics.jsonl", "{}\n");
    if (!finish) {
      write_text(output_ / "tokenizer.json", "half");
      write_text(output_ / (".model.tmp-" + random_name()) / "model.safetensors", "half");
      return;
    }
    const SideFiles files = SideFiles::keep(model);
    ModelWriter writer(model, files, output_, std::nullopt);
    for (const SafetensorsFile& file : model.weight_files()) {
      for (const SafetensorsTensor& tensor : file.tensors()) writer.copy_tensor(tensor.name);
    }
    writer.commit([&] { directory.remove_earlier_model(); });
    directory.write_run_record({{"options", {{"seed", 42}}}}, true);
  }

  TemporaryFolder folder_;
  fs::path model_path_ = folder_ / "model";
  fs::path output_ = folder_ / "output";
};

TEST_F(OutputDirectoryTest, RefusesTheModelFolderUnderEveryName) {
  fs::create_directory_symlink(model_path_, folder_ / "link");
  fs::create_directories(folder_ / "other");
  for (const fs::path& path : {model_path_, folder_ / "link", folder_ / "model/", folder_ / "other/../model",
                               folder_ / "./model/.", fs::relative(model_path_)}) {
    const std::string sentence = refusal(ExitCode::usage, path, true);
    EXPECT_TRUE(contains(sentence, "is the model folder itself")) << sentence;
  }
  EXPECT_TRUE(
      contains(refusal(ExitCode::usage, model_path_ / "out" / "deep"), "lies inside the model folder"));
  EXPECT_TRUE(contains(refusal(ExitCode::usage, folder_ / "link" / "out"), "lies inside the model folder"));
  EXPECT_TRUE(contains(refusal(ExitCode::usage, folder_.path()), "lies inside --output"));
  refusal(ExitCode::usage, "");
}

TEST_F(OutputDirectoryTest, CreatesFoldersAndRemovesThemUnlessTheRunBegins) {
  const ModelDirectory model = open();
  const fs::path deep = folder_ / "a" / "b" / "c";
  {
    OutputDirectory directory(deep, model, false);
    EXPECT_TRUE(fs::is_directory(deep));
    EXPECT_TRUE(names_below(deep).empty());
  }
  EXPECT_FALSE(fs::exists(folder_ / "a"));
  {
    OutputDirectory directory(deep.string() + "/", model, false);
    directory.begin();
    EXPECT_EQ(directory.path(), deep);
  }
  EXPECT_TRUE(fs::is_directory(deep));
}

TEST_F(OutputDirectoryTest, RefusesWhatIsNoFolder) {
  write_text(folder_ / "file", "x");
  EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, folder_ / "file"), "is not a folder"));
  EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, folder_ / "file" / "out"), "Not a directory"));
  fs::create_symlink("nothing", folder_ / "dangling");
  EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, folder_ / "dangling"), "link to nothing"));
  // The kernel creates no folders there, whoever asks.
  const ModelDirectory model = open();
  sentence_of(ExitCode::cannot_create, [&] { OutputDirectory("/proc/autoglm-output", model, false); });
}

TEST_F(OutputDirectoryTest, RefusesFoldersThatMayNotBeWritten) {
  fs::create_directories(folder_ / "readonly");
  const ModelDirectory model = open();
  // In a child, because a privileged user has to become another one to be refused anything.
  const auto refused_in_child = [&](const fs::path& output) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
      try {
        OutputDirectory directory(output, model, false);
      } catch (const Error& error) {
        const bool named =
            contains(error.what(), "Permission denied") && contains(error.what(), output.string());
        ::_exit(error.code() == ExitCode::cannot_create && named ? 0 : 3);
      }
      ::_exit(4);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  ::chmod((folder_ / "readonly").c_str(), 0555);
  EXPECT_EQ(refused_in_child(folder_ / "readonly"), 0);
  EXPECT_EQ(refused_in_child(folder_ / "readonly" / "out"), 0);
  ::chmod((folder_ / "readonly").c_str(), 0755);
  EXPECT_TRUE(names_below(folder_ / "readonly").empty());
}

TEST_F(OutputDirectoryTest, LocksTheFolder) {
  const ModelDirectory model = open();
  {
    OutputDirectory first(output_, model, false);
    const std::string sentence =
        sentence_of(ExitCode::cannot_create, [&] { OutputDirectory(output_, model, false); });
    EXPECT_TRUE(contains(sentence, "another run")) << sentence;
  }
  EXPECT_NO_THROW(OutputDirectory(output_, model, false));
}

TEST_F(OutputDirectoryTest, AFinishedRunNeedsOverwrite) {
  run(false, true);
  const nlohmann::json record = nlohmann::json::parse(read_text(output_ / "run.json"));
  EXPECT_EQ(record["finished"], true);
  EXPECT_EQ(record["options"]["seed"], 42);
  EXPECT_EQ(record["model_files"].back(), "config.json");
  EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, output_), "--overwrite"));

  write_text(output_ / "notes.txt", "mine");
  const ModelDirectory model = open();
  OutputDirectory directory(output_, model, true);
  EXPECT_TRUE(fs::exists(output_ / "config.json"));  // nothing goes before the run begins
  const std::string earlier = read_text(output_ / "run.json");
  directory.begin();
  EXPECT_EQ(names_below(output_),
            (std::vector<std::string>{"config.json", "metrics.earlier.jsonl", "model.safetensors",
                                      "notes.txt", "run.earlier.json", "tokenizer.json"}));
  EXPECT_EQ(read_text(output_ / "run.earlier.json"), earlier);
}

// However often, and of whatever other files the later run's model consists.
TEST_F(OutputDirectoryTest, AModelStaysUntilTheNextOneIsWritten) {
  write_text(model_path_ / "sub" / "code.py", "x");
  run(false, true);
  const std::string earlier = read_text(output_ / "run.json"), config = read_text(output_ / "config.json");
  fs::remove_all(model_path_);
  write_sharded_model(model_path_);
  for (int attempt = 0; attempt < 3; ++attempt) {
    {
      const ModelDirectory model = open();
      OutputDirectory directory(output_, model, true);
      directory.begin();
      if (attempt != 1) directory.write_run_record({}, false);  // or it is killed as it begins
      write_text(output_ / (".model.tmp-" + random_name()) / "model.safetensors", "half");
    }
    EXPECT_EQ(read_text(output_ / "run.earlier.json"), earlier);
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "sub/code.py"})
      EXPECT_TRUE(fs::exists(output_ / name)) << name;
    EXPECT_EQ(read_text(output_ / "config.json"), config);
    EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, output_), "--overwrite"));
  }
  run(true, true);
  EXPECT_EQ(names_below(output_),
            (std::vector<std::string>{"config.json", "metrics.jsonl", "model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                                      "run.json"}));
}

TEST_F(OutputDirectoryTest, IsMadeAgainWhereItWasRemoved) {
  const ModelDirectory model = open();
  OutputDirectory directory(output_, model, false);
  directory.begin();
  directory.restore();
  fs::rename(output_, folder_ / "elsewhere");
  directory.restore();
  EXPECT_TRUE(fs::is_directory(output_));
  EXPECT_TRUE(contains(sentence_of(ExitCode::cannot_create, [&] { OutputDirectory(output_, model, false); }),
                       "another run"));
  directory.write_run_record({}, true);
  EXPECT_TRUE(fs::exists(output_ / "run.json"));
}

TEST_F(OutputDirectoryTest, GoesBesideAFolderThatOthersMadeAgain) {
  run(false, true);
  const ModelDirectory model = open();
  OutputDirectory directory(output_, model, true);
  directory.begin();
  directory.write_run_record({}, false);
  const auto restored = [&] {
    directory.restore();
    directory.write_run_record({}, false);
    directory.require_free_names();
    directory.remove_earlier_model();
    return directory.path().filename().string();
  };
  fs::rename(output_, folder_ / "elsewhere");
  const OutputDirectory other(output_, model, false);  // has written nothing yet
  EXPECT_EQ(restored(), "output.restored");
  fs::remove_all(directory.path());
  write_text(directory.path() / "tokenizer.json", "mine");
  EXPECT_EQ(restored(), "output.restored-2");
  EXPECT_EQ(read_text(output_.string() + ".restored/tokenizer.json"), "mine");
  EXPECT_TRUE(fs::exists(folder_ / "elsewhere" / "config.json"));
  EXPECT_TRUE(names_below(output_).empty());
}

TEST_F(OutputDirectoryTest, LeavesWhatOthersWroteMeanwhile) {
  run(false, true);
  write_text(model_path_ / "new.txt", "x");
  const ModelDirectory model = open();
  OutputDirectory directory(output_, model, true);
  directory.begin();
  EXPECT_NO_THROW(directory.require_free_names());  // the earlier run's are replaced
  write_text(output_ / "new.txt", "mine");
  EXPECT_TRUE(contains(sentence_of(ExitCode::cannot_create, [&] { directory.require_free_names(); }),
                       (output_ / "new.txt").string() + ": is there"));
  write_text(output_ / "later.txt", "mine");
  sentence_of(ExitCode::cannot_create, [&] { directory.write_also("later.txt"); });
  directory.write_also("more.txt");
  directory.write_run_record({}, false);
  const nlohmann::json record = nlohmann::json::parse(read_text(output_ / "run.json"));
  EXPECT_EQ(record["model_files"].back(), "config.json");
  EXPECT_TRUE(record["model_files"].dump().find("more.txt") != std::string::npos);
  directory.write_run_record({}, false);
  write_text(output_ / "run.json", "mine");
  EXPECT_TRUE(contains(sentence_of(ExitCode::cannot_create, [&] { directory.write_run_record({}, true); }),
                       "left as it is"));
  EXPECT_EQ(read_text(output_ / "run.json"), "mine");
}

TEST_F(OutputDirectoryTest, TellsOfARunThatWasEndedFromOutside) {
  const ModelDirectory model = open();
  const auto told = [&](nlohmann::ordered_json record) {
    fs::remove_all(output_);
    {
      OutputDirectory directory(output_, model, false);
      directory.begin();
      directory.write_run_record(std::move(record), false);
    }
    return OutputDirectory(output_, model, false).run_that_was_ended().value_or("");
  };
  nlohmann::ordered_json record = {{"ranks", {{{"host", "node7"}, {"pid", 4711}}}},
                                   {"started_at", "2026-03-01T12:34:56Z"},
                                   {"state", "running"}};
  EXPECT_TRUE(contains(told(record), "begun at 2026-03-01T12:34:56Z on node7 as process 4711"));
  record["state"] = "failed";
  EXPECT_EQ(told(record), "");
  EXPECT_EQ(told({}), "");
}

TEST_F(OutputDirectoryTest, RecordsOfOthersAreNone) {
  fs::create_directories(output_);
  for (const char* const process : {"4711", "4.71845e22", "-1e300", "\"x\"", "null", "[]"}) {
    write_text(
        output_ / "run.json",
        fmt::format(R"({{"model_files": ["a"], "finished": false, "state": "running", "started_at": "now",
                               "ranks": [{{"host": "node7", "pid": {}}}]}})",
                    process));
    EXPECT_EQ(read_earlier_run(output_).files.empty(), std::string(process) != "4711") << process;
  }
}

TEST_F(OutputDirectoryTest, FindsATooLongPathBeforeTheRun) {
  const ModelDirectory model = open();
  std::string longest = output_.string();
  // Room for ".model.tmp-", the longest name and ".tmp-", each with 32 digits.
  constexpr std::size_t kRoom = 3990;
  while (longest.size() < kRoom)
    longest.append("/").append(std::min<std::size_t>(200, kRoom - longest.size()), 'x');
  EXPECT_NO_THROW(OutputDirectory::check(longest, model, false));
  for (const std::size_t size : {4038, 4090, 5000}) {
    std::string path = longest;
    path.append("/").append(30, 'y');
    while (path.size() < size) path.append("/").append(std::min<std::size_t>(200, size - path.size()), 'z');
    EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, path), "too long")) << size;
  }
}

TEST_F(OutputDirectoryTest, OverwritingAgainWorks) {
  run(false, true);
  run(true, true);
  EXPECT_EQ(names_below(output_),
            (std::vector<std::string>{"config.json", "metrics.jsonl", "model.safetensors", "run.json",
                                      "tokenizer.json"}));
}

TEST_F(OutputDirectoryTest, ACrashedRunIsCleanedAway) {
  run(false, false);
  write_text(output_ / ".model.tmp-notours" / "x", "");
  const ModelDirectory model = open();
  EXPECT_NO_THROW(OutputDirectory::check(output_, model, false));
  OutputDirectory directory(output_, model, false);
  directory.begin();
  EXPECT_EQ(names_below(output_), (std::vector<std::string>{".model.tmp-notours", ".model.tmp-notours/x"}));
}

TEST_F(OutputDirectoryTest, AModelWithoutItsFinishedRecordStillNeedsOverwrite) {
  run(false, true);
  const ModelDirectory model = open();
  std::string record = read_text(output_ / "run.json");
  write_text(output_ / "run.json",
             record.replace(record.find("\"finished\": true"), 16, "\"finished\": false"));
  EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, output_), "--overwrite"));
}

TEST_F(OutputDirectoryTest, NeverTouchesWhatItDidNotWrite) {
  for (const std::string name : {"config.json", "tokenizer.json", "run.json", "metrics.jsonl",
                                 "model-00001-of-00002.safetensors", "model.safetensors"}) {
    fs::remove_all(output_);
    write_text(output_ / name, "{\"model_files\": 3, \"finished\": true}");
    for (const bool overwrite : {false, true}) {
      const std::string sentence = refusal(ExitCode::cannot_create, output_, overwrite);
      EXPECT_TRUE(contains(sentence, (output_ / name).string() + ": is there already")) << sentence;
    }
  }
  // A folder of a file's name, and a link that leads elsewhere, on the way.
  write_text(model_path_ / "sub" / "code.py", "x");
  for (const bool link : {false, true}) {
    fs::remove_all(output_);
    fs::create_directories(output_);
    fs::create_directories(folder_ / "elsewhere");
    link ? fs::create_directory_symlink(folder_ / "elsewhere", output_ / "sub")
         : write_text(output_ / "sub", "");
    EXPECT_TRUE(contains(refusal(ExitCode::cannot_create, output_, true), "sub/code.py: is there already"));
  }
}

TEST_F(OutputDirectoryTest, DistrustsTheListOfFiles) {
  write_text(folder_ / "victim", "x");
  write_text(folder_ / "elsewhere" / "victim", "x");
  fs::create_directories(output_ / "sub");
  fs::create_directory_symlink(folder_ / "elsewhere", output_ / "link");
  nlohmann::json record = {
      {"finished", true},
      {"model_files",
       {"../victim", (folder_ / "victim").string(), "sub/../../victim", "link/victim", "", "sub", "."}}};
  write_text(output_ / "run.json", record.dump());
  const ModelDirectory model = open();
  OutputDirectory directory(output_, model, true);
  sentence_of(ExitCode::cannot_create, [&] { directory.begin(); });  // a folder is no file of ours
  record["model_files"].erase(5);
  EXPECT_TRUE(fs::exists(folder_ / "victim"));
  EXPECT_TRUE(fs::exists(folder_ / "elsewhere" / "victim"));
  EXPECT_TRUE(fs::exists(output_ / "sub"));
}

TEST_F(OutputDirectoryTest, ComparesTheSpaceThatIsFree) {
  const ModelDirectory model = open();
  const OutputDirectory directory(output_, model, false);
  EXPECT_NO_THROW(
      directory.require_space(ModelWriter::bytes_needed(model, SideFiles::keep(model), std::nullopt)));
  const std::string sentence =
      sentence_of(ExitCode::cannot_create, [&] { directory.require_space(std::uint64_t{1} << 60); });
  EXPECT_TRUE(contains(sentence, "free, but the trained model takes 1048576.00 TiB")) << sentence;
}

TEST_F(OutputDirectoryTest, NeedsToReadWhatItWillCopy) {
  const ModelDirectory model = open();
  fs::remove(model_path_ / "tokenizer.json");
  EXPECT_TRUE(
      contains(sentence_of(ExitCode::missing_input, [&] { OutputDirectory::check(output_, model, false); }),
               "tokenizer.json"));
}

}  // namespace
}  // namespace autoglm
