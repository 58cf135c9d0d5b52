// NEON with dot products of 4 bytes per lane (FEAT_DotProd: Cortex-A75 and A55 on, Neoverse, Apple).
#pragma once
#include "simd_neon.h"

namespace inhibitor {
namespace {

struct BytesDotprod : BytesNeon {
  static constexpr int64_t kMostGroups = INT64_MAX;

  template <class Distance>
  static Vec distance(Vec acc, Vec k, Vec q) {
    return vreinterpretq_s32_u32(vdotq_u32(vreinterpretq_u32_s32(acc), difference(k, q), vdupq_n_u8(1)));
  }
  using NeonLanes::merge;
  static void merge(const Vec (&acc)[4], int16_t* out) {
    store(out, low_words(vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3])));
  }
  static Vec dot(Vec acc, Vec u, Vec s) { return vdotq_s32(acc, vreinterpretq_s8_s32(u), vreinterpretq_s8_s32(s)); }
  static Vec total(Vec acc) { return acc; }
};

}  // namespace
}  // namespace inhibitor
