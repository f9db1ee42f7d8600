// What every communicator for host memory must do, whatever carries its messages. Called by all ranks
// together.
#pragma once

#include "sharding/communicator.h"

namespace autoglm::testing {

// Each compares with the definition in communicator.h, bit for bit, and reports with EXPECT_.
void check_reduce_scatter(Communicator& communicator, std::int64_t count, bool in_place,
                          Parts parts = Parts::fp32);
void check_all_gather(Communicator& communicator, std::int64_t bytes, bool in_place);
void check_all_reduce(Communicator& communicator, std::size_t count);
void check_broadcast(Communicator& communicator, std::int64_t bytes, int root);
void check_exchange(Communicator& communicator);

// No rank passes before the last one, which is late, has arrived.
void check_barrier(Communicator& communicator);

// Many collectives started before the first is awaited, each on the result of the one before.
void check_in_flight(Communicator& communicator);

// A collective starts only after the event that it was given.
void check_after(Communicator& communicator);

}  // namespace autoglm::testing
