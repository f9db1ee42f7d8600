// Calls that find no memory on a card though it has some, which the setting OUT_OF_MEMORY names: as if another program
// had taken the rest just then.
#pragma once

namespace cuda_on_host {

// What takes memory of a card: an allocation, a kernel's code at its first launch, a product, a collective or a group of
// messages.
enum class Taker { memory, kernel, product, message };

// Counts the call, from 1, and says whether it finds none.
bool finds_none(Taker taker);

}  // namespace cuda_on_host
