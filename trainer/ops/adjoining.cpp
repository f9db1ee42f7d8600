#include "trainer/ops/adjoining.h"

namespace autoglm::ops {
namespace {

bool begins_at(const at::Tensor& part, const at::Tensor& first, std::int64_t offset) {
  return part.storage().unsafeGetStorageImpl() == first.storage().unsafeGetStorageImpl() &&
         part.storage_offset() == offset;
}

}  // namespace

at::Tensor joined_rows(std::span<const at::Tensor> parts) {
  const at::Tensor& first = parts.front();
  std::int64_t end = first.storage_offset(), rows = 0;
  for (const at::Tensor& part : parts) {
    const bool alike = part.dim() == first.dim() && (first.dim() == 1 || part.size(1) == first.size(1));
    if (!alike || !part.is_contiguous() || !begins_at(part, first, end)) return {};
    end += part.numel();
    rows += part.size(0);
  }
  if (first.dim() == 1) return first.as_strided({rows}, {1});
  return first.as_strided({rows, first.size(1)}, {first.size(1), 1});
}

at::Tensor joined_columns(std::span<const at::Tensor> parts) {
  const at::Tensor& first = parts.front();
  std::int64_t columns = 0;
  for (const at::Tensor& part : parts) {
    const bool alike = part.dim() == 2 && part.size(0) == first.size(0) &&
                       part.stride(0) == first.stride(0) && part.stride(1) == 1;
    if (!alike || !begins_at(part, first, first.storage_offset() + columns)) return {};
    columns += part.size(1);
  }
  if (columns > first.stride(0)) return {};
  return first.as_strided({first.size(0), columns}, {first.stride(0), 1});
}

}  // namespace autoglm::ops
