// What a person sets about AdamW, beside the learning rate.
#pragma once

namespace autoglm {

struct AdamWSettings {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;  // decoupled; not on biases and norms
};

}  // namespace autoglm
