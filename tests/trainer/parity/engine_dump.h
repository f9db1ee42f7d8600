// The engine's numbers for a comparison with others.
#pragma once

namespace autoglm {

// engine_dump REQUEST.json: trains as asked and writes logits, gradients, weights and losses. Returns the
// exit code.
int engine_dump(int argc, char** argv);

}  // namespace autoglm
