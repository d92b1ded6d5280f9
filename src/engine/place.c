/* SPDX-License-Identifier: MIT
 * place.c — which processors the engine's workers keep to.
 * On a machine with one node of like cores the system places threads best: it moves them away from
 * a neighbour's job, which a pinned worker would have to share its processor with.  Across nodes or
 * kinds of cores it does not know that workers wait for each other and read the same memory; there,
 * unless somebody chose processors already, all workers keep to the best ones as a set. */
#include "engine/engine_int.h"
#include "os/topology.h"

_Static_assert(TEAM_THREADS_MAX <= TOPOLOGY_CPUS_MAX, "one processor a worker");

void place_team(struct engine *g)
{
    bool is_allowed[TOPOLOGY_CPUS_MAX];
    const uint32_t n = team_size(g->team);
    struct topology *t = mem_try_new(1, sizeof *t);
    if (!t || g->options.pin == ENGINE_PIN_OFF || !topology_allowed(is_allowed))
        goto out;
    topology_read("", is_allowed, t);
    const bool is_each = g->options.pin == ENGINE_PIN_ON;
    const bool is_worth = !t->is_restricted && (t->n_nodes > 1 || t->is_hybrid) && n < t->n;
    if (is_each || is_worth) {
        g->n_place = topology_choose(t, n, g->place);
        g->is_place_each = is_each;
    }
    if (g->n_place > 0) {
        team_pin(g->team, g->place, g->n_place, g->is_place_each);
        log_info("engine", "workers pinned processors=%u of=%u nodes=%u hybrid=%d each=%d first=%u",
                 g->n_place, t->n, t->n_nodes, t->is_hybrid, is_each, g->place[0]);
    }
out:
    mem_free(t);
}

void place_engine_thread(const struct engine *g)
{
    if (g->n_place > 0)
        team_pin_caller(g->place, g->n_place, g->is_place_each);
}
