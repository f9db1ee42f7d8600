// What may differ between a run and the one that it goes on from.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/step_store/manifest.h"

namespace autoglm {

enum class ChangeEffect {
  none,       // the trained model is the same to the bit
  last_bits,  // sums are taken in another order or width
  result,     // another training
};

struct OptionChange {
  std::string option;  // "learning-rate"
  std::string before, now;
  ChangeEffect effect = ChangeEffect::result;
};

// The options, as TrainOptions' to_json() spells them, whose values differ and are of any effect, in the order of
// `now`. An option that `before` lacks, being older, counts as it is now.
std::vector<OptionChange> option_changes(const nlohmann::ordered_json& before,
                                         const nlohmann::ordered_json& now);

// Asserts that what a checkpoint's manifest says of its training has what a job reads of it when it goes on; `source`
// names the manifest. Throws Error(bad_data).
void check_training_record(const nlohmann::ordered_json& training, const std::string& source);

// "--learning-rate was 1e-05 and is 0.0001; ..."
std::string describe_changes(const std::vector<OptionChange>& changes);

// Asserts that the kinds of states are those of a job: master weights in fp32, and both moments or none, of one type.
// Throws Error(bad_data).
void check_kinds(const Manifest& manifest, const std::string& source);

}  // namespace autoglm
