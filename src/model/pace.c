/* SPDX-License-Identifier: MIT
 * pace.c — whether a step is run by the whole team or by the calling thread alone.
 *
 * Together pays a barrier some ten times a layer.  That is 0.1 µs each on idle cores, but some 50
 * µs when another job holds one of them: SmolLM2 then decodes in 27 ms together and 11 alone (7
 * together on an idle machine); skald, whose layers take 20 µs, is faster alone even then (0.26
 * against 0.31 ms).  (2 cores of an AMD EPYC; best of 60 steps.) No rule knows what else runs on a
 * machine, so both ways are timed and the cheaper one is taken: per class of steps nanoseconds per
 * byte touched, as a moving mean.  A class is the bit width of the number of rows, and that of
 * bytes touched over bytes of weights: a byte of KV does not cost what a byte of weights does, so
 * that a mean must not be carried from depth 0 to depth 20,000.
 * What counts is the median of a way's last five samples: one lost time slice decides nothing, and
 * a try long after the last one is believed when two more agree.  The other way is tried again soon
 * after the choice changed, then less and less often, until after PROBE_STEPS × how much dearer it
 * is, so that trying costs about 1 / PROBE_STEPS.  A step so long that its barriers cannot cost
 * what a team wins goes together without a try: a chunk of a prompt that was tried alone took 80
 * ms instead of 40, and the streams beside it waited.  (By means of samples, cut at three times the
 * mean, Gemma decoded 95–99 tokens a second on a busy machine, 107–116 when forced together.)
 * The bits of the result do not depend on the choice. */
#include "model/model_int.h"

#define PROBE_STEPS        50.0
#define PROBE_STEPS_LEAST  6.0
#define WEIGHT_NEW         0.2
#define BARRIERS_PER_LAYER 10.0
#define BARRIER_NS_MOST    50e3
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

struct pace_choice {
    bool is_alone;
    double dearer; /* the other way, times */
};

/* What was never tried is taken for as dear as it can be: n times, or just as dear. */
static struct pace_choice choice_of(const struct pace_class *c, uint32_t n_workers)
{
    double alone = c->alone.ns_per_byte, together = c->together.ns_per_byte;
    if (alone == 0)
        alone = together * n_workers;
    if (together == 0)
        together = alone * 1.001;
    const bool is_alone = alone < together;
    return (struct pace_choice){is_alone, is_alone ? together / alone : alone / together};
}

/* Does a team win more of this step than its barriers may cost?  Were all that they may cost in the
 * time that it takes together, alone it would take n times the rest. */
static bool is_long(const struct pace_class *c, struct pace_step step, uint32_t n_layers,
                    uint32_t n_workers)
{
    const double barriers = BARRIERS_PER_LAYER * BARRIER_NS_MOST * n_layers;
    const double together = c->together.ns_per_byte * step.bytes;
    return (together - barriers) * (n_workers - 1) > barriers;
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
    if (is_long(c, step, n_layers, n_workers))
        return PACE_TOGETHER;
    const struct pace_choice choice = choice_of(c, n_workers);
    const double most = PROBE_STEPS * choice.dearer;
    const double patience = c->patience < PROBE_STEPS_LEAST ? PROBE_STEPS_LEAST : c->patience;
    const struct pace_way *other = choice.is_alone ? &c->together : &c->alone;
    if (other->steps_since <= (patience < most ? patience : most))
        return choice.is_alone ? PACE_ALONE : PACE_TOGETHER;
    c->patience = 2 * patience;
    return choice.is_alone ? PACE_TOGETHER : PACE_ALONE;
}

static double median_of_last(const struct pace_way *way)
{
    double sorted[PACE_SAMPLES];
    const uint32_t n = way->n_samples < PACE_SAMPLES ? way->n_samples : PACE_SAMPLES;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > way->samples[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = way->samples[i];
    }
    return sorted[(n - 1) / 2];
}

void pace_learn(struct pace *p, struct pace_step step, enum model_pace way, double ns)
{
    struct pace_class *c = class_of(p, step);
    struct pace_way *this = way == PACE_ALONE ? &c->alone : &c->together;
    struct pace_way *other = way == PACE_ALONE ? &c->together : &c->alone;
    const bool was_alone = choice_of(c, 1).is_alone;
    this->samples[this->n_samples++ % PACE_SAMPLES] = ns / step.bytes;
    const double sample = median_of_last(this);
    const bool is_try = was_alone == (way == PACE_TOGETHER);
    if (is_try && ns / step.bytes < other->ns_per_byte)
        c->patience = PROBE_STEPS_LEAST; /* perhaps the machine changed: look again soon */
    /* After a pause the mean tells of another time: the samples replace it. */
    if (this->ns_per_byte == 0 || this->steps_since >= PROBE_STEPS_LEAST)
        this->ns_per_byte = sample;
    else
        this->ns_per_byte += WEIGHT_NEW * (sample - this->ns_per_byte);
    this->steps_since = 0;
    other->steps_since += 1;
    if (choice_of(c, 1).is_alone != was_alone)
        c->patience = PROBE_STEPS_LEAST;
}

void model_workspace_set_pace(struct model_workspace *w, enum model_pace pace)
{
    w->pace.forced = pace;
}
