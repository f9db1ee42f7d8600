#include "tests/cuda_on_host/blocks/grid.h"

#include <stdexcept>
#include <vector>

#include "tests/cuda_on_host/blocks/device_thread.h"
#include "tests/cuda_on_host/blocks/fiber.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

constexpr int kWarp = 32;

struct Barrier {
  int arrived = 0, round = 0;
};

// The block that a thread of the host runs.
struct Block {
  Fibers fibers;
  std::vector<DeviceThread> threads;
  std::vector<double> exchange;  // by thread, between the barriers of a shuffle
  std::vector<Barrier> warps;
  Barrier all;
  int count = 0;
  int current = 0;

  void wait(Barrier& barrier, int size) {
    const int round = barrier.round, self = current;
    fibers.progressed();
    if (++barrier.arrived == size) {
      barrier.arrived = 0;
      ++barrier.round;
      return;
    }
    while (barrier.round == round) fibers.give_way();
    current = self;
  }
};
thread_local Block t_block;

DeviceThread thread_of(const Launch& launch, uint3 block, unsigned i) {
  const dim3& size = launch.block;
  return {{i % size.x, i / size.x % size.y, i / size.x / size.y}, block, size, launch.grid};
}

template <typename Function>
void for_each_block(const dim3& grid, Function function) {
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) function(uint3{x, y, z});
    }
  }
}

unsigned size_of(const dim3& block) {
  return block.x * block.y * block.z;
}

}  // namespace

const DeviceThread& device_thread() {
  return t_block.threads[t_block.current];
}

void block_barrier() {
  t_block.wait(t_block.all, t_block.count);
}

double shuffle_xor(unsigned mask, double value, int distance) {
  Block& block = t_block;
  const int warp = block.current / kWarp, self = block.current;
  if (mask != 0xFFFFFFFFu || block.count % kWarp != 0)
    throw std::runtime_error("a shuffle of part of a warp");
  block.exchange[self] = value;
  block.wait(block.warps[warp], kWarp);
  const double other = block.exchange[self ^ distance];
  block.wait(block.warps[warp], kWarp);
  return other;
}

void run_grid(const Launch& launch, const std::function<void()>& thread) {
  Block& block = t_block;
  block.count = static_cast<int>(size_of(launch.block));
  block.threads.resize(block.count);
  block.exchange.assign(block.count, 0);
  for_each_block(launch.grid, [&](uint3 place) {
    block.warps.assign((block.count + kWarp - 1) / kWarp, {});
    block.all = {};
    for (int i = 0; i < block.count; ++i)
      block.threads[i] = thread_of(launch, place, static_cast<unsigned>(i));
    block.fibers.run(block.count, settings().thread_order, [&](int i) {
      block.current = i;
      thread();
    });
  });
}

void run_threads(const Launch& launch, const std::function<void()>& thread) {
  Block& block = t_block;
  block.threads.resize(1);
  block.current = 0;
  for_each_block(launch.grid, [&](uint3 place) {
    for (unsigned i = 0; i < size_of(launch.block); ++i) {
      block.threads[0] = thread_of(launch, place, i);
      thread();
    }
  });
}

}  // namespace cuda_on_host
