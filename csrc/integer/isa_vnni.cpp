// clang-format off
#include "simd_vnni.h"
#include "table.h"
// clang-format on

namespace inhibitor {
extern const IntegerSet kIntegerVnni = {"avx512vnni", integer_kernels<Int8Vnni>(), integer_kernels<Int16Vnni>(),
                                       Levels<Int8Vnni>::run};
}
