// A library that has the name of torch's own, and the functions that are used of it: linked against, never installed.
// By that name the loader finds the torch of the process, and says so where there is none, or one that is too old.
#include "torch_abi.h"

#if defined(_WIN32)
#define STUB extern "C" __declspec(dllexport)
#else
#define STUB extern "C" __attribute__((visibility("default")))
#endif
#define DEFINE(type, name, parameters) \
  STUB type name parameters { return static_cast<type>(0); }
INHIBITOR_TORCH_FUNCTIONS(DEFINE)
