// Compiler vector extensions (GCC, Clang): 4 lanes, on any processor. SSE2, which every x86-64 has, gets its own
// instructions where GCC does not find them.
#pragma once
#include <cmath>

#include "../float/simd_portable.h"

namespace inhibitor {
namespace {

struct PortableLanes {
  using Float = Portable;
  typedef int32_t Vec __attribute__((vector_size(16)));
  typedef uint32_t UnsignedVec __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kTileVecs = 2;
  static constexpr int kRows = 2;

  static Vec zero() { return Vec{}; }
  static Vec set(int32_t x) { return Vec{x, x, x, x}; }
  static Vec load(const void* p) {
    Vec x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static void store(void* p, Vec x) { std::memcpy(p, &x, sizeof x); }
  static Vec broadcast(const void* p) {
    int32_t word;
    std::memcpy(&word, p, sizeof word);
    return set(word);
  }
  // Unsigned inside: distances are meant to wrap around on their way.
  static Vec add(Vec a, Vec b) { return to<Vec>(to<UnsignedVec>(a) + to<UnsignedVec>(b)); }
  static Vec sub(Vec a, Vec b) { return to<Vec>(to<UnsignedVec>(a) - to<UnsignedVec>(b)); }
  static Vec min32(Vec a, Vec b) { return a < b ? a : b; }
  static Vec max32(Vec a, Vec b) { return a > b ? a : b; }
  static Vec bit_or(Vec a, Vec b) { return a | b; }
  static Vec bit_and(Vec a, Vec b) { return a & b; }
  static Vec shift_left(Vec a, int n) { return to<Vec>(to<UnsignedVec>(a) << static_cast<uint32_t>(n)); }
  static Vec rint(Portable::Vec x) {  // ties to even
#if defined(__SSE2__)
    return to<Vec>(_mm_cvtps_epi32(x));
#else
    Vec out;
    for (int i = 0; i < kLanes; ++i) out[i] = static_cast<int32_t>(std::nearbyintf(x[i]));
    return out;
#endif
  }
  static Portable::Vec as_float(Vec a) { return to<Portable::Vec>(a); }
  static Vec as_integer(Portable::Vec a) { return to<Vec>(a); }
  static int32_t sum(Vec a) { return static_cast<int32_t>(static_cast<uint32_t>(sum_unsigned(a))); }
  static uint64_t sum_unsigned(Vec a) {
    uint64_t sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += static_cast<uint32_t>(a[i]);
    return sum;
  }

  // (u m + half) >> shift with a product of 64 bits.
  struct Multiplier {
    Multiplier(int32_t m, int32_t n) : factor(static_cast<uint64_t>(m)), half(n > 0 ? uint64_t{1} << (n - 1) : 0), count(n) {}
    Vec operator()(Vec u) const {
      Vec out;
      for (int i = 0; i < kLanes; ++i)
        out[i] = static_cast<int32_t>((static_cast<uint32_t>(u[i]) * factor + half) >> count);
      return out;
    }
    uint64_t factor, half;
    int count;
  };

 protected:
  template <class To, class From>
  static To to(From from) {
    static_assert(sizeof(To) == sizeof(From), "same bits");
    To out;
    std::memcpy(&out, &from, sizeof out);
    return out;
  }
};

struct Int8Portable : PortableLanes {
  using Element = uint8_t;
  static constexpr int kGroup = 4, kBits = 8;
  static constexpr int32_t kQmax = 255, kValueQmax = 127;
  typedef uint8_t Bytes __attribute__((vector_size(16)));
  typedef int8_t SignedBytes __attribute__((vector_size(16)));
  typedef int16_t Words __attribute__((vector_size(16)));
  typedef uint16_t UnsignedWords __attribute__((vector_size(16)));

  static Vec magnitudes(Vec a) {
    const SignedBytes x = to<SignedBytes>(a), negative = x < 0;  // all ones where true
    return to<Vec>((x ^ negative) - negative);
  }
  static Vec signs(Vec a) {
    const SignedBytes x = to<SignedBytes>(a);
    return to<Vec>((x < 0) - (x > 0));
  }
  static Vec min(Vec a, Vec b) {
#if defined(__SSE2__)
    return to<Vec>(_mm_min_epu8(to<__m128i>(a), to<__m128i>(b)));
#else
    const Bytes x = to<Bytes>(a), y = to<Bytes>(b);
    return to<Vec>(x < y ? x : y);
#endif
  }
  // Products of even and of odd bytes apart; both, and their sum, fit 16 bits (255 x 64 x 2).
  static Vec dot(Vec acc, Vec u, Vec s) {
    const UnsignedWords unsigned_words = to<UnsignedWords>(u);
    const Words even = to<Words>(unsigned_words & 255), odd = to<Words>(unsigned_words >> 8);
    const Words even_sign = to<Words>(to<UnsignedWords>(s) << 8) >> 8, odd_sign = to<Words>(s) >> 8;
    return add_pairs(acc, even * even_sign + odd * odd_sign);
  }
  static void store_narrow(Element* p, Vec x) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<Element>(x[i]);
  }

 private:
  static Vec add_pairs(Vec acc, Words x) {
#if defined(__SSE2__)
    return add(acc, to<Vec>(_mm_madd_epi16(to<__m128i>(x), _mm_set1_epi16(1))));
#else
    return add(acc, (to<Vec>(to<UnsignedVec>(x) << 16u) >> 16) + (to<Vec>(x) >> 16));
#endif
  }
};

struct Int16Portable : PortableLanes {
  using Element = uint16_t;
  static constexpr int kGroup = 2, kBits = 16;
  static constexpr int32_t kQmax = 32767, kValueQmax = 32767;
  typedef int16_t Words __attribute__((vector_size(16)));

  static Vec magnitudes(Vec a) {
    const Words x = to<Words>(a), negative = x < 0;  // all ones where true
    return to<Vec>((x ^ negative) - negative);
  }
  static Vec signs(Vec a) {
    const Words x = to<Words>(a);
    return to<Vec>((x < 0) - (x > 0));
  }
  // Quantized values end at 32767, so that words may be compared as signed ones.
  static Vec min(Vec a, Vec b) {
#if defined(__SSE2__)
    return to<Vec>(_mm_min_epi16(to<__m128i>(a), to<__m128i>(b)));
#else
    const Words x = to<Words>(a), y = to<Words>(b);
    return to<Vec>(x < y ? x : y);
#endif
  }
  static Vec dot(Vec acc, Vec u, Vec s) {
#if defined(__SSE2__)
    return add(acc, to<Vec>(_mm_madd_epi16(to<__m128i>(u), to<__m128i>(s))));
#else
    const UnsignedVec words = to<UnsignedVec>(u);
    const Vec low = to<Vec>(words & 0xFFFFu) * (to<Vec>(to<UnsignedVec>(s) << 16u) >> 16);
    const Vec high = to<Vec>(words >> 16u) * (s >> 16);
    return add(add(acc, low), high);
#endif
  }
  static void store_narrow(Element* p, Vec x) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<Element>(x[i]);
  }
};

}  // namespace
}  // namespace inhibitor
