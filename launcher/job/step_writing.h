// What one rank writes of a checkpoint.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/step_store/manifest.h"
#include "checkpoint/step_store/state_file.h"
#include "checkpoint/step_store/step_store.h"
#include "sharding/communicator.h"
#include "sharding/stream.h"
#include "trainer/engine/engine.h"

namespace autoglm {

// The checkpoint with the lowest validation loss.
struct BestCheckpoint {
  std::int64_t step = 0;
  double loss = 0;
};

// Stays where it is while it is written.
struct StepWriting {
  std::int64_t step = 0;
  std::optional<BestCheckpoint> best = {};  // this one, if it comes into place
  Manifest manifest = {};                   // on rank 0, without the files

  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::vector<SavedRun> runs = {};  // until they have been read
  Event read = {};                  // the states have been read
  std::atomic<bool> ended = false;  // this rank's file is whole and durable, or there is none
  // Valid once `ended`.
  StateFileRecord record = {};
  std::string failure = {};
  bool disk_full = false;
  // For who writes it.
  std::vector<StateRun> contents = {};
  std::optional<StateFileWriter> file = {};
};

// Begins to write what this rank holds to the store's aside of the step: the engine's saver reads, `files` writes.
// `fails`: as if the disk was full. All must outlive the writing.
void start_writing(StepWriting& writing, const StepStore& store, const Communicator& ranks, Engine& engine,
                   Stream& files, bool fails);

// A checkpoint of a step without its files, and without what the job says of the training.
Manifest make_manifest(const StepStore& store, const Engine& engine, std::int64_t step);

// A record as ranks tell it each other.
std::string to_text(const StateFileRecord& record);
StateFileRecord parse_record(const std::string& text);

}  // namespace autoglm
