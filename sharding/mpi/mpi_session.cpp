#include "sharding/mpi/mpi_session.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "sharding/host/processors.h"
#include "sharding/launch.h"

namespace autoglm {

MpiSession::Library::Library() {
  // Where ranks share cores, Open MPI yields whenever it is asked in vain, which costs the communication
  // thread a time slice each time. That thread sleeps by itself instead.
  setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
  if (provided < MPI_THREAD_SERIALIZED) {
    MPI_Finalize();
    fail(ExitCode::unavailable,
         "this MPI library allows calls from one thread only: use an Open MPI built with thread support");
  }
}

MpiSession::Library::~Library() {
  MPI_Finalize();
}

MpiSession::MpiSession() {
  const auto launch = detect_launch([](const char* name) { return std::getenv(name); });
  library_ = std::make_unique<Library>();
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  check_launch(launch, size_);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);

  MPI_Comm host = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host);
  MPI_Comm_rank(host, &local_rank_);
  MPI_Comm_size(host, &local_size_);
  std::vector<ProcessorSet> processors(static_cast<std::size_t>(local_size_));
  const ProcessorSet mine = allowed_processors();
  constexpr int kBytes = sizeof(ProcessorSet);
  MPI_Allgather(&mine, kBytes, MPI_BYTE, processors.data(), kBytes, MPI_BYTE, host);
  num_processors_ = threads_of_process(processors, static_cast<std::size_t>(local_rank_), processor_quota());
  MPI_Comm_free(&host);
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(version, &length);
  // Open MPI appends its packager and other details behind a comma.
  library_version_.assign(version, static_cast<std::size_t>(length));
  library_version_.erase(std::min(library_version_.find(','), library_version_.size()));
  stream_ = make_host_stream("communication");
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > 0) abort(ExitCode::peer_lost);
  try {
    stream_->synchronize();
  } catch (...) {
    abort(ExitCode::peer_lost);
  }
}

void MpiSession::abort(ExitCode code) noexcept {
  // mpirun carries this out, and may not answer.
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(5));
    std::_Exit(static_cast<int>(code));
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

}  // namespace autoglm
