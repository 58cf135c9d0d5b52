/* Inhibitor attention on CPUs: the C interface of the kernels, for Python (attention/cpu/abi.py), for the operators of
 * csrc/runtimes, and for programs that embed them. C99 and C++17. Every member of a struct has 8 bytes.
 *
 *     InhibitorCall call = {0};
 *     call.batch = ...;                 // shapes, tensors, scalars
 *     call.threads = 1;
 *     if (inhibitor_forward(&call) != INHIBITOR_OK) ...
 *
 * Arguments are not checked: tensors must have the shapes that are given beside them. */
#ifndef INHIBITOR_H
#define INHIBITOR_H

#include <stdint.h>

#if defined(_WIN32) && defined(INHIBITOR_BUILD)
#define INHIBITOR_EXPORT __declspec(dllexport)
#elif defined(_WIN32)
#define INHIBITOR_EXPORT
#else
#define INHIBITOR_EXPORT __attribute__((visibility("default")))
#endif

/* Changes whenever a struct or a function does; `inhibitor_abi_version` says what a library was built with. */
#define INHIBITOR_ABI_VERSION 10

#ifdef __cplusplus
extern "C" {
#endif

enum { INHIBITOR_OK = 0, INHIBITOR_OUT_OF_MEMORY = 1 };

/* Of `InhibitorCall.center`: what is subtracted from a row of scores. */
enum { INHIBITOR_CENTER_NONE = 0, INHIBITOR_CENTER_MEAN = 1, INHIBITOR_CENTER_MIN = 2 };

/* Of `InhibitorCall.dtype`. bfloat16 is computed in float32 and rounded to nearest, ties to even. */
enum { INHIBITOR_FLOAT32 = 0, INHIBITOR_BFLOAT16 = 1 };

/* Calls work(argument) `team` times, at the same time where it can, and returns when all calls have. */
typedef void (*InhibitorParallel)(void* pool, int64_t team, void (*work)(void* argument), void* argument);

/* A tensor of 4 dimensions whose last one is contiguous; strides in elements. float32, but for what `dtype` rules. */
typedef struct InhibitorTensor4 {
  void* data;
  int64_t stride[3];
} InhibitorTensor4;

/* A value per head; stride 0 is one value for all heads. */
typedef struct InhibitorPerHead {
  const float* data;
  int64_t stride;
} InhibitorPerHead;

typedef struct InhibitorCall {
  int64_t batch, heads, kv_heads, queries, keys, dim, value_dim;
  InhibitorTensor4 query, key, value; /* (B, H, Nq, D), (B, Hkv, Nk, D), (B, Hkv, Nk, Dv) */
  InhibitorPerHead gamma, eta, delta;
  InhibitorPerHead length_exponent, key_norm, unit; /* null: none */
  double length_reference;
  const float* score_bias; /* (H, Nq, Nk), the last dimension contiguous, null: none */
  int64_t score_bias_stride[2];
  const uint8_t* key_mask; /* (B, Nk), not 0: valid; null: all valid */
  int64_t key_mask_stride[2];
  const uint8_t* attn_mask; /* (B, H, Nq, Nk), not 0: valid; null: all valid */
  int64_t attn_mask_stride[4];
  int64_t is_causal, is_signed;
  int64_t center;
  int64_t dtype;              /* of query, key, value and out; backward takes float32 alone */
  int64_t threads;            /* at most */
  InhibitorParallel parallel; /* whose threads; null: those given to `inhibitor_set_parallel`, or one */
  void* pool;                 /* its first argument */
  InhibitorTensor4 out;       /* (B, H, Nq, Dv): written by forward, read by backward */
  /* Backward only. */
  InhibitorTensor4 grad_out;                         /* (B, H, Nq, Dv) */
  InhibitorTensor4 grad_query, grad_key, grad_value; /* shapes of the inputs */
  float* grad_scalars; /* (6, B, H) contiguous: gamma, eta, delta, length exponent, key norm, unit, per batch row */
  float* grad_bias;    /* (H, Nq, Nk) contiguous: gets added to, null: not wanted */
} InhibitorCall;

/* The integer operation. `call` gives shapes, strides, masks and the float32 tensors; its scalars are not read. All
 * other arrays are contiguous but where strides are given, in elements. */
typedef struct InhibitorIntegerCall {
  InhibitorCall call;
  int64_t bits;                     /* 3..8 or 16 */
  const float* offset;              /* (Hkv, D + extra) */
  const int32_t* source;            /* (Hkv, extra): the feature that each of those past D repeats */
  const float* inverse_step;        /* (Hkv) */
  const float* value_inverse_step;  /* (H) */
  const int32_t *sign, *delta, *shift; /* (H) */
  int64_t extra;
  const float* factors;  /* (H, > Nk): [h][n] multiplies a row of head h with n visible keys */
  int64_t factor_stride; /* between its rows */
  int32_t* sums;   /* (B, H, Nq, Dv): gets the integers, and neither `call.out` nor `levels` anything; null: not wanted */
  uint8_t* levels; /* (B, H, Nq, Dv): gets the requantized sums, and `call.out` nothing; null: not wanted */
  int64_t levels_stride[3];
  const int32_t* output_multiplier; /* (H, > Nk), as `factors` */
  int64_t output_multiplier_stride;
  const int32_t* output_shift; /* (H) */
  int64_t output_zero, output_qmax;
  /* Bytes instead of the float32 tensors, for at most 8 bits; null: those are quantized. q and k have D + extra features
   * a head, each less its offset; a value is its byte less `value_zero`. What exceeds `bits` is clipped. `offset`,
   * `source` and the steps are not read. */
  const uint8_t *query_levels, *key_levels, *value_levels;
  int64_t query_levels_stride[3], key_levels_stride[3], value_levels_stride[3];
  int64_t value_zero;
} InhibitorIntegerCall;

INHIBITOR_EXPORT int64_t inhibitor_abi_version(void);
INHIBITOR_EXPORT int64_t inhibitor_call_bytes(void);
INHIBITOR_EXPORT int64_t inhibitor_integer_call_bytes(void);

/* The i-th instruction set that was built and that this processor has, fastest first; null past the last. */
INHIBITOR_EXPORT const char* inhibitor_isa(int64_t i);
/* Chooses an instruction set by name, for the whole process; without it, the first serves. 0: done; 1: not built or not
 * supported here. */
INHIBITOR_EXPORT int64_t inhibitor_use_isa(const char* name);
/* The instructions that serve integers under the chosen instruction set. */
INHIBITOR_EXPORT const char* inhibitor_integer_isa(void);

/* `GOMP_parallel` of a loaded OpenMP runtime, for calls without `parallel`. libgomp, libomp and libiomp5 all export it,
 * but on Windows. */
INHIBITOR_EXPORT void inhibitor_set_parallel(void* gomp_parallel);
/* Not 0: scratch is filled with NaN before every use, by which tests prove that nothing is read before it is written. */
INHIBITOR_EXPORT void inhibitor_poison_scratch(int64_t on);

/* INHIBITOR_OK or INHIBITOR_OUT_OF_MEMORY. */
INHIBITOR_EXPORT int64_t inhibitor_forward(const InhibitorCall* call);
INHIBITOR_EXPORT int64_t inhibitor_backward(const InhibitorCall* call);
INHIBITOR_EXPORT int64_t inhibitor_integer_forward(const InhibitorIntegerCall* call);
/* out = clip(rint(x * inverse) + zero, 0, 255) of contiguous rows, `inverse` per feature. */
INHIBITOR_EXPORT int64_t inhibitor_quantize_uint8(const float* x, int64_t rows, int64_t features, const float* inverse,
                                                  float zero, uint8_t* out, int64_t threads);

#ifdef __cplusplus
}
#endif

#endif
