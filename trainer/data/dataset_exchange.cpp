#include "trainer/data/dataset_exchange.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "sharding/agree.h"
#include "trainer/data/byte_io.h"

namespace autoglm {
namespace {

// What one worker thread came back with.
struct Outcome {
  DatasetPart part;
  std::exception_ptr failure;
};

template <typename Work>
std::exception_ptr catch_failure(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return std::make_exception_ptr(
        Error(ExitCode::does_not_fit, "there is not enough host memory to hold the data set"));
  } catch (...) {
    return std::current_exception();
  }
}

// Adds up what the threads report.
class SharedProgress {
 public:
  SharedProgress(const LoadContext& context)
      : context_(context), parts_(static_cast<std::size_t>(context.num_threads)) {}

  void report(int thread, std::uint64_t done, std::uint64_t total) {
    if (!context_.progress) return;
    const std::lock_guard lock(mutex_);
    parts_[static_cast<std::size_t>(thread)] = {done, total};
    std::uint64_t all_done = 0;
    std::uint64_t all = 0;
    for (const auto& [part_done, part_total] : parts_) {
      all_done += part_done;
      all += part_total == 0 ? total : part_total;
    }
    context_.progress(all_done, all);
  }

 private:
  const LoadContext& context_;
  std::mutex mutex_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> parts_;
};

// Reads this rank's part with its threads. Of several failures the first in file order counts, so a thread
// gives up once an earlier one has failed, but not a later one.
Outcome read_rank_part(const std::vector<std::filesystem::path>& files, const DataOptions& options,
                       const SampleTokenizer& tokenizer, const SampleSet& empty, const LoadContext& context,
                       const Communicator& ranks) {
  const int num_threads = context.num_threads;
  std::vector<Outcome> outcomes(static_cast<std::size_t>(num_threads));
  std::atomic<int> first_failed{num_threads};
  SharedProgress progress(context);
  const auto work = [&](int thread) {
    Outcome& outcome = outcomes[static_cast<std::size_t>(thread)];
    outcome.failure = catch_failure([&] {
      outcome.part = read_part(
          files, options, tokenizer, empty, ranks.rank() * num_threads + thread, ranks.size() * num_threads,
          [&](std::uint64_t done, std::uint64_t total) { progress.report(thread, done, total); },
          [&] { return first_failed.load(std::memory_order_relaxed) < thread; });
    });
    int known = first_failed.load();
    while (outcome.failure && thread < known && !first_failed.compare_exchange_weak(known, thread)) {
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int thread = 1; thread < num_threads; ++thread) threads.emplace_back(work, thread);
    work(0);
  }
  Outcome merged = std::move(outcomes.front());
  for (std::size_t i = 1; i < outcomes.size() && !merged.failure; ++i) {
    merged.failure = outcomes[i].failure;
    if (merged.failure) break;
    merged.part.samples.append(outcomes[i].part.samples);
    merged.part.summary.add(outcomes[i].part.summary);
  }
  return merged;
}

std::vector<std::uint64_t> sizes_of(const std::vector<std::filesystem::path>& files) {
  std::vector<std::uint64_t> sizes;
  for (const auto& file : files) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(file, error);
    sizes.push_back(error ? 0 : static_cast<std::uint64_t>(size));
  }
  return sizes;
}

std::vector<std::byte> pack(const DatasetPart& part, const std::vector<std::uint64_t>& sizes) {
  std::vector<std::byte> bytes;
  write_array(sizes, bytes);
  part.summary.to_bytes(bytes);
  part.samples.to_bytes(bytes);
  return bytes;
}

// Throws when the files gave nothing to train on.
void check_not_empty(const std::vector<std::filesystem::path>& files, const DatasetPart& loaded,
                     std::int64_t row_length) {
  const DataSummary& summary = loaded.summary;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (summary.samples_per_file[i] == 0) {
      fail(ExitCode::bad_data, "the data file {} holds no samples", files[i].string());
    }
  }
  if (summary.num_kept > 0) return;
  fail(ExitCode::bad_data,
       "there is nothing to supervise in {}{}: of {} samples, {} have no token to train on (is there an "
       "assistant turn? see --loss-on), {} have none within {} tokens, and {} are longer than that (see "
       "--sequence-length, --overlong)",
       files.front().string(), files.size() > 1 ? " and the other data files" : "", summary.num_read(),
       summary.dropped_unsupervised.count, summary.dropped_cut.count, row_length,
       summary.dropped_overlong.count);
}

// Puts the parts of all ranks together. All ranks do the same with the same bytes, so all come to the same
// end.
DatasetPart merge(const std::vector<std::vector<std::byte>>& messages,
                  const std::vector<std::filesystem::path>& files, const SampleSet& empty) {
  std::vector<std::span<const std::byte>> rest(messages.begin(), messages.end());
  std::vector<std::uint64_t> first_sizes;
  DatasetPart whole{empty, {}};
  for (std::size_t rank = 0; rank < rest.size(); ++rank) {
    const std::vector<std::uint64_t> sizes = read_array<std::uint64_t>(rest[rank]);
    if (rank == 0) first_sizes = sizes;
    AUTOGLM_CHECK(sizes.size() == files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (sizes[i] == first_sizes[i]) continue;
      fail(ExitCode::unavailable, "ranks see different data: {} has {} bytes on rank 0 and {} on rank {}",
           files[i].string(), first_sizes[i], sizes[i], rank);
    }
    whole.summary.add(DataSummary::from_bytes(rest[rank]));
    whole.samples.append(SampleSet::from_bytes(rest[rank]));
  }
  return whole;
}

}  // namespace

DatasetPart load_files(const std::vector<std::filesystem::path>& files, const DataOptions& options,
                       const SampleTokenizer& tokenizer, const SampleSet& empty, const LoadContext& context) {
  AUTOGLM_CHECK(context.num_threads >= 1);
  const auto alone = context.communicator ? nullptr : make_self_communicator();
  Communicator& communicator = alone ? *alone : *context.communicator;
  Outcome mine = read_rank_part(files, options, tokenizer, empty, context, communicator);
  agree(communicator, mine.failure, false);
  std::vector<std::vector<std::byte>> messages;
  if (communicator.size() > 1) {
    const std::vector<std::byte> message = pack(mine.part, sizes_of(files));
    mine.part = DatasetPart{empty, {}};
    messages = communicator.exchange(message);
  }
  try {
    DatasetPart whole = communicator.size() > 1 ? merge(messages, files, empty) : std::move(mine.part);
    check_not_empty(files, whole, options.sequence_length);
    return whole;
  } catch (const Error& error) {
    throw AgreedError(error.code(), error.what());
  }
}

}  // namespace autoglm
