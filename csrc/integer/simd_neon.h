// NEON of 64-bit ARM: absolute differences, and sums of neighbors that accumulate in lanes of twice the width.
#pragma once
#include "../float/simd_neon.h"

namespace inhibitor {
namespace {

struct NeonLanes {
  using Float = Neon;
  using Vec = int32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kTileVecs = 4;      // vectors of features of a tile of phase two
  static constexpr int kRows = 4;          // its rows
  static constexpr int kDistanceRows = 4;  // rows of a tile of phase one

  static Vec zero() { return vdupq_n_s32(0); }
  static Vec set(int32_t x) { return vdupq_n_s32(x); }
  static Vec load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
  static void store(void* p, Vec x) { vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_s32(x)); }
  static Vec broadcast(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return vdupq_n_s32(word);
  }
  static Vec broadcast64(const void* p) {
    int64_t granule;
    __builtin_memcpy(&granule, p, sizeof granule);
    return vreinterpretq_s32_s64(vdupq_n_s64(granule));
  }
  // In a register, and after what stands before: GCC likes to start all products of a tile first, which takes more
  // registers than there are.
  static void keep(Vec& x) { asm volatile("" : "+w"(x)); }
  static Vec add(Vec a, Vec b) { return vaddq_s32(a, b); }
  static Vec sub(Vec a, Vec b) { return vsubq_s32(a, b); }
  static Vec min32(Vec a, Vec b) { return vminq_s32(a, b); }
  static Vec max32(Vec a, Vec b) { return vmaxq_s32(a, b); }
  static Vec shift_left(Vec a, int n) { return vshlq_s32(a, vdupq_n_s32(n)); }
  static Vec shift_right(Vec a, int n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
  }
  static Vec rint(float32x4_t x) { return vcvtnq_s32_f32(x); }  // ties to even
  static float32x4_t to_float(Vec a) { return vcvtq_f32_s32(a); }
  // A minimum that NaN passes, and a conversion that takes NaN and what is below 0 to 0.
  static Vec levels(float32x4_t x, float32x4_t qmax) {
    return vreinterpretq_s32_u32(vcvtnq_u32_f32(vminq_f32(x, qmax)));
  }
  static uint64_t sum_unsigned(Vec a) { return vaddlvq_u32(vreinterpretq_u32_s32(a)); }
  static Vec load_distances(const int32_t* p) { return load(p); }
  static Vec load_bytes(const uint8_t* p) {
    uint8x8_t bytes = vdup_n_u8(0);
    __builtin_memcpy(&bytes, p, kLanes);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
  }
  static void store_bytes(uint8_t* p, Vec x) {
    const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(x));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    __builtin_memcpy(p, &bytes, kLanes);
  }
  // clip(((a * multiplier + half) >> shift) + zero, 0, qmax), the products in 64 bits. Narrowed, they stop at the ends of
  // 32 bits, which zero points take over neither end of qmax.
  static Vec requantize(Vec a, int32_t multiplier, int64_t half, int shift, int64_t zero, int64_t qmax) {
    const int32x2_t factor = vdup_n_s32(multiplier);
    const int64x2_t start = vdupq_n_s64(half), right = vdupq_n_s64(-shift);
    const auto scaled = [&](int32x2_t x) { return vqmovn_s64(vshlq_s64(vmlal_s32(start, x, factor), right)); };
    const Vec all = vcombine_s32(scaled(vget_low_s32(a)), scaled(vget_high_s32(a)));
    return min32(max32(vqaddq_s32(all, set(static_cast<int32_t>(zero))), set(0)), set(static_cast<int32_t>(qmax)));
  }
  static void merge(const Vec (&acc)[4], int32_t* out) {
    store(out, vpaddq_s32(acc[0], acc[1]));
    store(out + kLanes, vpaddq_s32(acc[2], acc[3]));
  }

 protected:
  // The low halves of all lanes, in order.
  static Vec low_words(Vec a, Vec b) {
    return vreinterpretq_s32_s16(vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
  }
};

struct BytesNeon : NeonLanes {
  using Element = uint8_t;
  using Distance = int16_t;
  static constexpr int kGroup = 4, kHeadGranules = 0;
  static constexpr bool kNarrow = true;
  static constexpr int64_t kMostGroups = 128;  // 2 x 127 x 128 < 2^15

  static Vec narrow(const Vec (&x)[4]) {
    const Vec low = low_words(x[0], x[1]), high = low_words(x[2], x[3]);
    return vreinterpretq_s32_u8(vuzp1q_u8(vreinterpretq_u8_s32(low), vreinterpretq_u8_s32(high)));
  }
  static void write_head(uint8_t*, const Element*, int64_t, int64_t) {}
  // Where all distances fit 16 bits, so do the sums in lanes.
  template <class Distance>
  static Vec distance(Vec acc, Vec k, Vec q) {
    const uint8x16_t far = difference(k, q);
    if constexpr (sizeof(Distance) == sizeof(int16_t))
      return vreinterpretq_s32_u16(vpadalq_u8(vreinterpretq_u16_s32(acc), far));
    else
      return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc), vpaddlq_u8(far)));
  }
  using NeonLanes::merge;
  static void merge(const Vec (&acc)[4], int16_t* out) {
    const int16x8_t low = vpaddq_s16(vreinterpretq_s16_s32(acc[0]), vreinterpretq_s16_s32(acc[1]));
    const int16x8_t high = vpaddq_s16(vreinterpretq_s16_s32(acc[2]), vreinterpretq_s16_s32(acc[3]));
    vst1q_s16(out, vpaddq_s16(low, high));
  }

  static Vec set8(int32_t x) { return vreinterpretq_s32_s8(vdupq_n_s8(static_cast<int8_t>(x))); }
  static Vec set16(int64_t x) { return vreinterpretq_s32_s16(vdupq_n_s16(static_cast<int16_t>(x))); }
  static Vec adds16(Vec a, Vec b) {
    return vreinterpretq_s32_s16(vqaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
  }
  static Vec subs16(Vec a, Vec b) {
    return vreinterpretq_s32_s16(vqsubq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
  }
  static Vec shift_right16(Vec a, int n) {
    return vreinterpretq_s32_s16(vshlq_s16(vreinterpretq_s16_s32(a), vdupq_n_s16(static_cast<int16_t>(-n))));
  }
  static Vec add_words(Vec acc, Vec x) { return vpadalq_s16(acc, vreinterpretq_s16_s32(x)); }
  // Clipped to bytes, in order.
  static Vec narrow_words(Vec a, Vec b) {
    const uint8x8_t low = vqmovun_s16(vreinterpretq_s16_s32(a));
    return vreinterpretq_s32_u8(vqmovun_high_s16(low, vreinterpretq_s16_s32(b)));
  }
  using NeonLanes::load_distances;
  static Vec load_distances(const int16_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_s16(vld1_s16(p))));
  }
  static void store_narrow(Element* p, Vec x) { store_bytes(p, x); }

  // Byte k of lane f is that of key k and feature f.
  static Vec group(const Vec (&x)[4]) {
    return vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(x[0], x[1], 8), x[2], 16), x[3], 24);
  }
  static Vec magnitudes(Vec a) { return vreinterpretq_s32_s8(vabsq_s8(vreinterpretq_s8_s32(a))); }
  static Vec negative_signs(Vec a) {  // a comparison gives -1 where it is true
    const int8x16_t x = vreinterpretq_s8_s32(a);
    return vreinterpretq_s32_u8(vsubq_u8(vcgtzq_s8(x), vcltzq_s8(x)));
  }
  static Vec min(Vec a, Vec b) {
    return vreinterpretq_s32_u8(vminq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
  }
  // Sums of 16 bits, of two products each; `total` widens them.
  static Vec dot(Vec acc, Vec u, Vec s) {
    const int8x16_t products = vmulq_s8(vreinterpretq_s8_s32(u), vreinterpretq_s8_s32(s));
    return vreinterpretq_s32_s16(vpadalq_s8(vreinterpretq_s16_s32(acc), products));
  }
  static Vec total(Vec acc) { return vpaddlq_s16(vreinterpretq_s16_s32(acc)); }

 protected:
  static uint8x16_t difference(Vec k, Vec q) { return vabdq_u8(vreinterpretq_u8_s32(k), vreinterpretq_u8_s32(q)); }
};

struct WordsNeon : NeonLanes {
  using Element = uint16_t;
  using Distance = int32_t;
  static constexpr int kGroup = 2, kHeadGranules = 0;
  static constexpr bool kNarrow = false;
  static constexpr int64_t kMostGroups = INT64_MAX;

  static Vec narrow(const Vec (&x)[2]) { return low_words(x[0], x[1]); }
  static void write_head(uint8_t*, const Element*, int64_t, int64_t) {}
  template <class Distance>
  static Vec distance(Vec acc, Vec k, Vec q) {
    const uint16x8_t far = vabdq_u16(vreinterpretq_u16_s32(k), vreinterpretq_u16_s32(q));
    return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc), far));
  }
  static void store_narrow(Element* p, Vec x) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(x))); }

  static Vec group(const Vec (&x)[2]) { return vsliq_n_s32(x[0], x[1], 16); }
  static Vec magnitudes(Vec a) { return vreinterpretq_s32_s16(vabsq_s16(vreinterpretq_s16_s32(a))); }
  static Vec negative_signs(Vec a) {
    const int16x8_t x = vreinterpretq_s16_s32(a);
    return vreinterpretq_s32_u16(vsubq_u16(vcgtzq_s16(x), vcltzq_s16(x)));
  }
  static Vec min(Vec a, Vec b) {
    return vreinterpretq_s32_u16(vminq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
  }
  static Vec dot(Vec acc, Vec u, Vec s) {
    return vpadalq_s16(acc, vmulq_s16(vreinterpretq_s16_s32(u), vreinterpretq_s16_s32(s)));
  }
  static Vec total(Vec acc) { return acc; }
};

}  // namespace
}  // namespace inhibitor
