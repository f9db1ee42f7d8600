// The project's own device code, compiled for the host as it is written, under its kernels' names. The files are made
// by strip_launches.py: they lack nothing but the launches, which are the program's own.
// clang-format off
#include <cuda_runtime.h>
#include "cuda_kernels.inc"
#include "adamw.inc"
#include "ordered_sum.inc"
// clang-format on

#include <cxxabi.h>

#include <cstdlib>
#include <string>
#include <tuple>
#include <typeinfo>
#include <utility>

#include "tests/cuda_on_host/blocks/grid.h"
#include "tests/cuda_on_host/runtime/kernels.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

using Runner = void (*)(const Launch&, const std::function<void()>&);

template <typename... Arguments, std::size_t... I>
std::tuple<Arguments...> copy_arguments(void** arguments, std::index_sequence<I...>) {
  return {argument<Arguments>(arguments, static_cast<int>(I))...};
}

template <typename... Arguments>
void add(const std::string& name, void (*kernel)(Arguments...), Runner runner) {
  add_kernel(name, [kernel, runner](const Launch& launch, void** arguments) -> Work {
    const auto copied = copy_arguments<Arguments...>(arguments, std::index_sequence_for<Arguments...>());
    return [=] { runner(launch, [&] { std::apply(kernel, copied); }); };
  });
}

std::string name_of(const std::type_info& type) {
  int status = 0;
  char* text = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = text;
  std::free(text);
  return name;
}

}  // namespace
}  // namespace cuda_on_host

namespace autoglm::ops::cuda {
namespace {

// With a group of one thread the same source gives the same sums in a fraction of the time.
template <typename Kernel>
void add_block_kernel() {
  const std::string type = cuda_on_host::name_of(typeid(Kernel));
  const std::string name =
      "autoglm::ops::cuda::(anonymous namespace)::run_block<" + type + (type.back() == '>' ? " >" : ">");
  if (cuda_on_host::settings().fibers) {
    cuda_on_host::add(name, &run_block<Kernel>, &cuda_on_host::run_grid);
    return;
  }
  cuda_on_host::add_kernel(name,
                           [](const cuda_on_host::Launch& launch, void** arguments) -> cuda_on_host::Work {
                             const auto kernel = cuda_on_host::argument<Kernel>(arguments, 0);
                             return [=] {
                               for (unsigned block = 0; block < launch.grid.x; ++block)
                                 kernel(SerialGroup{}, block);
                             };
                           });
}

#define AUTOGLM_ADD_BLOCK_KERNEL(...) add_block_kernel<__VA_ARGS__>();
[[maybe_unused]] const int block_kernels = [] {
  AUTOGLM_EACH_CUDA_KERNEL(AUTOGLM_ADD_BLOCK_KERNEL)
  return 0;
}();

}  // namespace
}  // namespace autoglm::ops::cuda

namespace autoglm {
namespace {

[[maybe_unused]] const int other_kernels = [] {
  const std::string where = "autoglm::(anonymous namespace)::";
  cuda_on_host::add(where + "adamw_kernel", &adamw_kernel, &cuda_on_host::run_threads);
  cuda_on_host::add(where + "accumulate_kernel", &accumulate_kernel, &cuda_on_host::run_threads);
  cuda_on_host::add(where + "squares_kernel", &squares_kernel, &cuda_on_host::run_grid);
  cuda_on_host::add(where + "ordered_sum_kernel", &ordered_sum_kernel, &cuda_on_host::run_threads);
  cuda_on_host::add(where + "round_part_kernel", &round_part_kernel, &cuda_on_host::run_threads);
  return 0;
}();

}  // namespace
}  // namespace autoglm
