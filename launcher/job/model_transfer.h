// A model between its directory and the engine.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "checkpoint/model_directory.h"
#include "checkpoint/model_writer.h"
#include "trainer/engine/engine.h"

namespace autoglm {

// The configuration of the directory's model, which also knows what stands before the names of its tensors.
// Throws Error(bad_data).
ModelConfig model_config_of(const ModelDirectory& directory);

// Asserts that the directory holds exactly the model's tensors. Throws Error(bad_data).
void check_model_files(const ModelDirectory& directory, const Model& model);

// Freezes the parameters whose names match one of the patterns ('*', '?' and [...] as in a shell). Throws
// Error(usage) for a pattern that matches none, and when nothing is left to train.
void freeze_parameters(Model& model, std::span<const std::string> patterns);

// Reads what this rank holds of every parameter into the engine, a piece at a time.
void load_weights(const ModelDirectory& directory, Engine& engine);

// The dtype in which the model's tensors are written.
std::function<DType(const std::string&)> saved_dtypes(const ModelDirectory& directory,
                                                      std::optional<DType> save_dtype);

// Writes the trained model in the directory's layout. Collective: rank 0 writes, the others hand over what
// they hold. Frozen parameters and other tensors are copied. Throws what ModelWriter throws, on rank 0 only
// and after the last collective.
void write_model(const ModelDirectory& directory, Engine& engine, const std::filesystem::path& output,
                 std::optional<DType> save_dtype, bool writes);

}  // namespace autoglm
