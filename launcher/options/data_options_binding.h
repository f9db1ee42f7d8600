// The options about data that autoglm-train and autoglm-data share.
#pragma once

#include "launcher/options/option_table.h"
#include "trainer/data/data_options.h"

namespace autoglm {

// Adds --data to the current group. `options` is bound by reference.
void bind_data_files(OptionTable& table, DataOptions& options);

// Adds --template, --sequence-length, --validation, --loss-on, --eot, --packing and --overlong to the current
// group. `options` is bound by reference.
void bind_data_options(OptionTable& table, DataOptions& options);

// Adds --seed to the current group.
void bind_seed(OptionTable& table, std::uint64_t& seed);

}  // namespace autoglm
