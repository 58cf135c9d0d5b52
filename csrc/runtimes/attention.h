// The operator that every runtime offers: its attributes, the checks of its inputs, and the call of the kernels.
//
// query (B, Nq, H·D), key (B, Nk, Hkv·D), value (B, Nk, Hkv·Dv): as projections leave them, contiguous. Output
// (B, Nq, H·Dv). key_padding_mask (B, Nk), not 0: valid. gamma, eta, delta, length_exponent: (H,) or one number.
// score_bias (H, Nq, Nk) or (1, Nq, Nk).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../inhibitor.h"

namespace inhibitor {
namespace runtimes {

using Shape = std::vector<int64_t>;

struct Attributes {
  int64_t num_heads = 0;
  int64_t kv_num_heads = 0;  // 0: as many as `num_heads`
  double length_reference = 64.0;
  std::string center = "mean";  // or "none"
  bool is_signed = true, is_causal = false;
};

// A contiguous array; one without data is an input that was left out.
template <class T>
struct Array {
  T* data = nullptr;
  Shape shape;

  operator Array<const void>() const { return {data, shape}; }
};

struct AttentionInputs {
  Array<const void> query, key, value;
  Array<const uint8_t> key_padding_mask;
  Array<const float> gamma, eta, delta, length_exponent;
  Array<const float> score_bias;
  int64_t dtype = INHIBITOR_FLOAT32;  // of query, key, value and the output; InhibitorCall.dtype
};

// Whose threads serve a call, and how many at most.
struct Threads {
  int64_t count = 1;
  InhibitorParallel parallel = nullptr;
  void* pool = nullptr;
};

// What is wrong with the attributes; empty: nothing.
std::string check(const Attributes& attributes);

// The shape of the output; what is wrong with the shapes goes to `error`, empty: nothing.
Shape output_shape(const Attributes& attributes, const Shape& query, const Shape& key, const Shape& value,
                   std::string& error);

// Writes `output`, of `output_shape`. Returns what is wrong with the inputs; empty: nothing.
std::string attention(const Attributes& attributes, const AttentionInputs& inputs, void* output,
                      const Threads& threads);

}  // namespace runtimes
}  // namespace inhibitor
