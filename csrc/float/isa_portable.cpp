// clang-format off
#include "simd_portable.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const FloatKernels kFloatPortable = make_kernels<Portable>();
}
