// What the environment chooses; run.sh says what each name means.
#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace cuda_on_host {

// What is done about a call that a device would take, but that no program should make.
enum class Misuse { ignore, tell, stop };

struct Settings {
  int cards = 1;
  std::int64_t card_bytes = 0;
  std::string card_name;
  int capability = 80;             // compute capability: 86 is 8.6
  std::int64_t gives = 0;          // bytes of a card that a process gets, whatever seems to be free; 0: all
  std::string out_of_memory;       // calls that find no memory (shortage.h)
  int driver = 0;                  // its version; of an older major version it shows no cards
  std::int64_t context_bytes = 0;  // taken on a card by the first call of a process
  std::int64_t kernel_bytes = 0;   // taken by a kernel's first launch, as code is loaded
  std::string ledger;              // who shares cards; nobody without a name
  bool sees_dead_peers = true;     // NCCL's communicators do
  bool taken = false;              // another process has the cards, whose compute mode is exclusive
  bool immediate = false;          // work is done when it is queued, by the caller
  bool late_queries = false;
  int longest_delay_us = 0;  // before each piece of work
  bool fibers = false;       // blocks of real threads, else one thread plays all of a block
  int thread_order = 0;
  bool bytes_only = false;      // nothing is computed or copied, and page-locked memory holds nothing
  std::int64_t host_bytes = 0;  // what the host says it has; 0: the truth
  bool reads_host = false;      // pageable memory, when a copy's turn comes
  bool says_so = true;          // that it does
  bool fresh_nan = true;        // new memory holds NaNs
  Misuse misuse = Misuse::tell;
  bool no_waits = false;                 // nothing waits for events
  std::set<std::string> left_out_waits;  // nor do those of these places
  bool list_waits = false;
  bool counts_messages = false;  // of NCCL, which tells of them at its end
  bool trace = false;
};

const Settings& settings();

}  // namespace cuda_on_host
