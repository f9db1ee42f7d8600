#include "checkpoint/model_writer.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include "checkpoint/directory_listing.h"
#include "tests/checkpoint/model_fixture.h"

namespace autoglm {
namespace {

using namespace autoglm::testing;
using ::testing::Test;

class ModelWriterTest : public Test {
 protected:
  ModelWriterTest() { fs::create_directories(output_); }

  // Writes every floating tensor from its fp32 values in odd parts, last part first, and copies the rest.
  static void rewrite(const ModelDirectory& model, ModelWriter& writer) {
    for (const SafetensorsFile& file : model.weight_files()) {
      for (const SafetensorsTensor& tensor : file.tensors()) {
        if (!tensor.dtype.dtype || !is_floating(*tensor.dtype.dtype)) {
          writer.copy_tensor(tensor.name);
          continue;
        }
        for (std::int64_t begin = (tensor.num_elements() - 1) / 3 * 3; begin >= 0; begin -= 3) {
          std::vector<float> values(std::min<std::int64_t>(3, tensor.num_elements() - begin));
          model.read_tensor(tensor.name, begin, values);
          writer.write(tensor.name, begin, values);
        }
      }
    }
  }

  static void copy(const ModelDirectory& model, ModelWriter& writer) {
    for (const SafetensorsFile& file : model.weight_files()) {
      for (const SafetensorsTensor& tensor : file.tensors()) writer.copy_tensor(tensor.name);
    }
  }

  void expect_same_files() const {
    ASSERT_EQ(names_below(output_), names_below(model_));
    for (const std::string& name : names_below(model_)) {
      if (fs::is_regular_file(model_ / name)) {
        EXPECT_EQ(read_text(output_ / name), read_text(model_ / name)) << name;
      }
    }
  }

  TemporaryFolder folder_;
  fs::path model_ = folder_ / "model";
  fs::path output_ = folder_ / "output";
};

TEST_F(ModelWriterTest, UnchangedModelsComeBackToTheByte) {
  for (const auto& write : {write_single_model, write_sharded_model}) {
    for (const auto& fill : {rewrite, copy}) {
      fs::remove_all(model_);
      fs::remove_all(output_);
      fs::create_directories(output_);
      write(model_);
      write_text(model_ / "sub" / "deep" / "code.py", "print(1)\r\n");
      const ModelDirectory model = ModelDirectory::open(model_);
      const SideFiles files = SideFiles::keep(model);
      ModelWriter writer(model, files, output_ / "", std::nullopt);
      fill(model, writer);
      writer.commit();
      expect_same_files();
    }
  }
}

TEST_F(ModelWriterTest, KeepsAForeignHeader) {
  write_text(model_ / "config.json", "{}");
  const std::string header =
      "{ \"t\" : {\"shape\":[2], \"data_offsets\":[0,4],\t\"dtype\":\"F16\"}, \"__metadata__\": {\"by\": "
      "\"hand\"} }     ";
  write_text(model_ / "model.safetensors", safetensors_bytes(header, "abcd"));
  const ModelDirectory model = ModelDirectory::open(model_);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output_, DType::float16);
  writer.copy_tensor("t");
  writer.commit();
  expect_same_files();
}

TEST_F(ModelWriterTest, ConvertsToTheSaveDtype) {
  write_sharded_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  for (const auto& [dtype, name, total] :
       {std::tuple(DType::float32, "float32", "136"), std::tuple(DType::float16, "float16", "68")}) {
    fs::remove_all(output_);
    fs::create_directories(output_);
    const SideFiles files = SideFiles::keep(model);
    ModelWriter writer(model, files, output_, dtype);
    if (dtype == DType::float32) {
      rewrite(model, writer);
    } else {
      copy(model, writer);
    }
    writer.commit();
    const ModelDirectory written = ModelDirectory::open(output_);
    for (const auto& [tensor, size, start] :
         {std::tuple("a", 20, 0), std::tuple("c", 8, 0), std::tuple("b", 6, 1)}) {
      EXPECT_EQ(written.find(tensor).tensor->dtype.dtype, dtype);
      EXPECT_EQ(written.find(tensor).tensor->shape, model.find(tensor).tensor->shape);
      EXPECT_EQ(written.find(tensor).file, model.find(tensor).file);
      std::vector<float> values(size);
      written.read_tensor(tensor, 0, values);
      EXPECT_EQ(values, ramp(size, start)) << tensor;
    }
    std::string config = kConfigText;
    EXPECT_EQ(read_text(output_ / "config.json"), config.replace(config.find("bfloat16"), 8, name));
    std::string index = kIndexText;
    EXPECT_EQ(read_text(output_ / "model.safetensors.index.json"),
              index.replace(index.find("104"), 3, total));
  }
}

TEST_F(ModelWriterTest, ChangesOnlyTheDtypeOfTheConfig) {
  write_single_model(model_);
  const std::string config =
      "{\"text_config\": {\"dtype\": \"bfloat16\"}, \"dtype\":\n\"float32\", \"torch_dtype\": null, \"x\": "
      "\"dtype\"}";
  write_text(model_ / "config.json", config);
  const ModelDirectory model = ModelDirectory::open(model_);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output_, DType::bfloat16);
  rewrite(model, writer);
  writer.commit();
  EXPECT_EQ(read_text(output_ / "config.json"),
            "{\"text_config\": {\"dtype\": \"bfloat16\"}, \"dtype\":\n\"bfloat16\", \"torch_dtype\": "
            "\"bfloat16\", \"x\": "
            "\"dtype\"}");
  const ModelDirectory written = ModelDirectory::open(output_);
  EXPECT_EQ(written.find("ids").tensor->dtype.dtype, DType::int64);
  EXPECT_EQ(written.find("lm_head.weight").tensor->dtype.dtype, DType::bfloat16);
}

TEST_F(ModelWriterTest, TakesStoredValuesOfAnyFloatType) {
  write_sharded_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output_, std::nullopt);
  // NaN payloads and signed zeros show whether bytes of the same type pass through.
  const std::string bits("\x81\x7F\x81\xFF\x00\x80\x34\x12", 8);
  const std::vector<float> others = ramp(16, 3);
  writer.write("a", 0, DType::bfloat16, as_bytes(bits));
  writer.write("a", 4, DType::float32, std::as_bytes(std::span(others)));
  const std::string halves = stored(ramp(6, 5), DType::float16);
  writer.write("b", 0, DType::float16, as_bytes(halves));
  writer.copy_tensor("c");
  EXPECT_EQ(writer.stored_dtype("b").dtype, DType::float64);
  writer.commit();
  const ModelDirectory written = ModelDirectory::open(output_);
  std::string raw(8, ' ');
  written.read_tensor_raw("a", 0, std::as_writable_bytes(std::span(raw)));
  EXPECT_EQ(raw, bits);
  std::vector<float> rest(16);
  written.read_tensor("a", 4, rest);
  EXPECT_EQ(rest, ramp(16, 3));
  std::vector<float> doubles(6);
  written.read_tensor("b", 0, doubles);
  EXPECT_EQ(doubles, ramp(6, 5));
}

TEST_F(ModelWriterTest, ConvertsTensorsBeyondTheBuffer) {
  write_text(model_ / "config.json", "{}");
  constexpr std::int64_t kSize = 2'500'003;
  write_weights(model_ / "model.safetensors",
                {spec("t", DType::float32, {kSize}), spec("u", DType::float64, {kSize})});
  const ModelDirectory model = ModelDirectory::open(model_);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output_, DType::bfloat16);
  writer.copy_tensor("t");
  writer.write("u", 0, ramp(kSize, 9));
  writer.commit();
  const ModelDirectory written = ModelDirectory::open(output_);
  std::vector<float> values(kSize);
  written.read_tensor("t", 0, values);
  EXPECT_TRUE(values == ramp(kSize, 0));
  written.read_tensor("u", 0, values);
  EXPECT_TRUE(values == ramp(kSize, 9));
}

// Of every dtype that is written, from fp32 and from values as they are stored.
TEST_F(ModelWriterTest, RefusesWhatTheDtypeCannotHold) {
  write_sharded_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output_, DType::float16);
  writer.write("c", 0, std::vector<float>{1, 65504, -65519, 5});
  std::string sentence = sentence_of(ExitCode::not_finite, [&] {
    writer.write("c", 4, std::vector<float>{1e6F, -7e4F, INFINITY, 5});
  });
  EXPECT_TRUE(contains(sentence, "tensor c: at least 2 values would become infinite, because fp16")) << sentence;
  EXPECT_TRUE(contains(sentence, "--save-dtype bf16 or fp32")) << sentence;
  sentence = sentence_of(ExitCode::not_finite, [&] { writer.write("a", 0, std::vector<float>{65536}); });
  EXPECT_TRUE(contains(sentence, "tensor a: at least 1 value would")) << sentence;
  const double large = 1e300;
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    const SideFiles side_files = SideFiles::keep(model);
    ModelWriter other(model, side_files, output_, dtype);
    const float most = 3.4e38F;  // rounds up to infinity in bf16
    if (dtype == DType::bfloat16)
      sentence_of(ExitCode::not_finite, [&] { other.write("a", 0, std::vector<float>{most}); });
    sentence = sentence_of(ExitCode::not_finite,
                           [&] { other.write("b", 0, DType::float64, std::as_bytes(std::span(&large, 1))); });
    EXPECT_TRUE(contains(sentence, "tensor b: at least 1 value")) << sentence;
  }
}

// What happens to the model's folder after the files were kept does not matter.
TEST_F(ModelWriterTest, WritesTheFilesAsTheyWereKept) {
  write_sharded_model(model_);
  write_text(model_ / "tokenizer.json", "{\"t\": 1}");
  write_text(model_ / "chat_template.jinja", "{{ x }}");
  write_text(model_ / "sub" / "code.py", "print(1)");
  write_text(model_ / "large.json", std::string(65 << 20, ' '));
  const ModelDirectory model = ModelDirectory::open(model_);
  const SideFiles files = SideFiles::keep(model);
  ModelWriter writer(model, files, output_, std::nullopt);
  write_text(model_ / "tokenizer.json", "another");
  fs::remove(model_ / "chat_template.jinja");
  fs::remove(model_ / "large.json");
  fs::remove_all(model_ / "sub");
  copy(model, writer);
  writer.commit();
  EXPECT_EQ(read_text(output_ / "tokenizer.json"), "{\"t\": 1}");
  EXPECT_EQ(read_text(output_ / "chat_template.jinja"), "{{ x }}");
  EXPECT_EQ(read_text(output_ / "sub" / "code.py"), "print(1)");
  EXPECT_EQ(fs::file_size(output_ / "large.json"), std::uintmax_t{65} << 20);
}

TEST_F(ModelWriterTest, WritesFilesThatWereChanged) {
  write_single_model(model_);
  write_text(model_ / "extra" / "a.txt", "a");
  const ModelDirectory model = ModelDirectory::open(model_);
  SideFiles files = SideFiles::keep(model);
  files.set("new.txt", "new");
  files.set("config.json", "{\"dtype\": \"bfloat16\"}");
  files.remove("extra/");
  EXPECT_EQ(files.names(), (std::vector<std::string>{"new.txt", "tokenizer.json", "config.json"}));
  ModelWriter writer(model, files, output_, DType::float32);
  copy(model, writer);
  writer.commit();
  EXPECT_EQ(names_below(output_),
            (std::vector<std::string>{"config.json", "model.safetensors", "new.txt", "tokenizer.json"}));
  EXPECT_EQ(read_text(output_ / "config.json"), "{\"dtype\": \"float32\"}");
}

TEST_F(ModelWriterTest, SaysHowMuchItWillWrite) {
  write_sharded_model(model_);
  write_text(model_ / "sub" / "x", "12345");
  const ModelDirectory model = ModelDirectory::open(model_);
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::float32)}) {
    fs::remove_all(output_);
    fs::create_directories(output_);
    const SideFiles files = SideFiles::keep(model);
    ModelWriter writer(model, files, output_, dtype);
    copy(model, writer);
    writer.commit();
    std::uint64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(output_)) {
      if (entry.is_regular_file()) bytes += entry.file_size();
    }
    EXPECT_EQ(ModelWriter::bytes_needed(model, SideFiles::keep(model), dtype), bytes);
  }
}

TEST_F(ModelWriterTest, LeavesNothingWhenItIsNotCommitted) {
  write_single_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  {
    const SideFiles files = SideFiles::keep(model);
    ModelWriter writer(model, files, output_, std::nullopt);
    EXPECT_FALSE(names_below(output_).empty());
  }
  EXPECT_TRUE(names_below(output_).empty());
  {
    const SideFiles files = SideFiles::keep(model);
    ModelWriter writer(model, files, output_, std::nullopt);
    writer.copy_tensor("ids");
    const std::string sentence = sentence_of(ExitCode::bug, [&] { writer.commit(); });
    EXPECT_TRUE(contains(sentence, "model.norm.weight was never written at byte 0")) << sentence;
  }
  EXPECT_TRUE(names_below(output_).empty());
  {
    const SideFiles files = SideFiles::keep(model);
    ModelWriter writer(model, files, output_, std::nullopt);
    copy(model, writer);
    write_text(writer.aside() / "tokenizer.json" / "in the way", "");
    sentence_of(ExitCode::cannot_create, [&] { writer.commit(); });
  }
  EXPECT_TRUE(names_below(output_).empty());
  sentence_of(ExitCode::cannot_create,
              [&] { ModelWriter(model, SideFiles::keep(model), folder_ / "none", std::nullopt); });
}

TEST_F(ModelWriterTest, AFailedMoveLosesNothingAndGoesOn) {
  for (const bool goes_on : {false, true}) {
    fs::remove_all(output_);
    fs::create_directories(output_);
    write_sharded_model(model_);
    write_text(model_ / "tokenizer.json", "{}");
    write_text(output_ / "config.json", "of an earlier model");
    write_text(output_ / "tokenizer.json" / "in the way", "");
    const ModelDirectory model = ModelDirectory::open(model_);
    {
      const SideFiles files = SideFiles::keep(model);
      ModelWriter writer(model, files, output_, std::nullopt);
      copy(model, writer);
      const std::string sentence = sentence_of(ExitCode::io_failed, [&] { writer.commit(); });
      EXPECT_TRUE(contains(sentence, "nothing is lost")) << sentence;
      EXPECT_TRUE(writer.publishing());
      if (goes_on) {
        fs::remove_all(output_ / "tokenizer.json");
        writer.commit();
      }
    }
    if (goes_on) return expect_same_files();
    EXPECT_FALSE(fs::exists(output_ / "config.json"));
    std::vector<std::string> found;
    for (const std::string& path : names_below(output_)) found.push_back(fs::path(path).filename().string());
    for (const std::string& name : model.file_names()) {
      EXPECT_NE(std::find(found.begin(), found.end(), name), found.end()) << name;
    }
  }
}

// Kills a program that writes the model again and again, at any moment.
TEST_F(ModelWriterTest, AKilledWriterLeavesAWholeModelOrNone) {
  write_sharded_model(model_);
  for (int i = 0; i < 10; ++i) write_text(model_ / ("file" + std::to_string(i)), "contents");
  std::mt19937 random(13);
  int whole = 0;
  for (int round = 0; round < 30; ++round) {
    fs::remove_all(output_);
    fs::create_directories(output_);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const ModelDirectory model = ModelDirectory::open(model_);
      for (;;) {
        const SideFiles files = SideFiles::keep(model);
        ModelWriter writer(model, files, output_, std::nullopt);
        copy(model, writer);
        writer.commit();
      }
    }
    // Every second time it is killed while it replaces a model.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (round % 2 == 1 && !fs::exists(output_ / "config.json") &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    if (!fs::exists(output_ / "config.json")) continue;
    ++whole;
    const ModelDirectory model = ModelDirectory::open(model_);
    for (const std::string& name : model.file_names()) {
      ASSERT_EQ(read_text(output_ / name), read_text(model_ / name)) << name;
    }
  }
  EXPECT_GT(whole, 0);
  RecordProperty("whole", whole);
}

}  // namespace
}  // namespace autoglm
