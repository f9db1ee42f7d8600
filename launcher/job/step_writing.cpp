#include "launcher/job/step_writing.h"

#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

std::string_view kind_name(SavedKind kind) {
  constexpr std::string_view names[] = {"master", "moment1", "moment2"};
  return names[static_cast<std::size_t>(kind)];
}

std::vector<StateRun> state_runs(const std::vector<SavedRun>& runs) {
  std::vector<StateRun> result;
  result.reserve(runs.size());
  for (const SavedRun& run : runs) {
    result.push_back(
        {std::string(kind_name(run.kind)), run.parameter->name(), run.offset, run.values.numel(), run.dtype});
  }
  return result;
}

void set_failure(StepWriting& writing, const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    writing.failure = error.what();
    writing.disk_full = dynamic_cast<const DiskFull*>(&error) != nullptr;
  }
}

}  // namespace

void start_writing(StepWriting& writing, const StepStore& store, const Communicator& ranks, Engine& engine,
                   Stream& files, bool fails) {
  writing.runs = engine.state_access().runs_to_save();
  writing.contents = state_runs(writing.runs);
  const auto open = [&writing, &store, fails, name = state_file_name(ranks.rank(), ranks.size())] {
    store.create_aside(writing.step);
    if (fails)
      fail_system(ExitCode::io_failed, store.aside_of(writing.step) / name, "cannot be written", ENOSPC);
    writing.file.emplace(store.aside_of(writing.step), name, writing.contents,
                         std::map<std::string, std::string>{
                             {"format", "pt"}, {"run", store.run()}, {"step", std::to_string(writing.step)}});
  };
  writing.read = engine.saver().start(
      writing.runs,
      [&writing, open](std::span<const std::byte> bytes) {
        if (!writing.file) open();
        writing.file->append(bytes);
      },
      [&writing](const std::exception_ptr& failure) {
        if (failure) set_failure(writing, failure);
      });
  files.wait(writing.read);
  files.submit([&writing, open] {
    try {
      // A rank may hold nothing: its file says so.
      if (writing.failure.empty() && !writing.file) open();
      if (writing.failure.empty()) writing.record = writing.file->finish();
    } catch (...) {
      set_failure(writing, std::current_exception());
    }
    writing.file.reset();
    writing.ended = true;
  });
}

Manifest make_manifest(const StepStore& store, const Engine& engine, std::int64_t step) {
  Manifest manifest;
  manifest.run = store.run();
  manifest.step = step;
  manifest.kinds.push_back({"master", DType::float32});
  bool has_moments = false;
  for (std::size_t i = 0; i < engine.num_blocks(); ++i) {
    const BlockState& state = engine.block_state(i);
    has_moments = has_moments || (state.trainable() && state.stepped);
    for (const Parameter& parameter : state.block->parameters())
      if (parameter.trainable()) manifest.parameters.push_back({parameter.name(), parameter.spec().shape});
  }
  const DType moments = engine.options().strategy.bf16_moments ? DType::bfloat16 : DType::float32;
  if (has_moments) manifest.kinds.insert(manifest.kinds.end(), {{"moment1", moments}, {"moment2", moments}});
  return manifest;
}

std::string to_text(const StateFileRecord& record) {
  return nlohmann::json{{"name", record.name}, {"bytes", record.bytes}, {"checksums", record.checksums}}
      .dump();
}

StateFileRecord parse_record(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {json["name"].get<std::string>(), json["bytes"].get<std::uint64_t>(),
          json["checksums"].get<std::vector<std::uint32_t>>()};
}

}  // namespace autoglm
