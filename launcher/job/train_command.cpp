#include "launcher/job/train_command.h"

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <optional>

#include "launcher/job/ending_signals.h"
#include "launcher/job/job_device.h"
#include "launcher/job/lost_peers.h"
#include "launcher/job/training_job.h"
#include "launcher/report/failure.h"
#include "launcher/report/logging.h"
#include "sharding/agree.h"
#include "sharding/host/binding.h"
#include "sharding/host/processors.h"
#include "sharding/launch.h"
#include "sharding/mpi/mpi_communicator.h"
#include "sharding/mpi/mpi_session.h"

namespace autoglm {
namespace {

const char* variable(const char* name) {
  return std::getenv(name);
}

int run_on_ranks(const TrainOptions& options, bool of_mpirun) {
  // Before MPI and the libraries start threads, which keep the processors of the one that starts them.
  const std::optional<std::string> rebound = widen_binding(variable);
  Console& console = stderr_console();
  LostPeers peers(console);
  MpiSession session;
  const RankEnvironment environment{session.rank(), session.size(), session.rank() == 0};
  start_logging(console, session.rank(), session.size());
  if (rebound) spdlog::info("{}", *rebound);
  try {
    const auto communicator = make_mpi_communicator(session);
    const std::unique_ptr<LostPeers, void (*)(LostPeers*)> until_it_ends(
        &peers, [](LostPeers* watched) { watched->release_control(); });
    peers.begin(*communicator, host_name());
    run_training_job(options, *communicator,
                     {session.local_rank(), session.local_size(), session.library_version(),
                      session.num_processors(), of_mpirun});
    return static_cast<int>(ExitCode::done);
  } catch (const AgreedError&) {
    return report_failure("autoglm-train", console, environment, std::current_exception());
  } catch (...) {
    // The other ranks may be waiting for this one: end them too.
    const int code = peers.report(environment, std::current_exception());
    session.abort(static_cast<ExitCode>(code));
  }
}

}  // namespace

int run_training(const TrainOptions& options) {
  watch_ending_signals();
  check_launcher(variable);
  // MPI_Init sets what mpirun sets.
  const std::optional<Launch> launch = detect_launch(variable);
  if (launch) return run_on_ranks(options, launch->variable == "OMPI_COMM_WORLD_SIZE");
  const auto communicator = make_self_communicator();
  run_training_job(options, *communicator, {0, 1, "", threads_of_this_process()});
  return static_cast<int>(ExitCode::done);
}

}  // namespace autoglm
