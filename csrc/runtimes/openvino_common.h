// What the operators of openvino.cpp share.
#pragma once
#include <openvino/core/parallel.hpp>
#include <openvino/frontend/onnx/extension/conversion.hpp>
#include <openvino/op/op.hpp>

#include "attention.h"

namespace inhibitor {
namespace openvino {

using runtimes::Array;
using runtimes::Shape;

inline Shape shape_of(const ov::Shape& shape) { return {shape.begin(), shape.end()}; }

template <class T>
Array<const T> array(const ov::Tensor& tensor) {
  return {static_cast<const T*>(tensor.data()), shape_of(tensor.get_shape())};
}

inline void run_team(void*, int64_t size, void (*work)(void*), void* argument) {
  ov::parallel_nt(static_cast<int>(size), [&](int, int) { work(argument); });
}

// Those of the inference.
inline runtimes::Threads threads() { return {parallel_get_max_threads(), run_team, nullptr}; }

// Whether an input has one of these types, or one that is not known yet.
inline bool has_type(const ov::Node& node, size_t input, std::initializer_list<ov::element::Type> allowed) {
  const ov::element::Type found = node.get_input_element_type(input);
  return found.is_dynamic() || std::find(allowed.begin(), allowed.end(), found) != allowed.end();
}

// The plugin turns boolean into u8.
inline bool is_mask(const ov::Node& node, size_t input) {
  return has_type(node, input, {ov::element::boolean, ov::element::u8});
}

inline bool is_given(const ov::frontend::NodeContext& node, int input) {
  return input < static_cast<int>(node.get_input_size()) &&
         std::string(node.get_input(input).get_node()->get_type_name()) != "NullNode";
}

// The attributes that all operators have.
inline void read_common(const ov::frontend::NodeContext& node, runtimes::Attributes& a) {
  a.num_heads = node.get_attribute<int64_t>("num_heads", a.num_heads);
  a.kv_num_heads = node.get_attribute<int64_t>("kv_num_heads", a.kv_num_heads);
  a.center = node.get_attribute<std::string>("center", a.center);
  a.is_signed = node.get_attribute<int64_t>("is_signed", a.is_signed) != 0;
  a.is_causal = node.get_attribute<int64_t>("is_causal", a.is_causal) != 0;
}

inline void visit_common(ov::AttributeVisitor& visitor, runtimes::Attributes& a) {
  visitor.on_attribute("num_heads", a.num_heads);
  visitor.on_attribute("kv_num_heads", a.kv_num_heads);
  visitor.on_attribute("center", a.center);
  visitor.on_attribute("is_signed", a.is_signed);
  visitor.on_attribute("is_causal", a.is_causal);
}

}  // namespace openvino
}  // namespace inhibitor
