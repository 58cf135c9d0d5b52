// What instruction sets without compressing stores and expanding loads do lane by lane.
#pragma once
#include <cstdint>

namespace inhibitor {
namespace {

// Writes first + lane for every lane whose bit is set, returns how many; writes up to `Width` numbers at `out`.
template <int Width>
int append_lanes(int32_t* out, unsigned set, int32_t first) {
  int n = 0;
  for (int lane = 0; lane < Width; ++lane) {
    out[n] = first + lane;
    n += static_cast<int>(set >> lane & 1u);
  }
  return n;
}

// Lanes of `x` whose bit is set take the next float from `p`, the others 0.
template <int Width>
void expand_lanes(float* x, const float* p, uint32_t set) {
  for (int lane = 0; lane < Width; ++lane) x[lane] = set >> lane & 1u ? *p++ : 0.0f;
}

}  // namespace
}  // namespace inhibitor
