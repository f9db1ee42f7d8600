// A parameter as ops see it: a handle, so that weights and their gradients stay outside autograd's graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace autoglm {

// What a block declares.
struct ParameterSpec {
  std::string name;  // as in the Hugging Face file
  std::vector<std::int64_t> shape;
  bool decays = true;  // weight decay applies (not to biases and norms)
  // Writes fp32 values from element `offset` on, of a parameter that no file holds; empty: a file holds it.
  std::function<void(std::int64_t offset, std::span<float> values)> initialise = {};

  bool from_file() const { return !initialise; }

  std::int64_t num_elements() const {
    std::int64_t product = 1;
    for (const std::int64_t extent : shape) product *= extent;
    return product;
  }
};

// Where an op's part of a parameter's gradient goes, fp32. A fresh one holds nothing of this backward pass: the op
// writes every element; else it adds.
struct GradientBuffer {
  at::Tensor values;  // undefined: not wanted
  bool fresh = false;

  GradientBuffer() = default;
  GradientBuffer(at::Tensor held, bool is_fresh = false) : values(std::move(held)), fresh(is_fresh) {}
  bool defined() const { return values.defined(); }
  // The same for an op that can only add: zeros, where it is fresh.
  const at::Tensor& to_add_to() const;
};

// Owned by its block; the engine binds it while the block may run. An op keeps a pointer to the handle and
// asks for the weight again in its backward: a gathered weight may be released in between.
class Parameter {
 public:
  explicit Parameter(ParameterSpec spec) : spec_(std::move(spec)) {}

  const ParameterSpec& spec() const { return spec_; }
  const std::string& name() const { return spec_.name; }

  // Frozen parameters get no gradient. Set before training starts.
  bool trainable() const { return trainable_; }
  void set_trainable(bool trainable) { trainable_ = trainable; }

  // The working weight, shaped as declared. Only while bound.
  const at::Tensor& weight() const {
    AUTOGLM_CHECK(weight_.defined(), "{} is read while its weight is not there", spec_.name);
    return weight_;
  }

  // Shaped as declared, a view into the block's flat gradient buffer, for an op that will now write it or add to
  // it: fresh to the first that asks. Only during the block's backward, and only when trainable.
  GradientBuffer take_gradient() const {
    AUTOGLM_CHECK(gradient_.defined(), "{} has no gradient buffer now", spec_.name);
    gradient_written_ = true;
    return {gradient_, std::exchange(fresh_, false)};
  }
  GradientBuffer take_gradient_if_trainable() const {
    return trainable_ ? take_gradient() : GradientBuffer();
  }

  // The gradient with all that was written to it, for an op that adds.
  const at::Tensor& gradient() const {
    take_gradient().to_add_to();
    return gradient_;
  }
  at::Tensor gradient_if_trainable() const { return trainable_ ? gradient() : at::Tensor(); }

  // Whether the weight can be read now.
  bool bound() const { return weight_.defined(); }

  void bind_weight(at::Tensor weight) { weight_ = std::move(weight); }
  // Zeros where no op has asked for the gradient: a tied head writes only one of the embedding's.
  void clear_gradient_if_fresh() const {
    GradientBuffer(gradient_, std::exchange(fresh_, false)).to_add_to();
  }

  // With `fresh` it holds nothing yet.
  void bind_gradient(at::Tensor gradient, bool fresh = false) {
    gradient_ = std::move(gradient);
    fresh_ = fresh;
  }

  // Whether an op has asked for the gradient since the last call: a parameter that is never asked for is not
  // part of the model's function.
  bool take_gradient_written() const { return std::exchange(gradient_written_, false); }

 private:
  ParameterSpec spec_;
  bool trainable_ = true;
  at::Tensor weight_;
  at::Tensor gradient_;
  mutable bool fresh_ = false;
  mutable bool gradient_written_ = false;
};

}  // namespace autoglm
