#include "launcher/job/resume_point.h"

#include <ATen/ops/from_blob.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "checkpoint/step_store/step_store.h"
#include "launcher/job/resume_rules.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 20;  // elements

// What a rank finds when it tries a checkpoint.
enum class Verdict : int { whole, broken, missing, unreadable };

struct Tried {
  Verdict verdict = Verdict::whole;  // of all ranks together
  std::string problem;
};

Verdict try_alone(const std::filesystem::path& folder, const Communicator& ranks,
                  std::optional<CheckpointReader>& reader, std::string& problem) {
  try {
    reader = CheckpointReader::open(folder);
    check_kinds(reader->manifest(), (folder / kManifestName).string());
    check_training_record(reader->manifest().training, (folder / kManifestName).string());
    reader->verify(ranks.rank(), ranks.size());
    return Verdict::whole;
  } catch (const Error& error) {
    problem = error.what();
    if (error.code() == ExitCode::bad_data) return Verdict::broken;
    return error.code() == ExitCode::missing_input ? Verdict::missing : Verdict::unreadable;
  } catch (const std::exception& error) {
    problem = fmt::format("{}: {}", folder.string(), error.what());
    return Verdict::unreadable;
  }
}

// What is wrong for one rank is wrong for all; what is missing for some alone is there. Collective.
Tried try_together(const std::filesystem::path& folder, Communicator& ranks,
                   std::optional<CheckpointReader>& reader) {
  std::string problem;
  const Verdict mine = try_alone(folder, ranks, reader, problem);
  const std::vector<Verdict> verdicts = gather(ranks, mine);
  const std::vector<std::string> problems = gather_text(ranks, problem);
  const auto first = [&](Verdict verdict) {
    const auto found = std::ranges::find(verdicts, verdict);
    return problems[static_cast<std::size_t>(found - verdicts.begin())];
  };
  const auto count = [&](Verdict verdict) { return std::ranges::count(verdicts, verdict); };
  if (count(Verdict::broken) > 0) return {Verdict::broken, first(Verdict::broken)};
  if (count(Verdict::unreadable) > 0) return {Verdict::unreadable, first(Verdict::unreadable)};
  if (count(Verdict::missing) == ranks.size()) return {Verdict::broken, first(Verdict::missing)};
  if (count(Verdict::missing) > 0) return {Verdict::missing, first(Verdict::missing)};
  return {};
}

// Tries again what may pass: a file system that does not answer, a folder that other hosts see a moment later. The
// problem of one that is broken; empty: it is whole. Collective.
std::string try_checkpoint(const std::filesystem::path& folder, Communicator& ranks,
                           std::optional<CheckpointReader>& reader) {
  Tried tried;
  for (const int pause : {0, 1, 2, 4}) {
    std::this_thread::sleep_for(std::chrono::seconds(pause));
    tried = try_together(folder, ranks, reader);
    if (tried.verdict == Verdict::whole || tried.verdict == Verdict::broken) return tried.problem;
  }
  if (tried.verdict == Verdict::missing) {
    throw AgreedError(
        ExitCode::cannot_create,
        fmt::format("{}; other ranks can read it, so this is not the same folder on every host: "
                    "give a --checkpoint-dir that all hosts share",
                    tried.problem));
  }
  throw AgreedError(ExitCode::io_failed,
                    fmt::format("{}; nothing is wrong with the checkpoint as far as it can be read: start "
                                "again when it can be, or move {} away to go on from an older one",
                                tried.problem, folder.string()));
}

// A named one: whether it is one is asked here, so that the sentence is of what the person wrote.
void check_named(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / kManifestName, ignored)) return;
  const std::vector<StepFolder> inside = list_step_folders(folder);
  if (!inside.empty()) {
    fail(ExitCode::missing_input, "--resume {}: is no checkpoint; the newest one in it is {}",
         folder.string(), inside.front().path.filename().string());
  }
  fail(ExitCode::missing_input, "--resume {}: is no folder of a checkpoint; else it takes auto or never",
       folder.string());
}

// Of the run whose record is there, or what may be: a manifest that cannot be read does not say.
bool is_candidate(const StepFolder& folder, const TrainOptions& options, const std::string& run) {
  if (is_broken_checkpoint(folder.path)) return true;
  try {
    const Manifest manifest = read_manifest(folder.path);
    return run.empty() ? is_of_these_folders(manifest, options) : manifest.run == run;
  } catch (const Error& error) {
    return error.code() == ExitCode::io_failed;  // it may be tried again
  } catch (const nlohmann::json::exception&) {
    return true;
  }
}

// Folders to be tried, as rank 0 sees them. Collective.
std::vector<std::filesystem::path> candidates(const TrainOptions& options, const std::string& run,
                                              Communicator& ranks) {
  const bool named = options.saving.resume != "auto";
  const std::string mine = run_agreed(ranks, [&] {
    std::string paths;
    if (ranks.rank() == 0 && named) check_named(options.saving.resume);
    if (ranks.rank() != 0 || named) return paths;
    for (const StepFolder& one : list_step_folders(checkpoint_directory(options)))
      if (is_candidate(one, options, run)) paths += one.path.string() + '\n';
    return paths;
  });
  if (named) return {options.saving.resume};
  std::vector<std::filesystem::path> folders;
  const std::string paths = gather_text(ranks, mine).front();
  for (std::size_t begin = 0, end; (end = paths.find('\n', begin)) != std::string::npos; begin = end + 1)
    folders.emplace_back(paths.substr(begin, end - begin));
  return folders;
}

void check_changes(const TrainOptions& options, const ResumePoint& point, bool speaks) {
  if (const auto& steps = options.training.loop.steps; steps && *steps < point.step()) {
    fail(ExitCode::cannot_create, "--steps {}: the training has gone on to step {} already; {} is of that",
         *steps, point.step(), point.checkpoint.folder().string());
  }
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
    std::string all;
    for (const OptionChange& one : refused)
      if (one.option != "freeze") all += fmt::format("--allow-change {} ", one.option);
    fail(ExitCode::cannot_create,
         "{}: this is another training than that of the checkpoint: {}; give the same options to go on, {}"
         "--resume never to begin anew, or another --output",
         point.checkpoint.folder().string(), describe_changes(refused),
         all.empty() ? "" : all + "to go on with what is new, ");
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

bool is_same_folder(const std::filesystem::path& one, const std::filesystem::path& other) {
  std::error_code error;
  const auto resolved = [&](const std::filesystem::path& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path / "", error), error);
  };
  return resolved(one) == resolved(other) && !error;
}

bool is_of_these_folders(const Manifest& manifest, const TrainOptions& options) {
  const nlohmann::ordered_json& written = manifest.training.at("options");
  return written.at("output").is_string() &&
         is_same_folder(written.at("output").get<std::string>(), options.output);
}

std::optional<ResumePoint> find_resume_point(const TrainOptions& options, const std::string& run,
                                             Communicator& ranks) {
  if (options.saving.resume == "never") return std::nullopt;
  const std::vector<std::filesystem::path> folders = candidates(options, run, ranks);
  std::string first_problem;
  std::vector<std::filesystem::path> unusable;
  for (const std::filesystem::path& folder : folders) {
    std::optional<CheckpointReader> reader;
    const std::string problem = try_checkpoint(folder, ranks, reader);
    if (problem.empty()) {
      ResumePoint point{std::move(*reader), std::move(unusable)};
      run_agreed(ranks, [&] { check_changes(options, point, ranks.rank() == 0); });
      const auto ranks_before = point.training().value("ranks", std::int64_t{ranks.size()});
      if (ranks.rank() == 0 && ranks_before != ranks.size())
        spdlog::warn("last bits will differ from a run without interruption: it had {} ranks and has {} now",
                     ranks_before, ranks.size());
      return point;
    }
    if (ranks.rank() == 0) spdlog::warn("a checkpoint cannot be used: {}", problem);
    if (first_problem.empty()) first_problem = problem;
    unusable.push_back(folder);
  }
  if (folders.empty()) return std::nullopt;
  const char* const others = options.saving.resume != "auto" ? "it was named with --resume"
                             : folders.size() == 1           ? "there is no other checkpoint"
                                                             : "no older checkpoint can be used either";
  throw AgreedError(ExitCode::bad_data,
                    fmt::format("{}; {}; to begin anew, give --resume never", first_problem, others));
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
