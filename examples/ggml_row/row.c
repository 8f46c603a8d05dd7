/* The AdamW step of a tensor library whose own threads each call it on a range of rows, as ggml's do,
 * and its replacement by thalweg_update.
 *
 *     cc -O2 -std=c99 row.c -o row $(pkg-config --cflags --libs thalweg) -lm -lpthread
 *     ./row
 *
 * The library has tensors of rows with any stride in bytes, threads of its own, and a graph that
 * calls a step with the number of the thread. The replacement allocates nothing, takes no lock and
 * starts no thread. Its result does not depend on the number of threads. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <thalweg.h>

enum { ROWS = 999, COLUMNS = 257, STRIDE = 260, STEPS = 50, THREADS = 4 };

/* A tensor of the library: rows of contiguous float32, nb1 bytes apart. */
typedef struct {
    size_t ne0, ne1, nb1;
    void *data;
} tensor;

/* What its graph passes to a step. */
typedef struct {
    tensor *p, *g, *m, *v;
    float alpha, beta1, beta2, eps, wd;
    unsigned iteration;
    int thread, threads, failed;
} call;

static float *row_of(const tensor *t, size_t row) {
    return (float *)((char *)t->data + row * t->nb1);
}

static void range_of(const call *c, size_t *first, size_t *last) {
    const size_t each = (c->p->ne1 + (size_t)c->threads - 1) / (size_t)c->threads;
    *first = each * (size_t)c->thread;
    *last = *first + each < c->p->ne1 ? *first + each : c->p->ne1;
    if (*first > *last) *first = *last;
}

/* Before: the loop of the library. */
static void *step_before(void *argument) {
    call *c = argument;
    const float beta1h = 1.0f / (1.0f - powf(c->beta1, (float)c->iteration));
    const float beta2h = 1.0f / (1.0f - powf(c->beta2, (float)c->iteration));
    size_t first, last, row, i;
    range_of(c, &first, &last);
    for (row = first; row < last; row++) {
        float *p = row_of(c->p, row), *m = row_of(c->m, row), *v = row_of(c->v, row);
        const float *g = row_of(c->g, row);
        for (i = 0; i < c->p->ne0; i++) {
            m[i] = m[i] * c->beta1 + g[i] * (1.0f - c->beta1);
            v[i] = v[i] * c->beta2 + g[i] * g[i] * (1.0f - c->beta2);
            p[i] = p[i] * (1.0f - c->alpha * c->wd) -
                   c->alpha * (m[i] * beta1h) / (sqrtf(v[i] * beta2h) + c->eps);
        }
    }
    return NULL;
}

/* After: the same rows, by thalweg. */
static void *step_after(void *argument) {
    call *c = argument;
    const tensor *all[4];
    thalweg_options adamw = thalweg_options_of(THALWEG_ADAMW);
    thalweg_tensor t;
    thalweg_step how;
    size_t first, last, k;
    range_of(c, &first, &last);
    if (first == last) return NULL;

    adamw.lr = c->alpha, adamw.beta1 = c->beta1, adamw.beta2 = c->beta2;
    adamw.eps = c->eps, adamw.weight_decay = c->wd;
    memset(&t, 0, sizeof t);
    t.size = sizeof t;
    t.p = row_of(c->p, first), t.g = row_of(c->g, first);
    t.state[0] = row_of(c->m, first), t.state[1] = row_of(c->v, first);
    t.rows = last - first, t.len = t.rows * c->p->ne0;
    all[0] = c->p, all[1] = c->g, all[2] = c->m, all[3] = c->v;
    for (k = 0; k < 4; k++) t.row_stride[k] = (ptrdiff_t)all[k]->nb1;
    t.step = c->iteration;

    memset(&how, 0, sizeof how);
    how.size = sizeof how;
    how.threads = 1;                  /* the calling thread alone */
    how.nonfinite = THALWEG_IGNORE;   /* as the loop: nothing reads the gradients beforehand */
    c->failed = thalweg_update(&t, 1, &adamw, 1, &how) != THALWEG_DONE;
    if (c->failed) fprintf(stderr, "row: %s\n", thalweg_last_error());
    return NULL;
}

/* Memory of the tensors, for the loop and for two numbers of threads with thalweg. */
static float memory[3][4][ROWS * STRIDE];

static int train(float (*arrays)[ROWS * STRIDE], void *(*step)(void *), int threads) {
    tensor t[4];
    unsigned iteration, noise = 1;
    int k, failed = 0;
    size_t i;
    for (k = 0; k < 4; k++) {
        t[k].ne0 = COLUMNS, t[k].ne1 = ROWS, t[k].nb1 = STRIDE * sizeof(float);
        t[k].data = arrays[k];
    }
    for (i = 0; i < ROWS * STRIDE; i++) arrays[0][i] = (float)(i % 101) * 0.02f - 1.0f;
    for (iteration = 1; iteration <= STEPS; iteration++) {
        pthread_t started[THREADS];
        call calls[THREADS];
        for (i = 0; i < ROWS * STRIDE; i++) { /* the gradient of |p|^2 / 2, with noise */
            noise = noise * 1664525u + 1013904223u;
            arrays[1][i] = arrays[0][i] + (float)(noise >> 8) / 8388608.0f - 1.0f;
        }
        for (k = 0; k < threads; k++) {
            call c = {t, t + 1, t + 2, t + 3, 1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 0, 0, 0, 0};
            c.iteration = iteration, c.thread = k, c.threads = threads;
            calls[k] = c;
            if (pthread_create(&started[k], NULL, step, &calls[k]) != 0) return 1;
        }
        for (k = 0; k < threads; k++) {
            pthread_join(started[k], NULL);
            failed |= calls[k].failed;
        }
    }
    return failed;
}

int main(void) {
    double largest = 0.0;
    size_t row, i;
    if (train(memory[0], step_before, THREADS) || train(memory[1], step_after, THREADS) ||
        train(memory[2], step_after, 1))
        return 1;
    for (row = 0; row < ROWS; row++)
        for (i = 0; i < COLUMNS; i++) {
            const size_t at = row * STRIDE + i;
            const double way = fabs((double)memory[0][0][at] - memory[1][0][at]);
            if (way > largest) largest = way;
        }
    printf("largest difference from the loop: %.1e\n", largest);
    if (memcmp(memory[1], memory[2], sizeof memory[1]) != 0) {
        puts("4 threads and 1 thread differ");
        return 1;
    }
    puts("4 threads and 1 thread: the same bits");
    return largest < 1e-4 ? 0 : 1;
}
