// The operator inhibitor::InhibitorAttention in torch, by its stable C interface: one binary for every torch from 2.13
// on, with Python or without. Loading this library registers it, for CPUs and for inference.
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "attention.h"
#include "torch_abi.h"

namespace inhibitor {
namespace runtimes {
namespace {

constexpr uint64_t kTorchVersion = (uint64_t{2} << 56) | (uint64_t{13} << 48);  // whose conventions are followed
constexpr char kName[] = "InhibitorAttention";
constexpr char kSchema[] =
    "InhibitorAttention(Tensor query, Tensor key, Tensor value, Tensor? key_padding_mask, Tensor gamma, Tensor eta, "
    "Tensor delta, Tensor length_exponent, Tensor? score_bias, int num_heads, int kv_num_heads=0, "
    "float length_reference=64.0, str center=\"mean\", bool is_signed=True, bool is_causal=False) -> Tensor";

// Position of each argument.
enum Argument {
  kQuery, kKey, kValue, kPaddingMask, kGamma, kEta, kDelta, kLengthExponent, kScoreBias,
  kNumHeads, kKvNumHeads, kLengthReference, kCenter, kIsSigned, kIsCausal, kArguments
};

void require(AOTITorchError error) {
  if (error) throw std::runtime_error(torch_exception_get_what_without_backtrace());
}

// Owns a tensor; empty: an argument that was left out.
class Tensor {
 public:
  explicit Tensor(AtenTensorHandle handle = nullptr) : handle_(handle) {}
  Tensor(Tensor&& other) noexcept : handle_(other.release()) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Tensor() {
    if (handle_) aoti_torch_delete_tensor_object(handle_);
  }

  static Tensor empty(const Shape& shape, int32_t dtype) {
    Shape strides(shape.size());
    int64_t stride = 1;
    for (size_t i = shape.size(); i-- > 0; stride *= shape[i] > 0 ? shape[i] : 1) strides[i] = stride;
    Tensor made;
    require(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(), dtype,
                                     aoti_torch_device_type_cpu(), 0, &made.handle_));
    return made;
  }

  explicit operator bool() const { return handle_ != nullptr; }
  AtenTensorHandle release() { return std::exchange(handle_, nullptr); }
  void copy_from(const Tensor& source) { require(aoti_torch_copy_(handle_, source.handle_, 0)); }

  int32_t dtype() const {
    int32_t found = 0;
    require(aoti_torch_get_dtype(handle_, &found));
    return found;
  }
  Shape shape() const {
    int64_t dimensions = 0, *sizes = nullptr;
    require(aoti_torch_get_dim(handle_, &dimensions));
    require(aoti_torch_get_sizes(handle_, &sizes));
    return Shape(sizes, sizes + dimensions);
  }
  // The data of a contiguous tensor of that dtype: of this one, or of a copy that takes its place.
  template <class T>
  Array<const T> read_as(int32_t wanted) {
    if (!handle_) return {};
    bool contiguous = false;
    require(aoti_torch_is_contiguous(handle_, &contiguous));
    if (!contiguous || dtype() != wanted) {
      Tensor copy = empty(shape(), wanted);
      copy.copy_from(*this);
      *this = std::move(copy);
    }
    const void* data = nullptr;
    require(torch_get_const_data_ptr(handle_, &data));
    return {static_cast<const T*>(data), shape()};
  }
  void* data() const {
    void* found = nullptr;
    require(torch_get_mutable_data_ptr(handle_, &found));
    return found;
  }

 private:
  AtenTensorHandle handle_;
};

template <class T>
T number(StableIValue value) {
  T found;
  std::memcpy(&found, &value, sizeof found);
  return found;
}

template <class T>
T* pointer(StableIValue value) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(value));
}

Tensor optional_tensor(StableIValue value) {
  auto* present = pointer<StableIValue>(value);
  if (!present) return Tensor();
  Tensor found(pointer<AtenTensorOpaque>(*present));
  torch_delete_stable_ivalue(present);
  return found;
}

std::string take_string(StableIValue value) {
  const auto handle = pointer<StringOpaque>(value);
  size_t length = 0;
  const char* data = nullptr;
  std::string found;
  if (!torch_string_length(handle, &length) && !torch_string_c_str(handle, &data)) found.assign(data, length);
  torch_delete_string(handle);
  return found;
}

bool is_float(int32_t dtype) {
  return dtype == aoti_torch_dtype_float32() || dtype == aoti_torch_dtype_bfloat16() ||
         dtype == aoti_torch_dtype_float16();
}

// What a call was given. Takes ownership of everything on the stack.
struct Call {
  explicit Call(const StableIValue* stack) {
    for (int i : {kQuery, kKey, kValue, kGamma, kEta, kDelta, kLengthExponent})
      tensors[i] = Tensor(pointer<AtenTensorOpaque>(stack[i]));
    for (int i : {kPaddingMask, kScoreBias}) tensors[i] = optional_tensor(stack[i]);
    attributes.num_heads = number<int64_t>(stack[kNumHeads]);
    attributes.kv_num_heads = number<int64_t>(stack[kKvNumHeads]);
    attributes.length_reference = number<double>(stack[kLengthReference]);
    attributes.center = take_string(stack[kCenter]);
    attributes.is_signed = number<bool>(stack[kIsSigned]);
    attributes.is_causal = number<bool>(stack[kIsCausal]);
  }

  void check_dtypes() const {
    const int32_t dtype = tensors[kQuery].dtype();
    if (!is_float(dtype) || tensors[kKey].dtype() != dtype || tensors[kValue].dtype() != dtype)
      throw std::invalid_argument("query, key and value must be float32, bfloat16 or float16, and all the same");
    for (int i : {kGamma, kEta, kDelta, kLengthExponent, kScoreBias})
      if (tensors[i] && !is_float(tensors[i].dtype()))
        throw std::invalid_argument("the scalars and score_bias must be float32, bfloat16 or float16");
    if (tensors[kPaddingMask] && tensors[kPaddingMask].dtype() != aoti_torch_dtype_bool())
      throw std::invalid_argument("key_padding_mask must be bool, True = valid");
  }

  AttentionInputs inputs(int32_t dtype) {
    const auto floats = [&](int i) { return tensors[i].read_as<float>(aoti_torch_dtype_float32()); };
    const auto main = [&](int i) { return tensors[i].read_as<void>(dtype); };
    return {main(kQuery), main(kKey), main(kValue), tensors[kPaddingMask].read_as<uint8_t>(aoti_torch_dtype_bool()),
            floats(kGamma), floats(kEta), floats(kDelta), floats(kLengthExponent), floats(kScoreBias),
            dtype == aoti_torch_dtype_bfloat16() ? INHIBITOR_BFLOAT16 : INHIBITOR_FLOAT32};
  }

  Tensor tensors[kScoreBias + 1];
  Attributes attributes;
};

struct Team {
  void (*work)(void*);
  void* argument;
};

void on_torch_threads(void*, int64_t team, void (*work)(void*), void* argument) {
  Team all{work, argument};
  const ParallelFunc some = [](int64_t begin, int64_t end, void* context) {
    const Team& t = *static_cast<Team*>(context);
    for (int64_t i = begin; i < end; ++i) t.work(t.argument);
  };
  torch_parallel_for(0, team, 1, some, &all);
}

Threads torch_threads() {
  uint32_t count = 1;
  require(torch_get_num_threads(&count));
  return {count, on_torch_threads, nullptr};
}

Tensor run(Call& call) {
  call.check_dtypes();
  const int32_t dtype = call.tensors[kQuery].dtype();
  std::string error = check(call.attributes);
  Shape shape;
  if (error.empty())
    shape = output_shape(call.attributes, call.tensors[kQuery].shape(), call.tensors[kKey].shape(),
                         call.tensors[kValue].shape(), error);
  if (!error.empty()) throw std::invalid_argument(error);
  // The kernels read and write float32 and bfloat16.
  const int32_t computed = dtype == aoti_torch_dtype_float16() ? aoti_torch_dtype_float32() : dtype;
  Tensor out = Tensor::empty(shape, computed);
  error = attention(call.attributes, call.inputs(computed), out.data(), torch_threads());
  if (!error.empty()) throw std::invalid_argument(error);
  if (dtype == computed) return out;
  Tensor rounded = Tensor::empty(shape, dtype);
  rounded.copy_from(out);
  return rounded;
}

// Puts the output on the stack. Returns what went wrong, in the thread's own memory; null: nothing.
const char* try_kernel(StableIValue* stack) noexcept {
  static thread_local char message[512];
  try {
    Call call(stack);
    stack[0] = reinterpret_cast<uintptr_t>(run(call).release());
    return nullptr;
  } catch (const std::exception& error) {
    std::snprintf(message, sizeof message, "inhibitor attention: %s", error.what());
  }
  return message;
}

// torch's exception passes through this function, which therefore holds no object: it needs no C++ runtime in common.
void kernel(StableIValue* stack, uint64_t, uint64_t) {
  if (const char* wrong = try_kernel(stack)) aoti_torch_check(false, kName, "inhibitor", 0, wrong);
}

// A second copy of this library in a process leaves the operator to the first.
class Registration {
 public:
  Registration() {
    if (aoti_torch_library_init_fragment("inhibitor", "inhibitor", 0, &schema_)) return;
    if (aoti_torch_library_def(schema_, kSchema)) return;
    if (aoti_torch_library_init_impl("inhibitor", "CPU", "inhibitor", 0, &cpu_)) return;
    torch_library_impl(cpu_, kName, kernel, kTorchVersion);
  }
  ~Registration() {
    if (cpu_) aoti_torch_delete_library_object(cpu_);
    if (schema_) aoti_torch_delete_library_object(schema_);
  }

 private:
  TorchLibraryHandle schema_ = nullptr, cpu_ = nullptr;
};

const Registration registration;

}  // namespace
}  // namespace runtimes
}  // namespace inhibitor
