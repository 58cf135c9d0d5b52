// What the checks of all operators share.
#pragma once
#include "attention.h"

namespace inhibitor {
namespace runtimes {

inline std::string text(const Shape& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

inline int64_t kv_heads(const Attributes& a) { return a.kv_num_heads > 0 ? a.kv_num_heads : a.num_heads; }

// Of an input that must have one shape; empty: it has.
template <class T>
std::string check_shape(const char* name, const Array<T>& x, const Shape& expected) {
  if (x.shape == expected) return "";
  return std::string(name) + " must be " + text(expected) + ", got " + text(x.shape);
}

// A mask is optional.
inline std::string check_mask(const Array<const uint8_t>& mask, int64_t batch, int64_t keys) {
  return mask.data ? check_shape("key_padding_mask", mask, {batch, keys}) : "";
}

// (B, N, heads·size) as (B, heads, N, size).
inline InhibitorTensor4 heads_of(const void* data, int64_t length, int64_t heads, int64_t size) {
  return {const_cast<void*>(data), {length * heads * size, size, heads * size}};
}

// What a call has besides its tensors.
inline void set_options(const Attributes& a, const Array<const uint8_t>& mask, const Threads& threads,
                        InhibitorCall& call) {
  if (mask.data) {
    call.key_mask = mask.data;
    call.key_mask_stride[0] = call.keys;
    call.key_mask_stride[1] = 1;
  }
  call.is_causal = a.is_causal;
  call.is_signed = a.is_signed;
  call.center = a.center == "mean" ? INHIBITOR_CENTER_MEAN : INHIBITOR_CENTER_NONE;
  call.threads = threads.count;
  call.parallel = threads.parallel;
  call.pool = threads.pool;
}

constexpr const char* kNoMemory = "no memory for the scratch of one thread";

}  // namespace runtimes
}  // namespace inhibitor
