#include "sharding/agree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/sharding/thread_ring.h"

namespace autoglm {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Runs `work` on every rank and returns the messages, which must be AgreedErrors of code `code`.
std::vector<std::string> run(int size, ExitCode code, const std::function<void(Communicator&)>& work) {
  RingOptions options;
  options.timeout = std::chrono::seconds(20);
  return testing::run_ranks(size, options, [&](Communicator& communicator) {
    try {
      work(communicator);
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), code);
      throw;
    } catch (...) {
      ADD_FAILURE() << "not an AgreedError";
      throw;
    }
  });
}

TEST(Agree, PassesWhenAllPass) {
  EXPECT_THAT(run(3, ExitCode::done, [](Communicator& communicator) { agree(communicator, nullptr); }),
              Each(IsEmpty()));
}

TEST(Agree, EveryRankReportsTheLowestRankThatFailed) {
  const auto failures = run(4, ExitCode::missing_input, [](Communicator& communicator) {
    run_agreed(communicator, [&] {
      if (communicator.rank() == 2) fail(ExitCode::missing_input, "no file");
      if (communicator.rank() == 3) fail(ExitCode::bad_data, "bad file");
    });
  });
  EXPECT_THAT(failures, Each("rank 2: no file"));
}

TEST(Agree, NamesNoRankWhenAllFailAlike) {
  const auto everywhere = [](Communicator& communicator) {
    run_agreed(communicator, [] { fail(ExitCode::bad_data, "line 7 is broken"); });
  };
  EXPECT_THAT(run(3, ExitCode::bad_data, everywhere), Each("line 7 is broken"));
  EXPECT_THAT(run(1, ExitCode::bad_data, everywhere), Each("line 7 is broken"));
}

TEST(Agree, AnExceptionWithoutACodeIsABug) {
  const auto failures = run(2, ExitCode::bug, [](Communicator& communicator) {
    run_agreed(communicator, [&] {
      if (communicator.rank() == 0) throw std::out_of_range("index 3");
    });
  });
  EXPECT_THAT(failures, Each("rank 0: index 3"));
}

TEST(Agree, ReturnsWhatTheWorkReturns) {
  run(2, ExitCode::done, [](Communicator& communicator) {
    EXPECT_EQ(run_agreed(communicator, [&] { return std::make_unique<int>(communicator.rank()); }) != nullptr,
              true);
  });
}

TEST(Agree, NamesNoRankWhereItDoesNotMatter) {
  const auto failures = run(3, ExitCode::bad_data, [](Communicator& communicator) {
    const auto failure = std::make_exception_ptr(Error(ExitCode::bad_data, "a.jsonl:7: broken"));
    agree(communicator, communicator.rank() == 1 ? failure : nullptr, false);
  });
  EXPECT_THAT(failures, Each("a.jsonl:7: broken"));
}

TEST(Gather, GivesEveryRankAllValuesInRankOrder) {
  struct Pair {
    std::int64_t number = 0;
    double half = 0;
    bool operator==(const Pair&) const = default;
  };
  const auto failures = run(3, ExitCode::done, [](Communicator& communicator) {
    const int rank = communicator.rank();
    EXPECT_THAT(gather(communicator, 10 * rank), ElementsAre(0, 10, 20));
    EXPECT_THAT(gather(communicator, Pair{rank, rank / 2.0}),
                ElementsAre(Pair{0, 0}, Pair{1, 0.5}, Pair{2, 1}));
    EXPECT_THAT(gather_text(communicator, std::string(static_cast<std::size_t>(2 * rank), 'x')),
                ElementsAre("", "xx", "xxxx"));
  });
  EXPECT_THAT(failures, Each(IsEmpty()));
}

TEST(Gather, LeastAndMostOfAllRanks) {
  const auto failures = run(4, ExitCode::done, [](Communicator& communicator) {
    // Not a double's: its last bit would be lost.
    const std::int64_t number = (std::int64_t{1} << 62) + (communicator.rank() + 1) % 4;
    EXPECT_EQ(least(communicator, number), std::int64_t{1} << 62);
    EXPECT_EQ(most(communicator, number), (std::int64_t{1} << 62) + 3);
    EXPECT_EQ(least(communicator, -0.5 * communicator.rank()), -1.5);
    EXPECT_EQ(most(communicator, -0.5 * communicator.rank()), 0.0);
  });
  EXPECT_THAT(failures, Each(IsEmpty()));
}

TEST(Gather, OfOneRank) {
  const auto alone = make_self_communicator();
  EXPECT_THAT(gather(*alone, 1.5), ElementsAre(1.5));
  EXPECT_THAT(gather_text(*alone, "me"), ElementsAre("me"));
  EXPECT_EQ(least(*alone, -3), -3);
}

TEST(CheckSame, PassesEqualValuesAndNamesRanksOfDifferentOnes) {
  const auto failures = run(5, ExitCode::unavailable, [](Communicator& communicator) {
    check_same(communicator, "--seed", "42");
    check_same(communicator, "--learning-rate", communicator.rank() == 3 ? "2e-5" : "1e-5");
  });
  EXPECT_THAT(failures, Each(HasSubstr("the ranks disagree on --learning-rate: \"1e-5\" on ranks 0-2 and 4, "
                                       "\"2e-5\" on rank 3")));
}

TEST(CheckSame, ShowsLongValuesAroundTheirDifference) {
  const auto failures = run(2, ExitCode::unavailable, [](Communicator& communicator) {
    const std::string tail = communicator.rank() == 0 ? "sdpa" : "eager";
    check_same(communicator, "config.json", std::string(500, 'x') + tail + std::string(500, 'y'));
  });
  EXPECT_THAT(failures, Each(HasSubstr("\"...xxxxxxxxxxxxxxxsdpayyy")));
  EXPECT_THAT(failures, Each(HasSubstr("\"...xxxxxxxxxxxxxxxeageryyy")));
  EXPECT_LT(failures[0].size(), 400u);
}

TEST(CheckSame, ListsAFewOfManyValues) {
  const auto failures = run(7, ExitCode::unavailable, [](Communicator& communicator) {
    check_same(communicator, "host", std::to_string(communicator.rank() * 11));
  });
  EXPECT_THAT(failures, Each(HasSubstr("\"33\" on rank 3, and 3 more values")));
}

}  // namespace
}  // namespace autoglm
