#include "scripts/gpu_check/run_request.h"

#include <ATen/Parallel.h>

#include <cstring>

#include "base/bf16.h"
#include "trainer/ops/head.h"

namespace autoglm {
namespace {

using nlohmann::json;

template <typename T>
void read(const json& object, const char* key, std::optional<T>& value) {
  if (object.contains(key) && !object.at(key).is_null()) value = object.at(key).get<T>();
}

DeviceRequest parse_device(const std::string& name) {
  if (name == "cuda") return DeviceRequest::cuda;
  if (name == "cpu") return DeviceRequest::cpu;
  if (name != "auto") fail(ExitCode::usage, "\"{}\" is no device", name);
  return DeviceRequest::automatic;
}

StrategyPins parse_pins(const json& object) {
  StrategyPins pins;
  each_field([&](auto field) {
    using Value = typename decltype(field)::Value;
    const std::string key(field.name);
    if (!object.contains(key)) return;
    if (field.words.empty()) {
      pins.*field.pin = object.at(key).get<Value>();
      return;
    }
    const std::string name = object.at(key);
    const auto word = std::ranges::find(field.words, name, &Word<Value>::text);
    if (word == field.words.end()) fail(ExitCode::usage, "\"{}\" is no value of \"{}\"", name, key);
    pins.*field.pin = word->value;
  });
  return pins;
}

std::uint32_t digest_of(std::string_view text) {
  std::uint32_t hash = 2166136261u;  // FNV-1a
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 16777619u;
  return hash;
}

}  // namespace

RunRequest parse_run_request(const json& object) {
  RunRequest request;
  request.device = parse_device(object.value("device", "auto"));
  read(object, "memory_limit", request.memory_limit);
  read(object, "host_limit", request.host_limit);
  read(object, "fewest_layers", request.fewest_layers);
  request.config = object.at("config");
  request.precision = object.value("precision", "bf16") == "bf16" ? Precision::bf16 : Precision::fp32;
  request.row_length = object.value("row_length", request.row_length);
  request.rows = object.value("rows", request.rows);
  request.steps = object.value("steps", request.steps);
  request.seconds = object.value("seconds", request.seconds);
  request.plans = object.value("plans", false);
  request.hashes = object.value("hashes", false);
  request.bytes_only = object.value("bytes_only", false);
  request.pins = parse_pins(object.value("pins", json::object()));
  return request;
}

void load_random_weights(Engine& engine) {
  engine.state_access().load([](const std::string& name, std::int64_t offset, std::span<float> values) {
    const std::uint32_t key = mix_bits(digest_of(name));
    const bool norm = name.find("norm") != std::string::npos;
    const float center = norm ? 1.0f : 0.0f, scale = norm ? 0.1f : 0.035f;
    at::parallel_for(
        0, static_cast<std::int64_t>(values.size()), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const auto place = static_cast<std::uint64_t>(offset + i);
            const std::uint32_t bits = mix_bits(key ^ static_cast<std::uint32_t>(place) ^
                                                mix_bits(static_cast<std::uint32_t>(place >> 32)));
            const float uniform = static_cast<float>(bits >> 8) * 0x1p-23f - 1.0f;
            values[static_cast<std::size_t>(i)] = center + scale * uniform;
          }
        });
  });
}

RandomRow random_row(std::int64_t index, std::int64_t length, std::int64_t vocabulary,
                     std::int64_t document_length) {
  std::uint32_t state = mix_bits(static_cast<std::uint32_t>(index) + 0x9E3779B9u);
  const auto below = [&](std::int64_t limit) {
    state = mix_bits(state + 0x9E3779B9u);
    return static_cast<std::int64_t>(state % static_cast<std::uint64_t>(limit));
  };
  RandomRow row;
  std::int64_t left = 0;
  for (std::int64_t i = 0; i < length; ++i) {
    if (left == 0) {
      row.starts.push_back(static_cast<std::int32_t>(i));
      left = document_length > 0 ? document_length : 1 + below(std::max<std::int64_t>(2, length));
    }
    --left;
    const std::int32_t start = row.starts.back();
    const bool follows = i > start && below(10) < 8;
    row.positions.push_back(static_cast<std::int32_t>(i) - start);
    row.ids.push_back(static_cast<std::int32_t>(follows ? (row.ids.back() * std::int64_t{7} + 3) % vocabulary
                                                        : below(vocabulary)));
  }
  row.targets.assign(row.ids.size(), ops::kIgnoredTarget);
  for (std::size_t i = 0; i + 1 < row.ids.size(); ++i) {
    if (row.positions[i + 1] == 0) continue;
    row.targets[i] = row.ids[i + 1];
    ++row.supervised;
  }
  return row;
}

std::int64_t fill_micro_batch(MicroBatch& batch, std::int64_t number, int rank, int world_size,
                              std::int64_t vocabulary, std::int64_t document_length) {
  std::int64_t supervised = 0;
  for (std::int64_t slot = 0; slot < batch.rows.batch; ++slot) {
    const std::int64_t index = (number * world_size + rank) * batch.rows.batch + slot;
    const RandomRow row = random_row(index, batch.rows.length, vocabulary, document_length);
    batch.set_row(slot, row.ids, row.targets, row.positions, row.starts);
    supervised += row.supervised;
  }
  return supervised;
}

std::uint64_t weights_digest(Engine& engine) {
  std::uint64_t digest = 1469598103934665603u;  // FNV-1a over whole values
  engine.state_access().export_parameters(
      [](const std::string&) { return DType::float32; },
      [&](const std::string&, std::int64_t, std::span<const float> values) {
        for (const float value : values) {
          std::uint32_t bits = 0;
          std::memcpy(&bits, &value, sizeof bits);
          digest = (digest ^ bits) * 1099511628211u;
        }
      });
  return digest;
}

}  // namespace autoglm
