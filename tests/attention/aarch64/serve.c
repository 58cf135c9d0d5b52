/* Calls the kernels for a process on another processor: what an emulator runs (emulator.py).
 *
 *     serve LIBRARY [ISA]
 *
 * First writes a line: the instruction sets, and the one that serves integers. Then answers requests from the standard
 * input. Each is an InhibitorCall (or what another function takes) whose tensors follow as regions of memory:
 *
 *     Request; the call; for each region a Region and its content
 *
 * The answer is the status, int64, and the content of each output. Every region ends where no memory may be read. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "inhibitor.h"

enum { FORWARD, BACKWARD, INTEGER_FORWARD, QUANTIZE };
enum { MOST_REGIONS = 64, PAGE = 65536 };

typedef struct {
  int64_t function, call_bytes, regions, poison;
} Request;

typedef struct {
  int64_t offset; /* of the pointer to it in the call */
  int64_t bytes, is_output;
} Region;

/* The arguments of inhibitor_quantize_uint8. */
typedef struct {
  const float* x;
  int64_t rows, features;
  const float* inverse;
  double zero;
  uint8_t* out;
} Quantize;

static void* library;

static void require(int holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "serve: %s\n", what);
  exit(1);
}

static void* symbol(const char* name) {
  void* found = dlsym(library, name);
  require(found != NULL, name);
  return found;
}

/* Whether there was anything: the end of the input is the end of the work. */
static int read_all(void* to, int64_t bytes) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n = read(STDIN_FILENO, (char*)to + done, (size_t)(bytes - done));
    if (n == 0 && done == 0) return 0;
    require(n > 0, "the request ends early");
    done += n;
  }
  return 1;
}

static void write_all(const void* from, int64_t bytes) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n = write(STDOUT_FILENO, (const char*)from + done, (size_t)(bytes - done));
    require(n > 0, "nobody reads the answer");
    done += n;
  }
}

static int64_t whole_pages(int64_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static char* take_region(int64_t bytes) {
  const int64_t whole = whole_pages(bytes);
  char* memory = mmap(NULL, (size_t)(whole + PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED && mprotect(memory + whole, PAGE, PROT_NONE) == 0, "no memory for a region");
  return memory + whole - bytes;
}

static void give_back(char* region, int64_t bytes) {
  const int64_t whole = whole_pages(bytes);
  munmap(region + bytes - whole, (size_t)(whole + PAGE));
}

static int64_t run(int64_t function, const char* call) {
  typedef int64_t (*Forward)(const InhibitorCall*);
  typedef int64_t (*IntegerForward)(const InhibitorIntegerCall*);
  typedef int64_t (*QuantizeRows)(const float*, int64_t, int64_t, const float*, float, uint8_t*, int64_t);
  if (function == FORWARD) return ((Forward)symbol("inhibitor_forward"))((const InhibitorCall*)call);
  if (function == BACKWARD) return ((Forward)symbol("inhibitor_backward"))((const InhibitorCall*)call);
  if (function == INTEGER_FORWARD)
    return ((IntegerForward)symbol("inhibitor_integer_forward"))((const InhibitorIntegerCall*)call);
  require(function == QUANTIZE, "no such function");
  const Quantize* q = (const Quantize*)call;
  return ((QuantizeRows)symbol("inhibitor_quantize_uint8"))(q->x, q->rows, q->features, q->inverse, (float)q->zero,
                                                            q->out, 1);
}

static void answer(const Request* request) {
  char* call = malloc((size_t)request->call_bytes);
  require(call != NULL && request->regions <= MOST_REGIONS && read_all(call, request->call_bytes), "no call");
  Region regions[MOST_REGIONS];
  char* memory[MOST_REGIONS];
  for (int64_t i = 0; i < request->regions; ++i) {
    require(read_all(&regions[i], sizeof regions[i]), "a region is missing");
    memory[i] = take_region(regions[i].bytes);
    require(regions[i].bytes == 0 || read_all(memory[i], regions[i].bytes), "a region is empty");
    memcpy(call + regions[i].offset, &memory[i], sizeof memory[i]);
  }
  ((void (*)(int64_t))symbol("inhibitor_poison_scratch"))(request->poison);
  const int64_t status = run(request->function, call);
  write_all(&status, sizeof status);
  for (int64_t i = 0; i < request->regions; ++i) {
    if (regions[i].is_output) write_all(memory[i], regions[i].bytes);
    give_back(memory[i], regions[i].bytes);
  }
  free(call);
}

int main(int count, char** arguments) {
  require(count == 2 || count == 3, "LIBRARY [ISA]");
  library = dlopen(arguments[1], RTLD_NOW);
  require(library != NULL, "the library cannot be opened");
  if (count == 3)
    require(((int64_t(*)(const char*))symbol("inhibitor_use_isa"))(arguments[2]) == 0, "no such instruction set");
  const char* (*isa)(int64_t) = (const char* (*)(int64_t))symbol("inhibitor_isa");
  for (int64_t i = 0; isa(i) != NULL; ++i) printf("%s ", isa(i));
  printf("%s\n", ((const char* (*)(void))symbol("inhibitor_integer_isa"))());
  fflush(stdout);
  Request request;
  while (read_all(&request, sizeof request)) answer(&request);
  return 0;
}
