// clang-format off
#include "simd_vnni.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const IntegerTable kIntegerVnni = make_table<Int8Vnni, Int16Vnni>("avx512vnni");
}
