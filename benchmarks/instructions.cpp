// Counts what an emulated ARM processor executes: a plugin of qemu's user mode (its plugin API, of which the few
// functions that are used are declared here).
//
//     qemu-aarch64 -plugin file=THIS,counts=FILE PROGRAM
//
// At the end FILE gets two numbers: instructions, and those of them that compute on vectors or floats.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

extern "C" {
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, void (*)(uint64_t, qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_cb(qemu_plugin_tb*, void (*)(unsigned, void*), int flags, void*);
void qemu_plugin_register_atexit_cb(uint64_t plugin, void (*)(uint64_t, void*), void*);
size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb*);
qemu_plugin_insn* qemu_plugin_tb_get_insn(const qemu_plugin_tb*, size_t);
void* qemu_plugin_insn_haddr(const qemu_plugin_insn*);

__attribute__((visibility("default"))) extern const int qemu_plugin_version = QEMU_PLUGIN_VERSION;
__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t, const void*, int, char**);
}

namespace {

// A run of instructions without a jump into it or out of it.
struct Block {
  uint64_t instructions = 0, vector = 0, times = 0;
};

std::vector<std::unique_ptr<Block>> blocks;
std::string file;

// "Data processing, scalar floating point and advanced SIMD" in the top level of A64's encodings.
bool computes_on_vectors(const qemu_plugin_insn* instruction) {
  uint32_t bits;
  std::memcpy(&bits, qemu_plugin_insn_haddr(instruction), sizeof bits);
  return (bits >> 25 & 7) == 7;
}

void executed(unsigned, void* block) { ++static_cast<Block*>(block)->times; }

void translated(uint64_t, qemu_plugin_tb* code) {
  auto block = std::make_unique<Block>();
  block->instructions = qemu_plugin_tb_n_insns(code);
  for (uint64_t i = 0; i < block->instructions; ++i)
    block->vector += computes_on_vectors(qemu_plugin_tb_get_insn(code, i));
  qemu_plugin_register_vcpu_tb_exec_cb(code, executed, 0, block.get());
  blocks.push_back(std::move(block));
}

void write_counts(uint64_t, void*) {
  uint64_t instructions = 0, vector = 0;
  for (const auto& block : blocks) {
    instructions += block->times * block->instructions;
    vector += block->times * block->vector;
  }
  if (FILE* out = std::fopen(file.c_str(), "w")) {
    std::fprintf(out, "%llu %llu\n", static_cast<unsigned long long>(instructions),
                 static_cast<unsigned long long>(vector));
    std::fclose(out);
  }
}

}  // namespace

int qemu_plugin_install(uint64_t plugin, const void*, int count, char** arguments) {
  for (int i = 0; i < count; ++i)
    if (std::strncmp(arguments[i], "counts=", 7) == 0) file = arguments[i] + 7;
  if (file.empty()) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
  qemu_plugin_register_atexit_cb(plugin, write_counts, nullptr);
  return 0;
}
