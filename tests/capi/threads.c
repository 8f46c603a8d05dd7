/* What a host does, for sanitizers: threads that update rows of the same parameters and refuse bad
 * calls at the same time, steps of optimizers on several threads, files. Prints a digest. With a second
 * argument each thread updates some rows of the next one, and the last some beyond the end. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <thalweg.h>

enum { LEN = 40000, CUTS = 5, STEPS = 4 };

static const size_t cuts[CUTS + 1] = {0, 64, 8192, 8256, 30016, LEN};

static void fail(const char *what) {
    fprintf(stderr, "threads: %s: %s\n", what, thalweg_last_error());
    exit(1);
}

static void *room(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL) abort();
    return memory;
}

static uint64_t digest(uint64_t hash, const void *bytes, size_t count) {
    const unsigned char *at = bytes;
    size_t k;
    for (k = 0; k < count; k++) hash = (hash ^ at[k]) * 1099511628211u;
    return hash;
}

static float number(unsigned seed) { return (float)(seed * 2654435761u >> 8) / 8388608.0f - 1.0f; }

/* A parameter whose bfloat16 or float32 arrays a host owns. Each has exactly its size, so that a
 * sanitizer sees what is beyond. */
typedef struct {
    thalweg_tensor tensor;
    size_t of_p, of_state[3];
} owned;

static owned made(const thalweg_options *options, int32_t dtype, int compact) {
    const int narrow = dtype == THALWEG_BFLOAT16 || dtype == THALWEG_FLOAT16;
    const int adam = options->rule != THALWEG_LION && options->rule != THALWEG_SGD;
    owned o;
    size_t k;
    memset(&o, 0, sizeof o);
    o.tensor.size = sizeof o.tensor;
    o.tensor.dtype = dtype, o.tensor.grad_dtype = THALWEG_FLOAT32;
    o.tensor.len = LEN;
    o.of_p = narrow ? 2 : dtype == THALWEG_FLOAT64 ? 8 : 4;
    o.tensor.p = room(LEN * o.of_p);
    o.tensor.g = room(LEN * sizeof(float));
    for (k = 0; k < LEN; k++) ((float *)(uintptr_t)o.tensor.g)[k] = number((unsigned)k);
    o.of_state[0] = compact ? 2 : dtype == THALWEG_FLOAT64 ? 8 : 4;
    o.of_state[1] = compact ? 1 : o.of_state[0];
    o.tensor.state[0] = room(LEN * o.of_state[0]);
    if (adam) o.tensor.state[1] = room(LEN * o.of_state[1]);
    if (compact) {
        o.tensor.state_dtype[0] = THALWEG_BFLOAT16, o.tensor.state_dtype[1] = THALWEG_E5M3;
        o.tensor.bases = room(LEN / 64);
    }
    if (narrow) o.tensor.low = room(LEN * 2);
    return o;
}

static void end(owned *o) {
    free(o->tensor.p), free((void *)(uintptr_t)o->tensor.g), free(o->tensor.low);
    free(o->tensor.state[0]), free(o->tensor.state[1]), free(o->tensor.bases);
}

typedef struct {
    const owned *whole;
    const thalweg_options *options;
    size_t first, last;
    uint64_t step;
} part;

static void *update(void *argument) {
    const part *part = argument;
    thalweg_tensor t = part->whole->tensor;
    thalweg_step how;
    size_t k;
    memset(&how, 0, sizeof how);
    how.size = sizeof how, how.threads = 1, how.nonfinite = THALWEG_IGNORE;
    t.p = (char *)t.p + part->first * part->whole->of_p;
    t.g = (const float *)t.g + part->first;
    for (k = 0; k < 2; k++)
        if (t.state[k] != NULL)
            t.state[k] = (char *)t.state[k] + part->first * part->whole->of_state[k];
    if (t.low != NULL) t.low = (int16_t *)t.low + part->first;
    if (t.bases != NULL) t.bases += part->first / 64;
    t.len = part->last - part->first, t.step = part->step;
    if (thalweg_update(&t, 1, part->options, 1, &how) != THALWEG_DONE) fail("update");
    t.group = 1; /* refused, with a text of this thread */
    if (thalweg_update(&t, 1, part->options, 1, &how) != THALWEG_INVALID) fail("group");
    if (strstr(thalweg_last_error(), "group") == NULL) fail("text");
    return NULL;
}

static size_t too_many = 0; /* rows */

static uint64_t of_threads(uint64_t hash, int32_t rule, int32_t dtype, int compact) {
    thalweg_options options = thalweg_options_of(rule);
    owned o;
    uint64_t step;
    size_t k;
    if (rule == THALWEG_SGD) options.momentum = 0.9;
    o = made(&options, dtype, compact);
    for (step = 1; step <= STEPS; step++) {
        pthread_t threads[CUTS];
        part parts[CUTS];
        for (k = 0; k < CUTS; k++) {
            part p = {&o, &options, cuts[k], cuts[k + 1] + too_many, step};
            parts[k] = p;
            if (pthread_create(&threads[k], NULL, update, &parts[k]) != 0) abort();
        }
        for (k = 0; k < CUTS; k++) pthread_join(threads[k], NULL);
    }
    hash = digest(hash, o.tensor.p, LEN * o.of_p);
    end(&o);
    return hash;
}

/* An optimizer, whose steps may use the pool; each of two threads has its own. */
static void *train(void *argument) {
    static const char *const names[2] = {"one", "two"};
    const char *path = argument;
    thalweg_options adamw = thalweg_options_of(THALWEG_ADAMW);
    thalweg_optimizer *opt, *again;
    thalweg_tensor tensors[2];
    thalweg_step how;
    int k, step;
    size_t i;
    memset(tensors, 0, sizeof tensors), memset(&how, 0, sizeof how);
    how.size = sizeof how, how.max_norm = 1.0, how.threads = 2;
    for (k = 0; k < 2; k++) {
        float *g = room(4 * LEN * sizeof *g);
        for (i = 0; i < 4 * LEN; i++) g[i] = number((unsigned)i + (unsigned)k);
        tensors[k].size = sizeof tensors[k], tensors[k].name = names[k];
        tensors[k].p = room(4 * LEN * sizeof(float)), tensors[k].g = g, tensors[k].len = 4 * LEN;
    }
    if (thalweg_optimizer_new(&opt, &adamw, THALWEG_COMPACT) < 0) fail("new");
    for (step = 0; step < STEPS; step++)
        if (thalweg_optimizer_step(opt, tensors, 2, &how) != THALWEG_DONE) fail("step");
    if (thalweg_optimizer_save(opt, path, tensors, 2) < 0) fail("save");
    if (thalweg_optimizer_new(&again, &adamw, THALWEG_FULL) < 0) fail("new");
    if (thalweg_optimizer_load(again, path, tensors, 2) == THALWEG_DONE) fail("other state");
    thalweg_optimizer_free(again);
    if (thalweg_optimizer_new(&again, &adamw, THALWEG_COMPACT) < 0) fail("new");
    if (thalweg_optimizer_load(again, path, tensors, 2) < 0) fail("load");
    if (thalweg_optimizer_steps(again) != STEPS) fail("steps");
    thalweg_optimizer_free(again), thalweg_optimizer_free(opt);
    remove(path);
    for (k = 0; k < 2; k++) free(tensors[k].p), free((void *)(uintptr_t)tensors[k].g);
    return NULL;
}

int main(int count, char **arguments) {
    uint64_t hash = 14695981039346656037u;
    pthread_t threads[2];
    char paths[2][4096];
    size_t k;
    if (count < 2) return 2;
    if (count > 2) too_many = 64;
    hash = of_threads(hash, THALWEG_ADAMW, THALWEG_FLOAT32, 0);
    hash = of_threads(hash, THALWEG_ADAMW, THALWEG_FLOAT64, 0);
    hash = of_threads(hash, THALWEG_ADAMW, THALWEG_BFLOAT16, 1);
    hash = of_threads(hash, THALWEG_NADAMW, THALWEG_FLOAT16, 0);
    hash = of_threads(hash, THALWEG_LION, THALWEG_BFLOAT16, 0);
    hash = of_threads(hash, THALWEG_SGD, THALWEG_FLOAT32, 0);
    for (k = 0; k < 2; k++) {
        snprintf(paths[k], sizeof paths[k], "%s/%u.safetensors", arguments[1], (unsigned)k);
        if (pthread_create(&threads[k], NULL, train, paths[k]) != 0) abort();
    }
    for (k = 0; k < 2; k++) pthread_join(threads[k], NULL);
    printf("%016llx\n", (unsigned long long)hash);
    return 0;
}
