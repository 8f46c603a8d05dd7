/* thalweg: AdamW and its relatives on the arrays of a C or C++ program: in place, and with the bits
 * and the checkpoint files of the Python package. The guide is docs/embedding.md.
 *
 * Two levels:
 *   thalweg_update     the program owns every array, also the state; it may call from its own
 *                      threads, each on its own rows
 *   thalweg_optimizer  keeps the state by name, and writes and reads files
 *
 * A function that returns int32_t returns THALWEG_DONE, THALWEG_SKIPPED, or a number below zero: then
 * it has refused, nothing has changed, and thalweg_last_error() has the reason. Only after
 * THALWEG_FAULT, a fault of the library, arrays may be partly updated.
 *
 * A struct begins with its size: zero it, then set size to sizeof. A field that is zero has its
 * default. Fields that a later version adds stay zero in older programs. */
#ifndef THALWEG_H
#define THALWEG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the binary interface, which the SONAME has too. */
#define THALWEG_ABI 0

enum {
    THALWEG_DONE = 0,
    THALWEG_SKIPPED = 1,    /* gradients that are not finite, and the step asks to skip them */
    THALWEG_INVALID = -1,   /* an argument */
    THALWEG_NONFINITE = -2, /* gradients that are not finite, or whose squares are not */
    THALWEG_FILE = -3,      /* a file that cannot be written or read, or is damaged */
    THALWEG_MISMATCH = -4,  /* a file of another rule, or with other parameters */
    THALWEG_FAULT = -5      /* a fault of the library */
};

/* Rules. Arrays of state, in this order: */
enum {
    THALWEG_ADAMW = 1,     /* exp_avg, exp_avg_sq, with amsgrad max_exp_avg_sq */
    THALWEG_ADAM,          /* the same */
    THALWEG_SGDW,          /* momentum_buffer, with momentum */
    THALWEG_SGD,           /* the same */
    THALWEG_NADAMW,        /* exp_avg, exp_avg_sq */
    THALWEG_RADAMW,        /* exp_avg, exp_avg_sq */
    THALWEG_ADABELIEF,     /* exp_avg, exp_avg_var */
    THALWEG_LION,          /* exp_avg */
    THALWEG_RMSPROP,       /* square_avg, with centered grad_avg, with momentum momentum_buffer */
    THALWEG_ADAGRAD,       /* sum */
    THALWEG_SCHEDULE_FREE_ADAMW /* z, exp_avg_sq; and history */
};

/* Types of elements. 0 is the type that the comment of a field names. */
enum {
    THALWEG_FLOAT32 = 1,
    THALWEG_FLOAT64,
    THALWEG_BFLOAT16, /* the upper 16 bits of a float32 */
    THALWEG_FLOAT16,
    THALWEG_E5M3      /* state: one byte, and one more for each block of 64 elements */
};

enum { THALWEG_FULL = 0, THALWEG_STATE_BFLOAT16, THALWEG_COMPACT };    /* state of an optimizer */
enum { THALWEG_RAISE = 0, THALWEG_SKIP, THALWEG_IGNORE };              /* gradients not finite */

/* The rule and its hyperparameters; thalweg_options_of(THALWEG_ADAMW) has the defaults. What a rule
 * does not have is zero. */
typedef struct thalweg_options {
    size_t size;
    int32_t rule;
    uint8_t amsgrad, nesterov, centered, cautious, independent, maximize;
    uint8_t reserved[6];
    double lr;
    double beta1, beta2, eps;
    double l2;           /* added to the gradient, times p */
    double weight_decay; /* decoupled: lr*weight_decay*p is subtracted; weight_decay*p if independent */
    double momentum, dampening;
    double alpha;        /* decay of the averages of RMSprop */
    double eps_root;     /* of AdaBelief */
    double lr_decay, initial_accumulator_value; /* of Adagrad */
    double r, weight_lr_power;                  /* of schedule-free AdamW */
    double update_rms;   /* limit on the root mean square of an update; 0: none */
} thalweg_options;

/* A parameter with its gradient and state.
 *
 * Arrays are contiguous, or have `rows` rows of len/rows contiguous elements each; then
 * row_stride[k] is the number of bytes from one row to the next: of p, g, state[0], state[1],
 * state[2], low. A row_stride of 0 means that rows follow each other. Arrays are aligned to their
 * elements. An array that is written overlaps no other. */
typedef struct thalweg_tensor {
    size_t size;
    const char *name;         /* UTF-8, in messages; required by an optimizer */
    void *p;                  /* the parameter, updated in place */
    const void *g;            /* its gradient */
    void *state[3];           /* zeros before the first update; NULL if there is none */
    void *low;                /* of a BFLOAT16 or FLOAT16 p: what it lacks of a float32, as int16_t */
    uint8_t *bases;           /* of an E5M3 state: an exponent for each block of 64 elements */
    double *history;          /* of schedule-free AdamW: 3 numbers, zeros before the first update */
    const size_t *shape;      /* in files; NULL: the length */
    size_t dims;
    size_t len;               /* number of elements */
    size_t rows;
    ptrdiff_t row_stride[6];
    uint64_t step;            /* number of this update of the parameter, from 1 */
    uint32_t group;           /* position of its options */
    int32_t dtype;            /* of p; 0: float32 */
    int32_t grad_dtype;       /* of g; 0: that of p */
    int32_t state_dtype[3];   /* 0: float64 if p is, else float32; else BFLOAT16, or E5M3 for
                               * exp_avg_sq and exp_avg_var */
} thalweg_tensor;

/* The settings of a step, and its results. */
typedef struct thalweg_step {
    size_t size;
    double scale;             /* factor on the gradients; 0: 1 */
    double max_norm;          /* limit on the norm of all gradients together; 0: none */
    double max_value;         /* limit on the magnitude of each element of the gradients; 0: none */
    int32_t nonfinite;        /* THALWEG_RAISE, THALWEG_SKIP, THALWEG_IGNORE */
    int32_t threads;          /* 1: the calling thread alone; n: at most n; 0: as many as are useful */
    /* Results; not written by a call that refuses. */
    double grad_norm;         /* of the gradients with their scale, before max_norm; -1: not read */
    double clip;              /* the factor of max_norm on the gradients */
    uint64_t refused;         /* number of elements that are not finite, of a step that was skipped */
    uint64_t overflowed;      /* number of FLOAT16 parameters that became infinite */
} thalweg_step;

/* The reason why the last call on this thread that refused did so. Valid until the next one. */
const char *thalweg_last_error(void);
const char *thalweg_version(void);
uint32_t thalweg_abi(void);

/* Number of threads for a step with threads = 0, at least 1. By default THALWEG_NUM_THREADS,
 * OMP_NUM_THREADS, or the number of cores. */
int32_t thalweg_set_num_threads(int32_t threads);

/* Writes the defaults of options->rule into the other fields. */
int32_t thalweg_defaults(thalweg_options *options);

static inline thalweg_options thalweg_options_of(int32_t rule) {
    thalweg_options options;
    unsigned char *bytes = (unsigned char *)&options;
    size_t i;
    for (i = 0; i < sizeof options; i++) bytes[i] = 0;
    options.size = sizeof options;
    options.rule = rule;
    (void)thalweg_defaults(&options); /* a rule that does not exist is refused where it is used */
    return options;
}

/* Updates n parameters in place by the options of their groups, which have one rule. `step` may be
 * NULL. With threads = 1 no other thread works and no lock is taken. After the first call on a thread
 * no memory is taken for contiguous float32 and float64 arrays, nor for rows of one parameter whose
 * gradient is not read before (THALWEG_IGNORE, no max_norm).
 *
 * Many threads may call at the same time on disjoint rows of the same parameters: each as a
 * parameter of its own that begins at its first row, with E5M3 at a multiple of 64 elements, and with
 * a copy of the history. Norms, max_norm, cautious and update_rms are those of a whole parameter:
 * thalweg_norm first. */
int32_t thalweg_update(const thalweg_tensor *tensors, size_t n, const thalweg_options *groups,
                       size_t n_groups, thalweg_step *step);

/* Does everything that thalweg_update does before it writes: checks, grad_norm, clip, and refused
 * gradients. After it, threads may update rows with scale = step.scale * step.clip, max_norm = 0
 * and nonfinite = THALWEG_IGNORE. */
int32_t thalweg_norm(const thalweg_tensor *tensors, size_t n, const thalweg_options *groups,
                     size_t n_groups, thalweg_step *step);

/* Schedule-free AdamW: puts the averaged point into p, for evaluation, and keeps the numbers of p in
 * kept[i], len elements of float64 if p is, else of float32. thalweg_average_end puts them back,
 * every bit. No update may come between. */
int32_t thalweg_average_begin(const thalweg_tensor *tensors, size_t n, void *const *kept);
int32_t thalweg_average_end(const thalweg_tensor *tensors, size_t n, void *const *kept);

/* State of parameters by name. One thread at a time uses an optimizer. */
typedef struct thalweg_optimizer thalweg_optimizer;

/* Makes an optimizer; `state` is THALWEG_FULL, THALWEG_STATE_BFLOAT16 or THALWEG_COMPACT. */
int32_t thalweg_optimizer_new(thalweg_optimizer **optimizer, const thalweg_options *options,
                              int32_t state);
void thalweg_optimizer_free(thalweg_optimizer *optimizer); /* NULL is ignored */

/* Adds a group: other options for parameters whose name fits a glob. The last one that fits counts.
 * Groups are added before parameters, and have the positions 1, 2, ...; 0 is all parameters. */
int32_t thalweg_optimizer_group(thalweg_optimizer *optimizer, const char *glob,
                                const thalweg_options *options);

/* Sets the options of a group for the next steps: a schedule. Rule and choices stay. */
int32_t thalweg_optimizer_set(thalweg_optimizer *optimizer, size_t group,
                              const thalweg_options *options);

/* Takes a step. Each tensor has name, p, g, len, and where needed their types and shape; all else is
 * zero. State is made when a name first occurs. */
int32_t thalweg_optimizer_step(thalweg_optimizer *optimizer, const thalweg_tensor *tensors, size_t n,
                               thalweg_step *step);

/* Number of steps taken; 0 for NULL. */
uint64_t thalweg_optimizer_steps(const thalweg_optimizer *optimizer);

/* Fills in the state of parameters, for thalweg_update on threads of the program: state, low, bases,
 * history, step and state_dtype. The arrays are the optimizer's, until it loads a file or is freed.
 * thalweg_optimizer_count counts a step that the program took so. */
int32_t thalweg_optimizer_lend(thalweg_optimizer *optimizer, thalweg_tensor *tensors, size_t n);
int32_t thalweg_optimizer_count(thalweg_optimizer *optimizer, const thalweg_tensor *tensors, size_t n);

/* Saves parameters and state in a file that the Python package reads, completely or not at all. */
int32_t thalweg_optimizer_save(const thalweg_optimizer *optimizer, const char *path,
                               const thalweg_tensor *tensors, size_t n);

/* Loads them from a file that thalweg_optimizer_save or the Python package wrote, or changes nothing.
 * Options stay those of the program. Averages and accumulators of a Python program are not loaded. */
int32_t thalweg_optimizer_load(thalweg_optimizer *optimizer, const char *path,
                               const thalweg_tensor *tensors, size_t n);

#ifdef __cplusplus
}
#endif

#endif
