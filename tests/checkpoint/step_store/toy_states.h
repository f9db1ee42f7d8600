// States of a model of three small tensors, which say of themselves what they are, and ranks that save them.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/step_store/checkpoint_reader.h"
#include "checkpoint/step_store/step_store.h"

namespace autoglm::testing {

inline const std::string kToyRun = "0123456789abcdef0123456789abcdef";

struct ToyStates {
  std::vector<Manifest::Parameter> parameters = {
      {"a.weight", {7, 5}}, {"b.bias", {3}}, {"c.weight", {4, 2, 3}}};
  std::vector<Manifest::Kind> kinds = {
      {"master", DType::float32}, {"moment1", DType::bfloat16}, {"moment2", DType::float32}};
  std::string run = kToyRun;

  // Bytes of a kind of a parameter after a step: no two are alike.
  std::string bytes_of(const Manifest::Kind& kind, const Manifest::Parameter& parameter,
                       std::int64_t step) const {
    std::uint32_t state = 2166136261U;
    for (const char c : kind.name + parameter.name + std::to_string(step))
      state = (state ^ static_cast<unsigned char>(c)) * 16777619U;
    std::string bytes(static_cast<std::size_t>(parameter.num_elements()) * dtype_size(kind.dtype), '\0');
    for (char& byte : bytes) {
      state = state * 1664525U + 1013904223U;
      byte = static_cast<char>(state >> 24);
    }
    return bytes;
  }

  // What one of `ranks` holds: of every parameter the part that is its turn.
  std::vector<StateRun> runs_of(int rank, int ranks) const {
    std::vector<StateRun> runs;
    for (const Manifest::Kind& kind : kinds) {
      for (const Manifest::Parameter& parameter : parameters) {
        const std::int64_t all = parameter.num_elements();
        const std::int64_t begin = all * rank / ranks, end = all * (rank + 1) / ranks;
        if (begin < end) runs.push_back({kind.name, parameter.name, begin, end - begin, kind.dtype});
      }
    }
    return runs;
  }

  StateFileRecord save(const StepStore& store, std::int64_t step, int rank, int ranks) const {
    store.create_aside(step);
    const std::vector<StateRun> runs = runs_of(rank, ranks);
    StateFileWriter writer(store.aside_of(step), state_file_name(rank, ranks), runs,
                           {{"run", run}, {"step", std::to_string(step)}});
    for (const StateRun& one : runs) {
      const Manifest::Kind kind{one.kind, one.dtype};
      const std::string all = bytes_of(kind, parameter_named(one.parameter), step);
      const std::size_t width = dtype_size(one.dtype);
      writer.append(as_bytes(all).subspan(static_cast<std::size_t>(one.offset) * width, one.bytes()));
    }
    return writer.finish();
  }

  Manifest manifest_of(std::int64_t step, std::vector<StateFileRecord> files) const {
    return {run, step, "2026-03-01T12:34:56Z", kinds, parameters, std::move(files), {{"epoch", 1}}};
  }

  // All ranks one after the other.
  void save_whole(const StepStore& store, std::int64_t step, int ranks) const {
    std::vector<StateFileRecord> files;
    for (int rank = 0; rank < ranks; ++rank) files.push_back(save(store, step, rank, ranks));
    store.commit(manifest_of(step, std::move(files)));
  }

  // Whether a checkpoint that can be opened and verified holds exactly this; else throws or returns false.
  bool is_whole(const std::filesystem::path& folder, std::int64_t step) const {
    const CheckpointReader reader = CheckpointReader::open(folder);
    reader.verify(0, 1);
    if (reader.manifest().step != step) return false;
    for (const Manifest::Kind& kind : kinds) {
      for (const Manifest::Parameter& parameter : parameters) {
        const std::string expected = bytes_of(kind, parameter, step);
        std::string read(expected.size(), '\0');
        reader.read(kind.name, parameter.name, 0, std::as_writable_bytes(std::span(read)));
        if (read != expected) return false;
      }
    }
    return true;
  }

  const Manifest::Parameter& parameter_named(const std::string& name) const {
    for (const Manifest::Parameter& one : parameters)
      if (one.name == name) return one;
    AUTOGLM_CHECK(false, "{}", name);
  }
};

// What is wrong with a checkpoint; nothing where it is whole.
inline std::string failure_of(const std::filesystem::path& folder) {
  try {
    CheckpointReader::open(folder).verify(0, 1);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace autoglm::testing
