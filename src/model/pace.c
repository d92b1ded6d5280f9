/* SPDX-License-Identifier: MIT
 * pace.c — whether a step is run by the whole team or by the calling thread alone.
 *
 * Together pays a barrier some ten times a layer.  That is 0.1 µs each on idle cores, but some 50 µs
 * when another job holds one of them: SmolLM2 then decodes in 27 ms together and 11 alone (7 together
 * on an idle machine); skald, whose layers take 20 µs, is faster alone even then (0.26 against
 * 0.31 ms).  (2 cores of an AMD EPYC; best of 60 steps.)
 * No rule knows what else runs on a machine, so both ways are timed and the cheaper one is taken:
 * per class of steps nanoseconds per byte touched, as a moving mean.  A class is the bit width of
 * the number of rows, and that of bytes touched over bytes of weights: a byte of KV does not cost
 * what a byte of weights does, so that a mean must not be carried from depth 0 to depth 20,000.
 * The other way is tried again after PROBE_STEPS × how much dearer it was, so that trying
 * costs about 1 / PROBE_STEPS.  The bits of the result do not depend on the choice. */
#include "model/model_int.h"

#define PROBE_STEPS 50.0
#define WEIGHT_NEW 0.2
/* A sample counts for at most this many times the mean: one lost time slice decides nothing. */
#define OUTLIER 3.0
/* First guess, before anything was timed: below this many bytes a layer and worker, alone. */
#define BYTES_WORTH_SHARING 500e3

static struct pace_class *class_of(struct pace *p, struct pace_step step)
{
    uint32_t rows = 0, depth = 0;
    while (step.n_rows >> rows > 1 && rows + 1 < PACE_ROW_CLASSES)
        rows++;
    for (double b = step.bytes / (step.n_rows * step.weight_bytes);
         b >= 2 && depth + 1 < PACE_DEPTH_CLASSES; b /= 2)
        depth++;
    return &p->classes[rows][depth];
}

enum model_pace pace_choose(struct pace *p, struct pace_step step, uint32_t n_layers,
                            uint32_t n_workers)
{
    if (n_workers == 1)
        return PACE_ALONE;
    if (p->forced != PACE_LEARN)
        return p->forced;
    struct pace_class *c = class_of(p, step);
    if (c->alone.ns_per_byte == 0 && c->together.ns_per_byte == 0)
        return step.bytes < BYTES_WORTH_SHARING * n_layers * n_workers ? PACE_ALONE : PACE_TOGETHER;
    /* What was never tried is taken for as dear as it can be: n times, or just as dear. */
    double alone = c->alone.ns_per_byte, together = c->together.ns_per_byte;
    if (alone == 0)
        alone = together * n_workers;
    if (together == 0)
        together = alone * 1.001;
    bool is_alone = alone < together;
    const struct pace_way *other = is_alone ? &c->together : &c->alone;
    double dearer = is_alone ? together / alone : alone / together;
    if (other->steps_since > PROBE_STEPS * dearer)
        is_alone = !is_alone;
    return is_alone ? PACE_ALONE : PACE_TOGETHER;
}

void pace_learn(struct pace *p, struct pace_step step, enum model_pace way, double ns)
{
    struct pace_class *c = class_of(p, step);
    struct pace_way *this = way == PACE_ALONE ? &c->alone : &c->together;
    struct pace_way *other = way == PACE_ALONE ? &c->together : &c->alone;
    double sample = ns / step.bytes;
    /* After a pause the mean tells of another time: the sample replaces it. */
    if (this->ns_per_byte == 0 || this->steps_since > PROBE_STEPS) {
        this->ns_per_byte = sample;
    } else {
        if (sample > OUTLIER * this->ns_per_byte)
            sample = OUTLIER * this->ns_per_byte;
        this->ns_per_byte += WEIGHT_NEW * (sample - this->ns_per_byte);
    }
    this->steps_since = 0;
    other->steps_since += 1;
}

void model_workspace_set_pace(struct model_workspace *w, enum model_pace pace)
{
    w->pace.forced = pace;
}
