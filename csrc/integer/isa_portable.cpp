// clang-format off
#include "simd_portable.h"
#include "table.h"
// clang-format on

namespace inhibitor {
extern const IntegerSet kIntegerPortable = {"portable", integer_kernels<Int8Portable>(), integer_kernels<Int16Portable>(),
                                       Levels<Int8Portable>::run};
}
