// What each instruction set offers for integers.
#pragma once
#include "abi.h"

namespace inhibitor {

struct IntegerKernels {
  int64_t (*items)(const IntegerCall&);
  int64_t (*scratch)(const IntegerCall&);
  void (*forward)(const IntegerCall&, int64_t item, float* scratch);
};

// Of both precisions.
struct IntegerSet {
  const char* name;
  IntegerKernels int8, int16;
  void (*levels)(const float* x, int64_t n, const float* inverse, float zero, uint8_t* out);
};

extern const IntegerSet kIntegerPortable;
#if defined(INHIBITOR_WITH_X86)
extern const IntegerSet kIntegerAvx2;
extern const IntegerSet kIntegerVnni;
#endif

}  // namespace inhibitor
