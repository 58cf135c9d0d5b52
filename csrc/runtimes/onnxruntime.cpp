// The operators of the domain `inhibitor` for ONNX Runtime, version 1.17 or newer:
//
//     options.register_custom_ops_library(path of this library)
//
// Threads are those of the session.
#include <map>
#include <mutex>

#include "integer_attention.h"
#include "onnxruntime_kernel.h"

namespace inhibitor {
namespace {

using namespace ort;

constexpr char kDomain[] = "inhibitor";

void read_common(AttributeReader& reader, runtimes::Attributes& a) {
  int64_t is_signed = a.is_signed, is_causal = a.is_causal;
  reader.read("num_heads", a.num_heads);
  reader.read("kv_num_heads", a.kv_num_heads);
  reader.read("center", a.center);
  reader.read("is_signed", is_signed);
  reader.read("is_causal", is_causal);
  a.is_signed = is_signed != 0;
  a.is_causal = is_causal != 0;
}

// In float32: attention.h.
struct Attention {
  static constexpr const char* kName = "InhibitorAttention";
  static constexpr InputType kInputs[] = {
      {kFloat32}, {kFloat32}, {kFloat32}, {kBool, kOptional}, {kFloat32}, {kFloat32}, {kFloat32}, {kFloat32},
      {kFloat32, kOptional}};
  static constexpr ElementType kOutput = kFloat32;
  using Attributes = runtimes::Attributes;

  static std::string read(AttributeReader& reader, Attributes& a) {
    auto length_reference = static_cast<float>(a.length_reference);
    read_common(reader, a);
    reader.read("length_reference", length_reference);
    a.length_reference = length_reference;
    return check(a);
  }

  static std::string compute(const Attributes& a, Call& call) {
    runtimes::AttentionInputs in;
    in.query = call.input<float>(0);
    in.key = call.input<float>(1);
    in.value = call.input<float>(2);
    in.key_padding_mask = call.input<uint8_t>(3);
    in.gamma = call.input<float>(4);
    in.eta = call.input<float>(5);
    in.delta = call.input<float>(6);
    in.length_exponent = call.input<float>(7);
    in.score_bias = call.input<float>(8);
    std::string wrong;
    const Shape shape = output_shape(a, in.query.shape, in.key.shape, in.value.shape, wrong);
    return wrong.empty() ? attention(a, in, call.output<float>(shape), call.threads()) : wrong;
  }
};

std::string read_integer(AttributeReader& reader, runtimes::IntegerAttributes& a) {
  read_common(reader, a);
  reader.read("bits", a.bits);
  return check_integer(a);
}

runtimes::ScoreParams read_scores(const Call& call, size_t first) {
  return {call.input<int32_t>(first), call.input<int32_t>(first + 1), call.input<int32_t>(first + 2)};
}

// Integers between floats: integer_attention.h.
struct IntegerAttention {
  static constexpr const char* kName = "IntegerInhibitorAttention";
  static constexpr InputType kInputs[] = {
      {kFloat32}, {kFloat32}, {kFloat32}, {kBool, kOptional}, {kFloat32}, {kInt32}, {kFloat32}, {kFloat32},
      {kInt32}, {kInt32}, {kInt32}, {kFloat32}};
  static constexpr ElementType kOutput = kFloat32;
  using Attributes = runtimes::IntegerAttributes;

  static std::string read(AttributeReader& reader, Attributes& a) { return read_integer(reader, a); }

  static std::string compute(const Attributes& a, Call& call) {
    runtimes::IntegerInputs in;
    in.query = call.input<float>(0);
    in.key = call.input<float>(1);
    in.value = call.input<float>(2);
    in.key_padding_mask = call.input<uint8_t>(3);
    in.offset = call.input<float>(4);
    in.source = call.input<int32_t>(5);
    in.inverse_step = call.input<float>(6);
    in.value_inverse_step = call.input<float>(7);
    in.scores = read_scores(call, 8);
    in.factors = call.input<float>(11);
    std::string wrong;
    const Shape shape = output_shape(a, in.query.shape, in.key.shape, in.value.shape, wrong);
    return wrong.empty() ? integer_attention(a, in, call.output<float>(shape), call.threads()) : wrong;
  }
};

// Bytes throughout: integer_attention.h.
struct QLinearAttention {
  static constexpr const char* kName = "QLinearInhibitorAttention";
  static constexpr InputType kInputs[] = {
      {kUint8}, {kUint8, kOptional}, {kUint8, kOptional}, {kBool, kOptional}, {kInt32}, {kInt32}, {kInt32}, {kInt32},
      {kInt32}};
  static constexpr ElementType kOutput = kUint8;
  using Attributes = runtimes::IntegerAttributes;

  static std::string read(AttributeReader& reader, Attributes& a) {
    reader.read("head_size", a.head_size);
    reader.read("value_zero_point", a.value_zero_point);
    reader.read("output_zero_point", a.output_zero_point);
    return read_integer(reader, a);
  }

  static std::string compute(const Attributes& a, Call& call) {
    runtimes::QLinearInputs in;
    in.query = call.input<uint8_t>(0);
    in.key = call.input<uint8_t>(1);
    in.value = call.input<uint8_t>(2);
    in.key_padding_mask = call.input<uint8_t>(3);
    in.scores = read_scores(call, 4);
    in.multiplier = call.input<int32_t>(7);
    in.output_shift = call.input<int32_t>(8);
    std::string wrong;
    const Shape shape = qlinear_output_shape(a, in.query.shape, in.key.shape, in.value.shape, wrong);
    return wrong.empty() ? qlinear_attention(a, in, call.output<uint8_t>(shape), call.threads()) : wrong;
  }
};

// The domain, made once for each runtime in this process; sessions refer to it for as long as they live.
CustomOpDomain* domain_of(const Runtime& runtime) {
  static std::mutex mutex;
  static std::map<const Api*, CustomOpDomain*> made;
  const std::lock_guard<std::mutex> lock(mutex);
  CustomOpDomain*& domain = made[runtime.api];
  if (!domain) {
    CustomOpDomain* fresh = nullptr;
    runtime(kCreateCustomOpDomain, kDomain, &fresh);
    for (const CustomOp* op : {&custom_op<Attention>(), &custom_op<IntegerAttention>(), &custom_op<QLinearAttention>()})
      runtime(kAddToDomain, fresh, op);
    domain = fresh;
  }
  return domain;
}

}  // namespace
}  // namespace inhibitor

// ONNX Runtime looks for this name.
extern "C" INHIBITOR_EXPORT inhibitor::ort::Status* RegisterCustomOps(inhibitor::ort::SessionOptions* options,
                                                                      const inhibitor::ort::ApiBase* base) {
  using namespace inhibitor;
  if (const ort::Api* api = base->get_api(ort::kVersion)) {
    const ort::Runtime runtime{api};
    return ort::status_of(runtime, kDomain, [&] {
      runtime(ort::kAddCustomOpDomain, options, domain_of(runtime));
      return std::string();
    });
  }
  const ort::Runtime older{base->get_api(1)};
  return older.error(ort::kNotImplemented, "the operators of " + std::string(kDomain) + " need ONNX Runtime 1.17 or newer, " +
                                               "this is " + base->version());
}
