#include "checkpoint/step_store/checksum.h"

#include <gtest/gtest.h>

#include <string>

#include "checkpoint/file.h"

namespace autoglm {
namespace {

// RFC 3720, appendix B.4, and the check value of CRC-32C in the catalogue of parametrised CRC algorithms.
TEST(Checksum, KnownValues) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\0'))), 0x8a9136aaU);
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\xff'))), 0x62a8ab43U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Checksum, GoesOnAfterOtherBytes) {
  EXPECT_EQ(crc32c(as_bytes("456789"), crc32c(as_bytes("123"))), crc32c(as_bytes("123456789")));
}

TEST(Checksum, SeriesIsTheSameHoweverBytesCome) {
  std::string bytes(2 * kChecksumBytes + 5, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
  ChecksumSeries whole, pieces;
  whole.add(as_bytes(bytes));
  for (std::size_t at = 0; at < bytes.size(); at += 4999999)
    pieces.add(as_bytes(bytes).subspan(at).first(std::min<std::size_t>(4999999, bytes.size() - at)));
  ASSERT_EQ(whole.finish().size(), 3);
  EXPECT_EQ(whole.finish(), pieces.finish());
  EXPECT_EQ(whole.finish()[1], crc32c(as_bytes(bytes).subspan(kChecksumBytes, kChecksumBytes)));
  EXPECT_EQ(whole.finish()[2], crc32c(as_bytes(bytes).subspan(2 * kChecksumBytes)));
  EXPECT_EQ(whole.bytes(), bytes.size());
}

}  // namespace
}  // namespace autoglm
