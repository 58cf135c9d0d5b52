/* Inhibitor attention in a C program, on threads of its own. After `make c-library PREFIX=$HOME/.local`:
 *
 *     export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig
 *     cc -std=c99 attention.c $(pkg-config --cflags --libs inhibitor) -Wl,-rpath,$HOME/.local/lib -pthread -o attention
 *     ./attention
 *
 * Prints the output, (B, H, N, D), one line of D numbers for each query. */
#include <inhibitor.h>

#include <pthread.h>
#include <stdio.h>

enum { BATCH = 2, HEADS = 3, LENGTH = 5, DIM = 4, SIZE = BATCH * HEADS * LENGTH * DIM, THREADS = 3 };

typedef struct Task {
  void (*work)(void* argument);
  void* argument;
} Task;

static void* run(void* task) {
  const Task* t = task;
  t->work(t->argument);
  return NULL;
}

/* A program with a pool of threads calls it here, with `pool` as it was given. */
static void parallel(void* pool, int64_t team, void (*work)(void*), void* argument) {
  pthread_t threads[THREADS];
  Task task = {work, argument};
  int64_t started = 0;
  (void)pool;
  while (started < team - 1 && pthread_create(&threads[started], NULL, run, &task) == 0) ++started;
  for (int64_t i = started; i < team; ++i) work(argument); /* its own share, and that of threads which did not start */
  for (int64_t i = 0; i < started; ++i) pthread_join(threads[i], NULL);
}

/* Numbers from -1 to 1. */
static void fill(float* x, int step) {
  for (int i = 0; i < SIZE; ++i) x[i] = (float)(i * step % 129 - 64) / 64.0f;
}

/* (B, H, N, D), contiguous. */
static InhibitorTensor4 tensor(float* data) {
  InhibitorTensor4 t = {data, {HEADS * LENGTH * DIM, LENGTH * DIM, DIM}};
  return t;
}

int main(void) {
  static float query[SIZE], key[SIZE], value[SIZE], out[SIZE];
  const float gamma = 0.5f, eta[HEADS] = {1.0f, 0.5f, 2.0f}, delta = 0.25f;
  const uint8_t valid[BATCH * LENGTH] = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0}; /* the second sequence has three tokens */
  if (inhibitor_abi_version() != INHIBITOR_ABI_VERSION) {
    fprintf(stderr, "the library has ABI %d, the header %d\n", (int)inhibitor_abi_version(), INHIBITOR_ABI_VERSION);
    return 1;
  }
  fill(query, 7);
  fill(key, 11);
  fill(value, 13);

  InhibitorCall call = {0};
  call.batch = BATCH;
  call.heads = call.kv_heads = HEADS;
  call.queries = call.keys = LENGTH;
  call.dim = call.value_dim = DIM;
  call.query = tensor(query);
  call.key = tensor(key);
  call.value = tensor(value);
  call.gamma.data = &gamma; /* stride 0: one value for all heads */
  call.eta.data = eta;
  call.eta.stride = 1;
  call.delta.data = &delta;
  call.length_reference = 64.0;
  call.key_mask = valid;
  call.key_mask_stride[0] = LENGTH;
  call.key_mask_stride[1] = 1;
  call.is_signed = 1;
  call.center = INHIBITOR_CENTER_MEAN;
  call.threads = THREADS;
  call.parallel = parallel;
  call.out = tensor(out);
  if (inhibitor_forward(&call) != INHIBITOR_OK) {
    fprintf(stderr, "out of memory\n");
    return 1;
  }
  fprintf(stderr, "instruction set %s\n", inhibitor_isa(0));
  for (int i = 0; i < SIZE; ++i) printf("%.7g%c", (double)out[i], i % DIM == DIM - 1 ? '\n' : ' ');
  return 0;
}
