// NEON of 64-bit ARM: 4 lanes, 32 registers, an absolute difference in one instruction.
#pragma once
#include <arm_neon.h>

#include <cstdint>

#include "lanes.h"

namespace inhibitor {
namespace {

struct Neon {
  using Vec = float32x4_t;
  using Mask = uint32x4_t;
  static constexpr int kWidth = 4;
  static constexpr int kTileVecs = 4;  // a broadcast scalar is a load of its own: it serves 4 vectors
  static constexpr int kGradVecs = 2;
  static constexpr bool kDirect = true;
  static constexpr float kSparse = 0.5f;
  static constexpr const char* kName = "neon";

  static Vec zero() { return vdupq_n_f32(0.0f); }
  static Vec set(float x) { return vdupq_n_f32(x); }
  static Vec load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, Vec x) { vst1q_f32(p, x); }
  static Vec load_first(const float* p, int n) {
    float x[kWidth] = {};
    __builtin_memcpy(x, p, sizeof(float) * static_cast<unsigned>(n));
    return load(x);
  }
  static void store_first(float* p, Vec x, int n) {
    float from[kWidth];
    store(from, x);
    __builtin_memcpy(p, from, sizeof(float) * static_cast<unsigned>(n));
  }

  static Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
  static Vec add_by_fma(Vec a, Vec b) { return vaddq_f32(a, b); }
  static Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
  static Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
  static Vec fnma(Vec a, Vec b, Vec c) { return vfmsq_f32(c, a, b); }
  // Of a number and NaN the number: minima skip NaN. A maximum lets NaN in its second operand pass, as on x86; both
  // maxima that NEON has treat their operands alike.
  static Vec min(Vec a, Vec b) { return vminnmq_f32(a, b); }
  static Vec max(Vec a, Vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Vec abs(Vec a) { return vabsq_f32(a); }
  static Vec abs_difference(Vec a, Vec b) { return vabdq_f32(a, b); }
  static float sum(Vec a) { return vaddvq_f32(a); }
  static float largest(Vec a) { return vmaxvq_f32(a); }

  static Vec clamp(Vec v, Vec z) { return vmaxnmq_f32(vminnmq_f32(v, z), vnegq_f32(z)); }
  static Vec sign_one(Vec v) { return vbslq_f32(sign_bit(), v, set(1.0f)); }

  static Mask gt(Vec a, Vec b) { return vcgtq_f32(a, b); }
  static Mask is_nan(Vec a) { return vmvnq_u32(vceqq_f32(a, a)); }
  static Vec select(Mask m, Vec a, Vec b) { return vbslq_f32(m, a, b); }
  static Vec add_where(Mask m, Vec acc, Vec x) { return add(acc, where(m, x)); }
  static Vec sign_of(Vec v) { return where(sign_bit(), v); }
  static Vec flip_where(Mask m, Vec x, Vec sign) {  // elsewhere 0
    return where(m, vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(sign))));
  }
  static unsigned bits(Mask m) {
    const uint32x4_t of_lane = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, of_lane));
  }

  static Vec zip_low(Vec a, Vec b) { return vzip1q_f32(a, b); }
  static Vec zip_high(Vec a, Vec b) { return vzip2q_f32(a, b); }

  // With a scalar operand in memory.
  static Vec min_at(Vec a, const float* x) { return min(a, set(*x)); }
  static Mask gt_at(Vec a, const float* x) { return gt(a, set(*x)); }
  static Vec add_where_at(Mask m, Vec acc, const float* x) { return add_where(m, acc, set(*x)); }
  static Vec fma_where_at(Mask m, const float* a, Vec b, Vec acc) { return fma(where(m, set(*a)), b, acc); }

  // Adds clamp(v, -z, z) = sign(v) min(|v|, z), z a scalar in memory.
  struct Clamp {
    Clamp() = default;
    explicit Clamp(Vec v) : size(abs(v)), sign(sign_one(v)) {}
    Vec add_to(Vec acc, const float* z) const { return fma(min_at(size, z), sign, acc); }
    Vec size, sign;
  };

  // up += w sign(x - y), down -= w sign(x - y), w a scalar in memory, for |x - y| >= 1 or 0.
  static constexpr float kSign = 1.0f;  // the factor by which a sign comes out too large
  static void add_signed(const float* w, Vec x, Vec y, Vec& up, Vec& down) {
    const Vec sign = clamp(sub(x, y), set(1.0f));
    up = fma(set(*w), sign, up);
    down = fnma(set(*w), sign, down);
  }

  // Lane m of x[0] becomes the sum across the lanes of x[m].
  static void sum_each(Vec (&x)[kWidth]) { x[0] = vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3])); }

  static int append(int32_t* out, Mask m, int32_t first) { return append_lanes<kWidth>(out, bits(m), first); }
  static Vec expand(const float* p, uint32_t bits) {
    float x[kWidth];
    expand_lanes(p, bits, x);
    return load(x);
  }

 private:
  static uint32x4_t sign_bit() { return vdupq_n_u32(0x80000000u); }
  static Vec where(Mask m, Vec x) { return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(x))); }
};

}  // namespace
}  // namespace inhibitor
