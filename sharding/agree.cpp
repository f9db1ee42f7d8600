#include "sharding/agree.h"

#include "sharding/memory/out_of_memory.h"

namespace autoglm {
namespace {

// A failure as it travels: its exit code as one character, then the message. Success is no text at all.
std::string encode(ExitCode code, std::string_view message) {
  return static_cast<char>(code) + std::string(message);
}

std::string describe(const std::exception_ptr& failure) {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return encode(error.code(), error.what());
  } catch (const OutOfMemory& error) {
    return encode(ExitCode::does_not_fit, error.what());
  } catch (const std::exception& error) {
    return encode(as_out_of_memory(error.what()) ? ExitCode::does_not_fit : ExitCode::bug, error.what());
  } catch (...) {
    return encode(ExitCode::bug, "internal error: an exception without a message");
  }
}

// "0-2, 5 and 7".
std::string list_ranks(const std::vector<int>& ranks) {
  std::vector<std::string> runs;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    runs.push_back(end - i == 1 ? fmt::format("{}", ranks[i])
                                : fmt::format("{}-{}", ranks[i], ranks[end - 1]));
    i = end;
  }
  std::string text = runs.front();
  for (std::size_t i = 1; i < runs.size(); ++i) text += (i + 1 == runs.size() ? " and " : ", ") + runs[i];
  return (ranks.size() == 1 ? "rank " : "ranks ") + text;
}

struct Opinion {
  std::string value;
  std::vector<int> ranks;
};

std::vector<Opinion> collect(const std::vector<std::string>& values) {
  std::vector<Opinion> opinions;
  for (std::size_t rank = 0; rank < values.size(); ++rank) {
    auto known = std::ranges::find(opinions, values[rank], &Opinion::value);
    if (known == opinions.end()) known = opinions.insert(opinions.end(), {values[rank], {}});
    known->ranks.push_back(static_cast<int>(rank));
  }
  return opinions;
}

// About 60 characters of the value, starting a little before the place where the values part.
std::string abbreviate(const std::string& value, std::size_t common) {
  constexpr std::size_t shown = 60, before = 15;
  if (value.size() <= shown) return value;
  const std::size_t begin = std::min(common > before ? common - before : 0, value.size() - shown);
  return (begin > 0 ? "..." : "") + value.substr(begin, shown) + (begin + shown < value.size() ? "..." : "");
}

}  // namespace

std::vector<std::string> gather_text(Communicator& communicator, std::string_view mine) {
  std::vector<std::string> texts;
  for (const std::vector<std::byte>& bytes : communicator.exchange(std::as_bytes(std::span(mine))))
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return texts;
}

void agree(Communicator& communicator, const std::exception_ptr& mine, bool rank_matters) {
  const std::vector<std::string> reports = gather_text(communicator, describe(mine));
  const auto first = std::ranges::find_if(reports, [](const std::string& report) { return !report.empty(); });
  if (first == reports.end()) return;
  const auto code = static_cast<ExitCode>(first->front());
  const std::string message = first->substr(1);
  const bool alike = std::ranges::count(reports, *first) == std::ssize(reports);
  if (alike || !rank_matters) throw AgreedError(code, message);
  throw AgreedError(code, fmt::format("rank {}: {}", first - reports.begin(), message));
}

void check_same(Communicator& communicator, std::string_view what, std::string_view value) {
  const std::vector<std::string> values = gather_text(communicator, value);
  if (std::ranges::count(values, values.front()) < std::ssize(values)) fail_disagreement(what, values);
}

void fail_disagreement(std::string_view what, const std::vector<std::string>& values) {
  const std::vector<Opinion> opinions = collect(values);
  const std::string& reference = opinions.front().value;
  std::size_t common = reference.size();
  for (const Opinion& opinion : opinions) {
    const auto place =
        std::mismatch(reference.begin(), reference.end(), opinion.value.begin(), opinion.value.end());
    common = std::min(common, static_cast<std::size_t>(place.first - reference.begin()));
  }
  constexpr std::size_t shown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(shown, opinions.size()); ++i) {
    text += fmt::format("{}\"{}\" on {}", i == 0 ? "" : ", ", abbreviate(opinions[i].value, common),
                        list_ranks(opinions[i].ranks));
  }
  if (opinions.size() > shown) text += fmt::format(", and {} more values", opinions.size() - shown);
  throw AgreedError(
      ExitCode::unavailable,
      fmt::format("the ranks disagree on {}: {}: start all ranks with the same program, options and "
                  "files",
                  what, text));
}

}  // namespace autoglm
