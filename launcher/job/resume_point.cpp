#include "launcher/job/resume_point.h"

#include <ATen/ops/from_blob.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "checkpoint/step_store/step_store.h"
#include "launcher/job/resume_rules.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 20;  // elements

// The sentence of the lowest rank that could not use it; empty where all could. Collective.
std::string try_checkpoint(const std::filesystem::path& folder, Communicator& ranks,
                           std::optional<CheckpointReader>& reader) {
  std::string problem;
  try {
    reader = CheckpointReader::open(folder);
    reader->verify(ranks.rank(), ranks.size());
    check_training_record(reader->manifest().training, (folder / kManifestName).string());
  } catch (const Error& error) {
    problem = error.what();
  }
  for (const std::string& one : gather_text(ranks, problem))
    if (!one.empty()) return one;
  return "";
}

// Folders to be tried, as rank 0 sees them. Collective.
std::vector<std::filesystem::path> candidates(const TrainOptions& options, Communicator& ranks) {
  if (options.saving.resume != "auto") return {options.saving.resume};
  const std::string mine = run_agreed(ranks, [&] {
    std::string paths;
    if (ranks.rank() == 0)
      for (const StepFolder& one : list_step_folders(checkpoint_directory(options)))
        paths += one.path.string() + '\n';
    return paths;
  });
  std::vector<std::filesystem::path> folders;
  const std::string paths = gather_text(ranks, mine).front();
  for (std::size_t begin = 0, end; (end = paths.find('\n', begin)) != std::string::npos; begin = end + 1)
    folders.emplace_back(paths.substr(begin, end - begin));
  return folders;
}

void check_changes(const TrainOptions& options, const ResumePoint& point, bool speaks) {
  std::vector<OptionChange> refused, bits;
  const auto& allowed = options.saving.allow_changes;
  for (OptionChange& change : option_changes(point.training().at("options"), to_json(options))) {
    const bool is_allowed = std::ranges::find(allowed, change.option) != allowed.end();
    if (change.effect == ChangeEffect::last_bits)
      bits.push_back(std::move(change));
    else if (!is_allowed)
      refused.push_back(std::move(change));
  }
  if (!refused.empty()) {
    fail(ExitCode::cannot_create,
         "{}: this is another training than that of the checkpoint: {}; give the same options to go on, "
         "--allow-change {} to go on with the new value, --resume never to begin anew, or another --output",
         point.checkpoint.folder().string(), describe_changes(refused), refused.front().option);
  }
  if (!bits.empty() && speaks)
    spdlog::warn("last bits will differ from a run without interruption: {}", describe_changes(bits));
}

void fill_run(const CheckpointReader& checkpoint, const std::string& kind, const HeldState& held) {
  const DType dtype = *checkpoint.dtype_of(kind);
  const at::ScalarType type = dtype == DType::bfloat16 ? at::kBFloat16 : at::kFloat;
  std::vector<std::byte> bytes;
  for (std::int64_t at = 0; at < held.values.numel(); at += kPiece) {
    const std::int64_t count = std::min(kPiece, held.values.numel() - at);
    bytes.resize(static_cast<std::size_t>(count) * dtype_size(dtype));
    checkpoint.read(kind, held.parameter.name(), held.offset + at, bytes);
    const at::Tensor piece = at::from_blob(bytes.data(), {count}, type);
    held.values.narrow(0, at, count).copy_(piece.to(held.values.scalar_type()));
  }
}

}  // namespace

std::filesystem::path checkpoint_directory(const TrainOptions& options) {
  return options.saving.checkpoint_dir.empty() ? options.output : options.saving.checkpoint_dir;
}

std::optional<ResumePoint> find_resume_point(const TrainOptions& options, Communicator& ranks) {
  if (options.saving.resume == "never") return std::nullopt;
  const std::vector<std::filesystem::path> folders = candidates(options, ranks);
  std::string first_problem;
  for (const std::filesystem::path& folder : folders) {
    std::optional<CheckpointReader> reader;
    const std::string problem = try_checkpoint(folder, ranks, reader);
    if (problem.empty()) {
      ResumePoint point{std::move(*reader)};
      run_agreed(ranks, [&] { check_changes(options, point, ranks.rank() == 0); });
      return point;
    }
    if (ranks.rank() == 0) spdlog::warn("a checkpoint cannot be used: {}", problem);
    if (first_problem.empty()) first_problem = problem;
  }
  if (folders.empty()) return std::nullopt;
  throw AgreedError(ExitCode::bad_data,
                    fmt::format("{}; {}; --resume never begins anew", first_problem,
                                folders.size() == 1 ? "there is no other checkpoint"
                                                    : "no older checkpoint can be used either"));
}

TrainOptions with_choices_of(const ResumePoint& point, TrainOptions options, int num_ranks) {
  const nlohmann::ordered_json& strategy = point.training().at("strategy");
  StrategyPins& pins = options.strategy.pins;
  if (point.training().at("ranks") == num_ranks) {
    if (!pins.micro_batch) pins.micro_batch = strategy.at("micro_batch").get<std::int64_t>();
    if (!pins.head_chunks) pins.head_chunks = strategy.at("head_chunks").get<std::int64_t>();
  }
  const std::string products = point.training().value("products", "");
  for (const auto& word : kProducts)
    if (!options.strategy.products && word.text == products) options.strategy.products = word.value;
  return options;
}

WeightReader trained_weights(const CheckpointReader& checkpoint) {
  std::set<std::string> trained;
  for (const Manifest::Parameter& one : checkpoint.manifest().parameters) trained.insert(one.name);
  return [&checkpoint, trained = std::move(trained)](const std::string& name, std::int64_t offset,
                                                     std::span<float> values) {
    if (!trained.contains(name)) return false;
    checkpoint.read("master", name, offset, std::as_writable_bytes(values));
    return true;
  };
}

void load_moments(const CheckpointReader& checkpoint, Engine& engine) {
  if (!checkpoint.dtype_of("moment1")) return;
  StateAccess access = engine.state_access();
  for (const auto& [kind, name] :
       {std::pair(StateKind::moment1, "moment1"), std::pair(StateKind::moment2, "moment2")})
    access.fill(kind, [&, name = name](const HeldState& held) { fill_run(checkpoint, name, held); });
}

}  // namespace autoglm
