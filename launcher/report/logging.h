// The log: spdlog on standard error, in lines that begin with what kind of message they are.
#pragma once

#include "launcher/report/console.h"

namespace autoglm {

// Makes spdlog's default logger write to `console`, which must outlive its use: "message", "warning:
// message", "error: message". With more than one rank, lines of ranks other than 0 begin with "rank 3: ", and
// of those only errors are shown, since all ranks run the same program. Call again once MPI knows the rank.
void start_logging(Console& console, int rank, int world_size);

}  // namespace autoglm
