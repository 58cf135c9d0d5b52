// The operator inhibitor::InhibitorAttention of OpenVINO: core.add_extension(path of this library), then
// core.read_model of ONNX files and of OpenVINO's own. deploy/runtimes/openvino_operator.py compiles it, for a release.
//
// query, key, value and output are float32, or all bfloat16: the processor plugin converts nothing between projections
// that compute in bfloat16 and an operator that takes it. Threads are those of the inference.
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/core/parallel.hpp>
#include <openvino/frontend/onnx/extension/conversion.hpp>
#include <openvino/op/broadcast.hpp>
#include <openvino/op/concat.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/op.hpp>

#include "attention.h"

namespace inhibitor {
namespace {

using runtimes::Array;
using runtimes::Attributes;
using runtimes::Shape;

// Inputs: query, key, value, key_padding_mask if there is one, the scalars (4, H), and score_bias if there is one. The
// scalars are one input and not four because a model of dynamic shapes copies the node, with all of its inputs, in each
// call.
class InhibitorAttention : public ov::op::Op {
 public:
  OPENVINO_OP("InhibitorAttention", "inhibitor");

  InhibitorAttention() = default;
  InhibitorAttention(const ov::OutputVector& inputs, const Attributes& attributes, bool is_masked)
      : Op(inputs), attributes_(attributes), is_masked_(is_masked) {
    constructor_validate_and_infer_types();
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("num_heads", attributes_.num_heads);
    visitor.on_attribute("kv_num_heads", attributes_.kv_num_heads);
    visitor.on_attribute("length_reference", attributes_.length_reference);
    visitor.on_attribute("center", attributes_.center);
    visitor.on_attribute("is_signed", attributes_.is_signed);
    visitor.on_attribute("is_causal", attributes_.is_causal);
    visitor.on_attribute("has_key_padding_mask", is_masked_);
    return true;
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    check_new_args_count(this, inputs);
    return std::make_shared<InhibitorAttention>(inputs, attributes_, is_masked_);
  }

  void validate_and_infer_types() override {
    const std::string wrong = wrong_inputs();
    NODE_VALIDATION_CHECK(this, wrong.empty(), wrong);
    const ov::PartialShape &query = get_input_partial_shape(0), &value = get_input_partial_shape(2);
    ov::PartialShape output = ov::PartialShape::dynamic(3);
    if (query.rank().is_static()) output[0] = query[0], output[1] = query[1];
    if (value.rank().is_static() && value[2].is_static()) output[2] = value[2].get_length() / kv_heads() * heads();
    set_output_type(0, get_input_element_type(0), output);
  }

  bool has_evaluate() const override { return true; }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    const runtimes::AttentionInputs in = arrays(inputs);
    std::string wrong;
    const Shape shape = runtimes::output_shape(attributes_, in.query.shape, in.key.shape, in.value.shape, wrong);
    if (wrong.empty()) {
      outputs[0].set_shape({shape.begin(), shape.end()});
      const runtimes::Threads threads{parallel_get_max_threads(), run_team, nullptr};
      wrong = runtimes::attention(attributes_, in, outputs[0].data(), threads);
    }
    if (!wrong.empty()) OPENVINO_THROW(get_friendly_name(), " (InhibitorAttention): ", wrong);
    return true;
  }

 private:
  size_t scalars_at() const { return is_masked_ ? 4 : 3; }
  int64_t heads() const { return attributes_.num_heads; }
  int64_t kv_heads() const { return attributes_.kv_num_heads ? attributes_.kv_num_heads : heads(); }

  std::string wrong_inputs() const {
    std::string wrong = check(attributes_);
    if (!wrong.empty()) return wrong;
    const size_t at_least = scalars_at() + 1;
    if (get_input_size() < at_least || get_input_size() > at_least + 1)
      return "it has " + std::to_string(get_input_size()) + " inputs, not " + std::to_string(at_least) + " or one more";
    wrong = wrong_types();
    if (!wrong.empty() || !is_static(0) || !is_static(1) || !is_static(2)) return wrong;
    runtimes::output_shape(attributes_, static_shape(0), static_shape(1), static_shape(2), wrong);
    return wrong;
  }

  std::string wrong_types() const {
    const ov::element::Type type = get_input_element_type(0);
    const auto is = [&](size_t input, std::initializer_list<ov::element::Type> allowed) {
      const ov::element::Type found = get_input_element_type(input);
      return found.is_dynamic() || std::find(allowed.begin(), allowed.end(), found) != allowed.end();
    };
    if (!is(0, {ov::element::f32, ov::element::bf16}) || !is(1, {type}) || !is(2, {type}))
      return "query, key and value must all be f32 or all bf16, got " + type.to_string() + ", " +
             get_input_element_type(1).to_string() + ", " + get_input_element_type(2).to_string();
    if (is_masked_ && !is(3, {ov::element::boolean, ov::element::u8}))  // the plugin turns boolean into u8
      return "key_padding_mask must be boolean, got " + get_input_element_type(3).to_string();
    for (size_t input = scalars_at(); input < get_input_size(); ++input)
      if (!is(input, {ov::element::f32}))
        return "scalars and score_bias must be f32, got " + get_input_element_type(input).to_string();
    return "";
  }

  bool is_static(size_t input) const { return get_input_partial_shape(input).is_static(); }
  Shape static_shape(size_t input) const {
    const ov::Shape shape = get_input_partial_shape(input).to_shape();
    return {shape.begin(), shape.end()};
  }

  template <class T>
  static Array<const T> array(const ov::Tensor& tensor) {
    const ov::Shape& shape = tensor.get_shape();
    return {static_cast<const T*>(tensor.data()), {shape.begin(), shape.end()}};
  }

  runtimes::AttentionInputs arrays(const ov::TensorVector& inputs) const {
    runtimes::AttentionInputs in;
    in.dtype = inputs[0].get_element_type() == ov::element::bf16 ? INHIBITOR_BFLOAT16 : INHIBITOR_FLOAT32;
    in.query = array<void>(inputs[0]);
    in.key = array<void>(inputs[1]);
    in.value = array<void>(inputs[2]);
    if (is_masked_) in.key_padding_mask = array<uint8_t>(inputs[3]);
    const auto* scalars = static_cast<const float*>(inputs[scalars_at()].data());
    for (Array<const float>* of : {&in.gamma, &in.eta, &in.delta, &in.length_exponent}) {
      *of = {scalars, {heads()}};
      scalars += heads();
    }
    if (inputs.size() > scalars_at() + 1) in.score_bias = array<float>(inputs.back());
    return in;
  }

  static void run_team(void*, int64_t size, void (*work)(void*), void* argument) {
    ov::parallel_nt(static_cast<int>(size), [&](int, int) { work(argument); });
  }

  Attributes attributes_;
  bool is_masked_ = false;
};

// The inputs of an ONNX node, in their order.
enum Input { kQuery, kKey, kValue, kKeyPaddingMask, kGamma, kEta, kDelta, kLengthExponent, kScoreBias };

Attributes read_attributes(const ov::frontend::NodeContext& node) {
  Attributes a;
  a.num_heads = node.get_attribute<int64_t>("num_heads", a.num_heads);
  a.kv_num_heads = node.get_attribute<int64_t>("kv_num_heads", a.kv_num_heads);
  a.length_reference = node.get_attribute<float>("length_reference", static_cast<float>(a.length_reference));
  a.center = node.get_attribute<std::string>("center", a.center);
  a.is_signed = node.get_attribute<int64_t>("is_signed", a.is_signed) != 0;
  a.is_causal = node.get_attribute<int64_t>("is_causal", a.is_causal) != 0;
  const std::string wrong = check(a);
  if (!wrong.empty()) OPENVINO_THROW(node.get_name(), " (InhibitorAttention): ", wrong);
  return a;
}

// One number or one per head, as (1, H).
ov::Output<ov::Node> per_head(const ov::frontend::NodeContext& node, Input input, const char* name, int64_t heads) {
  const ov::Output<ov::Node> x = node.get_input(input);
  const ov::PartialShape& shape = x.get_partial_shape();
  if (!shape.compatible({}) && !shape.compatible({1}) && !shape.compatible({heads}))
    OPENVINO_THROW(node.get_name(), " (InhibitorAttention): ", name, " must hold 1 or ", heads, " numbers, got shape ",
                   shape);
  const auto wanted = ov::op::v0::Constant::create(ov::element::i64, {2}, {int64_t{1}, heads});
  return std::make_shared<ov::op::v3::Broadcast>(x, wanted)->output(0);
}

ov::OutputVector convert(const ov::frontend::NodeContext& node) {
  const Attributes attributes = read_attributes(node);
  const auto is_given = [&](int input) {
    return input < static_cast<int>(node.get_input_size()) &&
           std::string(node.get_input(input).get_node()->get_type_name()) != "NullNode";
  };
  if (!is_given(kLengthExponent)) OPENVINO_THROW(node.get_name(), " (InhibitorAttention): inputs are missing");
  ov::OutputVector inputs{node.get_input(kQuery), node.get_input(kKey), node.get_input(kValue)};
  if (is_given(kKeyPaddingMask)) inputs.push_back(node.get_input(kKeyPaddingMask));
  ov::OutputVector scalars;
  for (const auto& [input, name] : {std::pair(kGamma, "gamma"), std::pair(kEta, "eta"), std::pair(kDelta, "delta"),
                                    std::pair(kLengthExponent, "length_exponent")})
    scalars.push_back(per_head(node, input, name, attributes.num_heads));
  inputs.push_back(std::make_shared<ov::op::v0::Concat>(scalars, 0));
  if (is_given(kScoreBias)) inputs.push_back(node.get_input(kScoreBias));
  return {std::make_shared<InhibitorAttention>(inputs, attributes, is_given(kKeyPaddingMask))};
}

std::vector<ov::Extension::Ptr> extensions() {
  if (inhibitor_abi_version() != INHIBITOR_ABI_VERSION)
    OPENVINO_THROW("InhibitorAttention: the kernels are of another version than this extension: compile it again");
  return {std::make_shared<ov::OpExtension<InhibitorAttention>>(),
          std::make_shared<ov::frontend::onnx::ConversionExtension>("InhibitorAttention", "inhibitor", convert)};
}

}  // namespace
}  // namespace inhibitor

OPENVINO_CREATE_EXTENSIONS(inhibitor::extensions());
