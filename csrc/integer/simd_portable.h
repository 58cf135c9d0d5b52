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
  using Distance = int32_t;
  static constexpr int kLanes = 4;
  static constexpr int kTileVecs = 2;      // vectors of features of a tile of phase two
  static constexpr int kRows = 2;          // its rows
  static constexpr int kDistanceRows = 2;  // rows of a tile of phase one
  static constexpr bool kNarrow = false;

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
  static Vec broadcast64(const void* p) {
    int32_t low, high;
    std::memcpy(&low, p, sizeof low);
    std::memcpy(&high, static_cast<const uint8_t*>(p) + sizeof low, sizeof high);
    return Vec{low, high, low, high};
  }
  static void keep(Vec&) {}
  // Unsigned inside: distances are meant to wrap around on their way.
  static Vec add(Vec a, Vec b) { return to<Vec>(to<UnsignedVec>(a) + to<UnsignedVec>(b)); }
  static Vec sub(Vec a, Vec b) { return to<Vec>(to<UnsignedVec>(a) - to<UnsignedVec>(b)); }
  static Vec min32(Vec a, Vec b) { return a < b ? a : b; }
  static Vec max32(Vec a, Vec b) { return a > b ? a : b; }
  static Vec shift_left(Vec a, int n) { return to<Vec>(to<UnsignedVec>(a) << static_cast<uint32_t>(n)); }
  static Vec shift_right(Vec a, int n) { return to<Vec>(to<UnsignedVec>(a) >> static_cast<uint32_t>(n)); }
  static Vec rint(Portable::Vec x) {  // ties to even
#if defined(__SSE2__)
    return to<Vec>(_mm_cvtps_epi32(x));
#else
    Vec out;
    for (int i = 0; i < kLanes; ++i) out[i] = static_cast<int32_t>(std::nearbyintf(x[i]));
    return out;
#endif
  }
  static Portable::Vec to_float(Vec a) {
#if defined(__SSE2__)
    return _mm_cvtepi32_ps(to<__m128i>(a));
#else
    return __builtin_convertvector(a, Portable::Vec);
#endif
  }
  static Vec levels(Portable::Vec x, Portable::Vec qmax) {
    return rint(Portable::min(Portable::max(x, Portable::zero()), qmax));
  }
  static uint64_t sum_unsigned(Vec a) {
    uint64_t sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += static_cast<uint32_t>(a[i]);
    return sum;
  }
  static Vec load_bytes(const uint8_t* p) { return Vec{p[0], p[1], p[2], p[3]}; }
  static Vec load_distances(const int32_t* p) { return load(p); }
  static void store_bytes(uint8_t* p, Vec x) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(x[i]);
  }
  // clip(((a * multiplier + half) >> shift) + zero, 0, qmax), the products in 64 bits.
  static Vec requantize(Vec a, int32_t multiplier, int64_t half, int shift, int64_t zero, int64_t qmax) {
    Vec out;
    for (int i = 0; i < kLanes; ++i) {
      const int64_t y = ((int64_t{a[i]} * multiplier + half) >> shift) + zero;
      out[i] = static_cast<int32_t>(y < 0 ? 0 : y > qmax ? qmax : y);
    }
    return out;
  }
  // The distances of a panel: both halves of each lane of 64 bits together.
  static void merge(const Vec (&acc)[4], int32_t* out) {
    for (int a = 0; a < 4; ++a)
      for (int b = 0; b < 2; ++b) {
        const auto low = static_cast<uint32_t>(acc[a][2 * b]), high = static_cast<uint32_t>(acc[a][2 * b + 1]);
        out[2 * a + b] = static_cast<int32_t>(low + high);
      }
  }

 protected:
  template <class To, class From>
  static To to(From from) {
    static_assert(sizeof(To) == sizeof(From), "same bits");
    To out;
    std::memcpy(&out, &from, sizeof out);
    return out;
  }
};

struct BytesPortable : PortableLanes {
  using Element = uint8_t;
  static constexpr int kGroup = 4, kHeadGranules = 0;
  static constexpr int64_t kMostGroups = 128;  // 2 x 127 x 128 < 2^15
  typedef uint8_t Bytes __attribute__((vector_size(16)));
  typedef int8_t SignedBytes __attribute__((vector_size(16)));
  typedef int16_t Words __attribute__((vector_size(16)));
  typedef uint16_t UnsignedWords __attribute__((vector_size(16)));

  static Vec narrow(const Vec (&x)[4]) {
    Bytes out;
    for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>(x[i / 4][i % 4]);
    return to<Vec>(out);
  }
  static void write_head(uint8_t*, const Element*, int64_t, int64_t) {}
  template <class>
  static Vec distance(Vec acc, Vec k, Vec q) {
#if defined(__SSE2__)
    return add(acc, to<Vec>(_mm_sad_epu8(to<__m128i>(k), to<__m128i>(q))));
#else
    const Bytes x = to<Bytes>(k), y = to<Bytes>(q);
    const UnsignedWords far = to<UnsignedWords>((x > y ? x : y) - (x < y ? x : y));
    const UnsignedVec pairs = to<UnsignedVec>((far & 255) + (far >> 8));
    return add(acc, to<Vec>((pairs & 0xFFFFu) + (pairs >> 16u)));
#endif
  }
  static void store_narrow(Element* p, Vec x) { store_bytes(p, x); }

  // Byte k of lane f is that of key k and feature f.
  static Vec group(const Vec (&x)[4]) {
    const UnsignedVec low = (to<UnsignedVec>(x[0]) & 255u) | (to<UnsignedVec>(x[1]) & 255u) << 8u;
    return to<Vec>(low | (to<UnsignedVec>(x[2]) & 255u) << 16u | to<UnsignedVec>(x[3]) << 24u);
  }
  static Vec magnitudes(Vec a) {
    const SignedBytes x = to<SignedBytes>(a), negative = x < 0;  // all ones where true
    return to<Vec>((x ^ negative) - negative);
  }
  static Vec negative_signs(Vec a) {
    const SignedBytes x = to<SignedBytes>(a);
    return to<Vec>((x > 0) - (x < 0));
  }
  static Vec min(Vec a, Vec b) {
#if defined(__SSE2__)
    return to<Vec>(_mm_min_epu8(to<__m128i>(a), to<__m128i>(b)));
#else
    const Bytes x = to<Bytes>(a), y = to<Bytes>(b);
    return to<Vec>(x < y ? x : y);
#endif
  }
  // Sums of 16 bits, of the products of an even and an odd byte each; `total` widens them.
  static Vec dot(Vec acc, Vec u, Vec s) {
    const UnsignedWords unsigned_words = to<UnsignedWords>(u);
    const Words even = to<Words>(unsigned_words & 255), odd = to<Words>(unsigned_words >> 8);
    const Words even_sign = to<Words>(to<UnsignedWords>(s) << 8) >> 8, odd_sign = to<Words>(s) >> 8;
    return to<Vec>(to<Words>(acc) + even * even_sign + odd * odd_sign);
  }
  static Vec total(Vec acc) {
#if defined(__SSE2__)
    return to<Vec>(_mm_madd_epi16(to<__m128i>(acc), _mm_set1_epi16(1)));
#else
    return (to<Vec>(to<UnsignedVec>(acc) << 16u) >> 16) + (acc >> 16);
#endif
  }
};

// Levels 0..65535 are held less 32768, as signed words: distances stay what they are.
struct WordsPortable : PortableLanes {
  using Element = uint16_t;
  static constexpr int kGroup = 2, kHeadGranules = 1;
  static constexpr int64_t kMostGroups = INT64_MAX;
  typedef int16_t Words __attribute__((vector_size(16)));

  static Vec narrow(const Vec (&x)[2]) {
    Words out;
    for (int i = 0; i < 8; ++i) out[i] = static_cast<int16_t>(x[i / 4][i % 4] - 32768);
    return to<Vec>(out);
  }
  // |q - k| = q + k - 2 min(q, k): the head of a row holds the sum of its first `used` words.
  static void write_head(uint8_t* out, const Element* row, int64_t, int64_t used) {
    int32_t total = 0;
    for (int64_t d = 0; d < used; ++d) total += static_cast<int16_t>(row[d]);
    const int64_t head = static_cast<uint32_t>(total);
    std::memcpy(out, &head, sizeof head);
  }
  // Times -2 for distances, times 1 or -1 for signs: products and their pairs stay within 2^17.
  template <class>
  static Vec distance(Vec acc, Vec k, Vec q) {
    const Vec minus_two = set(static_cast<int32_t>(0xFFFEFFFEu));
    return dot(acc, min(k, q), minus_two);
  }
  static void store_narrow(Element* p, Vec x) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<Element>(x[i]);
  }

  static Vec group(const Vec (&x)[2]) {
    return to<Vec>((to<UnsignedVec>(x[0]) & 0xFFFFu) | to<UnsignedVec>(x[1]) << 16u);
  }
  static Vec magnitudes(Vec a) {
    const Words x = to<Words>(a), negative = x < 0;  // all ones where true
    return to<Vec>((x ^ negative) - negative);
  }
  static Vec negative_signs(Vec a) {
    const Words x = to<Words>(a);
    return to<Vec>((x > 0) - (x < 0));
  }
  // Signed: values and scores end at 32767.
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
    const Vec low = (to<Vec>(to<UnsignedVec>(u) << 16u) >> 16) * (to<Vec>(to<UnsignedVec>(s) << 16u) >> 16);
    return add(add(acc, low), (u >> 16) * (s >> 16));
#endif
  }
  static Vec total(Vec acc) { return acc; }
};

}  // namespace
}  // namespace inhibitor
