// Trains random models and measures: what gpu_check.py asks of a machine with a GPU, or of the CPU.
//
// engine_run REQUEST.json ANSWER.json: {"mode": "training"|"matrix"|"width"|"devices", ...} (run_request.h).
// Under mpirun all ranks are given the same request, and rank 0 writes the answer; on failure it holds "error" and
// "code". With "hosts": "distinct", NCCL takes each rank for a machine of its own, so that ranks may share a device.
#include <ATen/Parallel.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "launcher/job/job_device.h"
#include "launcher/job/job_device_steps.h"
#include "scripts/gpu_check/run_training.h"
#include "sharding/launch.h"
#include "sharding/mpi/mpi_communicator.h"
#include "sharding/mpi/mpi_session.h"
#include "tests/trainer/parity/engine_dump.h"

namespace autoglm {
namespace {

using nlohmann::json;

json answer_of(const json& object, Communicator& control, const LocalRank& local) {
  if (object.value("hosts", "") == "distinct") {
    setenv("NCCL_HOSTID", fmt::format("check-{}", control.rank()).c_str(), 1);
  }
  if (object.at("mode") == "devices") {
    const CudaProbe probe = find_cuda();
    choose_cuda(DeviceRequest::cuda, probe);  // says why none can be used
    return {{"devices", probe.num_devices}, {"runtime", probe.runtime}, {"driver", probe.driver}};
  }
  const RunRequest request = parse_run_request(object);
  JobDevice device({request.device, request.memory_limit, at::get_num_threads()}, local, control);
  if (object.at("mode") == "width") {
    return run_width(request, object.at("sizes").get<std::vector<std::int64_t>>(), device);
  }
  return object.at("mode") == "matrix" ? run_matrix(request, device) : run_training(request, device);
}

int run(const json& object, const std::string& file) {
  const auto write = [&](const json& answer) { std::ofstream(file) << answer; };
  const auto write_failure = [&](const char* what, ExitCode code) {
    write({{"error", what}, {"code", static_cast<int>(code)}});
    fmt::print(stderr, "engine_run: {}\n", what);
    return static_cast<int>(code);
  };
  const auto guarded = [&](bool writes, auto&& work) {
    try {
      const json answer = work();
      if (writes) write(answer);
      return 0;
    } catch (const Error& error) {
      return write_failure(error.what(), error.code());
    } catch (const OutOfMemory& error) {
      return write_failure(error.what(), ExitCode::does_not_fit);
    } catch (const std::exception& error) {
      return write_failure(error.what(), ExitCode::bug);
    }
  };
  if (!detect_launch([](const char* name) { return std::getenv(name); })) {
    const auto control = make_self_communicator();
    return guarded(true, [&] { return answer_of(object, *control, {}); });
  }
  MpiSession session;
  const auto control = make_mpi_communicator(session);
  const int code = guarded(session.rank() == 0, [&] {
    return answer_of(
        object, *control,
        {session.local_rank(), session.local_size(), session.library_version(), session.num_processors()});
  });
  // The other ranks may be waiting for this one.
  if (code != 0) session.abort(static_cast<ExitCode>(code));
  return 0;
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  // One program under two names: each weighs four megabytes in a bundle.
  if (std::filesystem::path(argv[0]).filename() == "engine_dump") return autoglm::engine_dump(argc, argv);
  if (argc != 3) {
    fmt::print(stderr, "usage: engine_run REQUEST.json ANSWER.json\n");
    return static_cast<int>(autoglm::ExitCode::usage);
  }
  const auto request = nlohmann::json::parse(std::ifstream(argv[1]), nullptr, false);
  if (request.is_discarded()) {
    fmt::print(stderr, "engine_run: {} is no JSON\n", argv[1]);
    return static_cast<int>(autoglm::ExitCode::bad_data);
  }
  return autoglm::run(request, argv[2]);
}
