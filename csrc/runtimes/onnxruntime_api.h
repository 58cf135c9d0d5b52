// What onnxruntime.cpp uses of ONNX Runtime's C interface, whose headers are in none of its Python packages: a table of
// functions to which each release appends, so that a position says which function is meant, and the structure by which a
// library describes an operator. Structures and positions are those of release 1.17 (interface version 17), which is the
// oldest that has all of them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace inhibitor {
namespace ort {

constexpr uint32_t kVersion = 17;

struct Status;  // null: done
struct Value;
struct ShapeInfo;
struct KernelInfo;
struct KernelContext;
struct CustomOpDomain;
struct SessionOptions;

enum StatusCode : int { kFail = 1, kInvalidArgument = 2, kNotImplemented = 9 };
enum ElementType : int { kFloat32 = 1, kBool = 9 };
enum Characteristic : int { kRequired = 0, kOptional = 1 };
enum MemoryType : int { kDefaultMemory = 0 };

struct Api {
  void (*functions[275])();
};

struct ApiBase {
  const Api* (*get_api)(uint32_t version);  // null: the runtime is older
  const char* (*version)();
};

// A function of the table, by its position.
template <class Signature>
struct Function {
  size_t position;
};

constexpr Function<Status*(StatusCode, const char*)> kCreateStatus{0};
constexpr Function<const char*(const Status*)> kGetErrorMessage{2};
constexpr Function<Status*(const char*, CustomOpDomain**)> kCreateCustomOpDomain{26};
constexpr Function<Status*(CustomOpDomain*, const struct CustomOp*)> kAddToDomain{27};
constexpr Function<Status*(SessionOptions*, CustomOpDomain*)> kAddCustomOpDomain{28};
constexpr Function<Status*(Value*, void**)> kGetTensorData{51};
constexpr Function<Status*(const ShapeInfo*, size_t*)> kGetDimensionsCount{61};
constexpr Function<Status*(const ShapeInfo*, int64_t*, size_t)> kGetDimensions{62};
constexpr Function<Status*(const Value*, ShapeInfo**)> kGetTensorShape{65};
constexpr Function<Status*(const KernelInfo*, const char*, float*)> kGetFloatAttribute{85};
constexpr Function<Status*(const KernelInfo*, const char*, int64_t*)> kGetIntAttribute{86};
constexpr Function<Status*(const KernelInfo*, const char*, char*, size_t*)> kGetStringAttribute{87};
constexpr Function<Status*(const KernelContext*, size_t*)> kGetInputCount{88};
constexpr Function<Status*(const KernelContext*, size_t, const Value**)> kGetInput{90};
constexpr Function<Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)> kGetOutput{91};
constexpr Function<void(Status*)> kReleaseStatus{93};
constexpr Function<void(ShapeInfo*)> kReleaseShape{99};
constexpr Function<Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)> kParallelFor{274};

// So that arguments are converted to what the function takes, as in any call.
template <class T>
struct As {
  using Type = T;
};

template <class R, class... A>
R call(const Api* api, Function<R(A...)> function, typename As<A>::Type... arguments) {
  return reinterpret_cast<R (*)(A...)>(api->functions[function.position])(arguments...);
}

// An operator; every function is called with it, so that it can be a part of something larger.
struct CustomOp {
  uint32_t version = kVersion;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*) = nullptr;  // for runtimes before 1.16
  const char* (*name)(const CustomOp*);
  const char* (*execution_provider)(const CustomOp*);  // null: the processor
  ElementType (*input_type)(const CustomOp*, size_t index);
  size_t (*input_count)(const CustomOp*);
  ElementType (*output_type)(const CustomOp*, size_t index);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void* kernel, KernelContext*) = nullptr;  // for runtimes before 1.16
  void (*destroy_kernel)(void* kernel);
  Characteristic (*input_characteristic)(const CustomOp*, size_t index);
  Characteristic (*output_characteristic)(const CustomOp*, size_t index);
  MemoryType (*input_memory)(const CustomOp*, size_t index);
  int (*variadic_input_min)(const CustomOp*);
  int (*variadic_input_of_one_type)(const CustomOp*);
  int (*variadic_output_min)(const CustomOp*);
  int (*variadic_output_of_one_type)(const CustomOp*);
  Status* (*create_kernel_or_fail)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*compute_or_fail)(void* kernel, KernelContext*);
  Status* (*infer_output_shape)(const CustomOp*, void* context) = nullptr;  // may be left out
  int (*first_opset)(const CustomOp*);
  int (*last_opset)(const CustomOp*);
};

}  // namespace ort
}  // namespace inhibitor
