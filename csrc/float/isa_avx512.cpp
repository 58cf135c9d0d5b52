// clang-format off
#include "simd_avx512.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const FloatKernels kFloatAvx512 = make_kernels<Avx512>();
}
