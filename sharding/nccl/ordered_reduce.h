// Reduce-scatter in the order of the ranks, by messages of NCCL and sums of ours: its bits depend on the ranks'
// numbers alone.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sharding/nccl/nccl_connection.h"
#include "sharding/reduce_route.h"

namespace autoglm {

// Shards are cut into pieces. In a round this rank sends and receives a piece of each part that it has to do
// with, while it adds what came in the round before: so `staging`, memory of the device, has two halves. A sum
// goes on to the next host two rounds after its parts have come.
class OrderedReduce {
 public:
  // `hosts` by rank; alike on all ranks, as is the size of `staging`. `sums` is what this rank adds on.
  OrderedReduce(const std::vector<int>& hosts, int rank, std::span<std::byte> staging,
                std::unique_ptr<Stream> sums);

  // Queues a reduce-scatter as communicator.h describes it, behind what the connection's stream holds.
  void queue(NcclConnection& connection, const std::string& name, float* input, float* output,
             std::int64_t count);

 private:
  struct Piece {
    std::int64_t begin = 0, count = 0;  // of every shard, in elements
  };
  struct Call {
    float* input;
    float* output;
    std::int64_t count;
    std::int64_t num_pieces;
  };
  // The piece of a stage's round; none if it has not begun yet or is over.
  Piece piece_in(const Call& call, std::int64_t round, int hop) const;
  float* slot(std::int64_t round, int number) const;
  void exchange(NcclConnection& connection, const std::string& name, const Call& call, std::int64_t round);
  void add(const Call& call, std::int64_t round);

  ReduceRoute route_;
  std::span<std::byte> staging_;
  std::int64_t piece_elements_;
  std::unique_ptr<Stream> sums_;
};

}  // namespace autoglm
