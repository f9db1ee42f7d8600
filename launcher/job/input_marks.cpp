#include "launcher/job/input_marks.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "checkpoint/fingerprint.h"
#include "checkpoint/step_store/checksum.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

template <typename Number>
void add(std::uint32_t& sum, std::span<const Number> numbers) {
  sum = crc32c(std::as_bytes(numbers), sum);
}

std::string mark_of(const Dataset& dataset) {
  std::uint32_t sum = 0;
  const SampleSet& samples = dataset.samples();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::uint64_t length = samples.length(i);
    add(sum, std::span<const std::uint64_t>(&length, 1));
    add(sum, samples.ids(i));
    const std::vector<std::int32_t> labels = samples.labels(i);
    add(sum, std::span<const std::int32_t>(labels));
  }
  add(sum, std::span<const std::uint32_t>(dataset.training()));
  return fmt::format("{:08x}", sum);
}

}  // namespace

InputMarks mark_inputs(const JobInputs& inputs, const Dataset& dataset, Communicator& ranks) {
  return run_agreed(ranks, [&] {
    InputMarks marks{mark_of(dataset), "", "", false};
    if (ranks.rank() != 0) return marks;
    marks.config = fingerprint_of_config(inputs.directory);
    marks.weights = fingerprint_of_weights(inputs.directory);
    marks.has_frozen = std::ranges::any_of(inputs.model.parameters(),
                                           [](const Parameter* one) { return !one->trainable(); });
    return marks;
  });
}

nlohmann::ordered_json to_json(const InputMarks& marks) {
  return {{"data", marks.data}, {"config", marks.config}, {"weights", marks.weights}};
}

}  // namespace autoglm
