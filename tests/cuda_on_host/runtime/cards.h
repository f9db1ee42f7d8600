// The pretend cards: which one a thread works on, and what they say of themselves.
#pragma once

#include <cuda_runtime_api.h>

namespace cuda_on_host {

// What an A100 gives a block: without and with asking for more.
constexpr int kSharedBytes = 49152;
int most_shared_bytes();  // of a block, by the card's compute capability
constexpr int kMostThreads = 1024;

int current_card();
bool thread_chose_card();   // by cudaSetDevice
bool process_chose_card();  // any thread of it

// Of threads that belong to this library.
void work_on_card(int card);

// The first use of a card by a process takes memory for a context; false when there is none.
bool ensure_context(int card);

}  // namespace cuda_on_host
