// The exported functions, and the choice of the instruction set.
#include <cstring>

#include "float/kernel_table.h"
#include "integer/kernel_table.h"
#include "parallel.h"

namespace inhibitor {
namespace {

struct Candidate {
  const FloatKernels* kernels;
  const IntegerTable* integer;
  bool supported;
};

#if defined(INHIBITOR_WITH_X86)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
const IntegerTable* beside_avx512() { return __builtin_cpu_supports("avx512vnni") ? &kIntegerVnni : &kIntegerAvx2; }
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

// Fastest first.
const Candidate* candidates(int& count) {
#if defined(INHIBITOR_WITH_X86)
  static const Candidate all[] = {{&kFloatAvx512, beside_avx512(), has_avx512()},
                                  {&kFloatAvx2, &kIntegerAvx2, has_avx2()},
                                  {&kFloatPortable, &kIntegerPortable, true}};
#else
  static const Candidate all[] = {{&kFloatPortable, &kIntegerPortable, true}};
#endif
  count = static_cast<int>(sizeof all / sizeof all[0]);
  return all;
}

const FloatKernels* g_kernels = nullptr;
const IntegerTable* g_integer = nullptr;

struct Context {
  const InhibitorCall* call;
  const FloatKernels* kernels;
};

void forward_item(const void* context, int64_t item, float* scratch) {
  const auto& c = *static_cast<const Context*>(context);
  c.kernels->forward(*c.call, item, scratch);
}

void backward_item(const void* context, int64_t item, float* scratch) {
  const auto& c = *static_cast<const Context*>(context);
  c.kernels->backward(*c.call, item, scratch);
}

struct IntegerContext {
  const IntegerCall* call;
  const IntegerKernels* kernels;
};

void integer_item(const void* context, int64_t item, float* scratch) {
  const auto& c = *static_cast<const IntegerContext*>(context);
  c.kernels->forward(*c.call, item, scratch);
}

struct QuantizeContext {
  const float* x;
  int64_t rows, features;
  const float* inverse;
  float zero;
  uint8_t* out;
};

constexpr int64_t kRowsPerItem = 32;

void quantize_item(const void* context, int64_t item, float*) {
  const auto& c = *static_cast<const QuantizeContext*>(context);
  const int64_t first = item * kRowsPerItem, end = first + kRowsPerItem;
  for (int64_t i = first; i < end && i < c.rows; ++i)
    g_integer->quantize(c.x + i * c.features, c.features, c.inverse, c.zero, c.out + i * c.features);
}

}  // namespace
}  // namespace inhibitor

using namespace inhibitor;

INHIBITOR_API int64_t inhibitor_abi_version() { return kAbiVersion; }
INHIBITOR_API int64_t inhibitor_call_bytes() { return static_cast<int64_t>(sizeof(InhibitorCall)); }
INHIBITOR_API int64_t inhibitor_integer_call_bytes() { return static_cast<int64_t>(sizeof(IntegerCall)); }

// The i-th instruction set that was built and that this processor has, fastest first; null past the last.
INHIBITOR_API const char* inhibitor_isa(int64_t i) {
  int count;
  const Candidate* all = candidates(count);
  for (int k = 0; k < count; ++k)
    if (all[k].supported && i-- == 0) return all[k].kernels->name;
  return nullptr;
}

// Chooses an instruction set by name. 0: done; 1: not built or not supported here.
INHIBITOR_API int64_t inhibitor_use_isa(const char* name) {
  int count;
  const Candidate* all = candidates(count);
  for (int k = 0; k < count; ++k)
    if (all[k].supported && std::strcmp(all[k].kernels->name, name) == 0) {
      g_kernels = all[k].kernels;
      g_integer = all[k].integer;
      return 0;
    }
  return 1;
}

INHIBITOR_API void inhibitor_set_parallel(void* gomp_parallel) { set_parallel_entry(gomp_parallel); }
INHIBITOR_API void inhibitor_poison_scratch(int64_t on) { set_poison(on != 0); }

// 0: done; 1: out of memory. `inhibitor_use_isa` must have been called.
INHIBITOR_API int64_t inhibitor_forward(const InhibitorCall* call) {
  const FloatKernels* k = g_kernels;
  const Context context{call, k};
  return run_items(k->forward_items(*call), call->threads, k->forward_scratch(*call), forward_item, &context) ? 0 : 1;
}

INHIBITOR_API int64_t inhibitor_backward(const InhibitorCall* call) {
  const FloatKernels* k = g_kernels;
  const Context context{call, k};
  return run_items(k->backward_items(*call), call->threads, k->backward_scratch(*call), backward_item, &context) ? 0 : 1;
}

// The instructions that serve integers under the chosen instruction set.
INHIBITOR_API const char* inhibitor_integer_isa() { return g_integer->name; }

INHIBITOR_API int64_t inhibitor_integer_forward(const IntegerCall* call) {
  const IntegerKernels* k = call->bits <= 8 ? &g_integer->bytes : &g_integer->words;
  const IntegerContext context{call, k};
  return run_items(k->items(*call), call->call.threads, k->scratch(*call), integer_item, &context) ? 0 : 1;
}

// out = clip(rint(x * inverse) + zero, 0, 255) of contiguous rows, `inverse` per feature.
INHIBITOR_API int64_t inhibitor_quantize_uint8(const float* x, int64_t rows, int64_t features, const float* inverse,
                                               float zero, uint8_t* out, int64_t threads) {
  const QuantizeContext context{x, rows, features, inverse, zero, out};
  const int64_t items = (rows + kRowsPerItem - 1) / kRowsPerItem;
  return run_items(items, threads, 1, quantize_item, &context) ? 0 : 1;
}
