#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

thread_local Target target_of_rehearsal = Target::cpu;
bool device_reads_host = false;
thread_local int multiprocessors_of_rehearsal = kCommonMultiprocessors;

}  // namespace

Target rehearsal_target() {
  return target_of_rehearsal;
}
void set_rehearsal_target(Target target) {
  target_of_rehearsal = target;
}

int rehearsal_multiprocessors() {
  return multiprocessors_of_rehearsal;
}
void set_rehearsal_multiprocessors(int multiprocessors) {
  multiprocessors_of_rehearsal = multiprocessors;
}

bool uploads_wait() {
  return device_reads_host;
}
void set_uploads_wait(bool wait) {
  device_reads_host = wait;
}

Target target_of(const at::Tensor& tensor) {
  return target_of(tensor.device());
}

Target target_of(at::Device device) {
  if (device.is_meta()) return target_of_rehearsal;
  return device.is_cuda() ? Target::cuda : Target::cpu;
}

}  // namespace autoglm::ops
