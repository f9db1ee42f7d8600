// How packed documents are divided into calls of FlashAttention.
#include "trainer/ops/attention_calls.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace autoglm {
namespace {

using ops::AttentionCall;
using ops::AttentionShape;

// Rows of a length, filled with documents of these lengths, each row anew.
ops::PackedRows rows_of(std::int64_t batch, std::int64_t length, const std::vector<int>& documents) {
  ops::PackedRows rows{batch, length, {}, true};
  std::size_t next = 0;
  for (std::int64_t row = 0; row < batch; ++row) {
    std::int64_t at = 0;
    while (at < length) {
      rows.document_starts.push_back(static_cast<std::int32_t>(row * length + at));
      at += documents[next++ % documents.size()];
    }
  }
  return rows;
}

ops::PackedRows random_rows(std::mt19937& random, std::int64_t batch, std::int64_t length) {
  std::vector<int> documents;
  const int longest = std::array{40, 300, 1500, 9000}[random() % 4];
  for (int i = 0; i < 100; ++i)
    documents.push_back(random() % 2 == 0 ? longest
                                          : 1 + static_cast<int>(random() % static_cast<unsigned>(longest)));
  return rows_of(batch, length, documents);
}

std::vector<std::int32_t> documents_in(const std::vector<AttentionCall>& calls) {
  std::vector<std::int32_t> starts;
  for (const AttentionCall& call : calls) {
    for (std::size_t i = 0; i + 1 < call.offsets.size(); ++i)
      starts.push_back(static_cast<std::int32_t>(call.begin) + call.offsets[i]);
  }
  return starts;
}

TEST(AttentionCalls, HoldEveryDocumentOnceAndStayInTheSpaceThatIsDeclared) {
  std::mt19937 random(5);
  for (int round = 0; round < 600; ++round) {
    const std::int64_t heads = std::array{2, 12, 32, 128}[random() % 4];
    const AttentionShape shape{1 + static_cast<std::int64_t>(random() % 5),
                               std::array{64, 1000, 2048, 8192}[random() % 4],
                               heads,
                               random() % 2 == 0 ? heads : 2,
                               std::array{16, 128, 256}[random() % 3],
                               std::array{24, 72, 108, 114, 132, 148}[random() % 6]};
    const ops::PackedRows rows = random_rows(random, shape.rows, shape.length);
    const std::vector<AttentionCall> forward = ops::forward_calls(rows, shape);
    const std::vector<AttentionCall> backward = ops::backward_calls(rows, shape);
    EXPECT_EQ(documents_in(forward), rows.document_starts);
    EXPECT_EQ(documents_in(backward), rows.document_starts);
    std::int64_t end = 0;
    for (const AttentionCall& call : backward) {
      EXPECT_EQ(call.begin, end);
      EXPECT_EQ(call.offsets.back(), call.tokens());
      end = call.end;
      EXPECT_LE(call.documents(), shape.max_documents());
      EXPECT_LE(ops::partial_rows_of_call(shape, call.tokens(), call.documents(), backward.size() == 1),
                ops::backward_partial_rows(shape))
          << call.tokens() << " tokens, " << call.documents() << " documents";
    }
    EXPECT_EQ(end, shape.rows * shape.length);
  }
}

// What the whole backward takes, over what it takes in one call.
double gain(const ops::PackedRows& rows, const AttentionShape& shape) {
  const auto calls = ops::backward_calls(rows, shape), one = ops::forward_calls(rows, shape);
  EXPECT_EQ(one.size(), 1);
  return ops::backward_time(calls, shape, true) / ops::backward_time(one, shape, true);
}

TEST(AttentionCalls, LongDocumentsAmongShortOnesGoAlone) {
  const AttentionShape glm{1, 8192, 32, 2, 128, 132};
  std::vector<int> documents = {6000};
  for (int i = 0; i < 30; ++i) documents.push_back(73);
  EXPECT_LT(gain(rows_of(1, 8192, documents), glm), 0.45);
  const AttentionShape rows_of_4096{1, 4096, 32, 2, 128, 108};
  EXPECT_LT(gain(rows_of(1, 4096, {200, 1500, 180, 210, 190, 220, 200, 170, 210, 205, 195, 205, 210, 201}),
                 rows_of_4096),
            0.85);
}

TEST(AttentionCalls, AlikeDocumentsStayTogether) {
  const AttentionShape glm{2, 4096, 32, 2, 128, 108};
  for (const int length : {64, 300, 512, 1024}) {
    EXPECT_EQ(ops::backward_calls(rows_of(2, 4096, {length}), glm).size(), 1) << length;
  }
  const AttentionShape one_row{1, 4096, 32, 2, 128, 108};
  EXPECT_EQ(ops::backward_calls(rows_of(1, 4096, {4096}), one_row).size(), 1);
}

TEST(AttentionCalls, RowsOfManyDocumentsTakeSeveralForwardCalls) {
  const AttentionShape shape{1, 2048, 32, 2, 128, 108};
  EXPECT_EQ(ops::forward_calls(rows_of(1, 2048, {64}), shape).size(), 1);
  EXPECT_GT(ops::forward_calls(rows_of(1, 2048, {40}), shape).size(), 1);
}

}  // namespace
}  // namespace autoglm
