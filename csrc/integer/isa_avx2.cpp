// clang-format off
#include "simd_avx2.h"
#include "table.h"
// clang-format on

namespace inhibitor {
extern const IntegerSet kIntegerAvx2 = {"avx2", integer_kernels<Int8Avx2>(), integer_kernels<Int16Avx2>(),
                                       Levels<Int8Avx2>::run};
}
