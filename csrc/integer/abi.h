// The integer operation's side of the interface to Python (attention/integer_cpu.py).
#pragma once
#include "../abi.h"

// `call` gives shapes, strides, masks and the float32 tensors; its scalars are not read. All other arrays are contiguous.
struct IntegerCall {
  InhibitorCall call;
  int64_t bits;               // 8 or 16
  const float* offset;        // (Hkv, D)
  const float* inverse_step;  // (Hkv, D)
  const int32_t* weight;      // (Hkv, D)
  const float* value_inverse_step;  // (Hkv)
  const int32_t *sign, *delta, *multiplier, *shift;  // (H)
  const float* factors;       // (H, > Nk): [h][n] multiplies a row of head h with n visible keys
  int64_t factor_stride;      // between its rows
  int32_t* sums;              // null, or (B, H, Nq, Dv): gets the integers, and `call.out` nothing
};
