#include "checkpoint/model_directory.h"

#include <sys/stat.h>

#include "tests/checkpoint/model_fixture.h"

namespace autoglm {
namespace {

using namespace autoglm::testing;
using ::testing::Test;

class ModelDirectoryTest : public Test {
 protected:
  std::string refusal(ExitCode code) const {
    return sentence_of(code, [&] { ModelDirectory::open(model_); });
  }

  TemporaryFolder folder_;
  fs::path model_ = folder_ / "model";
};

TEST_F(ModelDirectoryTest, OpensOneFile) {
  write_single_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  EXPECT_EQ(model.config().json["hidden_size"], 4);
  EXPECT_EQ(model.config().text, kConfigText);
  EXPECT_FALSE(model.index());
  ASSERT_EQ(model.weight_files().size(), 1);
  ASSERT_NE(model.find("lm_head.weight").tensor, nullptr);
  EXPECT_EQ(model.find("lm_head.weight").tensor->shape, (std::vector<std::int64_t>{6, 4}));
  EXPECT_EQ(model.find("nothing").tensor, nullptr);
  ASSERT_EQ(model.other_files().size(), 1);
  EXPECT_EQ(model.other_files()[0].name, "tokenizer.json");
}

TEST_F(ModelDirectoryTest, ReadsEveryFloatTypeInParts) {
  write_sharded_model(model_);
  write_text(model_ / "model.safetensors.index.json", kIndexText);
  const ModelDirectory model = ModelDirectory::open(model_);
  ASSERT_TRUE(model.index());
  const std::vector<std::pair<std::string, std::vector<float>>> expected = {
      {"a", ramp(20, 0)}, {"c", ramp(8, 0)}, {"b", ramp(6, 1)}};
  for (const auto& [name, values] : expected) {
    for (std::size_t begin = 0; begin <= values.size(); ++begin) {
      for (std::size_t size = 0; begin + size <= values.size(); ++size) {
        std::vector<float> part(size);
        model.read_tensor(name, static_cast<std::int64_t>(begin), part);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), values.begin() + begin)) << name << begin << size;
      }
    }
    std::vector<float> beyond(values.size());
    EXPECT_THROW(model.read_tensor(name, 1, beyond), Error);
  }
  std::string raw(3, ' ');
  model.read_tensor_raw("a", 5, std::as_writable_bytes(std::span(raw)));
  EXPECT_EQ(raw, stored(ramp(20, 0), DType::bfloat16).substr(5, 3));
}

TEST_F(ModelDirectoryTest, ReadsTensorsBeyondTheBuffer) {
  write_text(model_ / "config.json", "{}");
  constexpr std::int64_t kSize = 5'000'001;
  write_weights(model_ / "model.safetensors",
                {spec("t", DType::bfloat16, {kSize}), spec("u", DType::float32, {3})});
  const ModelDirectory model = ModelDirectory::open(model_);
  std::vector<float> values(kSize - 1);
  model.read_tensor("t", 1, values);
  const std::vector<float> expected = ramp(kSize, 0);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.begin() + 1));
}

TEST_F(ModelDirectoryTest, RefusesWhatIsNotThere) {
  EXPECT_TRUE(contains(refusal(ExitCode::missing_input), "no such model directory"));
  write_text(model_, "a file");
  EXPECT_TRUE(contains(refusal(ExitCode::missing_input), "is not a directory"));
  fs::remove(model_);
  fs::create_directories(model_);
  EXPECT_TRUE(contains(refusal(ExitCode::missing_input), "holds no config.json"));
  write_text(model_ / "config.json", "{}");
  EXPECT_TRUE(contains(refusal(ExitCode::missing_input), "holds no weights"));
  fs::create_symlink("../../blobs/gone", model_ / "model.safetensors");
  EXPECT_TRUE(contains(refusal(ExitCode::missing_input), "model.safetensors: cannot be read"));
}

TEST_F(ModelDirectoryTest, RefusesWrongConfigs) {
  write_single_model(model_);
  write_text(model_ / "config.json", "{\n\"a\": tru}");
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "config.json:2:9: is not valid JSON"));
  write_text(model_ / "config.json", "[1]");
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "is not a JSON object"));
  write_text(model_ / "config.json", R"({"hidden_size": 4, "hidden_size": 8})");
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "\"hidden_size\" twice"));
  fs::remove(model_ / "config.json");
  fs::create_directory(model_ / "config.json");
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "not a regular file"));
}

TEST_F(ModelDirectoryTest, RefusesPickledWeightsWithTheWayOut) {
  write_text(model_ / "config.json", "{}");
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    write_text(model_ / name, "x");
    const std::string sentence = refusal(ExitCode::bad_data);
    EXPECT_TRUE(contains(sentence, name)) << sentence;
    EXPECT_TRUE(contains(sentence, "save_pretrained('" + model_.string() + "')")) << sentence;
    fs::remove(model_ / name);
  }
}

TEST_F(ModelDirectoryTest, RefusesIndexesThatReachOutside) {
  write_sharded_model(model_);
  write_weights(folder_ / "secret.safetensors", {spec("a", DType::bfloat16, {5, 4})});
  write_weights(model_ / "sub" / "s.safetensors", {spec("a", DType::bfloat16, {5, 4})});
  for (const std::string& name :
       {std::string("../secret.safetensors"), (folder_ / "secret.safetensors").string(),
        std::string("sub/s.safetensors"), std::string("./model-00001-of-00002.safetensors"),
        std::string(".."), std::string(""), std::string(".safetensors"), std::string("pytorch_model.bin"),
        std::string("model-00001-of-00002.safetensors/"), std::string("..\\\\secret.safetensors"),
        std::string("a\\u0000.safetensors")}) {
    write_text(model_ / "model.safetensors.index.json", "{\"weight_map\": {\"a\": \"" + name + "\"}}");
    EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "is not the plain name")) << name;
  }
  for (const char* map : {"{}", "[]", "3", R"({"a": 1})", R"({"a": null})"}) {
    write_text(model_ / "model.safetensors.index.json", std::string("{\"weight_map\": ") + map + "}");
    refusal(ExitCode::bad_data);
  }
  write_text(model_ / "model.safetensors.index.json", "{}");
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "weight_map"));
}

TEST_F(ModelDirectoryTest, RefusesIndexesThatDisagreeWithTheShards) {
  const std::string first = "model-00001-of-00002.safetensors";
  const std::string second = "model-00002-of-00002.safetensors";
  const std::vector<ExpectedTensor> expected = {{"a", {5, 4}}, {"b", {2, 3}}, {"c", {8}}};
  const auto disagreement = [&] {
    return sentence_of(ExitCode::bad_data, [&] { ModelDirectory::open(model_).check_tensors(expected); });
  };
  write_sharded_model(model_);
  write_weights(model_ / first, {spec("x", DType::bfloat16, {5, 4})});
  EXPECT_TRUE(contains(disagreement(), first + ": tensor a: is not there"));
  write_weights(model_ / first, {spec("a", DType::bfloat16, {5, 4}), spec("b", DType::bfloat16, {1})});
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "tensor b: is also in"));
  write_weights(model_ / first, {spec("a", DType::bfloat16, {5, 4}), spec("d", DType::bfloat16, {1})});
  EXPECT_TRUE(contains(disagreement(), first + ": holds 1 tensor that config.json has no place for: d"));
  write_weights(model_ / first, {spec("a", DType::bfloat16, {5, 4}), spec("c", DType::float16, {8})});
  write_weights(model_ / second, {spec("b", DType::float64, {2, 3})});
  EXPECT_TRUE(contains(disagreement(), second + ": tensor c: is not there"));
  fs::remove(model_ / second);
  EXPECT_TRUE(contains(refusal(ExitCode::missing_input), second + ": is not there"));
}

// Of an index, where the files are counts, and what it says of tensors that are asked for.
TEST_F(ModelDirectoryTest, PassesOverWhatIndexesSayOfOtherTensors) {
  const std::string first = "model-00001-of-00002.safetensors";
  const std::vector<ExpectedTensor> expected = {{"a", {5, 4}}, {"b", {2, 3}}, {"c", {8}}};
  write_sharded_model(model_);
  const auto map_with = [&](const nlohmann::json& changes) {
    nlohmann::json index = nlohmann::json::parse(kIndexText);
    index["weight_map"].merge_patch(changes);
    write_text(model_ / "model.safetensors.index.json", index.dump());
    return ModelDirectory::open(model_);
  };
  EXPECT_NO_THROW(map_with({{"layers.0.rotary_emb.inv_freq", first}}).check_tensors(expected));
  EXPECT_NO_THROW(map_with({{"lm_head.weight", first}}).check_tensors(expected));
  EXPECT_NO_THROW(map_with({{"c", nullptr}}).check_tensors(expected));
}

TEST_F(ModelDirectoryTest, RefusesTruncatedShards) {
  write_sharded_model(model_);
  const fs::path shard = model_ / "model-00002-of-00002.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  const std::string sentence = refusal(ExitCode::bad_data);
  EXPECT_TRUE(contains(sentence, shard.string())) << sentence;
  EXPECT_TRUE(contains(sentence, "truncated")) << sentence;
}

TEST_F(ModelDirectoryTest, NeverWaitsForAPipe) {
  write_single_model(model_);
  ASSERT_EQ(::mkfifo((model_ / "pipe").c_str(), 0600), 0);
  const ModelDirectory model = ModelDirectory::open(model_);
  EXPECT_EQ(describe_skipped(model.skipped_files()), "pipe (no regular file)");
  fs::remove(model_ / "model.safetensors");
  ASSERT_EQ(::mkfifo((model_ / "model.safetensors").c_str(), 0600), 0);
  EXPECT_TRUE(contains(refusal(ExitCode::bad_data), "not a regular file"));
}

TEST_F(ModelDirectoryTest, FollowsLinksToFiles) {
  write_sharded_model(folder_ / "blobs");
  fs::create_directories(model_);
  for (const auto& name : names_below(folder_ / "blobs"))
    fs::create_symlink(folder_ / "blobs" / name, model_ / name);
  EXPECT_EQ(ModelDirectory::open(model_).weight_files().size(), 2);
}

TEST_F(ModelDirectoryTest, SortsTheOtherFiles) {
  write_single_model(model_);
  for (const char* name :
       {"chat_template.jinja", ".gitattributes", "sub/deep/code.py", "vocab.bin", "run.json", "metrics.jsonl",
        "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "original/consolidated.00.pth",
        "original/params.json", "consolidated.safetensors", "model.safetensors.index.json", "q4.gguf",
        "checkpoint-10/a", ".git/HEAD", ".cache/x", "tf_model.h5"}) {
    write_text(model_ / name, name);
  }
  fs::create_directory_symlink(folder_.path(), model_ / "loop");
  fs::create_symlink("chat_template.jinja", model_ / "link.jinja");
  const ModelDirectory model = ModelDirectory::open(model_);
  std::vector<std::string> copied;
  for (const OtherFile& file : model.other_files()) {
    copied.push_back(file.name);
    EXPECT_EQ(file.bytes, fs::file_size(model_ / file.name));
  }
  EXPECT_EQ(copied, (std::vector<std::string>{".gitattributes", "chat_template.jinja", "link.jinja",
                                              "original/params.json", "sub/deep/code.py", "tokenizer.json",
                                              "vocab.bin"}));
  std::vector<std::string> skipped;
  for (const SkippedFile& file : model.skipped_files()) skipped.push_back(file.name);
  EXPECT_EQ(skipped,
            (std::vector<std::string>{".cache/", ".git/", "checkpoint-10/", "consolidated.safetensors",
                                      "loop/", "metrics.jsonl", "model.safetensors.index.json",
                                      "original/consolidated.00.pth", "pytorch_model-00001-of-00002.bin",
                                      "pytorch_model.bin.index.json", "q4.gguf", "run.json", "tf_model.h5"}));
  EXPECT_EQ(describe_skipped(model.skipped_files()),
            "consolidated.safetensors, model.safetensors.index.json, original/consolidated.00.pth, "
            "pytorch_model-00001-of-00002.bin, pytorch_model.bin.index.json, q4.gguf, tf_model.h5 (weights "
            "in another form); checkpoint-10/, metrics.jsonl, run.json (left by a training run); .cache/, "
            ".git/ (hidden folder); loop/ (link to a folder)");
}

// What contradicts whole trained weights stays behind, each for its reason; what belongs to them goes along.
TEST_F(ModelDirectoryTest, LeavesWhatBelongsToOtherWeights) {
  write_single_model(model_);
  const std::vector<std::pair<SkipReason, std::vector<std::string>>> left = {
      {SkipReason::of_an_adapter,
       {"adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "lora/adapter_config.json",
        "non_lora_trainables.bin", "value_head.safetensors"}},
      {SkipReason::of_a_run,
       {"all_results.json", "eval_results.json", "events.out.tfevents.17.host", "global_step30/", "latest",
        "optimizer.pt", "optimizer.bin", "random_states_0.pkl", "rng_state_3.pth", "runs/", "scheduler.pt",
        "train_results.json", "trainer_log.jsonl", "trainer_state.json", "training_args.bin",
        "training_loss.png", "wandb/", "zero_to_fp32.py"}},
      {SkipReason::other_weights,
       {"flax_model.msgpack", "ggml-model-q4_0.bin", "hf_quant_config.json", "model.fp16.safetensors",
        "model.bin", "onnx/model.onnx", "openvino_model.xml", "quantize_config.json", "rust_model.ot"}}};
  for (const auto& [reason, names] : left) {
    for (const std::string& name : names) write_text(model_ / (name.ends_with('/') ? name + "x" : name), "x");
  }
  const std::vector<std::string> kept = {"README.md",       "added_tokens.json",       "chat_template.jinja",
                                         "merges.txt",      "modeling_custom.py",      "optimizer.py",
                                         "tokenizer.model", "special_tokens_map.json", "vocab.json",
                                         "adapter.py",      "preprocessor_config.json"};
  for (const std::string& name : kept) write_text(model_ / name, "x");
  const ModelDirectory model = ModelDirectory::open(model_);
  std::map<std::string, SkipReason> skipped;
  for (const SkippedFile& file : model.skipped_files()) skipped.emplace(file.name, file.reason);
  std::size_t count = 0;
  const std::string said = describe_skipped(model.skipped_files());
  for (const auto& [reason, names] : left) {
    for (const std::string& name : names) {
      ASSERT_TRUE(skipped.contains(name)) << name;
      EXPECT_EQ(static_cast<int>(skipped.at(name)), static_cast<int>(reason)) << name;
      EXPECT_TRUE(contains(said, name)) << said;
    }
    count += names.size();
  }
  EXPECT_EQ(skipped.size(), count);
  EXPECT_EQ(model.other_files().size(), kept.size() + 1);
}

class CheckTensors : public ModelDirectoryTest {
 protected:
  std::string refusal(const std::vector<ExpectedTensor>& expected) const {
    return sentence_of(ExitCode::bad_data, [&] { ModelDirectory::open(model_).check_tensors(expected); });
  }
};

TEST_F(CheckTensors, TakesWhatIsExpectedAndIgnored) {
  write_single_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  const std::vector<ExpectedTensor> expected = {{"model.norm.weight", {4}}, {"lm_head.weight", {6, 4}}};
  const std::vector<std::string> ignored = {"model.embed.*", "id?"};
  EXPECT_NO_THROW(model.check_tensors(expected, ignored));
  // What is expected is checked even where a pattern names it.
  const std::vector<ExpectedTensor> wrong = {
      {"model.norm.weight", {4}}, {"lm_head.weight", {6, 4}}, {"ids", {4}}};
  EXPECT_THROW(model.check_tensors(wrong, ignored), Error);
}

TEST_F(CheckTensors, NamesThePrefixOfAWrapper) {
  const std::vector<ExpectedTensor> expected = {{"model.norm.weight", {4}}, {"lm_head.weight", {6, 4}}};
  for (const std::string prefix : {"module.", "_orig_mod.", "base_model.model.", "net._orig_mod."}) {
    write_text(model_ / "config.json", kConfigText);
    write_weights(model_ / "model.safetensors", {spec(prefix + "model.norm.weight", DType::bfloat16, {4}),
                                                 spec(prefix + "lm_head.weight", DType::float32, {6, 4})});
    EXPECT_TRUE(contains(refusal(expected), "the names of all tensors begin with \"" + prefix + "\""))
        << prefix;
  }
  write_weights(model_ / "model.safetensors", {spec("old.model.norm.weight", DType::bfloat16, {4}),
                                               spec("lm_head.weight", DType::float32, {6, 4})});
  EXPECT_TRUE(contains(refusal(expected), "missing: model.norm.weight"));
}

TEST_F(ModelDirectoryTest, ComparesValuesWhateverTheirDTypes) {
  write_text(model_ / "config.json", kConfigText);
  write_weights(
      model_ / "model.safetensors",
      {spec("a", DType::bfloat16, {3}), spec("b", DType::float32, {3}), spec("c", DType::float32, {4})});
  const ModelDirectory model = ModelDirectory::open(model_);
  EXPECT_TRUE(model.same_values("a", "a"));
  EXPECT_FALSE(model.same_values("a", "b"));
  EXPECT_FALSE(model.same_values("a", "c"));
}

TEST_F(CheckTensors, NamesWhatIsWrong) {
  write_single_model(model_);
  const std::string file = (model_ / "model.safetensors").string();
  EXPECT_EQ(refusal({{"model.norm.weight", {4}},
                     {"model.embed.weight", {6, 4}},
                     {"lm_head.weight", {6, 4}},
                     {"x1", {}},
                     {"x2", {}},
                     {"x3", {}},
                     {"x4", {}},
                     {"x5", {}}}),
            file + ": 5 tensors that config.json asks for are missing: x1, x2, x3 and 2 more");
  EXPECT_EQ(refusal({{"model.norm.weight", {4}}, {"model.embed.weight", {6, 4}}, {"ids2", {3}}}),
            file + ": 1 tensor that config.json asks for is missing: ids2");
  EXPECT_EQ(refusal({{"model.norm.weight", {4}}, {"model.embed.weight", {6, 4}}}),
            file +
                ": holds 2 tensors that config.json has no place for: lm_head.weight, ids; correct what "
                "config.json says of the model, or take them out of the file");
  EXPECT_EQ(refusal({{"model.norm.weight", {5}}, {"model.embed.weight", {4, 6}}, {"lm_head.weight", {6, 4}}}),
            file +
                ": 2 tensors are of another shape than config.json asks for: model.norm.weight is [4] "
                "instead of [5], "
                "model.embed.weight is [6, 4] instead of [4, 6]");
  EXPECT_TRUE(
      contains(refusal({{"ids", {3}}}), "tensor ids: has dtype I64, where F32, BF16, F16 or F64 is needed"));
}

TEST_F(CheckTensors, RefusesBytesAsFloats) {
  write_single_model(model_);
  const ModelDirectory model = ModelDirectory::open(model_);
  std::vector<float> values(3);
  EXPECT_TRUE(contains(sentence_of(ExitCode::bad_data, [&] { model.read_tensor("ids", 0, values); }),
                       "has dtype I64"));
}

}  // namespace
}  // namespace autoglm
