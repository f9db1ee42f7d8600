#include "trainer/ops/parameter.h"

#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"

namespace autoglm {

const at::Tensor& GradientBuffer::to_add_to() const {
  if (!fresh) return values;
  if (!ops::computes(values)) ops::count_kernel(WorkKind::gradients, {}, {values});
  values.zero_();
  return values;
}

}  // namespace autoglm
