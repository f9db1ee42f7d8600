// A model between its directory and the engine.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "checkpoint/model_directory.h"
#include "launcher/job/model_target.h"
#include "launcher/job/trained_model.h"
#include "trainer/engine/engine.h"

namespace autoglm {

// The configuration of the directory's model, which also knows how its tensors are named and whether its embeddings
// are tied in truth: they are not where the files hold another matrix for the head. Throws Error(bad_data).
ModelConfig model_config_of(const ModelDirectory& directory);

// Whether that configuration, against what config.json says, has a head apart from its embeddings.
bool has_head_of_its_own(const ModelDirectory& directory, const ModelConfig& config);

// Asserts that the directory holds exactly the model's tensors. Throws Error(bad_data).
void check_model_files(const ModelDirectory& directory, const Model& model);

// Freezes the parameters whose names match one of the patterns ('*', '?' and [...] as in a shell). Throws
// Error(usage) for a pattern that matches none, and when nothing is left to train.
void freeze_parameters(Model& model, std::span<const std::string> patterns);

// The narrowest dtype in which a trained parameter is written, where that rounds more than `precision` does;
// nothing where the weights are written as they are evaluated.
std::optional<DType> narrowest_saved(const Model& model,
                                     const std::function<DType(const std::string&)>& saved,
                                     Precision precision);

// Fills values of a parameter from one of its elements on; returns false where they are to come from elsewhere.
using WeightReader =
    std::function<bool(const std::string& name, std::int64_t offset, std::span<float> values)>;

// Reads what this rank holds of every parameter into the engine, a piece at a time: from `trained`, where that has
// it, else from the directory. Returns which tensors of which
// file hold values that are not finite, as far as this rank has read them; empty when there is none. Throws
// Error(not_finite) naming the tensor when the dtype in which it will be written cannot hold a value of it.
std::string load_weights(const ModelDirectory& directory, Engine& engine, std::optional<DType> save_dtype,
                         const WeightReader& trained = {});

// The dtype in which the model's tensors are written.
std::function<DType(const std::string&)> saved_dtypes(const ModelDirectory& directory,
                                                      std::optional<DType> save_dtype);

// The tensors of the directory that repeat one of the model's parameters.
TensorCopies copies_in(const ModelDirectory& directory, const Model& model);

// Writes the trained model to `target`, which rank 0 alone has. Collective: rank 0 writes, the others hand over
// what they hold, once more where the target asks for it. Frozen parameters and other tensors are copied. Throws
// what ModelTarget::recover throws, on rank 0 only and after the last collective.
void write_model(const ModelDirectory& directory, Engine& engine, ModelTarget* target,
                 std::optional<DType> save_dtype, Communicator& ranks);

}  // namespace autoglm
