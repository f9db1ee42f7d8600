// How an op of ours joins autograd's graph: one node type per op, with typed members for what it saves.
//
// Nodes keep plain detached tensors and parameter handles, so there are no version counters and no
// reference cycles; each graph belongs to one block and one backward pass.
#pragma once

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <vector>

namespace autoglm::ops {

using torch::autograd::Node;
using torch::autograd::variable_list;

// True when the op must record: gradients are on and some input needs one.
inline bool recording(std::initializer_list<at::Tensor> inputs) {
  if (!c10::GradMode::is_enabled()) return false;
  for (const at::Tensor& input : inputs) {
    if (input.defined() && input.requires_grad()) return true;
  }
  return false;
}

// A node of type NodeT whose gradients flow to `inputs`, in that order.
template <typename NodeT>
std::shared_ptr<NodeT> make_node(const std::vector<at::Tensor>& inputs) {
  std::shared_ptr<NodeT> node(std::make_unique<NodeT>().release(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  return node;
}

// Makes `output` the next output of `node`; call in the order in which apply() expects its gradients.
inline void attach(at::Tensor& output, const std::shared_ptr<Node>& node) {
  torch::autograd::set_history(output, node);
}

// [..., N] as contiguous rows [M, N], outside of the graph.
inline at::Tensor rows_of(const at::Tensor& x) {
  return x.detach().reshape({-1, x.size(-1)}).contiguous();
}

}  // namespace autoglm::ops
