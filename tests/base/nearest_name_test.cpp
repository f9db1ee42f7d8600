#include "base/nearest_name.h"

#include <gtest/gtest.h>

#include <vector>

namespace autoglm {
namespace {

const std::vector<std::string> kNames = {"model",        "data",         "output",     "learning-rate",
                                         "steps",        "epochs",       "save-dtype", "micro-batch",
                                         "global-batch", "weight-decay", "recompute",  "recompute-layers"};

TEST(NearestName, DistanceCountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("output", "outptu"), 1u);
  EXPECT_EQ(edit_distance("ca", "abc"), 3u);  // restricted form: a swapped pair is not edited again
  EXPECT_EQ(edit_distance("steps", "steps"), 0u);
}

TEST(NearestName, FindsWhatWasMeant) {
  EXPECT_EQ(nearest_name("lerning-rate", kNames), "learning-rate");
  EXPECT_EQ(nearest_name("learning_rate", kNames), "learning-rate");
  EXPECT_EQ(nearest_name("Learning-Rate", kNames), "learning-rate");
  EXPECT_EQ(nearest_name("ouptut", kNames), "output");
  EXPECT_EQ(nearest_name("step", kNames), "steps");
  EXPECT_EQ(nearest_name("dat", kNames), "data");
  EXPECT_EQ(nearest_name("recompute-layer", kNames), "recompute-layers");
  EXPECT_EQ(nearest_name("recomptue", kNames), "recompute");
}

TEST(NearestName, KnowsBeginningsAndInitials) {
  EXPECT_EQ(nearest_name("learn", kNames), "learning-rate");
  EXPECT_EQ(nearest_name("lr", kNames), "learning-rate");
  EXPECT_EQ(nearest_name("wd", kNames), "weight-decay");
}

TEST(NearestName, SaysNothingWhenNothingIsNear) {
  EXPECT_EQ(nearest_name("tensorboard", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("x", kNames), std::nullopt);
}

}  // namespace
}  // namespace autoglm
