// Lists of lanes and their inverse, for instruction sets that do not compress vectors.
#pragma once
#include <cstdint>

namespace inhibitor {
namespace {

// Writes first + lane for each of W lanes whose bit is set, returns how many; writes W numbers at `out`.
template <int W>
int append_lanes(int32_t* out, unsigned bits, int32_t first) {
  int n = 0;
  for (int lane = 0; lane < W; ++lane) {
    out[n] = first + lane;
    n += static_cast<int>(bits >> lane & 1u);
  }
  return n;
}

// Of W lanes, those whose bit is set take the next float from `p`, the others 0.
template <int W>
void expand_lanes(const float* p, uint32_t bits, float (&x)[W]) {
  for (int lane = 0; lane < W; ++lane) x[lane] = bits >> lane & 1u ? *p++ : 0.0f;
}

}  // namespace
}  // namespace inhibitor
