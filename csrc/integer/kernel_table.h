// What each instruction set offers for integers.
#pragma once
#include "../abi.h"

namespace inhibitor {

struct IntegerKernels {
  int64_t (*items)(const IntegerCall&);
  int64_t (*scratch)(const IntegerCall&);
  void (*forward)(const IntegerCall&, int64_t item, float* scratch);
};

// Levels of at most 8 bits and of 16, and the inputs of 8-bit linear layers.
struct IntegerTable {
  const char* name;
  IntegerKernels bytes, words;
  void (*quantize)(const float* x, int64_t n, const float* inverse, float zero, uint8_t* out);
};

extern const IntegerTable kIntegerPortable;
#if defined(INHIBITOR_WITH_X86)
extern const IntegerTable kIntegerAvx2;
extern const IntegerTable kIntegerVnni;
#elif defined(INHIBITOR_WITH_NEON)
extern const IntegerTable kIntegerNeon;
extern const IntegerTable kIntegerDotprod;
#endif

}  // namespace inhibitor
