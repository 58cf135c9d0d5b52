// The exported functions, and the choice of the instruction set.
#include <atomic>
#include <cstring>

#include "float/kernel_table.h"
#include "integer/kernel_table.h"
#include "parallel.h"
#if defined(INHIBITOR_WITH_X86)
#include "x86_features.h"
#endif

#if defined(INHIBITOR_WITH_NEON) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(INHIBITOR_WITH_NEON) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace inhibitor {
namespace {

struct Candidate {
  const FloatKernels* kernels;
  const IntegerTable* integer;
  bool supported;
};

#if defined(INHIBITOR_WITH_NEON)
bool has_dotprod() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP, which old headers lack
#elif defined(__APPLE__)
  int has = 0;
  size_t bytes = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &bytes, nullptr, 0) == 0 && has;
#else
  return false;
#endif
}
const IntegerTable* beside_neon() { return has_dotprod() ? &kIntegerDotprod : &kIntegerNeon; }
#endif

// Fastest first.
const Candidate* candidates(int& count) {
#if defined(INHIBITOR_WITH_X86)
  static const X86Features has;
  static const Candidate all[] = {{&kFloatAvx512, has.avx512_vnni ? &kIntegerVnni : &kIntegerAvx2, has.avx512},
                                  {&kFloatAvx2, &kIntegerAvx2, has.avx2_fma},
                                  {&kFloatPortable, &kIntegerPortable, true}};
#elif defined(INHIBITOR_WITH_NEON)
  static const Candidate all[] = {{&kFloatNeon, beside_neon(), true}, {&kFloatPortable, &kIntegerPortable, true}};
#else
  static const Candidate all[] = {{&kFloatPortable, &kIntegerPortable, true}};
#endif
  count = static_cast<int>(sizeof all / sizeof all[0]);
  return all;
}

std::atomic<const Candidate*> g_chosen{nullptr};

const Candidate& chosen() {
  if (const Candidate* known = g_chosen.load(std::memory_order_relaxed)) return *known;
  int count;
  const Candidate* all = candidates(count);
  while (!all->supported) ++all;
  g_chosen = all;
  return *all;
}

struct Context {
  const InhibitorCall* call;
  const FloatKernels* kernels;
  float* means = nullptr;
};

void mean_item(const void* context, int64_t item, float* scratch) {
  const auto& c = *static_cast<const Context*>(context);
  c.kernels->means(*c.call, item, scratch, c.means);
}

void forward_item(const void* context, int64_t item, float* scratch) {
  const auto& c = *static_cast<const Context*>(context);
  c.kernels->forward(*c.call, item, scratch, c.means);
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
  const IntegerTable* kernels;
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
    c.kernels->quantize(c.x + i * c.features, c.features, c.inverse, c.zero, c.out + i * c.features);
}

}  // namespace
}  // namespace inhibitor

using namespace inhibitor;

int64_t inhibitor_abi_version() { return INHIBITOR_ABI_VERSION; }
int64_t inhibitor_call_bytes() { return static_cast<int64_t>(sizeof(InhibitorCall)); }
int64_t inhibitor_integer_call_bytes() { return static_cast<int64_t>(sizeof(IntegerCall)); }

const char* inhibitor_isa(int64_t i) {
  int count;
  const Candidate* all = candidates(count);
  for (int k = 0; k < count; ++k)
    if (all[k].supported && i-- == 0) return all[k].kernels->name;
  return nullptr;
}

int64_t inhibitor_use_isa(const char* name) {
  int count;
  const Candidate* all = candidates(count);
  for (int k = 0; k < count; ++k)
    if (all[k].supported && std::strcmp(all[k].kernels->name, name) == 0) {
      g_chosen = &all[k];
      return 0;
    }
  return 1;
}

const char* inhibitor_integer_isa() { return chosen().integer->name; }

void inhibitor_set_parallel(void* gomp_parallel) { set_parallel_entry(gomp_parallel); }
void inhibitor_poison_scratch(int64_t on) { set_poison(on != 0); }

int64_t inhibitor_forward(const InhibitorCall* call) {
  const FloatKernels* k = chosen().kernels;
  Context context{call, k};
  const SharedScratch means(k->mean_floats(*call));
  if (means.is_wanted()) {
    context.means = means.data();
    if (!context.means) return INHIBITOR_OUT_OF_MEMORY;
    const int64_t status = run_items(k->mean_items(*call), Team(*call), k->mean_scratch(*call), mean_item, &context);
    if (status != INHIBITOR_OK) return status;
  }
  return run_items(k->forward_items(*call), Team(*call), k->forward_scratch(*call), forward_item, &context);
}

int64_t inhibitor_backward(const InhibitorCall* call) {
  const FloatKernels* k = chosen().kernels;
  const Context context{call, k};
  return run_items(k->backward_items(*call), Team(*call), k->backward_scratch(*call), backward_item, &context);
}

int64_t inhibitor_integer_forward(const IntegerCall* call) {
  const IntegerTable* table = chosen().integer;
  const IntegerKernels* k = call->bits <= 8 ? &table->bytes : &table->words;
  const IntegerContext context{call, k};
  return run_items(k->items(*call), Team(call->call), k->scratch(*call), integer_item, &context);
}

int64_t inhibitor_quantize_uint8(const float* x, int64_t rows, int64_t features, const float* inverse, float zero,
                                 uint8_t* out, int64_t threads) {
  const QuantizeContext context{chosen().integer, x, rows, features, inverse, zero, out};
  const int64_t items = (rows + kRowsPerItem - 1) / kRowsPerItem;
  return run_items(items, Team{threads}, 1, quantize_item, &context);
}
