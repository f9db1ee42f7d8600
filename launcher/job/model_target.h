// Where the trained model is written, on the rank that writes it.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/model_writer.h"
#include "checkpoint/output_directory.h"
#include "checkpoint/side_files.h"
#include "launcher/job/disk_patience.h"

namespace autoglm {

// How far the model is. The mutex is held while its files move, which is not to be cut short.
struct ModelPlacement {
  enum class State {
    aside,     // in the temporary folder, if at all
    moving,    // all files are durable, in the temporary folder or in their place
    kept,      // in the temporary folder, which stays
    in_place,  // whole
  };
  std::mutex mutex;
  State state = State::aside;
};

class ModelTarget {
 public:
  // Takes the room for the whole model now. `source`, `output` and `side_files` must outlive the target. Throws
  // what ModelWriter throws.
  ModelTarget(const ModelDirectory& source, OutputDirectory& output, const SideFiles& side_files,
              std::optional<DType> save_dtype, DiskPatience& patience, ModelPlacement& placement);

  ModelWriter& writer() { return *writer_; }

  // Of the model's bytes those for which no room is taken yet: all where the file system cannot reserve.
  std::uint64_t missing_bytes() const;

  // Puts the written model into place. Throws what ModelWriter::commit throws, and Error(cannot_create) where
  // something that no run wrote has taken one of its names meanwhile: the model then stays whole where it is.
  void commit();

  // Deals with a failure of writer() or commit(). Returns true when all of the model is to be written again,
  // into another writer(): room was missing and has come, or the folder was removed. Returns false when nothing
  // is left to do. Throws what cannot be mended, with the way to finish by hand where the weights are whole.
  bool recover(const std::exception_ptr& failure);

 private:
  bool has_room() const;
  bool wait_and_renew(const DiskFull& error);
  void renew();
  [[noreturn]] void give_up(const DiskFull& error);
  void keep();

  const ModelDirectory& source_;
  OutputDirectory& output_;
  const SideFiles& side_files_;
  std::optional<DType> save_dtype_;
  DiskPatience& patience_;
  ModelPlacement& placement_;
  std::unique_ptr<ModelWriter> writer_;
  int num_restored_ = 0;
};

}  // namespace autoglm
