// Reduce-scatter in the order of the ranks, by messages of NCCL and sums of ours: its bits depend on the ranks'
// numbers alone.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sharding/communicator.h"
#include "sharding/nccl/nccl_connection.h"
#include "sharding/reduce_route.h"

namespace autoglm {

// Shards are cut into pieces. In a round this rank sends and receives a piece of each part that it has to do
// with, while it adds what came in the round before: so `staging`, memory of the device, has two halves. A sum
// goes on to the next host two rounds after its parts have come. Parts that are rounded to bf16 leave in two bytes
// an element, from the staging memory too; sums stay fp32.
class OrderedReduce {
 public:
  // `hosts` by rank; alike on all ranks, as is the size of `staging`. `sums` is what this rank adds on.
  OrderedReduce(const std::vector<int>& hosts, int rank, std::span<std::byte> staging,
                std::unique_ptr<Stream> sums);

  // Queues a reduce-scatter as communicator.h describes it, behind what the connection's stream holds.
  void queue(NcclConnection& connection, const std::string& name, float* input, float* output,
             std::int64_t count, Parts parts);

 private:
  // How the parts of a kind travel.
  struct Way {
    ReduceRoute route;
    std::int64_t slot_width;      // bytes for each element of a piece
    std::int64_t piece_elements;  // of a piece
  };
  static Way plan_way(const std::vector<int>& hosts, int rank, Parts parts, std::size_t staging);

  struct Piece {
    std::int64_t begin = 0, count = 0;  // of every shard, in elements
  };
  struct Call {
    const Way& way;
    float* input;
    float* output;
    std::int64_t count;
    std::int64_t num_pieces;
    bool rounded;

    // Of the rank's own part.
    float* own(int shard, const Piece& piece) const { return input + shard * count + piece.begin; }
  };
  // The piece of a stage's round; none if it has not begun yet or is over.
  static Piece piece_in(const Call& call, std::int64_t round, int hop);
  template <typename T>
  T* slot(const Call& call, std::int64_t round, int number) const;
  void round_parts(Stream& stream, const Call& call, std::int64_t round);
  void exchange(NcclConnection& connection, const std::string& name, const Call& call, std::int64_t round);
  void add(const Call& call, std::int64_t round);

  std::span<std::byte> staging_;
  Way exact_, rounded_;
  std::unique_ptr<Stream> sums_;
};

}  // namespace autoglm
