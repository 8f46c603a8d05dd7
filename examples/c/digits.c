/* Trains the network of `thalweg demo` on handwritten digits, in C:
 *
 *     python data.py digits.bin
 *     cc -O2 -std=c99 digits.c -o digits $(pkg-config --cflags --libs thalweg) -lm
 *     ./digits digits.bin run.safetensors
 *
 * and writes a checkpoint that thalweg.AdamW(...).load reads. With the name of a third file, its
 * gradients go there, and compare.py takes the same steps in Python: the same bits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <thalweg.h>

enum { PIXELS = 64, UNITS1 = 128, UNITS2 = 64, CLASSES = 10, LAYERS = 3, BATCH = 32, EPOCHS = 40 };

static const size_t sizes[LAYERS + 1] = {PIXELS, UNITS1, UNITS2, CLASSES};
static const char *const names[2 * LAYERS] = {"hidden1.w", "hidden1.b", "hidden2.w",
                                              "hidden2.b", "output.w",  "output.b"};

typedef struct {
    size_t count;
    float *pixels; /* count rows of PIXELS */
    unsigned char *labels;
} samples;

static void fail(const char *what) {
    fprintf(stderr, "digits: %s\n", what);
    exit(1);
}

static void *room(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL) fail("no memory");
    return memory;
}

static samples read_samples(FILE *file) {
    samples made;
    unsigned int count;
    if (fread(&count, sizeof count, 1, file) != 1) fail("the data end too early");
    made.count = count;
    made.pixels = room(count * PIXELS * sizeof *made.pixels);
    made.labels = room(count);
    if (fread(made.pixels, sizeof *made.pixels, count * PIXELS, file) != count * PIXELS ||
        fread(made.labels, 1, count, file) != count)
        fail("the data end too early");
    return made;
}

/* Uniform in (0, 1), from a 64-bit linear congruential generator. */
static double uniform(void) {
    static unsigned long long state = 1;
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return ((double)(state >> 33) + 0.5) / 2147483648.0;
}

static double normal(void) {
    return sqrt(-2.0 * log(uniform())) * cos(6.283185307179586 * uniform());
}

/* out[j] = b[j] + sum over i of in[i] * w[i][j] */
static void affine(const float *in, size_t n, const float *w, const float *b, float *out, size_t m) {
    size_t i, j;
    memcpy(out, b, m * sizeof *out);
    for (i = 0; i < n; i++)
        for (j = 0; j < m; j++) out[j] += in[i] * w[i * m + j];
}

typedef struct {
    float unit[LAYERS + 1][UNITS1]; /* inputs, hidden layers, probabilities */
} activity;

/* Returns the class with the largest probability. */
static size_t forward(float *const *p, const float *pixels, activity *a) {
    size_t layer, j, best = 0;
    float sum = 0.0f, most;
    memcpy(a->unit[0], pixels, PIXELS * sizeof *pixels);
    for (layer = 0; layer < LAYERS; layer++) {
        float *out = a->unit[layer + 1];
        affine(a->unit[layer], sizes[layer], p[2 * layer], p[2 * layer + 1], out, sizes[layer + 1]);
        if (layer + 1 < LAYERS)
            for (j = 0; j < sizes[layer + 1]; j++)
                if (out[j] < 0.0f) out[j] = 0.0f;
    }
    for (j = 1; j < CLASSES; j++)
        if (a->unit[LAYERS][j] > a->unit[LAYERS][best]) best = j;
    most = a->unit[LAYERS][best];
    for (j = 0; j < CLASSES; j++) sum += a->unit[LAYERS][j] = expf(a->unit[LAYERS][j] - most);
    for (j = 0; j < CLASSES; j++) a->unit[LAYERS][j] /= sum;
    return best;
}

/* Adds the gradients of one digit's cross-entropy, divided by the size of the batch. */
static void backward(float *const *p, float *const *g, activity *a, size_t label, float share) {
    float to_out[UNITS1], to_in[UNITS1];
    size_t layer, i, j;
    for (j = 0; j < CLASSES; j++) to_out[j] = (a->unit[LAYERS][j] - (j == label)) * share;
    for (layer = LAYERS; layer-- > 0;) {
        const float *in = a->unit[layer], *w = p[2 * layer];
        const size_t n = sizes[layer], m = sizes[layer + 1];
        for (j = 0; j < m; j++) g[2 * layer + 1][j] += to_out[j];
        for (i = 0; i < n; i++) {
            float sum = 0.0f;
            for (j = 0; j < m; j++) {
                g[2 * layer][i * m + j] += in[i] * to_out[j];
                sum += w[i * m + j] * to_out[j];
            }
            to_in[i] = in[i] > 0.0f ? sum : 0.0f;
        }
        memcpy(to_out, to_in, n * sizeof *to_in);
    }
}

static double accuracy(float *const *p, const samples *test) {
    activity a;
    size_t k, right = 0;
    for (k = 0; k < test->count; k++)
        right += forward(p, test->pixels + k * PIXELS, &a) == test->labels[k];
    return (double)right / (double)test->count;
}

static void check(int code) {
    if (code < 0) fail(thalweg_last_error());
}

int main(int count, char **arguments) {
    samples train, test;
    float *p[2 * LAYERS], *g[2 * LAYERS];
    size_t shapes[2 * LAYERS][2], *order, k, step = 0, steps, epoch, start;
    thalweg_tensor tensors[2 * LAYERS];
    thalweg_options adamw = thalweg_options_of(THALWEG_ADAMW), biases;
    thalweg_optimizer *optimizer;
    FILE *data, *log = NULL;

    if (count < 3) fail("usage: digits DATA CHECKPOINT [GRADIENTS]");
    data = fopen(arguments[1], "rb");
    if (data == NULL) fail("the data cannot be opened");
    train = read_samples(data), test = read_samples(data);
    fclose(data);
    if (count > 3 && (log = fopen(arguments[3], "wb")) == NULL) fail("no file for the gradients");

    memset(tensors, 0, sizeof tensors);
    for (k = 0; k < 2 * LAYERS; k++) {
        const size_t rows = sizes[k / 2], columns = sizes[k / 2 + 1], is_bias = k % 2;
        size_t len = is_bias ? columns : rows * columns, i;
        p[k] = room(len * sizeof(float)), g[k] = room(len * sizeof(float));
        for (i = 0; i < len && !is_bias; i++) p[k][i] = (float)(normal() * sqrt(2.0 / (double)rows));
        shapes[k][0] = is_bias ? columns : rows, shapes[k][1] = columns;
        tensors[k].size = sizeof tensors[k];
        tensors[k].name = names[k];
        tensors[k].p = p[k], tensors[k].g = g[k];
        tensors[k].len = len, tensors[k].shape = shapes[k], tensors[k].dims = is_bias ? 1 : 2;
        if (log != NULL) fwrite(p[k], sizeof(float), len, log);
    }

    adamw.weight_decay = 0.1;
    biases = adamw;
    biases.weight_decay = 0.0;
    check(thalweg_optimizer_new(&optimizer, &adamw, THALWEG_FULL));
    check(thalweg_optimizer_group(optimizer, "*.b", &biases));

    order = room(train.count * sizeof *order);
    for (k = 0; k < train.count; k++) order[k] = k;
    steps = EPOCHS * ((train.count + BATCH - 1) / BATCH);
    for (epoch = 0; epoch < EPOCHS; epoch++) {
        for (k = train.count; k > 1; k--) { /* a random order */
            size_t other = (size_t)(uniform() * (double)k), kept = order[k - 1];
            order[k - 1] = order[other], order[other] = kept;
        }
        for (start = 0; start < train.count; start += BATCH, step++) {
            const size_t left = train.count - start, batch = left < BATCH ? left : BATCH;
            activity a;
            for (k = 0; k < 2 * LAYERS; k++) memset(g[k], 0, tensors[k].len * sizeof(float));
            for (k = start; k < start + batch; k++) {
                forward(p, train.pixels + order[k] * PIXELS, &a);
                backward(p, g, &a, train.labels[order[k]], 1.0f / (float)batch);
            }
            adamw.lr = biases.lr = 2e-3 * (1.0 - (double)step / (double)steps);
            check(thalweg_optimizer_set(optimizer, 0, &adamw));
            check(thalweg_optimizer_set(optimizer, 1, &biases));
            if (log != NULL) {
                fwrite(&adamw.lr, sizeof adamw.lr, 1, log);
                for (k = 0; k < 2 * LAYERS; k++) fwrite(g[k], sizeof(float), tensors[k].len, log);
            }
            check(thalweg_optimizer_step(optimizer, tensors, 2 * LAYERS, NULL));
        }
        if (epoch % 10 == 9)
            printf("epoch %2u  test accuracy %.1f %%\n", (unsigned)epoch + 1, 100 * accuracy(p, &test));
    }
    check(thalweg_optimizer_save(optimizer, arguments[2], tensors, 2 * LAYERS));
    if (log != NULL && fclose(log) != 0) fail("the gradients cannot be written");

    thalweg_optimizer_free(optimizer);
    for (k = 0; k < 2 * LAYERS; k++) free(p[k]), free(g[k]);
    free(order), free(train.pixels), free(train.labels), free(test.pixels), free(test.labels);
    return 0;
}
