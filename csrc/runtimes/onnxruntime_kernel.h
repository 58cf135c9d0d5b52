// What the operators of onnxruntime.cpp share: the runtime's functions, attributes, inputs, threads, and the structure by
// which one is described.
#pragma once
#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <thread>

#include "attention.h"
#include "onnxruntime_api.h"

namespace inhibitor {
namespace ort {

using runtimes::Array;
using runtimes::Shape;

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
Status* status_of(const Runtime& runtime, const char* name, Work work) noexcept {
  try {
    const std::string wrong = work();
    return wrong.empty() ? nullptr : runtime.error(kInvalidArgument, std::string(name) + ": " + wrong);
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::bad_alloc&) {
    return runtime.error(kFail, std::string(name) + ": no memory");
  }
}

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

inline Shape shape_of(const Runtime& runtime, const Value* value) {
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

// The threads of a session, during one call.
struct Pool {
  const Runtime& runtime;
  const KernelContext* context;
};

struct Team {
  void (*work)(void*);
  void* argument;
};

inline void run_team(void* pool, int64_t size, void (*work)(void*), void* argument) {
  const Pool& p = *static_cast<Pool*>(pool);
  Team team{work, argument};
  const auto member = [](void* t, size_t) { static_cast<Team*>(t)->work(static_cast<Team*>(t)->argument); };
  Status* failed = call(p.runtime.api, kParallelFor, p.context, member, static_cast<size_t>(size), size_t{0}, &team);
  if (!failed) return;
  call(p.runtime.api, kReleaseStatus, failed);
  work(argument);
}

// One call of a kernel: its inputs, its output, its threads.
class Call {
 public:
  Call(const Runtime& runtime, KernelContext* context) : runtime_(runtime), context_(context), pool_{runtime, context} {
    runtime_(kGetInputCount, context_, &given_);
  }

  // An input; without data and shape, where it was left out.
  template <class T>
  Array<const T> input(size_t index) const {
    const Value* value = nullptr;
    if (index < given_) runtime_(kGetInput, context_, index, &value);
    if (!value) return {};
    void* data = nullptr;
    runtime_(kGetTensorData, const_cast<Value*>(value), &data);
    return {static_cast<const T*>(data), shape_of(runtime_, value)};
  }

  template <class T>
  T* output(const Shape& shape) const {
    Value* output = nullptr;
    void* data = nullptr;
    runtime_(kGetOutput, context_, size_t{0}, shape.data(), shape.size(), &output);
    runtime_(kGetTensorData, output, &data);
    return static_cast<T*>(data);
  }

  // How many threads the session has cannot be asked: it takes as many of the team as it has.
  runtimes::Threads threads() { return {std::max(1u, std::thread::hardware_concurrency()), run_team, &pool_}; }

 private:
  const Runtime& runtime_;
  KernelContext* context_;
  Pool pool_;
  size_t given_ = 0;
};

struct InputType {
  ElementType type;
  Characteristic characteristic = kRequired;
};

// An operator O has a name kName, its kInputs, the type kOutput of its output, and
//   struct Attributes;
//   static std::string read(AttributeReader&, Attributes&);  // what is wrong with them, or nothing
//   static std::string compute(const Attributes&, Call&);    // what is wrong with the inputs, or nothing
template <class O>
struct Kernel {
  Runtime runtime;
  typename O::Attributes attributes;

  static Status* create(const CustomOp*, const Api* api, const KernelInfo* info, void** kernel) {
    const Runtime runtime{api};
    return status_of(runtime, O::kName, [&] {
      auto made = std::make_unique<Kernel>(Kernel{runtime, {}});
      AttributeReader reader(runtime, info);
      std::string wrong = O::read(reader, made->attributes);
      if (!reader.wrong().empty()) wrong = reader.wrong();
      if (wrong.empty()) *kernel = made.release();
      return wrong;
    });
  }

  static Status* compute(void* kernel, KernelContext* context) {
    const Kernel& k = *static_cast<Kernel*>(kernel);
    return status_of(k.runtime, O::kName, [&] {
      Call call(k.runtime, context);
      return O::compute(k.attributes, call);
    });
  }

  static void destroy(void* kernel) { delete static_cast<Kernel*>(kernel); }
};

template <class O>
const CustomOp& custom_op() {
  static const CustomOp op = [] {
    CustomOp made = {};
    made.version = kVersion;
    made.name = [](const CustomOp*) -> const char* { return O::kName; };
    made.execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
    made.input_type = [](const CustomOp*, size_t i) { return O::kInputs[i].type; };
    made.input_count = [](const CustomOp*) -> size_t { return sizeof O::kInputs / sizeof O::kInputs[0]; };
    made.output_type = [](const CustomOp*, size_t) { return O::kOutput; };
    made.output_count = [](const CustomOp*) -> size_t { return 1; };
    made.destroy_kernel = Kernel<O>::destroy;
    made.input_characteristic = [](const CustomOp*, size_t i) { return O::kInputs[i].characteristic; };
    made.output_characteristic = [](const CustomOp*, size_t) { return kRequired; };
    made.input_memory = [](const CustomOp*, size_t) { return kDefaultMemory; };
    made.variadic_input_min = made.variadic_output_min = [](const CustomOp*) { return 1; };
    made.variadic_input_of_one_type = made.variadic_output_of_one_type = [](const CustomOp*) { return 1; };
    made.create_kernel_or_fail = Kernel<O>::create;
    made.compute_or_fail = Kernel<O>::compute;
    made.first_opset = [](const CustomOp*) { return 1; };
    made.last_opset = [](const CustomOp*) { return std::numeric_limits<int>::max(); };
    return made;
  }();
  return op;
}

}  // namespace ort
}  // namespace inhibitor
