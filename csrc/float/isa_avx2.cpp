// clang-format off
#include "simd_avx2.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const FloatKernels kFloatAvx2 = make_kernels<Avx2>();
}
