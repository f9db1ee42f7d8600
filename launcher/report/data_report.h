// What autoglm-data says about a data set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

// Samples, tokens, supervised tokens, what is dropped or cut and why, rows and fill rate; several lines.
std::string format_data_summary(const Dataset& dataset);

// Bars for the lengths (in tokens, before truncation), at most `columns` wide. Lengths above `row_length` are
// marked.
std::string format_length_histogram(std::span<const std::uint32_t> lengths, std::int64_t row_length,
                                    int columns);

// One sample as text. Trained tokens are green where `color`, else in ⟦ ⟧; a label that differs from its
// token follows it behind an arrow. Control characters are made visible.
std::string format_sample(const Dataset& dataset, std::size_t index, const Tokenizer& tokenizer, bool color);

// {"ids": [...], "labels": [...]} and a line end.
std::string format_sample_json(const Dataset& dataset, std::size_t index);

}  // namespace autoglm
