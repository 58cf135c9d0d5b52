// What each instruction set offers in float32; one table per translation unit compiled with its own flags.
#pragma once
#include "../abi.h"

namespace inhibitor {

// One unit of work, independent of all others; `scratch` holds `*_scratch` floats, 64-byte aligned.
struct FloatKernels {
  const char* name;
  int64_t (*forward_items)(const InhibitorCall&);
  int64_t (*forward_scratch)(const InhibitorCall&);
  void (*forward)(const InhibitorCall&, int64_t item, float* scratch, const float* means);
  // What `forward` needs beforehand of all units: MeanDistances, of `mean_floats` floats (0: nothing).
  int64_t (*mean_floats)(const InhibitorCall&);
  int64_t (*mean_items)(const InhibitorCall&);
  int64_t (*mean_scratch)(const InhibitorCall&);
  void (*means)(const InhibitorCall&, int64_t item, float* scratch, float* means);
  int64_t (*backward_items)(const InhibitorCall&);
  int64_t (*backward_scratch)(const InhibitorCall&);
  void (*backward)(const InhibitorCall&, int64_t item, float* scratch);
};

extern const FloatKernels kFloatPortable;
#if defined(INHIBITOR_WITH_X86)
extern const FloatKernels kFloatAvx2;
extern const FloatKernels kFloatAvx512;
#elif defined(INHIBITOR_WITH_NEON)
extern const FloatKernels kFloatNeon;
#endif

}  // namespace inhibitor
