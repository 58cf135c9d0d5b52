// The operator inhibitor::InhibitorAttention of ONNX Runtime, version 1.17 or newer:
//
//     options.register_custom_ops_library(path of this library)
//
// Threads are those of the session. float32.
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "attention.h"
#include "onnxruntime_api.h"

namespace inhibitor {
namespace {

using namespace ort;
using runtimes::Array;
using runtimes::Shape;

constexpr char kDomain[] = "inhibitor", kName[] = "InhibitorAttention";

// The inputs, in their order.
enum Input : size_t {
  kQuery, kKey, kValue, kKeyPaddingMask, kGamma, kEta, kDelta, kLengthExponent, kScoreBias, kInputs
};

bool is_optional(size_t input) { return input == kKeyPaddingMask || input == kScoreBias; }

// A function of the runtime failed, and said why.
struct Failure {
  Status* status;
};

// The functions of the runtime, throwing where they fail; what is thrown is caught in `status_of`.
struct Runtime {
  const Api* api;

  template <class... Parameters, class... Arguments>
  void operator()(Function<Status*(Parameters...)> function, Arguments... arguments) const {
    if (Status* status = call(api, function, arguments...)) throw Failure{status};
  }
  Status* error(StatusCode code, const std::string& message) const {
    return call(api, kCreateStatus, code, message.c_str());
  }
};

// Runs `work`, which returns what is wrong with what it was given, or nothing.
template <class Work>
Status* status_of(const Runtime& runtime, Work work) noexcept {
  try {
    const std::string wrong = work();
    return wrong.empty() ? nullptr : runtime.error(kInvalidArgument, std::string(kName) + ": " + wrong);
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::bad_alloc&) {
    return runtime.error(kFail, std::string(kName) + ": no memory");
  }
}

struct Kernel {
  Runtime runtime;
  runtimes::Attributes attributes;
};

// One attribute after the other, if the node has it; what is wrong with the first that is wrong.
class AttributeReader {
 public:
  AttributeReader(const Runtime& runtime, const KernelInfo* info) : runtime_(runtime), info_(info) {}

  void read(const char* name, int64_t& value) { if (!has(kGetIntAttribute, name, &value)) expect_none(name, "an integer"); }
  void read(const char* name, float& value) { if (!has(kGetFloatAttribute, name, &value)) expect_none(name, "a float"); }
  void read(const char* name, std::string& value) {
    size_t size = 0;  // with a zero at the end
    if (!has(kGetStringAttribute, name, static_cast<char*>(nullptr), &size)) return expect_none(name, "a string");
    std::string text(size, '\0');
    runtime_(kGetStringAttribute, info_, name, text.data(), &size);
    value = text.c_str();
  }
  const std::string& wrong() const { return wrong_; }

 private:
  template <class... Parameters, class... Out>
  bool has(Function<Status*(const KernelInfo*, const char*, Parameters...)> getter, const char* name, Out... out) const {
    Status* missing = call(runtime_.api, getter, info_, name, out...);
    if (missing) call(runtime_.api, kReleaseStatus, missing);
    return !missing;
  }
  // The runtime does not tell an attribute that is absent from one of another type.
  void expect_none(const char* name, const char* type) {
    int64_t integer;
    float number;
    size_t size = 0;
    if (wrong_.empty() && (has(kGetIntAttribute, name, &integer) || has(kGetFloatAttribute, name, &number) ||
                           has(kGetStringAttribute, name, static_cast<char*>(nullptr), &size)))
      wrong_ = std::string(name) + " must be " + type;
  }

  const Runtime& runtime_;
  const KernelInfo* info_;
  std::string wrong_;
};

std::string read_attributes(const Runtime& runtime, const KernelInfo* info, runtimes::Attributes& a) {
  auto length_reference = static_cast<float>(a.length_reference);
  int64_t is_signed = a.is_signed, is_causal = a.is_causal;
  AttributeReader reader(runtime, info);
  reader.read("num_heads", a.num_heads);
  reader.read("kv_num_heads", a.kv_num_heads);
  reader.read("length_reference", length_reference);
  reader.read("center", a.center);
  reader.read("is_signed", is_signed);
  reader.read("is_causal", is_causal);
  a.length_reference = length_reference;
  a.is_signed = is_signed != 0;
  a.is_causal = is_causal != 0;
  return reader.wrong().empty() ? check(a) : reader.wrong();
}

Status* create_kernel(const CustomOp*, const Api* api, const KernelInfo* info, void** kernel) {
  const Runtime runtime{api};
  return status_of(runtime, [&] {
    auto made = std::make_unique<Kernel>(Kernel{runtime, {}});
    std::string wrong = read_attributes(runtime, info, made->attributes);
    if (wrong.empty()) *kernel = made.release();
    return wrong;
  });
}

void destroy_kernel(void* kernel) { delete static_cast<Kernel*>(kernel); }

Shape shape_of(const Runtime& runtime, const Value* value) {
  ShapeInfo* info = nullptr;
  runtime(kGetTensorShape, value, &info);
  const auto release = [&](ShapeInfo* i) { call(runtime.api, kReleaseShape, i); };
  const std::unique_ptr<ShapeInfo, decltype(release)> owned(info, release);
  size_t dimensions = 0;
  runtime(kGetDimensionsCount, info, &dimensions);
  Shape shape(dimensions);
  runtime(kGetDimensions, info, shape.data(), dimensions);
  return shape;
}

// An input; without data, where it was left out.
template <class T>
Array<const T> input(const Runtime& runtime, const KernelContext* context, Input index, size_t given) {
  const Value* value = nullptr;
  if (index < given) runtime(kGetInput, context, size_t{index}, &value);
  if (!value) return {};
  void* data = nullptr;
  runtime(kGetTensorData, const_cast<Value*>(value), &data);
  return {static_cast<const T*>(data), shape_of(runtime, value)};
}

runtimes::AttentionInputs read_inputs(const Runtime& runtime, const KernelContext* context) {
  size_t given = 0;
  runtime(kGetInputCount, context, &given);
  const auto floats = [&](Input index) { return input<float>(runtime, context, index, given); };
  runtimes::AttentionInputs in;
  in.query = floats(kQuery);
  in.key = floats(kKey);
  in.value = floats(kValue);
  in.key_padding_mask = input<uint8_t>(runtime, context, kKeyPaddingMask, given);
  in.gamma = floats(kGamma);
  in.eta = floats(kEta);
  in.delta = floats(kDelta);
  in.length_exponent = floats(kLengthExponent);
  in.score_bias = floats(kScoreBias);
  return in;
}

// The threads of a session, during one call.
struct Pool {
  const Runtime& runtime;
  const KernelContext* context;
};

struct Team {
  void (*work)(void*);
  void* argument;
};

void run_team(void* pool, int64_t size, void (*work)(void*), void* argument) {
  const Pool& p = *static_cast<Pool*>(pool);
  Team team{work, argument};
  const auto member = [](void* t, size_t) { static_cast<Team*>(t)->work(static_cast<Team*>(t)->argument); };
  Status* failed = call(p.runtime.api, kParallelFor, p.context, member, static_cast<size_t>(size), size_t{0}, &team);
  if (!failed) return;
  call(p.runtime.api, kReleaseStatus, failed);
  work(argument);
}

Status* compute(void* kernel, KernelContext* context) {
  const Runtime& runtime = static_cast<Kernel*>(kernel)->runtime;
  const runtimes::Attributes& attributes = static_cast<Kernel*>(kernel)->attributes;
  return status_of(runtime, [&] {
    const runtimes::AttentionInputs in = read_inputs(runtime, context);
    std::string wrong;
    const Shape shape = output_shape(attributes, in.query.shape, in.key.shape, in.value.shape, wrong);
    if (!wrong.empty()) return wrong;
    Value* output = nullptr;
    void* data = nullptr;
    runtime(kGetOutput, context, size_t{0}, shape.data(), shape.size(), &output);
    runtime(kGetTensorData, output, &data);
    // How many threads the session has cannot be asked: it takes as many of the team as it has.
    Pool pool{runtime, context};
    const int64_t most = std::thread::hardware_concurrency();
    return runtimes::attention(attributes, in, static_cast<float*>(data), {most, run_team, &pool});
  });
}

const CustomOp& attention_op() {
  static const CustomOp op = [] {
    CustomOp made = {};
    made.version = kVersion;
    made.name = [](const CustomOp*) -> const char* { return kName; };
    made.execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
    made.input_type = [](const CustomOp*, size_t i) { return i == kKeyPaddingMask ? kBool : kFloat32; };
    made.input_count = [](const CustomOp*) -> size_t { return kInputs; };
    made.output_type = [](const CustomOp*, size_t) { return kFloat32; };
    made.output_count = [](const CustomOp*) -> size_t { return 1; };
    made.destroy_kernel = destroy_kernel;
    made.input_characteristic = [](const CustomOp*, size_t i) { return is_optional(i) ? kOptional : kRequired; };
    made.output_characteristic = [](const CustomOp*, size_t) { return kRequired; };
    made.input_memory = [](const CustomOp*, size_t) { return kDefaultMemory; };
    made.variadic_input_min = made.variadic_output_min = [](const CustomOp*) { return 1; };
    made.variadic_input_of_one_type = made.variadic_output_of_one_type = [](const CustomOp*) { return 1; };
    made.create_kernel_or_fail = create_kernel;
    made.compute_or_fail = compute;
    made.first_opset = [](const CustomOp*) { return 1; };
    made.last_opset = [](const CustomOp*) { return std::numeric_limits<int>::max(); };
    return made;
  }();
  return op;
}

// The domain, made once for each runtime in this process; sessions refer to it for as long as they live.
CustomOpDomain* domain_of(const Runtime& runtime) {
  static std::mutex mutex;
  static std::map<const Api*, CustomOpDomain*> made;
  const std::lock_guard<std::mutex> lock(mutex);
  CustomOpDomain*& domain = made[runtime.api];
  if (!domain) {
    CustomOpDomain* fresh = nullptr;
    runtime(kCreateCustomOpDomain, kDomain, &fresh);
    runtime(kAddToDomain, fresh, &attention_op());
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
    const Runtime runtime{api};
    return status_of(runtime, [&] {
      runtime(ort::kAddCustomOpDomain, options, domain_of(runtime));
      return std::string();
    });
  }
  const Runtime older{base->get_api(1)};
  return older.error(ort::kNotImplemented, std::string(kDomain) + "::" + kName + " needs ONNX Runtime 1.17 or newer, " +
                                               "this is " + base->version());
}
