// The C interface between Python (attention/cpu/abi.py) and the kernels: plain structs, no torch headers. Every member
// has 8 bytes.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define INHIBITOR_API extern "C" __declspec(dllexport)
#else
#define INHIBITOR_API extern "C" __attribute__((visibility("default")))
#endif

// Bumped whenever a struct or a function of the interface changes; Python refuses a library of another version.
constexpr int64_t kAbiVersion = 8;

// Of `InhibitorCall::center`.
constexpr int64_t kNone = 0, kMean = 1, kLeast = 2;

// A float32 tensor of 4 dimensions whose last one is contiguous; strides in elements.
struct Tensor4 {
  float* data;
  int64_t stride[3];
};

// A value per head; stride 0 is one value for all heads.
struct PerHead {
  const float* data;
  int64_t stride;
};

struct InhibitorCall {
  int64_t batch, heads, kv_heads, queries, keys, dim, value_dim;
  Tensor4 query, key, value;  // (B, H, Nq, D), (B, Hkv, Nk, D), (B, Hkv, Nk, Dv)
  PerHead gamma, eta, delta;
  PerHead length_exponent, key_norm, unit;  // null: none
  double length_reference;
  const float* score_bias;  // (H, Nq, Nk), the last dimension contiguous, null: none
  int64_t score_bias_stride[2];
  const uint8_t* key_mask;  // (B, Nk), null: all valid
  int64_t key_mask_stride[2];
  const uint8_t* attn_mask;  // (B, H, Nq, Nk), null: all valid
  int64_t attn_mask_stride[4];
  int64_t is_causal, is_signed;
  int64_t center;  // what is subtracted from a row of scores: kNone, its kMean or its kLeast
  int64_t threads;
  Tensor4 out;  // (B, H, Nq, Dv): written by forward, read by backward
  // Backward only.
  Tensor4 grad_out;                        // (B, H, Nq, Dv)
  Tensor4 grad_query, grad_key, grad_value;  // shapes of the inputs
  float* grad_scalars;  // (6, B, H) contiguous: gamma, eta, delta, length exponent, key norm, unit, per batch row
  float* grad_bias;     // (H, Nq, Nk) contiguous: gets added to, null: not wanted
};

// The integer operation. `call` gives shapes, strides, masks and the float32 tensors; its scalars are not read. All other
// arrays are contiguous but where a stride is given, in elements.
struct IntegerCall {
  InhibitorCall call;
  int64_t bits;                     // 3..8 or 16
  const float* offset;              // (Hkv, D + extra)
  const int32_t* source;            // (Hkv, extra): the feature that each of those past D repeats
  const float* inverse_step;        // (Hkv)
  const float* value_inverse_step;  // (H)
  const int32_t *sign, *delta, *shift;  // (H)
  int64_t extra;
  const float* factors;   // (H, > Nk): [h][n] multiplies a row of head h with n visible keys
  int64_t factor_stride;  // between its rows
  int32_t* sums;    // (B, H, Nq, Dv): gets the integers, and neither `call.out` nor `levels` anything; null: not wanted
  uint8_t* levels;  // (B, H, Nq, Dv): gets the requantized sums, and `call.out` nothing; null: not wanted
  int64_t levels_stride[3];
  const int32_t* output_multiplier;  // (H, > Nk), as `factors`
  int64_t output_multiplier_stride;
  const int32_t* output_shift;  // (H)
  int64_t output_zero, output_qmax;
};
