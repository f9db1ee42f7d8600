// MPI for the life of the process: start, ranks, the thread that makes the calls, and the end.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "sharding/stream.h"

namespace autoglm {

// Create one, in main, outside of the block that catches and reports errors. Open MPI moves nothing in the
// background, so all communicators share one thread, stream(), which makes every MPI call after start-up.
//
// A rank that ends while others wait for it would leave them waiting for ever. So: after an AgreedError,
// which every rank has thrown, just return; after any other failure report it and call abort(). A session
// that is destroyed by a passing exception, or after communication failed, aborts by itself.
class MpiSession {
 public:
  // Starts MPI. Throws Error(unavailable) when the number of ranks contradicts the launcher's, or MPI cannot
  // be used from two threads in turn.
  MpiSession();

  // Waits for the communication thread and ends MPI together with all other ranks.
  ~MpiSession();

  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Rank among, and number of, the ranks that share this host's memory.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }

  // Processors of this host that this rank may use beside the others of its ranks, at least 1.
  int num_processors() const { return num_processors_; }

  // The communication thread.
  Stream& stream() { return *stream_; }

  // The MPI library and its version, in its own words: "Open MPI v4.1.4".
  const std::string& library_version() const { return library_version_; }

  // A tag for the messages of one more communicator: the same on all ranks if they make them in the same
  // order.
  int new_tag() { return next_tag_++; }

  // Ends all ranks at once; mpirun returns `code`. From any thread. Flushes no streams. Where mpirun does not
  // answer, this rank ends alone, after 5 seconds.
  [[noreturn]] void abort(ExitCode code) noexcept;

 private:
  // Pairs MPI_Init_thread with MPI_Finalize, also when the rest of the constructor throws.
  struct Library {
    Library();
    ~Library();
  };

  std::unique_ptr<Library> library_;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  int num_processors_ = 1;
  int next_tag_ = 1;
  std::string library_version_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace autoglm
