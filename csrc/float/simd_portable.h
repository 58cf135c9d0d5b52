// Compiler vector extensions (GCC, Clang): 4 lanes, on any processor; NEON and SSE2 have this width.
#pragma once
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "lanes.h"

namespace inhibitor {
namespace {

struct Portable {
  typedef float Vec __attribute__((vector_size(16)));
  typedef int32_t Mask __attribute__((vector_size(16)));
  static constexpr int kWidth = 4;
  static constexpr int kTileVecs = 2;
  static constexpr int kGradVecs = 1;
  static constexpr bool kDirect = false;
  static constexpr float kSparse = 0.5f;
  static constexpr const char* kName = "portable";

  static Vec zero() { return Vec{}; }
  static Vec set(float x) { return Vec{x, x, x, x}; }
  static Vec load(const float* p) {
    Vec x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static void store(float* p, Vec x) { std::memcpy(p, &x, sizeof x); }
  static Vec load_first(const float* p, int n) {
    Vec x{};
    std::memcpy(&x, p, sizeof(float) * static_cast<unsigned>(n));
    return x;
  }
  static void store_first(float* p, Vec x, int n) { std::memcpy(p, &x, sizeof(float) * static_cast<unsigned>(n)); }

  static Vec add(Vec a, Vec b) { return a + b; }
  static Vec add_by_fma(Vec a, Vec b) { return a + b; }
  static Vec sub(Vec a, Vec b) { return a - b; }
  static Vec mul(Vec a, Vec b) { return a * b; }
  static Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
  static Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
#if defined(__SSE2__)  // GCC makes a comparison and three logical operations of the general form
  static Vec min(Vec a, Vec b) { return _mm_min_ps(a, b); }
  static Vec max(Vec a, Vec b) { return _mm_max_ps(a, b); }
#else
  static Vec min(Vec a, Vec b) { return a < b ? a : b; }
  static Vec max(Vec a, Vec b) { return a > b ? a : b; }
#endif
  static Vec abs(Vec a) { return as_float(as_int(a) & INT32_MAX); }
  static Vec abs_difference(Vec a, Vec b) { return abs(a - b); }
  static float sum(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  static float largest(Vec a) {
    const float x = a[0] > a[1] ? a[0] : a[1];
    const float y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
  }

  static Vec clamp(Vec v, Vec z) { return as_float(as_int(min(abs(v), z)) | (as_int(v) & INT32_MIN)); }
  static Vec sign_one(Vec v) { return as_float((as_int(v) & INT32_MIN) | as_int(set(1.0f))); }

  static Mask gt(Vec a, Vec b) { return a > b; }
  static Mask is_nan(Vec a) { return a != a; }
  static Vec select(Mask m, Vec a, Vec b) { return as_float((m & as_int(a)) | (~m & as_int(b))); }
  static Vec add_where(Mask m, Vec acc, Vec x) { return acc + as_float(m & as_int(x)); }
  static Vec sign_of(Vec v) { return as_float(as_int(v) & INT32_MIN); }
  static Vec flip_where(Mask m, Vec x, Vec sign) { return as_float(m & (as_int(x) ^ as_int(sign))); }  // elsewhere 0
  static unsigned bits(Mask m) { return static_cast<unsigned>((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8)); }

  static Vec zip_low(Vec a, Vec b) { return Vec{a[0], b[0], a[1], b[1]}; }
  static Vec zip_high(Vec a, Vec b) { return Vec{a[2], b[2], a[3], b[3]}; }

  // With a scalar operand in memory.
  static Vec min_at(Vec a, const float* x) { return min(a, set(*x)); }
  static Mask gt_at(Vec a, const float* x) { return gt(a, set(*x)); }
  static Vec add_where_at(Mask m, Vec acc, const float* x) { return add_where(m, acc, set(*x)); }
  static Vec fma_where_at(Mask m, const float* a, Vec b, Vec acc) { return as_float(m & as_int(set(*a))) * b + acc; }

  // Adds clamp(v, -z, z), z a scalar in memory.
  struct Clamp {
    Clamp() = default;
    explicit Clamp(Vec x) : v(x) {}
    Vec add_to(Vec acc, const float* z) const { return acc + clamp(v, set(*z)); }
    Vec v;
  };

  // up += w sign(x - y), down -= w sign(x - y), w a scalar in memory.
  static constexpr float kSign = 1.0f;  // the factor by which a sign comes out too large
  static void add_signed(const float* w, Vec x, Vec y, Vec& up, Vec& down) {
    const Vec difference = x - y;
    const Mask flipped = as_int(set(*w)) ^ (as_int(difference) & INT32_MIN);
    const Vec signed_w = as_float((difference != 0.0f) & flipped);
    up += signed_w;
    down -= signed_w;
  }

  // Lane m of x[0] becomes the sum across the lanes of x[m].
  static void sum_each(Vec (&x)[kWidth]) {
    for (int half = kWidth / 2; half > 0; half /= 2)
      for (int m = 0; m < half; ++m) x[m] = add(zip_low(x[m], x[m + half]), zip_high(x[m], x[m + half]));
  }

  static int append(int32_t* out, Mask m, int32_t first) { return append_lanes<kWidth>(out, bits(m), first); }
  static Vec expand(const float* p, uint32_t bits) {
    float x[kWidth];
    expand_lanes(p, bits, x);
    return load(x);
  }

 private:
  static Mask as_int(Vec a) {
    Mask m;
    std::memcpy(&m, &a, sizeof m);
    return m;
  }
  static Vec as_float(Mask m) {
    Vec a;
    std::memcpy(&a, &m, sizeof a);
    return a;
  }
};

}  // namespace
}  // namespace inhibitor
