// Blocks of threads as fibers: they meet at barriers, in any order of threads.
#include "tests/cuda_on_host/blocks/fiber.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cuda_on_host {
namespace {

TEST(Fibers, RunInTheOrderAskedFor) {
  Fibers fibers;
  for (const auto& [order, expected] : {std::pair(0, "0123"), std::pair(1, "3210")}) {
    std::string seen;
    fibers.run(4, order, [&](int i) { seen += std::to_string(i); });
    EXPECT_EQ(seen, expected);
  }
  std::vector<int> counts(256);
  fibers.run(256, 7, [&](int i) { ++counts[static_cast<std::size_t>(i)]; });
  EXPECT_THAT(counts, ::testing::Each(1));
}

TEST(Fibers, GiveWayToEachOther) {
  Fibers fibers;
  std::string seen;
  fibers.run(3, 0, [&](int i) {
    seen += std::to_string(i);
    fibers.progressed();
    fibers.give_way();
    seen += std::to_string(i);
  });
  EXPECT_EQ(seen, "012012");
}

TEST(Fibers, FailWhenNoneGoesOn) {
  Fibers fibers;
  const auto waits_for_ever = [&](int i) {
    while (i == 1) fibers.give_way();
  };
  EXPECT_THAT([&] { fibers.run(2, 0, waits_for_ever); },
              ::testing::ThrowsMessage<std::runtime_error>(::testing::HasSubstr("barrier")));
  const auto throws = [](int) { throw std::runtime_error("lost"); };
  EXPECT_THAT([&] { fibers.run(2, 0, throws); }, ::testing::ThrowsMessage<std::runtime_error>("lost"));
}

}  // namespace
}  // namespace cuda_on_host
