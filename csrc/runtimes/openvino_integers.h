// The integer operators (integer_attention.h) as OpenVINO's. In standard operators OpenVINO cannot compute them: its
// integers are float32 beyond 24 bits.
#pragma once
#include <openvino/op/concat.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/reshape.hpp>

#include "integer_attention.h"
#include "openvino_common.h"

namespace inhibitor {
namespace openvino {

using runtimes::IntegerAttributes;

// What both operators share; O is the operator itself.
template <class O>
class IntegerOp : public ov::op::Op {
 public:
  IntegerOp() = default;
  IntegerOp(const ov::OutputVector& inputs, const IntegerAttributes& attributes, bool is_masked)
      : Op(inputs), attributes_(attributes), is_masked_(is_masked) {}

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visit_common(visitor, attributes_);
    visitor.on_attribute("bits", attributes_.bits);
    visitor.on_attribute("head_size", attributes_.head_size);
    visitor.on_attribute("value_zero_point", attributes_.value_zero_point);
    visitor.on_attribute("output_zero_point", attributes_.output_zero_point);
    visitor.on_attribute("has_key_padding_mask", is_masked_);
    return true;
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    check_new_args_count(this, inputs);
    return std::make_shared<O>(inputs, attributes_, is_masked_);
  }

  bool has_evaluate() const override { return true; }

 protected:
  int64_t heads() const { return attributes_.num_heads; }
  int64_t kv_heads() const { return attributes_.kv_num_heads ? attributes_.kv_num_heads : heads(); }

  // Input `index` of (B, N, features); dynamic where not known.
  ov::Dimension dimension(size_t input, size_t index) const {
    const ov::PartialShape& shape = get_input_partial_shape(input);
    return shape.rank().is_static() && shape.size() == 3 ? shape[index] : ov::Dimension::dynamic();
  }

  void set_output(ov::element::Type type, const ov::Dimension& features) {
    set_output_type(0, type, {dimension(0, 0), dimension(0, 1), features});
  }

  void require(bool is_right, const std::string& wrong) const { NODE_VALIDATION_CHECK(this, is_right, wrong); }

  void throw_if(const std::string& wrong) const {
    if (!wrong.empty()) OPENVINO_THROW(get_friendly_name(), " (", get_type_name(), "): ", wrong);
  }

  IntegerAttributes attributes_;
  bool is_masked_ = false;
};

// (H,) each, from an input that holds `count` of such rows and perhaps a table behind them.
inline Array<const int32_t> row(const int32_t* rows, int64_t index, int64_t heads) { return {rows + index * heads, {heads}}; }

// Inputs: query, key, value, key_padding_mask if there is one, offset, inverse_step, value_inverse_step, factors, and in
// one row sign, delta, shift and source. Where source is empty one number may stand in its place: the ONNX front end reads
// an empty constant as a scalar.
class IntegerInhibitorAttention : public IntegerOp<IntegerInhibitorAttention> {
 public:
  OPENVINO_OP("IntegerInhibitorAttention", "inhibitor");
  IntegerInhibitorAttention() = default;
  IntegerInhibitorAttention(const ov::OutputVector& inputs, const IntegerAttributes& attributes, bool is_masked)
      : IntegerOp(inputs, attributes, is_masked) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    const std::string wrong = check_integer(attributes_);
    require(wrong.empty(), wrong);
    require(get_input_size() == rest() + 5u, "it has " + std::to_string(get_input_size()) + " inputs");
    for (size_t i : {size_t{0}, size_t{1}, size_t{2}, rest(), rest() + 1, rest() + 2, rest() + 3})
      require(has_type(*this, i, {ov::element::f32}), "input " + std::to_string(i) + " must be f32");
    require(has_type(*this, rest() + 4, {ov::element::i32}), "sign, delta, shift and source must be i32");
    require(!is_masked_ || is_mask(*this, 3), "key_padding_mask must be boolean");
    const ov::Dimension values = dimension(2, 2);
    set_output(ov::element::f32,
               values.is_static() ? ov::Dimension(values.get_length() / kv_heads() * heads()) : ov::Dimension::dynamic());
  }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    runtimes::IntegerInputs in;
    in.query = array<float>(inputs[0]);
    in.key = array<float>(inputs[1]);
    in.value = array<float>(inputs[2]);
    if (is_masked_) in.key_padding_mask = array<uint8_t>(inputs[3]);
    in.offset = array<float>(inputs[rest()]);
    in.inverse_step = array<float>(inputs[rest() + 1]);
    in.value_inverse_step = array<float>(inputs[rest() + 2]);
    in.factors = array<float>(inputs[rest() + 3]);
    const auto* rows = static_cast<const int32_t*>(inputs[rest() + 4].data());
    in.scores = {row(rows, 0, heads()), row(rows, 1, heads()), row(rows, 2, heads())};
    std::string wrong;
    const Shape shape = output_shape(attributes_, in.query.shape, in.key.shape, in.value.shape, wrong);
    throw_if(wrong);
    const int64_t given = static_cast<int64_t>(inputs[rest() + 4].get_size()) - 3 * heads();
    const int64_t features = in.offset.shape.empty() ? 0 : in.offset.shape.back();
    const int64_t extra = features - in.query.shape[2] / heads();
    if (extra > 0 && given != kv_heads() * extra) throw_if("source and offset must tell of the same features");
    in.source = {rows + 3 * heads(), {kv_heads(), std::max<int64_t>(extra, 0)}};
    outputs[0].set_shape({shape.begin(), shape.end()});
    throw_if(integer_attention(attributes_, in, static_cast<float*>(outputs[0].data()), threads()));
    return true;
  }

 private:
  size_t rest() const { return is_masked_ ? 4 : 3; }
};

// Inputs: query (and key and value, unless it holds them too), key_padding_mask if there is one, and in one row sign,
// delta, shift, output shift and multiplier: a model of dynamic shapes copies a node, with all inputs, in every call.
class QLinearInhibitorAttention : public IntegerOp<QLinearInhibitorAttention> {
 public:
  OPENVINO_OP("QLinearInhibitorAttention", "inhibitor");
  QLinearInhibitorAttention() = default;
  QLinearInhibitorAttention(const ov::OutputVector& inputs, const IntegerAttributes& attributes, bool is_masked)
      : IntegerOp(inputs, attributes, is_masked) {
    constructor_validate_and_infer_types();
  }

  void validate_and_infer_types() override {
    const std::string wrong = check_integer(attributes_);
    require(wrong.empty(), wrong);
    require(tensors() == 1 || tensors() == 3, "it has " + std::to_string(get_input_size()) + " inputs");
    for (size_t i = 0; i < tensors(); ++i)
      require(has_type(*this, i, {ov::element::u8}), "query, key and value must be u8");
    require(!is_masked_ || is_mask(*this, tensors()), "key_padding_mask must be boolean");
    require(has_type(*this, get_input_size() - 1, {ov::element::i32}), "parameters must be i32");
    set_output(ov::element::u8, output_features());
  }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    runtimes::QLinearInputs in;
    in.query = array<uint8_t>(inputs[0]);
    if (tensors() == 3) {
      in.key = array<uint8_t>(inputs[1]);
      in.value = array<uint8_t>(inputs[2]);
    }
    if (is_masked_) in.key_padding_mask = array<uint8_t>(inputs[tensors()]);
    const auto* rows = static_cast<const int32_t*>(inputs.back().data());
    const int64_t columns = static_cast<int64_t>(inputs.back().get_size()) / heads() - 4;
    in.scores = {row(rows, 0, heads()), row(rows, 1, heads()), row(rows, 2, heads())};
    in.output_shift = row(rows, 3, heads());
    in.multiplier = {rows + 4 * heads(), {heads(), columns}};
    std::string wrong;
    const Shape shape = qlinear_output_shape(attributes_, in.query.shape, in.key.shape, in.value.shape, wrong);
    throw_if(wrong);
    outputs[0].set_shape({shape.begin(), shape.end()});
    throw_if(qlinear_attention(attributes_, in, static_cast<uint8_t*>(outputs[0].data()), threads()));
    return true;
  }

 private:
  size_t tensors() const { return get_input_size() - (is_masked_ ? 2 : 1); }

  ov::Dimension output_features() const {
    const ov::Dimension given = dimension(tensors() == 1 ? 0 : 2, 2);
    if (given.is_dynamic()) return given;
    const int64_t of_scores = tensors() == 1 ? (heads() + kv_heads()) * attributes_.head_size : 0;
    return (given.get_length() - of_scores) / kv_heads() * heads();
  }
};

inline IntegerAttributes read_integer(const ov::frontend::NodeContext& node) {
  IntegerAttributes a;
  read_common(node, a);
  a.bits = node.get_attribute<int64_t>("bits", a.bits);
  a.head_size = node.get_attribute<int64_t>("head_size", a.head_size);
  a.value_zero_point = node.get_attribute<int64_t>("value_zero_point", a.value_zero_point);
  a.output_zero_point = node.get_attribute<int64_t>("output_zero_point", a.output_zero_point);
  return a;
}

// Constants one behind the other: folded when the model is compiled.
inline ov::Output<ov::Node> in_a_row(const ov::frontend::NodeContext& node, std::initializer_list<int> inputs) {
  const auto flat = ov::op::v0::Constant::create(ov::element::i64, {1}, {-1});
  ov::OutputVector parts;
  for (const int input : inputs) {
    if (!is_given(node, input)) OPENVINO_THROW(node.get_name(), " (", node.get_op_type(), "): inputs are missing");
    parts.push_back(std::make_shared<ov::op::v1::Reshape>(node.get_input(input), flat, false));
  }
  return std::make_shared<ov::op::v0::Concat>(parts, 0)->output(0);
}

inline ov::OutputVector convert_integer(const ov::frontend::NodeContext& node) {
  const IntegerAttributes attributes = read_integer(node);
  ov::OutputVector inputs{node.get_input(0), node.get_input(1), node.get_input(2)};
  const bool is_masked = is_given(node, 3);
  if (is_masked) inputs.push_back(node.get_input(3));
  for (const int input : {4, 6, 7, 11}) {
    if (!is_given(node, input)) OPENVINO_THROW(node.get_name(), " (", node.get_op_type(), "): inputs are missing");
    inputs.push_back(node.get_input(input));
  }
  inputs.push_back(in_a_row(node, {8, 9, 10, 5}));
  return {std::make_shared<IntegerInhibitorAttention>(inputs, attributes, is_masked)};
}

inline ov::OutputVector convert_qlinear(const ov::frontend::NodeContext& node) {
  const IntegerAttributes attributes = read_integer(node);
  ov::OutputVector inputs;
  for (const int input : {0, 1, 2, 3})
    if (is_given(node, input)) inputs.push_back(node.get_input(input));
  inputs.push_back(in_a_row(node, {4, 5, 6, 8, 7}));
  return {std::make_shared<QLinearInhibitorAttention>(inputs, attributes, is_given(node, 3))};
}

}  // namespace openvino
}  // namespace inhibitor
