#include "tests/cuda_on_host/runtime/interface.h"

#include "tests/cuda_on_host/runtime/ledger.h"
#include "tests/cuda_on_host/runtime/settings.h"

using namespace cuda_on_host;

extern "C" {

bool cuda_on_host_charge(int card, std::int64_t bytes) {
  return charge(card, bytes);
}

bool cuda_on_host_bytes_only() {
  return settings().bytes_only;
}

bool cuda_on_host_sees_dead_peers() {
  return settings().sees_dead_peers;
}

bool cuda_on_host_counts_messages() {
  return settings().counts_messages;
}

bool cuda_on_host_traces() {
  return settings().trace;
}

}  // extern "C"
